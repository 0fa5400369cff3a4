//! Decoding one picture to planes of a given shape.

use std::io::{BufRead, Cursor, Seek};

use image::imageops::FilterType;
use image::metadata::Orientation;
use image::{
    DynamicImage, ImageBuffer, ImageDecoder, ImageError, ImageReader, ImageResult, Pixel, RgbImage, RgbaImage,
};

use super::source::{Background, SixteenBits};
use super::whole;

/// Bits of the intensity of a channel.
const BITS: u16 = 8;

/// Bytes that the pixels of any picture may take.
const ALWAYS_ALLOWED: u64 = 512 << 20;
/// Bytes that they may take for each byte of the file, where that is more.
const ALLOWED_PER_BYTE: u64 = 4096;

/// How a picture is read.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reading {
    /// What is behind transparent pixels.
    pub background: Background,
    /// What is done with 16 bits per channel.
    pub sixteen_bits: SixteenBits,
}

/// Why a picture is not read.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unread {
    /// It is malformed, or of a format that is not known.
    #[error("not a picture that can be read: {0}")]
    Malformed(#[from] ImageError),
    /// Something is missing or damaged.
    #[error("not a whole {0} picture: {1}")]
    Incomplete(&'static str, String),
    /// Its pixels would take too much memory for a file of its size.
    #[error("its pixels would take {0} bytes of memory; a file of this size may take {1}")]
    Large(u64, u64),
    /// Intensities would be rounded.
    #[error(
        "it has 16 bits per channel; only {BITS} are read, so that nothing is rounded in silence: convert it first, or, of \
         pictures to train on, set data.sixteen_bits to round"
    )]
    Sixteen,
    /// Intensities are of a kind that is not read.
    #[error(
        "it has {0} bits per channel; {BITS} are read, and 16 with data.sixteen_bits = \"round\": convert it first"
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
pub(super) fn decode(bytes: &[u8], height: usize, width: usize, reading: Reading) -> Result<Vec<u8>, Unread> {
    let reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(ImageError::from)?;
    if let Some(format) = reader.format() {
        let name = format.extensions_str().first().copied().unwrap_or("known");
        whole::check(bytes, format).map_err(|problem| Unread::Incomplete(name, problem))?;
    }
    let mut decoder = reader.into_decoder()?;
    let (needed, allowed) = (decoder.total_bytes(), ALLOWED_PER_BYTE.saturating_mul(bytes.len() as u64));
    if needed > allowed.max(ALWAYS_ALLOWED) {
        return Err(Unread::Large(needed, allowed.max(ALWAYS_ALLOWED)));
    }
    let color = decoder.color_type();
    match color.bits_per_pixel() / u16::from(color.channel_count()) {
        0..=BITS => {}
        16 if reading.sixteen_bits == SixteenBits::Round => {}
        16 => return Err(Unread::Sixteen),
        bits => return Err(Unread::Deep(bits)),
    }
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let mut picture = rounded(DynamicImage::from_decoder(decoder)?);
    picture.apply_orientation(orientation);
    let picture = fit(DynamicImage::from(opaque(picture, reading.background)?), height as u32, width as u32);
    Ok(planes(&picture.into_rgb8()))
}

