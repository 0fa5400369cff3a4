//! Pictures of many images: written as PNG.

use std::path::Path;

use super::shape::ImageShape;
use crate::{Error, Result};

/// Images side by side, `columns` in a row, one pixel of white between them; every pixel is written as `scale`×`scale`.
#[derive(Clone, Copy, Debug)]
pub struct Grid {
    /// Images in a row, at least 1.
    pub columns: usize,
    /// Size of a pixel, at least 1.
    pub scale: usize,
}

impl Grid {
    /// Pixels of the picture of `count` images, \[H, W, 3\] in that order, with H and W.
    fn paint(self, images: &[Vec<u8>], shape: ImageShape) -> (Vec<u8>, usize, usize) {
        let (columns, scale) = (self.columns.max(1).min(images.len().max(1)), self.scale.max(1));
        let rows = images.len().div_ceil(columns);
        let (down, across) = (shape.height * scale + 1, shape.width * scale + 1);
        let (height, width) = (rows * down + 1, columns * across + 1);
        let mut pixels = vec![255; height * width * 3];
        for (n, image) in images.iter().enumerate() {
            let (top, left) = (n / columns * down + 1, n % columns * across + 1);
            for y in 0..shape.height * scale {
                for x in 0..shape.width * scale {
                    let place = (y / scale) * shape.width + x / scale;
                    let at = ((top + y) * width + left + x) * 3;
                    for colour in 0..3 {
                        let channel = colour.min(shape.channels - 1);
                        pixels[at + colour] = image[channel * shape.height * shape.width + place];
                    }
                }
            }
        }
        (pixels, height, width)
    }

    /// Writes `images`, planes of `shape` each, of 1 or 3 channels.
    ///
    /// # Errors
    /// [`Error::Io`] naming the file, [`Error::Invalid`] for other channels and in a build without pictures.
    pub fn write(self, path: &Path, images: &[Vec<u8>], shape: ImageShape) -> Result<()> {
        if ![1, 3].contains(&shape.channels) {
            let given = format!("{} channels", shape.channels);
            return Err(Error::invalid("images", given, "1 or 3 channels, to be shown as a picture"));
        }
        let (pixels, height, width) = self.paint(images, shape);
        write_png(path, &pixels, height, width)
    }
}

#[cfg(feature = "pictures")]
fn write_png(path: &Path, pixels: &[u8], height: usize, width: usize) -> Result<()> {
    use image::{ExtendedColorType, ImageFormat};

    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
    }
    crate::durable::write_atomically_with(path, |temporary| {
        let (width, height) = (width as u32, height as u32);
        let (colours, format) = (ExtendedColorType::Rgb8, ImageFormat::Png);
        image::save_buffer_with_format(temporary, pixels, width, height, colours, format)
            .map_err(std::io::Error::other)
    })
}

#[cfg(not(feature = "pictures"))]
fn write_png(path: &Path, _: &[u8], _: usize, _: usize) -> Result<()> {
    let allowed = "this build lacks pictures; build with the feature `pictures`";
    Err(Error::invalid("picture", path.display(), allowed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_stand_side_by_side_with_white_between() {
        let shape = ImageShape { channels: 1, height: 1, width: 2 };
        let (pixels, height, width) =
            Grid { columns: 2, scale: 1 }.paint(&[vec![1, 2], vec![3, 4], vec![5, 6]], shape);
        assert_eq!((height, width), (5, 7));
        let grey: Vec<u8> = pixels.chunks(3).map(|rgb| rgb[0]).collect();
        assert_eq!(grey[7..14], [255, 1, 2, 255, 3, 4, 255]);
        assert_eq!(grey[21..28], [255, 5, 6, 255, 255, 255, 255]);
    }

    #[test]
    fn colours_come_from_their_planes_and_pixels_are_scaled() {
        let shape = ImageShape { channels: 3, height: 1, width: 1 };
        let (pixels, height, width) = Grid { columns: 9, scale: 2 }.paint(&[vec![7, 8, 9]], shape);
        assert_eq!((height, width), (4, 4));
        assert_eq!(pixels[(4 + 1) * 3..][..6], [7, 8, 9, 7, 8, 9]);
    }

    #[test]
    #[cfg(feature = "pictures")]
    fn what_is_written_can_be_read() {
        let room = tempfile::tempdir().unwrap();
        let path = room.path().join("new/grid.png");
        let shape = ImageShape { channels: 3, height: 1, width: 1 };
        Grid { columns: 1, scale: 1 }.write(&path, &[vec![7, 8, 9]], shape).unwrap();
        let planes = crate::data::image::read_picture(&path, 3, 3).unwrap();
        assert_eq!([planes[4], planes[13], planes[22]], [7, 8, 9]);
        let two = ImageShape { channels: 2, height: 1, width: 1 };
        assert!(Grid { columns: 1, scale: 1 }.write(&path, &[vec![7, 8]], two).is_err());
    }
}
