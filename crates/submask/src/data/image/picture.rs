//! Decoding one picture to planes of a given shape.

use image::imageops::FilterType;
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, ImageReader, ImageResult, RgbImage, RgbaImage};
use std::io::{BufRead, Seek};

use super::source::Background;

/// Bits of the intensity of a channel.
const BITS: u16 = 8;

/// Why a picture is not read.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unread {
    /// It is malformed, or of a format that is not known.
    #[error("not a picture that can be read: {0}")]
    Malformed(#[from] ImageError),
    /// Intensities would be rounded.
    #[error(
        "it has {0} bits per channel; only {BITS} are read, so that nothing is rounded: convert it first"
    )]
    Deep(u16),
    /// What is behind the picture would be invented.
    #[error(
        "it has an alpha channel with transparent pixels; put it on a background first, or, of pictures to train on, set \
         data.background to white or black"
    )]
    Transparent,
}

/// Decodes a picture and fits it to `height` and `width`, see [`super::ImageSource::Pictures`].
pub(super) fn decode(
    bytes: impl BufRead + Seek,
    height: usize,
    width: usize,
    background: Background,
) -> Result<Vec<u8>, Unread> {
    let mut decoder =
        ImageReader::new(bytes).with_guessed_format().map_err(ImageError::from)?.into_decoder()?;
    let color = decoder.color_type();
    let bits = color.bits_per_pixel() / u16::from(color.channel_count());
    if bits > BITS {
        return Err(Unread::Deep(bits));
    }
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let mut picture = DynamicImage::from_decoder(decoder)?;
    picture.apply_orientation(orientation);
    let picture = fit(DynamicImage::from(opaque(picture, background)?), height as u32, width as u32);
    Ok(planes(&picture.into_rgb8()))
}

/// Height and width of a picture, turned as its file says.
pub(super) fn size(bytes: impl BufRead + Seek) -> ImageResult<(usize, usize)> {
    let mut decoder = ImageReader::new(bytes).with_guessed_format()?.into_decoder()?;
    let (width, height) = decoder.dimensions();
    let (height, width) = (height as usize, width as usize);
    use Orientation::{Rotate90, Rotate90FlipH, Rotate270, Rotate270FlipH};
    Ok(match decoder.orientation().unwrap_or(Orientation::NoTransforms) {
        Rotate90 | Rotate270 | Rotate90FlipH | Rotate270FlipH => (width, height),
        _ => (height, width),
    })
}

/// The picture on a background.
fn opaque(picture: DynamicImage, background: Background) -> Result<RgbImage, Unread> {
    if !picture.color().has_alpha() {
        return Ok(picture.into_rgb8());
    }
    let picture = picture.into_rgba8();
    match background {
        Background::White => Ok(on(&picture, u8::MAX)),
        Background::Black => Ok(on(&picture, 0)),
        Background::None if picture.pixels().all(|pixel| pixel.0[3] == u8::MAX) => Ok(on(&picture, 0)),
        Background::None => Err(Unread::Transparent),
    }
}

/// The picture on grey of this intensity.
fn on(picture: &RgbaImage, behind: u8) -> RgbImage {
    RgbImage::from_fn(picture.width(), picture.height(), |x, y| {
        let [red, green, blue, alpha] = picture.get_pixel(x, y).0.map(u32::from);
        let mix = |colour: u32| ((colour * alpha + u32::from(behind) * (255 - alpha) + 127) / 255) as u8;
        image::Rgb([mix(red), mix(green), mix(blue)])
    })
}

/// The largest part in the middle with the proportions of height × width, resized.
fn fit(picture: DynamicImage, height: u32, width: u32) -> DynamicImage {
    let (across, down) = (u64::from(picture.width()), u64::from(picture.height()));
    let (wide, tall) = (u64::from(width), u64::from(height));
    // The cut is as wide or as tall as the picture.
    let cut_across = (down * wide / tall).clamp(1, across);
    let cut_down = (across * tall / wide).clamp(1, down);
    let (x, y) = ((across - cut_across) / 2, (down - cut_down) / 2);
    let part = picture.crop_imm(x as u32, y as u32, cut_across as u32, cut_down as u32);
    if (part.width(), part.height()) == (width, height) {
        return part;
    }
    part.resize_exact(width, height, FilterType::Lanczos3)
}

