//! Pictures as PNG in base64.

use std::io::Cursor;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use image::{ColorType, DynamicImage, ExtendedColorType, ImageDecoder, ImageEncoder, ImageReader};
use submask::data::image::ImageShape;

use super::listener::PICTURES;
use crate::error::ApiError;

/// Largest side of a picture that is written, in pixels; and of one in a stream, which is written between two evaluations of
/// everybody's samples.
const MAX_SIDE: usize = 4096;
const MAX_STREAMED_SIDE: usize = 1024;
/// Most pixels of all pictures of a request whose pixels are repeated.
const MAX_PIXELS: usize = 1 << 26;

/// Which pictures of so many images are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// Those of finished images.
    Finished(usize),
    /// Those of images that resolve, too.
    While(usize),
}

impl Shown {
    /// Pictures in all, at most.
    fn pictures(self) -> usize {
        match self {
            Self::Finished(images) => images,
            // The first, the partial ones, and the last.
            Self::While(images) => images.saturating_mul(PICTURES as usize + 2),
        }
    }

    fn side(self) -> usize {
        match self {
            Self::Finished(_) => MAX_SIDE,
            Self::While(_) => MAX_STREAMED_SIDE,
        }
    }

    /// How often the pixels of images of a shape may be repeated along a side; 1 is always allowed.
    fn largest_scale(self, shape: ImageShape) -> usize {
        let pixels = self.pictures().saturating_mul(shape.height * shape.width).max(1);
        let side = self.side() / shape.height.max(shape.width).max(1);
        side.min((MAX_PIXELS / pixels).isqrt()).max(1)
    }
}

/// How images of one shape are written.
#[derive(Clone, Copy, Debug)]
pub struct Canvas {
    shape: ImageShape,
    scale: u32,
}

impl Canvas {
    /// Images of this shape, every pixel `scale`×`scale` times.
    ///
    /// # Errors
    /// 400 for a size that is not allowed, and for images of other than 1 or 3 channels.
    pub fn new(shape: ImageShape, scale: u32, shown: Shown) -> Result<Self, ApiError> {
        if ![1, 3].contains(&shape.channels) {
            let message =
                format!("the model's images have {} channels: those of a picture are 1 or 3", shape.channels);
            return Err(ApiError::invalid("model", message));
        }
        let most = shown.largest_scale(shape);
        match (1..=most).contains(&(scale as usize)) {
            true => Ok(Self { shape, scale }),
            false => {
                let (side, pictures) = (shown.side(), shown.pictures());
                let allowed = format!(
                    "1 to {most}, so that {pictures} pictures (with those of a stream) have sides of at most {side} and at most {MAX_PIXELS} pixels in all"
                );
                Err(ApiError::refused("scale", scale, allowed))
            }
        }
    }

    /// A picture of the planes of an image.
    ///
    /// # Errors
    /// 500 where the encoder fails.
    pub fn encode(&self, planes: &[u8]) -> Result<String, ApiError> {
        let ImageShape { channels, height, width } = self.shape;
        let scale = self.scale as usize;
        let mut pixels = Vec::with_capacity(planes.len() * scale * scale);
        for y in 0..height * scale {
            for x in 0..width * scale {
                let place = (y / scale) * width + x / scale;
                pixels.extend((0..channels).map(|channel| planes[channel * height * width + place]));
            }
        }
        let colours = if channels == 1 { ExtendedColorType::L8 } else { ExtendedColorType::Rgb8 };
        let (across, down) = (width as u32 * self.scale, height as u32 * self.scale);
        let mut png = Vec::new();
        let written =
            image::codecs::png::PngEncoder::new(&mut png).write_image(&pixels, across, down, colours);
        written.map_err(|error| {
            tracing::error!(error = %error, "a picture cannot be written");
            ApiError::internal("a picture cannot be written; the log of the server says more")
        })?;
        Ok(STANDARD.encode(png))
    }
}

