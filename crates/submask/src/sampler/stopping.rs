//! When a text that is written block by block has become too monotonous to go on.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// The entropy rule: a text stops whose last tokens are too much alike.
///
/// The entropy is that of the histogram of the last w tokens, H = −Σ_v (n_v/w) ln(n_v/w) in nats, n_v being how often token v
/// is among them. It is asked after a block, once there are more than w tokens; with H below the least allowed the text
/// stops. No text of a vocabulary of fewer than e^least tokens can pass.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EntropyRule {
    /// How many of the last tokens are looked at w, at least 1.
    pub window: usize,
    /// Least entropy that is allowed, in nats, above 0.
    pub least: f64,
}

impl EntropyRule {
    /// Checks the ranges.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the setting.
    pub fn validate(&self) -> Result<()> {
        if !(self.least > 0.0 && self.least.is_finite()) {
            return Err(Error::invalid("min_entropy", self.least, "a number above 0, or 0 for off"));
        }
        if self.window == 0 {
            return Err(Error::invalid("entropy_window", 0, "at least 1 token"));
        }
        self.check_values(self.window, "entropy_window")
    }

    /// Checks that some text can pass: no histogram over `values` has more entropy than their logarithm.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming what there are so few of.
    pub(crate) fn check_values(&self, values: usize, what: &str) -> Result<()> {
        let most = (values as f64).ln();
        match self.least < most {
            true => Ok(()),
            false => {
                let allowed = format!("below ln({what}) = {most:.3}, which no text exceeds");
                Err(Error::invalid("min_entropy", self.least, allowed))
            }
        }
    }

    /// What is said of a network that does not write block by block, given the least entropy.
    pub(crate) fn without_blocks(least: f64) -> Error {
        let allowed =
            "0, off: texts are stopped after a block, and the network has no blocks (model.block_len)";
        Error::invalid("min_entropy", least, allowed)
    }

    /// The entropy of the last w of `tokens`, of all where there are fewer, in nats.
    pub fn entropy(&self, tokens: &[u32]) -> f64 {
        let last = &tokens[tokens.len().saturating_sub(self.window)..];
        let mut counts: BTreeMap<u32, u32> = BTreeMap::new();
        last.iter().for_each(|token| *counts.entry(*token).or_default() += 1);
        let share = |count: &u32| f64::from(*count) / last.len() as f64;
        -counts.values().map(share).map(|share| share * share.ln()).sum::<f64>()
    }

    /// Whether a text of more than w tokens has too little entropy at its end: it stops, and of a text whose length is fixed
    /// nothing is kept.
    pub fn stops(&self, tokens: &[u32]) -> bool {
        self.may_ask(tokens) && self.entropy(tokens) < self.least
    }

    /// How many of `tokens` are left of a text that stops here because its end has too little entropy, all but the last w, and
    /// `None` where it does not.
    pub fn cut(&self, tokens: &[u32]) -> Option<usize> {
        self.stops(tokens).then(|| tokens.len() - self.window)
    }

    /// How many of `tokens` are kept of a text of free length that stops here, and `None` where it goes on. With too little
    /// entropy that is all but the last w; otherwise the text stops behind the second token `end`, the first one being that
    /// with which it begins.
    pub fn kept(&self, tokens: &[u32], end: Option<u32>) -> Option<usize> {
        if let Some(kept) = self.cut(tokens) {
            return Some(kept);
        }
        let ends = tokens.iter().enumerate().filter(|(_, token)| Some(**token) == end);
        ends.map(|(place, _)| place + 1).nth(1).filter(|_| self.may_ask(tokens))
    }

    /// Whether there are enough tokens.
    fn may_ask(&self, tokens: &[u32]) -> bool {
        tokens.len() > self.window
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: EntropyRule = EntropyRule { window: 4, least: 1.0 };

    #[test]
    fn the_entropy_is_that_of_the_last_tokens() {
        assert_eq!(RULE.entropy(&[1, 2, 3, 7, 7, 7, 7]), 0.0);
        assert!((RULE.entropy(&[9, 1, 2, 3, 4]) - 4f64.ln()).abs() < 1e-15);
        assert!((RULE.entropy(&[5, 5, 6, 6]) - 2f64.ln()).abs() < 1e-15);
        assert!((RULE.entropy(&[5, 6]) - 2f64.ln()).abs() < 1e-15);
        assert_eq!(RULE.entropy(&[]), 0.0);
    }

    #[test]
    fn nothing_stops_before_there_are_more_tokens_than_the_window() {
        assert_eq!((RULE.stops(&[7; 4]), RULE.kept(&[7; 4], Some(7))), (false, None));
        assert_eq!((RULE.stops(&[7; 5]), RULE.kept(&[7; 5], Some(7))), (true, Some(1)));
    }

    #[test]
    fn little_entropy_counts_before_the_second_end_of_text() {
        let text = [0, 1, 2, 0, 3, 4];
        assert_eq!(RULE.kept(&text, Some(0)), Some(4));
        assert_eq!(RULE.kept(&text, Some(1)), None);
        assert_eq!(RULE.kept(&text, None), None);
        assert_eq!(RULE.kept(&[0, 1, 0, 2, 2, 2, 2], Some(0)), Some(3));
    }

    #[test]
    fn numbers_out_of_range_are_refused_by_the_names_of_settings() {
        RULE.validate().unwrap();
        for least in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let error = EntropyRule { least, ..RULE }.validate().unwrap_err().to_string();
            assert!(error.starts_with("min_entropy = "), "{error}");
        }
        let error = EntropyRule { window: 0, ..RULE }.validate().unwrap_err().to_string();
        assert!(error.starts_with("entropy_window = 0"), "{error}");
    }
}
