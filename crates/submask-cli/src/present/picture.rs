//! Samples as a picture, and how they came about as a second one.

use std::path::{Path, PathBuf};

use submask::data::image::{Grid, ImageShape};
use submask::model::{Architecture, Generated, Subject};

use crate::failure::Failure;

/// Images that a trace shows at most, and moments of each.
const TRACED: usize = 8;
const MOMENTS: usize = 12;
/// Pixels of the largest side that a picture of one image is scaled up to.
const VISIBLE: usize = 64;

/// Writes the samples as one picture.
pub fn write(architecture: &Architecture, generated: &Generated, path: &Path) -> Result<PathBuf, Failure> {
    match &architecture.config().subject {
        Subject::Image(image) => {
            let images = generated.tokens.iter().map(|x_0| image.pixels_of(x_0));
            let images = images.collect::<submask::Result<Vec<_>>>()?;
            let columns = (images.len() as f64).sqrt().ceil() as usize;
            Grid { columns, scale: scale(image.shape()) }.write(path, &images, image.shape())?;
        }
        Subject::Point(point) => {
            let shape = ImageShape { channels: 1, height: point.cells, width: point.cells };
            Grid { columns: 1, scale: 3 }.write(path, &[point.picture(&generated.tokens)], shape)?;
        }
        _ => return Err(Failure::failed("text is no picture")),
    }
    Ok(path.to_path_buf())
}

/// Small images are enlarged.
fn scale(shape: ImageShape) -> usize {
    (VISIBLE / shape.height.max(shape.width)).max(1)
}

/// Writes how some of the samples came about, a row for each, as a picture beside `out`.
pub fn write_traces(
    architecture: &Architecture,
    generated: &Generated,
    out: &Path,
) -> Result<PathBuf, Failure> {
    let image =
        architecture.config().subject.image().ok_or_else(|| {
            Failure::usage("--trace shows images: points have nothing in between to be seen")
        })?;
    let stem = out.file_stem().unwrap_or_default().to_string_lossy();
    let path = out.with_file_name(format!("{stem}-trace.png"));
    let mut images = Vec::new();
    for trajectory in generated.trajectories.iter().take(TRACED) {
        let states: Vec<Vec<u32>> = trajectory.states().map(|(_, y)| y).collect();
        for moment in 0..MOMENTS {
            let state = &states[moment * (states.len() - 1) / (MOMENTS - 1)];
            images.push(image.mean_pixels(architecture.predictive(), state)?);
        }
    }
    Grid { columns: MOMENTS, scale: scale(image.shape()) }.write(&path, &images, image.shape())?;
    Ok(path)
}