/// The picture with 8 bits per channel: of 16 bits, x becomes the whole number nearest to x/257, so that 0 stays 0 and
/// 65535 becomes 255.
fn rounded(picture: DynamicImage) -> DynamicImage {
    fn eight<P, Q>(picture: &ImageBuffer<P, Vec<u16>>) -> Option<ImageBuffer<Q, Vec<u8>>>
    where
        P: Pixel<Subpixel = u16>,
        Q: Pixel<Subpixel = u8>,
    {
        let intensities = picture.as_raw().iter().map(|x| ((u32::from(*x) + 128) / 257) as u8);
        ImageBuffer::from_raw(picture.width(), picture.height(), intensities.collect())
    }
    let eight_bits = match &picture {
        DynamicImage::ImageLuma16(picture) => eight(picture).map(DynamicImage::ImageLuma8),
        DynamicImage::ImageLumaA16(picture) => eight(picture).map(DynamicImage::ImageLumaA8),
        DynamicImage::ImageRgb16(picture) => eight(picture).map(DynamicImage::ImageRgb8),
        DynamicImage::ImageRgba16(picture) => eight(picture).map(DynamicImage::ImageRgba8),
        _ => None,
    };
    eight_bits.unwrap_or(picture)
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

    fn encoded(picture: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        picture.into().write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    fn png(picture: impl Into<DynamicImage>) -> Vec<u8> {
        encoded(picture, ImageFormat::Png)
    }

    fn plain(bytes: &[u8], height: usize, width: usize) -> Result<Vec<u8>, Unread> {
        decode(bytes, height, width, Reading::default())
    }

    #[test]
    fn a_picture_of_the_right_size_keeps_its_pixels() {
        let picture = RgbImage::from_fn(3, 2, |x, y| image::Rgb([x as u8, y as u8, (10 * x + y) as u8]));
        let planes = plain(&png(picture), 2, 3).unwrap();
        assert_eq!(planes, [0, 1, 2, 0, 1, 2, 0, 0, 0, 1, 1, 1, 0, 10, 20, 1, 11, 21]);
    }

    #[test]
    fn the_middle_is_cut_out() {
        // Three squares side by side, one upon another: only the middle one is left.
        let of = |place: u32| if place / 4 == 1 { 200 } else { 0 };
        for (across, down) in [(12, 4), (4, 12)] {
            let picture = RgbImage::from_fn(across, down, |x, y| image::Rgb([of(x.max(y)); 3]));
            let planes = plain(&png(picture), 4, 4).unwrap();
            assert_eq!(planes, [200; 48]);
        }
    }

    #[test]
    fn reducing_averages() {
        let picture =
            RgbImage::from_fn(64, 64, |x, y| image::Rgb([if (x + y) % 2 == 0 { 255 } else { 1 }; 3]));
        let planes = plain(&png(picture), 8, 8).unwrap();
        assert!(planes.iter().all(|x| x.abs_diff(128) <= 2), "{planes:?}");
    }

    #[test]
    fn transparent_pixels_need_a_background() {
        let picture = RgbaImage::from_fn(2, 1, |x, _| Rgba([0, 100, 0, if x == 0 { 0 } else { 51 }]));
        let on =
            |background| decode(&png(picture.clone()), 1, 2, Reading { background, ..Reading::default() });
        assert_eq!(on(Background::White).unwrap(), [255, 204, 255, 224, 255, 204]);
        assert_eq!(on(Background::Black).unwrap(), [0, 0, 0, 20, 0, 0]);
        let refused = on(Background::None).unwrap_err().to_string();
        assert!(refused.contains("alpha channel") && refused.contains("data.background"), "{refused}");
        // An alpha channel that changes nothing is no hindrance.
        let picture = RgbaImage::from_pixel(2, 1, Rgba([0, 100, 7, 255]));
        assert_eq!(plain(&png(picture), 1, 2).unwrap(), [0, 0, 100, 100, 7, 7]);
    }

    #[test]
    fn intensities_of_16_bits_are_rounded_when_asked_and_never_in_silence() {
        let picture = image::ImageBuffer::from_pixel(2, 1, image::Rgb([1u16, 256, 65535]));
        let round = Reading { sixteen_bits: SixteenBits::Round, ..Reading::default() };
        for format in [ImageFormat::Png, ImageFormat::Tiff] {
            let refused = plain(&encoded(picture.clone(), format), 1, 2).unwrap_err().to_string();
            assert!(
                refused.contains("16 bits per channel") && refused.contains("data.sixteen_bits"),
                "{refused}"
            );
            let read = decode(&encoded(picture.clone(), format), 1, 2, round).unwrap();
            assert_eq!(read, [0, 0, 1, 1, 255, 255]);
            // Half-way between two intensities, and one more.
            let grey = image::ImageBuffer::from_fn(4, 1, |x, _| {
                image::Luma([[128u16, 129, 65406, 65407][x as usize]])
            });
            assert!(matches!(plain(&encoded(grey.clone(), format), 1, 4), Err(Unread::Sixteen)));
            assert_eq!(decode(&encoded(grey, format), 1, 4, round).unwrap()[..4], [0, 1, 254, 255]);
        }
        let shadow = image::ImageBuffer::from_pixel(1, 1, image::Rgba([65535u16, 0, 0, 32768]));
        let on_black = Reading { background: Background::Black, ..round };
        assert!(matches!(decode(&png(shadow.clone()), 1, 1, round), Err(Unread::Transparent)));
        assert_eq!(decode(&png(shadow), 1, 1, on_black).unwrap(), [128, 0, 0]);
        let floats = DynamicImage::ImageRgb32F(image::ImageBuffer::from_pixel(1, 1, image::Rgb([0.5f32; 3])));
        let floats = encoded(floats, ImageFormat::Tiff);
        assert!(matches!(decode(&floats, 1, 1, round), Err(Unread::Deep(32))));
    }

    #[test]
    fn one_column_of_pixels_can_be_fitted_to_anything() {
        let picture = RgbImage::from_pixel(1, 500, image::Rgb([7; 3]));
        assert_eq!(plain(&png(picture), 4, 30).unwrap(), [7; 3 * 4 * 30]);
    }
}
