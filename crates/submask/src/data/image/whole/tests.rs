use std::io::Cursor;

use image::{DynamicImage, Frame, ImageFormat, RgbImage, RgbaImage};

use super::super::picture::{Reading, decode};
use super::super::source::Background;
use super::*;

/// 27 × 19 pixels in colour, progressive with all kinds of scans, colours at half the size: `scripts/jpeg_fixtures.py`.
const PROGRESSIVE: &[u8] = include_bytes!("progressive.jpg");
/// The same picture in one scan, with a restart marker after every unit.
const RESTART: &[u8] = include_bytes!("restart.jpg");

fn picture(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        image::Rgb([(13 * x + 7 * y) as u8, (3 * x * x + 29 * y) as u8, (x * y * 5) as u8])
    })
}

fn encoded(format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    DynamicImage::from(picture(21, 14)).write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// A GIF of two frames.
fn animation() -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = image::codecs::gif::GifEncoder::new(&mut bytes);
    for value in [10, 200] {
        let frame = RgbaImage::from_pixel(5, 4, image::Rgba([value, 0, 0, 255]));
        encoder.encode_frame(Frame::new(frame)).unwrap();
    }
    drop(encoder);
    bytes
}

fn is_read(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let reading = Reading { background: Background::White, ..Reading::default() };
    decode(bytes, 4, 4, reading).map_err(|problem| problem.to_string())
}

#[test]
fn a_file_that_is_cut_anywhere_is_refused_in_every_format() {
    use ImageFormat::{Bmp, Gif, Jpeg, Png, Tiff, WebP};
    let mut files: Vec<(String, Vec<u8>)> =
        [Bmp, Gif, Jpeg, Png, Tiff, WebP].map(|format| (format!("{format:?}"), encoded(format))).to_vec();
    files.push(("progressive".into(), PROGRESSIVE.to_vec()));
    files.push(("restart".into(), RESTART.to_vec()));
    files.push(("animation".into(), animation()));
    for (name, whole) in files {
        assert_eq!(is_read(&whole).map(|planes| planes.len()), Ok(48), "{name}");
        for length in 0..whole.len() {
            assert!(is_read(&whole[..length]).is_err(), "{name} of {} bytes, cut to {length}", whole.len());
        }
    }
}

/// A program that gives up on a download may still end the file.
#[test]
fn a_jpeg_that_is_cut_and_ended_again_is_refused() {
    for whole in [PROGRESSIVE, RESTART, &encoded(ImageFormat::Jpeg)] {
        let start = whole.windows(2).position(|pair| pair == [0xff, 0xda]).unwrap() + 14;
        for length in start..whole.len() - 3 {
            let ended = [&whole[..length], &[0xff, 0xd9]].concat();
            // The last byte of a scan may be nothing but filling.
            if length + 3 < whole.len() - 2 {
                assert!(is_read(&ended).is_err(), "{} bytes cut to {length} and ended", whole.len());
            }
        }
    }
}

/// The same of a GIF: sub-blocks are left out, and the frame is ended where they were.
#[test]
fn a_gif_that_lacks_pixels_and_is_ended_is_refused() {
    let whole = encoded(ImageFormat::Gif);
    let [flags] = array(&whole, 10).unwrap();
    let descriptor = (13 + (3 << ((flags & 7) + 1)) * usize::from(flags >> 7)..whole.len())
        .find(|at| whole[*at] == 0x2c)
        .unwrap();
    let [flags] = array(&whole, descriptor + 9).unwrap();
    let table: usize = if flags & 0x80 == 0 { 0 } else { 3 << ((flags & 7) + 1) };
    let data = descriptor + 11 + table;
    let length = usize::from(whole[data]);
    assert!(length > 60);
    for kept in [0, 1, length / 2, length - 20] {
        let mut altered = whole[..=data + kept].to_vec();
        altered[data] = kept as u8;
        // A block without bytes ends the frame by itself.
        altered.extend(if kept == 0 { &[0x3b][..] } else { &[0, 0x3b] });
        assert!(is_read(&altered).is_err(), "{kept} of {length} bytes");
    }
}

#[test]
fn a_jpeg_that_misses_a_restart_marker_is_refused() {
    let at = RESTART.windows(2).position(|pair| pair == [0xff, 0xd2]).unwrap();
    let mut altered = RESTART.to_vec();
    altered[at + 1] = 0xd5;
    assert!(is_read(&altered).unwrap_err().contains("a restart marker is missing"));
}

#[test]
fn what_follows_a_whole_picture_does_not_matter() {
    for whole in [PROGRESSIVE, &encoded(ImageFormat::Png), &encoded(ImageFormat::Jpeg), &animation()] {
        assert_eq!(is_read(&[whole, b"and more"].concat()), is_read(whole));
    }
}

#[test]
fn of_an_animation_the_first_frame_is_read() {
    assert_eq!(is_read(&animation()).unwrap()[0], 10);
}

#[test]
fn runs_of_a_bitmap_have_an_end() {
    // Two rows of three pixels of 8 bits: a run and the end of the row, twice, then the end.
    let mut header = b"BM".to_vec();
    header.extend([0; 8]);
    header.extend(58u32.to_le_bytes());
    for number in [40u32, 3, 2, 1 | 8 << 16, 1, 0, 0, 0, 1, 0] {
        header.extend(number.to_le_bytes());
    }
    header.extend([7, 7, 7, 0]);
    let whole = [&header[..], &[3, 0, 0, 0, 3, 0, 0, 1]].concat();
    assert_eq!(bmp_is_whole(&whole), Ok(()));
    for length in header.len()..whole.len() {
        assert!(bmp_is_whole(&whole[..length]).is_err(), "{length}");
    }
    // Two pixels by themselves, padded to an even number of bytes.
    let single = [&header[..], &[0, 3, 0, 0, 0, 0, 0, 1]].concat();
    assert_eq!(bmp_is_whole(&single), Ok(()));
    assert!(bmp_is_whole(&single[..single.len() - 3]).is_err());
}

fn bmp_is_whole(bytes: &[u8]) -> Result<(), String> {
    check(bytes, ImageFormat::Bmp)
}

/// No byte, whatever it is, makes reading panic.
#[test]
fn altered_pictures_are_read_or_refused() {
    use ImageFormat::{Bmp, Gif, Jpeg, Png, Tiff, WebP};
    let mut files: Vec<Vec<u8>> = [Bmp, Gif, Jpeg, Png, Tiff, WebP].map(encoded).to_vec();
    files.extend([PROGRESSIVE.to_vec(), RESTART.to_vec(), animation()]);
    for whole in files {
        let format = image::guess_format(&whole).unwrap();
        for at in 0..whole.len() {
            for byte in [0, 0x7f, 0xff, whole[at] ^ 1, whole[at] ^ 0x80] {
                let mut altered = whole.clone();
                altered[at] = byte;
                let _ = check(&altered, format);
            }
        }
    }
}
