//! Clipped schedules: training on some of the times only.

use std::fmt::{self, Display};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// The least time of the interval that clips nothing.
const LEAST: f64 = 1e-3;

/// Widths of the intervals that are compared, in hundredths.
const WIDTHS: [u32; 5] = [50, 60, 70, 80, 90];

/// Distance of their beginnings, in hundredths.
const STRIDE: usize = 5;

/// An interval [a, b] of times, 0 < a ≤ b ≤ 1, from which training draws. With α_t = 1 − t it is one of expected shares of
/// masked digits, too, and a block is drawn again, at its time, while its own share lies outside.
///
/// A loss of clipped times is a biased estimate of the bound; bounds of likelihoods run over all times always.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ClipInterval {
    low: f64,
    high: f64,
}

impl ClipInterval {
    /// 0.001..1, in which no block is drawn again.
    pub const WHOLE: Self = Self { low: LEAST, high: 1.0 };

    /// The interval [low, high].
    ///
    /// # Errors
    /// [`Error::Invalid`] unless 0 < low ≤ high ≤ 1.
    pub fn new(low: f64, high: f64) -> Result<Self> {
        match low > 0.0 && low <= high && high <= 1.0 {
            true => Ok(Self { low, high }),
            false => Err(Self::refused(format!("{low}..{high}"))),
        }
    }

    fn refused(given: impl Display) -> Error {
        Error::invalid("clip interval", given, "two numbers a..b with 0 < a ≤ b ≤ 1, such as 0.3..0.8")
    }

    /// Both ends.
    pub fn ends(self) -> [f64; 2] {
        [self.low, self.high]
    }

    /// Whether a block may have `masked` of its `digits` digits masked. A beginning of exactly 0.001 does not limit the share
    /// from below, nor an end of 1 from above.
    pub fn allows(self, masked: usize, digits: usize) -> bool {
        let share = masked as f64 / digits as f64;
        (self.low == LEAST || share >= self.low) && (self.high == 1.0 || share <= self.high)
    }

    /// Checks that a block of `digits` digits can have a share that is allowed, and with something masked.
    ///
    /// # Errors
    /// [`Error::Invalid`] where it cannot: it would be drawn for ever, or cost nothing.
    pub fn check(self, digits: usize) -> Result<()> {
        if (1..=digits).any(|masked| self.allows(masked, digits)) {
            return Ok(());
        }
        let allowed = format!(
            "an interval that holds a share k/N with k ≥ 1, where N = {digits} is the number of sub-tokens of a block"
        );
        Err(Error::invalid("clip interval", self, allowed))
    }

    /// The intervals that a search compares for blocks of these numbers of digits: [`Self::WHOLE`], and those of the widths
    /// 0.5, 0.6, 0.7, 0.8 and 0.9 that begin at 0.001, 0.05, 0.1, …; where every block has one digit, [`Self::WHOLE`] and
    /// 1..1.
    pub fn candidates(digits: &[usize]) -> Vec<Self> {
        if digits.iter().all(|digits| *digits == 1) {
            return vec![Self::WHOLE, Self { low: 1.0, high: 1.0 }];
        }
        let of_width = |width: u32| {
            (0..=100 - width).step_by(STRIDE).map(move |start| Self {
                low: (f64::from(start) / 100.0).max(LEAST),
                high: f64::from(start + width) / 100.0,
            })
        };
        let fits = |interval: &Self| digits.iter().all(|digits| interval.check(*digits).is_ok());
        let clipped = WIDTHS.into_iter().flat_map(of_width).filter(fits);
        std::iter::once(Self::WHOLE).chain(clipped).collect()
    }
}

impl Display for ClipInterval {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}..{}", self.low, self.high)
    }
}

impl FromStr for ClipInterval {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let ends = text.split_once("..").and_then(|(low, high)| {
            Some((low.trim().parse::<f64>().ok()?, high.trim().parse::<f64>().ok()?))
        });
        let (low, high) = ends.ok_or_else(|| Self::refused(format!("{text:?}")))?;
        Self::new(low, high)
    }
}

impl TryFrom<String> for ClipInterval {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<ClipInterval> for String {
    fn from(interval: ClipInterval) -> Self {
        interval.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interval(text: &str) -> ClipInterval {
        text.parse().unwrap()
    }

    #[test]
    fn intervals_are_read_as_they_are_written() {
        for text in ["0.001..1", "0.3..0.8", "0.30000000000000004..0.7", "1..1", "0.0000001..0.5"] {
            assert_eq!(interval(text).to_string(), text);
        }
        assert_eq!(interval("1e-3..1.0"), ClipInterval::WHOLE);
        for text in ["", "0.3", "0..1", "-0.1..1", "0.5..0.4", "0.5..1.1", "a..b", "NaN..1", "0.1..NaN"] {
            let error = text.parse::<ClipInterval>().unwrap_err().to_string();
            assert!(error.contains("0 < a ≤ b ≤ 1"), "{text}: {error}");
        }
    }

    #[test]
    fn the_ends_that_clip_nothing_limit_no_share() {
        let allowed = |text: &str| (0..=4).filter(|&k| interval(text).allows(k, 4)).collect::<Vec<_>>();
        assert_eq!(allowed("0.45..0.95"), [2, 3]);
        assert_eq!(allowed("0.001..0.5"), [0, 1, 2]);
        assert_eq!(allowed("0.5..1"), [2, 3, 4]);
        assert_eq!(allowed("0.001..1"), [0, 1, 2, 3, 4]);
        assert_eq!(allowed("0.002..1"), [1, 2, 3, 4]);
        assert_eq!(allowed("1..1"), [4]);
        assert_eq!(allowed("0.75..0.75"), [3]);
    }

    #[test]
    fn an_interval_without_a_share_is_refused() {
        for (text, digits) in [("0.3..0.4", 4), ("0.001..0.2", 4), ("0.3..0.8", 1), ("0.001..0.5", 1)] {
            let error = interval(text).check(digits).unwrap_err().to_string();
            assert!(error.contains(text) && error.contains(&format!("N = {digits} ")), "{error}");
        }
        for (text, digits) in [("0.3..0.4", 3), ("0.001..0.25", 4), ("0.5..1", 1), ("0.001..1", 1)] {
            interval(text).check(digits).unwrap();
        }
    }

    #[test]
    fn a_search_compares_the_published_intervals() {
        let all = ClipInterval::candidates(&[16]);
        assert_eq!(all.len(), 36);
        assert_eq!((all[0], all[1].to_string()), (ClipInterval::WHOLE, "0.001..0.5".to_owned()));
        assert_eq!((all[2].to_string(), all[35].to_string()), ("0.05..0.55".into(), "0.1..1".into()));
        assert_eq!(ClipInterval::candidates(&[1]), [ClipInterval::WHOLE, interval("1..1")]);
        // A block of one digit beside others can have the share 1 only.
        let mixed = ClipInterval::candidates(&[2, 1]);
        assert!(mixed.len() == 6 && mixed.iter().all(|interval| interval.ends()[1] == 1.0), "{mixed:?}");
    }
}