fn planes(picture: &RgbImage) -> Vec<u8> {
    (0..3).flat_map(|channel| picture.pixels().map(move |pixel| pixel.0[channel])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{ImageFormat, Rgba, RgbaImage};
    use std::io::Cursor;

    fn png(picture: impl Into<DynamicImage>) -> Cursor<Vec<u8>> {
        let mut bytes = Cursor::new(Vec::new());
        picture.into().write_to(&mut bytes, ImageFormat::Png).unwrap();
        Cursor::new(bytes.into_inner())
    }

    #[test]
    fn a_picture_of_the_right_size_keeps_its_pixels() {
        let picture = RgbImage::from_fn(3, 2, |x, y| image::Rgb([x as u8, y as u8, (10 * x + y) as u8]));
        let planes = decode(png(picture), 2, 3, Background::None).unwrap();
        assert_eq!(planes, [0, 1, 2, 0, 1, 2, 0, 0, 0, 1, 1, 1, 0, 10, 20, 1, 11, 21]);
    }

    #[test]
    fn the_middle_is_cut_out() {
        // Three squares side by side, one upon another: only the middle one is left.
        let of = |place: u32| if place / 4 == 1 { 200 } else { 0 };
        for (across, down) in [(12, 4), (4, 12)] {
            let picture = RgbImage::from_fn(across, down, |x, y| image::Rgb([of(x.max(y)); 3]));
            let planes = decode(png(picture), 4, 4, Background::None).unwrap();
            assert_eq!(planes, [200; 48]);
        }
    }

    #[test]
    fn reducing_averages() {
        let picture =
            RgbImage::from_fn(64, 64, |x, y| image::Rgb([if (x + y) % 2 == 0 { 255 } else { 1 }; 3]));
        let planes = decode(png(picture), 8, 8, Background::None).unwrap();
        assert!(planes.iter().all(|x| x.abs_diff(128) <= 2), "{planes:?}");
    }

    #[test]
    fn transparent_pixels_need_a_background() {
        let picture = RgbaImage::from_fn(2, 1, |x, _| Rgba([0, 100, 0, if x == 0 { 0 } else { 51 }]));
        let on = |background| decode(png(picture.clone()), 1, 2, background);
        assert_eq!(on(Background::White).unwrap(), [255, 204, 255, 224, 255, 204]);
        assert_eq!(on(Background::Black).unwrap(), [0, 0, 0, 20, 0, 0]);
        let refused = on(Background::None).unwrap_err().to_string();
        assert!(refused.contains("alpha channel") && refused.contains("data.background"), "{refused}");
        // An alpha channel that changes nothing is no hindrance.
        let picture = RgbaImage::from_pixel(2, 1, Rgba([0, 100, 7, 255]));
        assert_eq!(decode(png(picture), 1, 2, Background::None).unwrap(), [0, 0, 100, 100, 7, 7]);
    }

    #[test]
    fn intensities_of_16_bits_are_not_rounded_in_silence() {
        let picture = image::ImageBuffer::from_pixel(2, 1, image::Rgb([1u16, 256, 65535]));
        let refused = decode(png(picture), 1, 2, Background::White).unwrap_err().to_string();
        assert!(refused.contains("it has 16 bits per channel"), "{refused}");
        let picture = image::ImageBuffer::from_pixel(2, 1, image::Luma([77u16]));
        assert!(matches!(decode(png(picture), 1, 2, Background::None), Err(Unread::Deep(16))));
    }

    #[test]
    fn one_column_of_pixels_can_be_fitted_to_anything() {
        let picture = RgbImage::from_pixel(1, 500, image::Rgb([7; 3]));
        assert_eq!(decode(png(picture), 4, 30, Background::None).unwrap(), [7; 3 * 4 * 30]);
    }
}
