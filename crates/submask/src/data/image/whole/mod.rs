//! Whether the file of a picture is whole.
//!
//! Decoders show what is there of a damaged picture and fill the rest with grey, and some stop reading before the end.
//! Here the structure of the file is followed to its end, so that a file that was cut anywhere is refused.

mod containers;
mod jpeg;
mod tiff;

use image::ImageFormat;

/// Checks a file of a known format.
///
/// # Errors
/// What is missing.
pub(super) fn check(bytes: &[u8], format: ImageFormat) -> Result<(), String> {
    match format {
        ImageFormat::Jpeg => jpeg::check(bytes),
        ImageFormat::Png => containers::png(bytes),
        ImageFormat::Gif => containers::gif(bytes),
        ImageFormat::WebP => containers::webp(bytes),
        ImageFormat::Bmp => containers::bmp(bytes),
        ImageFormat::Tiff => tiff::check(bytes),
        _ => Ok(()),
    }
}

/// The `N` bytes at `at`.
fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

/// What is said of a file that ends within a part of it.
fn truncated(within: &str) -> String {
    format!("it ends within {within}: it is truncated")
}

#[cfg(test)]
mod tests;
