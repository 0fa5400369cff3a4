//! Prompts: given tokens or sub-tokens with holes anywhere.

use std::sync::Arc;

use crate::predictive::Predictive;
use crate::{Error, Result};

/// The initial state of a sequence: given sub-tokens, which never change, and masks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt {
    y: Arc<[u32]>,
    mask_id: u32,
    label: Option<usize>,
}

impl Prompt {
    /// `seq_len` = L tokens, nothing given.
    ///
    /// # Errors
    /// [`Error::Invalid`] when L is 0.
    pub fn empty(predictive: &Predictive, seq_len: usize) -> Result<Self> {
        Self::from_tokens(predictive, &vec![None; seq_len])
    }

    /// Given tokens with holes anywhere, \[L\].
    ///
    /// # Errors
    /// [`Error::Invalid`] when there is no token; [`Error::InvalidCode`] for one that is not below C.
    pub fn from_tokens(predictive: &Predictive, tokens: &[Option<u32>]) -> Result<Self> {
        let codes = predictive.codes();
        let mut digits = Vec::with_capacity(tokens.len() * codes.subtoken_len());
        for token in tokens {
            match token {
                Some(token) => digits.extend(codes.encode(&[*token])?.into_iter().map(Some)),
                None => digits.extend(vec![None; codes.subtoken_len()]),
            }
        }
        Self::from_digits(predictive, &digits)
    }

    /// Given sub-tokens with holes anywhere, [L·ℓ], digit j of token i at i·ℓ + j.
    ///
    /// # Errors
    /// [`Error::Invalid`] when there is no digit or no whole number of tokens; [`Error::InvalidCode`] for a digit
    /// outside the base and for given digits that no token has together.
    pub fn from_digits(predictive: &Predictive, digits: &[Option<u32>]) -> Result<Self> {
        let codes = predictive.codes();
        let (subtoken_len, base) = (codes.subtoken_len(), codes.base());
        if digits.is_empty() || !digits.len().is_multiple_of(subtoken_len) {
            let allowed = format!("a positive multiple of {subtoken_len}");
            return Err(Error::invalid("prompt digits", digits.len(), allowed));
        }
        if let Some(&given) = digits.iter().flatten().find(|digit| **digit >= base) {
            let allowed = format!("0 to {}", base - 1);
            return Err(Error::InvalidCode { what: "digit", given: u64::from(given), allowed });
        }
        let y: Arc<[u32]> = digits.iter().map(|digit| digit.unwrap_or(base)).collect();
        for (i, token) in y.chunks_exact(subtoken_len).enumerate() {
            if predictive.consistent(token).is_empty() {
                return Err(Error::invalid(
                    format!("prompt digits of token {i}"),
                    format!("{:?}", &digits[i * subtoken_len..(i + 1) * subtoken_len]),
                    "digits that some token has",
                ));
            }
        }
        Ok(Self { y, mask_id: base, label: None })
    }

    /// The same from a state y_t [L·ℓ], whose masks are the holes.
    ///
    /// # Errors
    /// As [`Self::from_digits`].
    pub fn from_state(predictive: &Predictive, y_t: &[u32]) -> Result<Self> {
        let mask_id = predictive.codes().mask_id();
        let digits: Vec<Option<u32>> = y_t.iter().map(|&digit| (digit != mask_id).then_some(digit)).collect();
        Self::from_digits(predictive, &digits)
    }

    /// Of the tokens `x_0` \[L\] the digits j of tokens i for which `keep(i, j)` holds: imputation. For instance the
    /// high digits of all tokens, or all digits of some channel or region of an image.
    ///
    /// # Errors
    /// As [`Self::from_tokens`].
    pub fn keeping(
        predictive: &Predictive,
        x_0: &[u32],
        keep: impl Fn(usize, usize) -> bool,
    ) -> Result<Self> {
        let codes = predictive.codes();
        let len = codes.subtoken_len();
        let y_0 = codes.encode(x_0)?.into_iter().enumerate();
        let digits: Vec<Option<u32>> =
            y_0.map(|(digit, value)| keep(digit / len, digit % len).then_some(value)).collect();
        Self::from_digits(predictive, &digits)
    }

    /// The same sequence, of this class, for a network that reads labels.
    #[must_use]
    pub fn with_label(self, label: Option<usize>) -> Self {
        Self { label, ..self }
    }

    /// The class of the sequence, if it has one.
    pub fn label(&self) -> Option<usize> {
        self.label
    }

    /// The state of a hole, = b.
    pub(super) fn mask_id(&self) -> u32 {
        self.mask_id
    }

    /// The sub-tokens [L·ℓ], holes being the mask.
    pub fn y(&self) -> &[u32] {
        &self.y
    }

    /// The indices of the holes, ascending.
    pub fn masked(&self) -> Vec<usize> {
        (0..self.y.len()).filter(|&digit| self.y[digit] == self.mask_id).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subtoken::SubTokenizer;

    fn predictive() -> Predictive {
        Predictive::new(SubTokenizer::new(5, 2).unwrap(), true)
    }

    #[test]
    fn holes_are_masks_and_given_tokens_their_digits() {
        let prompt = Prompt::from_tokens(&predictive(), &[None, Some(4), None]).unwrap();
        assert_eq!(prompt.y(), [3, 3, 1, 1, 3, 3]);
        assert_eq!(prompt.masked(), [0, 1, 4, 5]);
        let prompt = Prompt::from_digits(&predictive(), &[None, Some(2), Some(0), None]).unwrap();
        assert_eq!(prompt.masked(), [0, 3]);
        assert_eq!(Prompt::from_state(&predictive(), &[3, 2, 0, 3]).unwrap(), prompt);
    }

    #[test]
    fn kept_digits_are_those_of_the_tokens() {
        let high = Prompt::keeping(&predictive(), &[4, 2, 0], |_, j| j == 0).unwrap();
        assert_eq!(high.y(), [1, 3, 0, 3, 0, 3]);
        let one = Prompt::keeping(&predictive(), &[4, 2, 0], |i, _| i == 1).unwrap();
        assert_eq!(one.y(), [3, 3, 0, 2, 3, 3]);
        assert!(Prompt::keeping(&predictive(), &[5], |_, _| false).is_err());
    }

    #[test]
    fn impossible_prompts_are_refused() {
        let predictive = predictive();
        assert!(Prompt::from_tokens(&predictive, &[Some(5)]).is_err());
        assert!(Prompt::empty(&predictive, 0).is_err());
        assert!(Prompt::from_digits(&predictive, &[Some(3), None]).is_err());
        assert!(Prompt::from_digits(&predictive, &[None]).is_err());
        // Tokens 0 to 4 in base 3: none begins with digit 2.
        let error = Prompt::from_digits(&predictive, &[None, None, Some(2), None]).unwrap_err().to_string();
        assert!(error.contains("token 1"), "{error}");
    }
}
