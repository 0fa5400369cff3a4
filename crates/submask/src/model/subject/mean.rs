//! What is known of an image that is not finished.

use std::collections::HashMap;

use super::{ImageSubject, Meaning};
use crate::data::image::super_tokens;
use crate::predictive::Predictive;
use crate::{Error, Result};

impl ImageSubject {
    /// The pixels of a state y_t [L·ℓ], every intensity the mean of those that agree with the visible digits: 127.5
    /// where nothing is known. Intensities of fewer levels than 256 are spread over 0 to 255.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a state that is not of the images' size.
    pub fn mean_pixels(&self, predictive: &Predictive, y_t: &[u32]) -> Result<Vec<u8>> {
        let len = predictive.codes().subtoken_len();
        let area = self.height * self.width;
        let digits = self.planes() * area * len;
        if y_t.len() != digits {
            return Err(Error::invalid("state", y_t.len(), format!("{digits} digits")));
        }
        let mut means = Means { predictive, known: HashMap::new() };
        let tokens = y_t.chunks_exact(len);
        if !self.super_tokens {
            let most = (self.vocab_size() - 1).max(1) as f64;
            return Ok(tokens.map(|digits| (255.0 * means.of(digits, 1).0 / most).round() as u8).collect());
        }
        // v = 4096a + b: red is a's upper 8 bits, green a's lower and b's upper 4, blue b's lower 8.
        let tokens: Vec<&[u32]> = tokens.collect();
        let mut pixels = vec![0; 3 * area];
        for place in 0..area {
            let (red, upper) = means.of(tokens[place], 16);
            let (lower, blue) = means.of(tokens[area + place], super_tokens::VOCAB_SIZE as u32 / 16);
            for (channel, mean) in [red, 16.0 * upper + lower, blue].into_iter().enumerate() {
                pixels[channel * area + place] = mean.round() as u8;
            }
        }
        Ok(pixels)
    }
}

/// Means over the tokens that agree with visible digits; each is computed once.
struct Means<'a> {
    predictive: &'a Predictive,
    known: HashMap<(Vec<u32>, u32), (f64, f64)>,
}

impl Means<'_> {
    /// The means of ⌊x/divisor⌋ and of x mod divisor.
    fn of(&mut self, digits: &[u32], divisor: u32) -> (f64, f64) {
        let predictive = self.predictive;
        *self.known.entry((digits.to_vec(), divisor)).or_insert_with(|| {
            let (mut sums, mut count) = ((0.0, 0.0), 0.0);
            predictive.consistent(digits).for_each(|x| {
                let x = x as u32;
                sums = (sums.0 + f64::from(x / divisor), sums.1 + f64::from(x % divisor));
                count += 1.0;
            });
            (sums.0 / count, sums.1 / count)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subtoken::SubTokenizer;

    fn pixel(super_tokens: bool, subtokens: usize) -> (ImageSubject, Predictive) {
        let subject =
            ImageSubject { channels: 3, height: 1, width: 1, levels: 256, super_tokens, class_names: vec![] };
        let codes = SubTokenizer::new(subject.vocab_size(), subtokens).unwrap();
        (subject, Predictive::new(codes, true))
    }

    #[test]
    fn half_known_intensities_are_the_mean_of_what_is_left() {
        let (subject, predictive) = pixel(false, 2);
        // High digit 3 known: 48 to 63; nothing known: 0 to 255; all known: 5·16 + 2.
        let pixels = subject.mean_pixels(&predictive, &[3, 16, 16, 16, 5, 2]).unwrap();
        assert_eq!(pixels, [56, 128, 82]);
        assert!(subject.mean_pixels(&predictive, &[3, 16]).is_err());
    }

    #[test]
    fn known_super_tokens_are_their_colours() {
        let (subject, predictive) = pixel(true, 1);
        let tokens = super_tokens::from_bytes(&[18, 52, 86], 1).unwrap();
        assert_eq!(subject.mean_pixels(&predictive, &tokens).unwrap(), [18, 52, 86]);
        let half = subject.mean_pixels(&predictive, &[tokens[0], 4096]).unwrap();
        assert_eq!((half[0], half[1], half[2]), (18, 56, 128));
    }
}
