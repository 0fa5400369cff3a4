//! The part of an image that is given: imputation.

use submask::data::image::{picture_size, read_grey, read_picture};
use submask::model::{Architecture, ImageSubject};

use crate::args::ImageSampleArgs;
use crate::failure::Failure;

/// A mask picture's pixel is drawn anew from this luminance on.
const WHITE: f64 = 128.0;

/// The digits given, [L·ℓ]; `None` where a digit is to be drawn.
pub fn digits(args: &ImageSampleArgs, architecture: &Architecture) -> Result<Vec<Option<u32>>, Failure> {
    let (config, codes) = (architecture.config(), architecture.predictive().codes());
    let len = codes.subtoken_len();
    let Some(path) = &args.given else { return Ok(vec![None; config.seq_len() * len]) };
    let subject = config
        .subject
        .image()
        .ok_or_else(|| Failure::usage("--given has a meaning for models of images only"))?;
    let shape = subject.shape();
    if args.mask.is_none() {
        check_kept(args)?;
    }
    let intensities: Vec<u32> = match shape.channels {
        1 => read_grey(path, shape.height, shape.width)?.iter().map(|grey| grey.round() as u32).collect(),
        3 => read_picture(path, shape.height, shape.width)?.into_iter().map(u32::from).collect(),
        channels => {
            let message = format!("--given: the model's images have {channels} channels, no picture has");
            return Err(Failure::usage(message));
        }
    };
    let kept_pixels = kept_pixels(args, shape.height, shape.width)?;
    digits_kept(args, architecture, subject, intensities, &kept_pixels)
}

/// That without a mask something else says what is kept of an image.
pub fn check_kept(args: &ImageSampleArgs) -> Result<(), Failure> {
    match args.keep_digits.is_none() && args.keep_channels.is_empty() {
        true => Err(Failure::usage("--given keeps nothing yet")
            .hint("say what is kept by --mask FILE, --keep-digits N or --keep-channels N,…")),
        false => Ok(()),
    }
}

/// The digits given of an image with these intensities [k·H·W], of whose pixels [H·W] some are kept.
pub fn digits_kept(
    args: &ImageSampleArgs,
    architecture: &Architecture,
    subject: &ImageSubject,
    intensities: Vec<u32>,
    kept_pixels: &[bool],
) -> Result<Vec<Option<u32>>, Failure> {
    let codes = architecture.predictive().codes();
    let (len, area) = (codes.subtoken_len(), subject.height * subject.width);
    let x_0 = subject.tokens_of(intensities)?;
    if let Some(channel) = args.keep_channels.iter().find(|channel| **channel >= x_0.len() / area) {
        let message =
            format!("--keep-channels {channel}: the model's images have {} channels", x_0.len() / area);
        return Err(Failure::usage(message).hint("channels are counted from 0"));
    }
    if let Some(digits) = args.keep_digits.filter(|digits| !(1..=len).contains(digits)) {
        return Err(Failure::usage(format!(
            "--keep-digits {digits}: a token of this model has {len} digits"
        )));
    }
    let keep_digits = args.keep_digits.unwrap_or(len);
    let keep = |token: usize, digit: usize| {
        let channel = args.keep_channels.is_empty() || args.keep_channels.contains(&(token / area));
        digit < keep_digits && channel && kept_pixels[token % area]
    };
    let y_0 = codes.encode(&x_0)?;
    let digits = y_0.into_iter().enumerate();
    Ok(digits.map(|(at, digit)| keep(at / len, at % len).then_some(digit)).collect())
}

/// Which pixels are kept: those that are not white in the mask picture.
fn kept_pixels(args: &ImageSampleArgs, height: usize, width: usize) -> Result<Vec<bool>, Failure> {
    let Some(path) = &args.mask else { return Ok(vec![true; height * width]) };
    let (found_height, found_width) = picture_size(path)?;
    if (found_height, found_width) != (height, width) {
        let message = format!("--mask {}: {found_height}×{found_width} pixels", path.display());
        return Err(Failure::usage(message).hint(format!("the model's images have {height}×{width}")));
    }
    Ok(read_grey(path, height, width)?.iter().map(|luminance| *luminance < WHITE).collect())
}
