//! Super-tokens (math.md §8): the three bytes of a pixel as two tokens of 12 bits, C = 4096, "ℓ = 2/3".
//!
//! v = R·65536 + G·256 + B becomes v ≫ 12 and v mod 4096, in this order. Both sides are planar: channel κ of a pixel
//! at (row, column) is at place (κ·H + row)·W + column, with three channels on one side and two on the other.

use crate::{Error, Result};

/// C = 2¹² classes of a super-token.
pub const VOCAB_SIZE: usize = 4096;

/// Super-tokens per pixel.
pub const PER_PIXEL: usize = 2;

/// Bytes of images \[n·3·H·W\] of `pixels` = H·W pixels each to super-tokens \[n·2·H·W\].
///
/// # Errors
/// [`Error::Invalid`] when the bytes are no whole number of such images.
pub fn from_bytes(bytes: &[u8], pixels: usize) -> Result<Vec<u32>> {
    check("bytes", bytes.len(), 3, pixels)?;
    let mut tokens = vec![0; bytes.len() / 3 * 2];
    for (image, planes) in bytes.chunks_exact(3 * pixels).zip(tokens.chunks_exact_mut(2 * pixels)) {
        for place in 0..pixels {
            let byte = |channel: usize| u32::from(image[channel * pixels + place]);
            let v = byte(0) << 16 | byte(1) << 8 | byte(2);
            (planes[place], planes[pixels + place]) = (v >> 12, v & 0xfff);
        }
    }
    Ok(tokens)
}

/// Super-tokens \[n·2·H·W\] of images of `pixels` = H·W pixels each back to bytes \[n·3·H·W\].
///
/// # Errors
/// [`Error::Invalid`] when the tokens are no whole number of such images; [`Error::InvalidCode`] for a token that is
/// not below 4096.
pub fn to_bytes(tokens: &[u32], pixels: usize) -> Result<Vec<u8>> {
    check("super-tokens", tokens.len(), 2, pixels)?;
    if let Some(&token) = tokens.iter().find(|token| **token as usize >= VOCAB_SIZE) {
        let allowed = format!("0 to {}", VOCAB_SIZE - 1);
        return Err(Error::InvalidCode { what: "super-token", given: u64::from(token), allowed });
    }
    let mut bytes = vec![0; tokens.len() / 2 * 3];
    for (planes, image) in tokens.chunks_exact(2 * pixels).zip(bytes.chunks_exact_mut(3 * pixels)) {
        for place in 0..pixels {
            let v = planes[place] << 12 | planes[pixels + place];
            for (channel, shift) in [16, 8, 0].into_iter().enumerate() {
                image[channel * pixels + place] = (v >> shift) as u8;
            }
        }
    }
    Ok(bytes)
}

fn check(what: &str, len: usize, channels: usize, pixels: usize) -> Result<()> {
    if pixels == 0 {
        return Err(Error::invalid("pixels", pixels, "at least 1"));
    }
    if len.is_multiple_of(channels * pixels) {
        return Ok(());
    }
    Err(Error::invalid(what, len, format!("a multiple of {channels}·{pixels}, whole colour images")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bits_of_a_pixel_are_cut_after_the_twelfth() {
        // Two pixels, #123456 and #abcdef, planar.
        let bytes = [0x12, 0xab, 0x34, 0xcd, 0x56, 0xef];
        let tokens = from_bytes(&bytes, 2).unwrap();
        assert_eq!(tokens, [0x123, 0xabc, 0x456, 0xdef]);
        assert_eq!(to_bytes(&tokens, 2).unwrap(), bytes);
        // Of one pixel each, the planes of two images do not mix.
        assert_eq!(
            from_bytes(&[0x12, 0x34, 0x56, 0xab, 0xcd, 0xef], 1).unwrap(),
            [0x123, 0x456, 0xabc, 0xdef]
        );
    }

    #[test]
    fn all_colours_survive_the_way_there_and_back() {
        let pixels = 1 << 16;
        let mut seen = vec![false; 1 << 24];
        for red in 0..=255u8 {
            let mut bytes = vec![red; pixels];
            bytes.extend((0..pixels).map(|place| (place >> 8) as u8));
            bytes.extend((0..pixels).map(|place| place as u8));
            let tokens = from_bytes(&bytes, pixels).unwrap();
            for (high, low) in tokens[..pixels].iter().zip(&tokens[pixels..]) {
                assert!(*high < 4096 && *low < 4096);
                assert!(!std::mem::replace(&mut seen[(high * 4096 + low) as usize], true));
            }
            assert!(to_bytes(&tokens, pixels).unwrap() == bytes);
        }
        assert!(seen.into_iter().all(|seen| seen));
    }

    #[test]
    fn wrong_sizes_and_tokens_out_of_range_are_refused() {
        assert!(from_bytes(&[0; 7], 2).is_err());
        assert!(from_bytes(&[], 0).is_err());
        assert!(to_bytes(&[0; 6], 2).is_err());
        let error = to_bytes(&[0, 4096], 1).unwrap_err().to_string();
        assert!(error.contains("super-token 4096") && error.contains("0 to 4095"), "{error}");
    }
}