/// The planes of red, green and blue \[3·H·W\] of a PNG in base64, which has to have the size of the model's images.
///
/// # Errors
/// 400 naming the field.
pub fn decode(field: &str, text: &str, shape: ImageShape) -> Result<Vec<u8>, ApiError> {
    let wrong = |problem: String| ApiError::invalid(field, format!("{field}: {problem}"));
    // Clients of web pages have it as a data URL.
    let text = text.strip_prefix("data:image/png;base64,").unwrap_or(text);
    let bytes = STANDARD.decode(text.trim()).map_err(|error| wrong(format!("not base64: {error}")))?;
    let mut reader = ImageReader::new(Cursor::new(&bytes));
    reader.set_format(image::ImageFormat::Png);
    let unreadable = |error: image::ImageError| wrong(format!("not a PNG that can be read: {error}"));
    let decoder = reader.into_decoder().map_err(unreadable)?;
    let (width, height) = decoder.dimensions();
    if (height as usize, width as usize) != (shape.height, shape.width) {
        let message =
            format!("{height}×{width} pixels: the model's images have {}×{}", shape.height, shape.width);
        return Err(wrong(message));
    }
    match decoder.color_type() {
        ColorType::L8 | ColorType::La8 | ColorType::Rgb8 | ColorType::Rgba8 => {}
        _ => {
            return Err(wrong(
                "it has 16 bits per channel: only 8 are read, so that nothing is rounded".to_owned(),
            ));
        }
    }
    let picture = DynamicImage::from_decoder(decoder).map_err(unreadable)?;
    let picture = picture.into_rgba8();
    if picture.pixels().any(|pixel| pixel.0[3] != u8::MAX) {
        return Err(wrong("it has transparent pixels: put it on a background first".to_owned()));
    }
    Ok((0..3).flat_map(|channel| picture.pixels().map(move |pixel| pixel.0[channel])).collect())
}

/// The luminance (299R + 587G + 114B)/1000 of every pixel of red, green and blue planes, as `submask sample` has it of pictures.
pub fn luminance(planes: &[u8]) -> Vec<f64> {
    let area = planes.len() / 3;
    let colour = |channel: usize, place: usize| f64::from(planes[channel * area + place]);
    let grey =
        |place| (299.0 * colour(0, place) + 587.0 * colour(1, place) + 114.0 * colour(2, place)) / 1000.0;
    (0..area).map(grey).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(channels: usize) -> ImageShape {
        ImageShape { channels, height: 2, width: 3 }
    }

    #[test]
    fn what_is_written_can_be_read() {
        let planes: Vec<u8> = (0..18).map(|value| value * 14).collect();
        let text = Canvas::new(shape(3), 1, Shown::Finished(1)).unwrap().encode(&planes).unwrap();
        assert_eq!(decode("image", &text, shape(3)).unwrap(), planes);
        let url = format!("data:image/png;base64,{text}");
        assert_eq!(decode("image", &url, shape(3)).unwrap(), planes);
        let grey = Canvas::new(shape(1), 1, Shown::Finished(1)).unwrap().encode(&planes[..6]).unwrap();
        let read = decode("image", &grey, shape(1)).unwrap();
        assert_eq!(luminance(&read), planes[..6].iter().map(|grey| f64::from(*grey)).collect::<Vec<_>>());
        let scaled = Canvas::new(shape(1), 2, Shown::Finished(1)).unwrap().encode(&planes[..6]).unwrap();
        let large = ImageShape { channels: 1, height: 4, width: 6 };
        let rows = decode("image", &scaled, large).unwrap();
        assert_eq!(rows[..6], [0, 0, 14, 14, 28, 28]);
        assert_eq!(rows[..6], rows[6..12]);
    }

    #[test]
    fn what_is_no_picture_of_the_model_is_refused_by_field() {
        let png = Canvas::new(shape(1), 2, Shown::Finished(1)).unwrap().encode(&[0; 6]).unwrap();
        for (text, problem) in [
            ("%%%", "not base64"),
            ("aGVsbG8=", "not a PNG"),
            (&png[..40], "not a PNG"),
            (&png, "4×6 pixels: the model's images have 2×3"),
        ] {
            let error = decode("mask", text, shape(1)).unwrap_err();
            assert!(error.to_string().contains(problem), "{error}");
            assert_eq!(error.detail().param.as_deref(), Some("mask"));
        }
        assert!(Canvas::new(shape(2), 1, Shown::Finished(1)).is_err());
        assert!(
            Canvas::new(shape(3), 0, Shown::Finished(1)).is_err()
                && Canvas::new(shape(3), 5000, Shown::Finished(1)).is_err()
        );
    }

    #[test]
    fn pictures_are_bounded_by_their_sides_and_all_of_their_pixels() {
        let largest = |shown: Shown, side: usize| {
            let shape = ImageShape { channels: 1, height: side, width: side };
            let most = shown.largest_scale(shape);
            assert!(Canvas::new(shape, most as u32, shown).is_ok());
            let error = Canvas::new(shape, most as u32 + 1, shown).unwrap_err().to_string();
            assert!(error.contains(&format!("1 to {most},")), "{error}");
            most
        };
        assert_eq!(largest(Shown::Finished(1), 32), 128);
        assert_eq!(largest(Shown::While(1), 32), 32);
        assert_eq!(largest(Shown::Finished(128), 32), 22);
        assert_eq!(largest(Shown::While(128), 32), 4);
        assert_eq!(largest(Shown::While(1000), 512), 1);
    }
}
