//! `submask samplers`.

use submask::sampler;

use crate::failure::Failure;
use crate::output;

/// Lists the published sampler settings.
pub fn run() -> Result<(), Failure> {
    let mut text = String::from(
        "Published sampler settings of image models (arXiv 2505.18495), for submask sample --sampler NAME.\n\
         The FID is the published one, of 50,000 samples of the published network: with another network it says\n\
         nothing.\n\n",
    );
    text +=
        &format!("{:32} {:>6} {:>8}  {}\n", "NAME", "FID", "EPOCHS", "DRAW, TEMPERATURE, CORRECTOR, WARP");
    for published in sampler::published_samplers()? {
        let sampling = &published.sampling;
        let corrector = sampling.corrector.map(<[f64; 3]>::from);
        text += &format!(
            "{:32} {:>6.2} {:>8}  {:?}, {:?}, {:?}, {:?}\n",
            published.name,
            published.fid,
            published.epochs,
            sampling.draw,
            <[f64; 3]>::from(sampling.temperature.schedule()),
            corrector.unwrap_or_default(),
            <[f64; 3]>::from(sampling.warp),
        );
    }
    output::write(&text)
}
