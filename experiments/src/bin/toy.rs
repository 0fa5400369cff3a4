//! The paper's toy, with its likelihood: points whose density is a picture, ℓ = 1, 2 and 3 at equal steps.
//!
//! ```sh
//! cargo run --release -p submask-experiments --bin toy -- FOLDER [STEPS]
//! ```
//!
//! FOLDER gets the picture, a run for each ℓ, and a picture of the densities: the true one, then that of each model's
//! samples. The table goes to standard output. What is there already is not done again.

use std::path::Path;

use submask::data::Density;
use submask::data::image::{Grid, ImageShape};
use submask::model::{Estimator, EvaluateRequest, HeldOut, PointSubject};
use submask::sampler::Event;
use submask::train::settings::{RunData, RunSettings};
use submask::{Compute, Figure, Model, Request};
use submask_experiments::{Fallible, train_once};

/// Rows, and columns.
const CELLS: usize = 128;
/// Points that a bound is the mean over, and draws a point.
const POINTS: u64 = 20_000;
const DRAWS: usize = 16;
/// Points drawn from each model.
const SAMPLES: usize = 100_000;

fn main() -> Fallible {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().ok_or("usage: toy FOLDER [STEPS]")?;
    let folder = Path::new(&folder);
    let steps: u64 = arguments.next().map_or(Ok(6000), |steps| steps.parse())?;
    std::fs::create_dir_all(folder)?;

    let image = folder.join("picture.png");
    let shape = ImageShape { channels: 1, height: CELLS, width: CELLS };
    let picture: Vec<u8> =
        (0..CELLS * CELLS).map(|at| 255 - (255.0 * darkness(at / CELLS, at % CELLS)) as u8).collect();
    if !image.exists() {
        write_plain(&image, &picture)?;
    }
    let density = Density::of_picture(&image, CELLS)?;
    println!(
        "{CELLS}×{CELLS} cells, entropy {:.4} nats (uniform: {:.4}); {steps} steps of 1024 points.\n",
        density.entropy(),
        ((CELLS * CELLS) as f64).ln()
    );
    println!(
        "| ℓ | sub-token NELBO, nats (upper bound) | above the entropy | joint objective, nats (no likelihood) | training, s |"
    );
    println!("|---|---|---|---|---|");
    let mut densities = vec![picture];
    for subtokens in 1..=3 {
        let out = folder.join(format!("l{subtokens}"));
        let seconds = train_once(&out, settings(&image, subtokens, steps)?)?;
        let session = Model::open(&out)?.session(&Compute::cpu())?;
        let held_out = HeldOut::of_density(&density, POINTS, 1);
        let per_point = |estimator| -> Fallible<Figure> {
            let request =
                EvaluateRequest { draws: DRAWS, seed: 1, batch: 512, ..EvaluateRequest::new(estimator) };
            let figures = session.evaluate(&request, &held_out)?;
            figures.into_iter().next_back().ok_or("no figure".into())
        };
        let bound = per_point(Estimator::NelboSubtoken)?;
        let joint = per_point(Estimator::JointObjective)?;
        // The joint objective comes per token, of which a point has two.
        println!(
            "| {subtokens} | {:.4} ± {:.4} | {:+.4} | {:.4} ± {:.4} | {seconds:.0} |",
            bound.value,
            bound.standard_error.unwrap_or(f64::NAN),
            bound.value - density.entropy(),
            2.0 * joint.value,
            2.0 * joint.standard_error.unwrap_or(f64::NAN),
        );
        let request = Request { num: SAMPLES, batch: 4096, ..session.request() };
        let generated = session.generate(&request, &mut |_: &Event| Ok(()))?;
        densities.push(PointSubject { cells: CELLS }.picture(&generated.tokens));
    }
    Grid { columns: 4, scale: 2 }.write(&folder.join("toy.png"), &densities, shape)?;
    println!("\n{}", folder.join("toy.png").display());
    Ok(())
}

/// Curved bands and blobs, in [0, 1].
fn darkness(row: usize, column: usize) -> f64 {
    let place = |index: usize| 2.0 * (index as f64 + 0.5) / CELLS as f64 - 1.0;
    let (y, x) = (place(row), place(column));
    let band = |distance: f64, width: f64| (-(distance / width).powi(2)).exp();
    let blob = |cx: f64, cy: f64, width: f64| band((x - cx).hypot(y - cy), width);
    let ring = band(x.hypot(y) - 0.75, 0.06);
    let wave = band(y - 0.3 * (5.0 * x).sin(), 0.07) * f64::from(u8::from(x.abs() < 0.55));
    let arc = band((x + 0.2).hypot(y + 1.2) - 0.75, 0.05);
    let blobs = 0.8 * blob(0.75, 0.75, 0.12) + 0.6 * blob(-0.8, 0.8, 0.09) + blob(0.8, -0.8, 0.07);
    (ring + 0.8 * wave + 0.7 * arc + blobs).min(1.0)
}

/// A picture without the border that [`Grid`] draws.
fn write_plain(path: &Path, pixels: &[u8]) -> Fallible {
    let side = CELLS as u32;
    image::save_buffer(path, pixels, side, side, image::ExtendedColorType::L8)?;
    Ok(())
}

/// The preset on the picture.
fn settings(image: &Path, subtokens: usize, steps: u64) -> Fallible<RunSettings> {
    let preset = include_str!("../../../crates/submask-cli/presets/toy.toml");
    let mut settings: RunSettings = toml::from_str(preset)?;
    let RunData::Density(data) = &mut settings.data else { return Err("the preset is of points".into()) };
    data.image = image.to_path_buf();
    data.cells = CELLS;
    settings.codes.subtokens = subtokens;
    settings.train.steps = steps;
    settings.train.final_samples = 0;
    Ok(settings)
}
