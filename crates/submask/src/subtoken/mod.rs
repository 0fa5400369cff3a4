//! Tokens as sub-tokens: f, f⁻¹ and the digits of a token (math.md §1).
//!
//! A token x of C classes is written as ℓ digits in base b = ⌈C^(1/ℓ)⌉, most significant digit first,
//! of x itself or of a permuted code π(x). Codes that no token has (C < b^ℓ) are *invalid* and never
//! decoded.

mod sets;

use std::sync::Arc;

use burn::tensor::{Int, Tensor, TensorData};

pub use sets::{TokenSet, TokenSets};

use crate::random::{Draws, Purpose};
use crate::{Error, Result};

/// Largest number of codes b^ℓ for which a table (a permutation, a decoding table) is built.
const MAX_TABLE: u64 = 1 << 26;

/// Largest vocabulary: the digit tables of all tokens are held in memory.
const MAX_VOCAB: u64 = 1 << 24;

/// f: tokens to sub-tokens and back.
#[derive(Clone, Debug, PartialEq)]
pub struct SubTokenizer {
    vocab_size: usize,
    subtoken_len: usize,
    base: u32,
    /// Digits of every token, [C, ℓ].
    digits: Arc<[u32]>,
    permutation: Option<Permutation>,
}

/// π and its inverse on all b^ℓ codes.
#[derive(Clone, Debug, PartialEq)]
struct Permutation {
    forward: Vec<u32>,
    inverse: Vec<u32>,
}

impl SubTokenizer {
    /// Base-b digits of the token itself, for `vocab_size` = C ≥ 2 classes and `subtoken_len` = ℓ ≥ 1.
    ///
    /// # Errors
    /// [`Error::Invalid`] when C or ℓ is out of range, or b^ℓ does not fit 63 bits.
    pub fn new(vocab_size: usize, subtoken_len: usize) -> Result<Self> {
        let base = Self::base_for(vocab_size, subtoken_len)?;
        let digits =
            (0..vocab_size as u64).flat_map(|code| digits_of(code, base.into(), subtoken_len)).collect();
        Ok(Self { vocab_size, subtoken_len, base, digits, permutation: None })
    }

    /// b = ⌈C^(1/ℓ)⌉ alone, without the table of all digits.
    ///
    /// # Errors
    /// As [`SubTokenizer::new`].
    pub fn base_for(vocab_size: usize, subtoken_len: usize) -> Result<u32> {
        if vocab_size < 2 || vocab_size as u64 > MAX_VOCAB {
            return Err(Error::invalid("vocab_size", vocab_size, format!("2 to {MAX_VOCAB} token classes")));
        }
        if subtoken_len == 0 {
            return Err(Error::invalid("subtoken_len", subtoken_len, "at least 1 sub-token per token"));
        }
        base_of(vocab_size as u64, subtoken_len).map(|base| base as u32)
    }

    /// The same digits of a permuted code: token x gets the base-b digits of `table[x]`, where `table`
    /// is a permutation of all b^ℓ codes.
    ///
    /// # Errors
    /// [`Error::Invalid`] when `table` is not such a permutation, or b^ℓ is too large for a table.
    pub fn with_permutation(mut self, table: &[u32]) -> Result<Self> {
        let codes = self.code_count();
        if codes > MAX_TABLE {
            return Err(Error::invalid(
                "permutation",
                format!("{codes} codes"),
                format!("at most {MAX_TABLE}"),
            ));
        }
        if table.len() as u64 != codes {
            return Err(Error::invalid(
                "permutation",
                format!("{} entries", table.len()),
                format!("{codes} entries (base {} to the {})", self.base, self.subtoken_len),
            ));
        }
        let mut inverse = vec![u32::MAX; table.len()];
        for (code, &permuted) in table.iter().enumerate() {
            match inverse.get_mut(permuted as usize) {
                Some(slot) if *slot == u32::MAX => *slot = code as u32,
                Some(_) => return Err(Error::invalid("permutation", permuted, "every code exactly once")),
                None => return Err(Error::invalid("permutation", permuted, format!("codes below {codes}"))),
            }
        }
        self.digits = table[..self.vocab_size]
            .iter()
            .flat_map(|&code| digits_of(u64::from(code), u64::from(self.base), self.subtoken_len))
            .collect();
        self.permutation = Some(Permutation { forward: table.to_vec(), inverse });
        Ok(self)
    }

    /// A random permutation of the codes, the same for the same seed.
    ///
    /// # Errors
    /// [`Error::Invalid`] when b^ℓ is too large for a table.
    pub fn with_seeded_permutation(self, seed: u64) -> Result<Self> {
        let codes = self.code_count();
        if codes > MAX_TABLE {
            return Err(Error::invalid(
                "permutation",
                format!("{codes} codes"),
                format!("at most {MAX_TABLE}"),
            ));
        }
        let mut table: Vec<u32> = (0..codes as u32).collect();
        Draws::new(seed, Purpose::Codes).shuffle(&mut table, 0);
        self.with_permutation(&table)
    }

    /// C, the number of token classes.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// ℓ, sub-tokens per token.
    pub fn subtoken_len(&self) -> usize {
        self.subtoken_len
    }

    /// b, classes a sub-token.
    pub fn base(&self) -> u32 {
        self.base
    }

    /// m = b, the mask state of a sub-token.
    pub fn mask_id(&self) -> u32 {
        self.base
    }

    /// b^ℓ, the number of codes, valid or not.
    pub fn code_count(&self) -> u64 {
        u64::from(self.base).pow(self.subtoken_len as u32)
    }

    /// Whether there are codes that no token has (C < b^ℓ).
    pub fn has_invalid_codes(&self) -> bool {
        self.code_count() > self.vocab_size as u64
    }

    /// The permutation of the codes, where there is one.
    pub fn permutation(&self) -> Option<&[u32]> {
        self.permutation.as_ref().map(|permutation| permutation.forward.as_slice())
    }

    /// The digits of all tokens, [C, ℓ].
    #[cfg(feature = "cuda")]
    pub(crate) fn table(&self) -> &Arc<[u32]> {
        &self.digits
    }

    /// The ℓ digits of a token below C.
    pub fn digits(&self, token: u32) -> &[u32] {
        let start = token as usize * self.subtoken_len;
        &self.digits[start..start + self.subtoken_len]
    }

    /// y_0 = f(x_0): tokens \[n\] to digits [n·ℓ], digit j of token i at i·ℓ + j.
    ///
    /// # Errors
    /// [`Error::InvalidCode`] for a token that is not below C.
    pub fn encode(&self, x_0: &[u32]) -> Result<Vec<u32>> {
        let mut y_0 = Vec::with_capacity(x_0.len() * self.subtoken_len);
        for &token in x_0 {
            self.check_token(u64::from(token))?;
            y_0.extend_from_slice(self.digits(token));
        }
        Ok(y_0)
    }

    /// x_0 = f⁻¹(y_0): digits [n·ℓ] to tokens \[n\].
    ///
    /// # Errors
    /// [`Error::InvalidCode`] for a masked digit, a digit above it, or a code that no token has;
    /// [`Error::Invalid`] when the number of digits is no multiple of ℓ.
    pub fn decode(&self, y_0: &[u32]) -> Result<Vec<u32>> {
        if !y_0.len().is_multiple_of(self.subtoken_len) {
            return Err(Error::invalid("digits", y_0.len(), format!("a multiple of {}", self.subtoken_len)));
        }
        y_0.chunks_exact(self.subtoken_len).map(|digits| self.decode_token(digits)).collect()
    }

    /// The token of ℓ digits.
    ///
    /// # Errors
    /// As [`Self::decode`].
    pub fn decode_token(&self, digits: &[u32]) -> Result<u32> {
        let mut code = 0u64;
        for &digit in digits {
            if digit >= self.base {
                return Err(Error::InvalidCode {
                    what: "digit",
                    given: u64::from(digit),
                    allowed: format!("0 to {} ({} is the mask)", self.base - 1, self.base),
                });
            }
            code = code * u64::from(self.base) + u64::from(digit);
        }
        let token = match &self.permutation {
            Some(permutation) => u64::from(permutation.inverse[code as usize]),
            None => code,
        };
        self.check_token(token)?;
        Ok(token as u32)
    }

    /// [`Self::encode`] on a tensor: [B, L] tokens to [B, L·ℓ] digits, on the same device. Tokens must be
    /// below C (use the slice form to check them).
    #[doc(hidden)]
    pub fn encode_tensor(&self, x_0: Tensor<2, Int>) -> Tensor<2, Int> {
        let [batch, length] = x_0.dims();
        let table: Vec<i32> = self.digits.iter().map(|&digit| digit as i32).collect();
        let table = Tensor::<2, Int>::from_data(
            TensorData::new(table, [self.vocab_size, self.subtoken_len]),
            &x_0.device(),
        );
        table.select(0, x_0.reshape([batch * length])).reshape([batch, length * self.subtoken_len])
    }

    /// [`Self::decode`] on a tensor: [B, L·ℓ] digits to [B, L] tokens, on the same device.
    ///
    /// # Errors
    /// As [`Self::decode`]: the digits are read and checked.
    #[doc(hidden)]
    pub fn decode_tensor(&self, y_0: Tensor<2, Int>) -> Result<Tensor<2, Int>> {
        let [batch, width] = y_0.dims();
        let device = y_0.device();
        let digits: Vec<u32> = y_0.into_data().iter::<i64>().map(|digit| digit as u32).collect();
        let tokens: Vec<i32> = self.decode(&digits)?.into_iter().map(|token| token as i32).collect();
        Ok(Tensor::from_data(TensorData::new(tokens, [batch, width / self.subtoken_len]), &device))
    }

    fn check_token(&self, token: u64) -> Result<()> {
        if token < self.vocab_size as u64 {
            return Ok(());
        }
        Err(Error::InvalidCode {
            what: "token",
            given: token,
            allowed: format!("0 to {}", self.vocab_size - 1),
        })
    }
}

/// b = ⌈C^(1/ℓ)⌉: the smallest b ≥ 2 with b^ℓ ≥ C, in integer arithmetic.
fn base_of(vocab_size: u64, subtoken_len: usize) -> Result<u64> {
    let reaches = |base: u64| {
        let mut power = 1u64;
        (0..subtoken_len).any(|_| {
            power = power.saturating_mul(base);
            power >= vocab_size
        })
    };
    let (mut low, mut high) = (2, vocab_size.max(2));
    while low < high {
        let middle = low + (high - low) / 2;
        if reaches(middle) { high = middle } else { low = middle + 1 }
    }
    let bits = 63;
    match u32::try_from(subtoken_len).ok().and_then(|len| low.checked_pow(len)) {
        Some(codes) if codes < 1 << bits => Ok(low),
        _ => Err(Error::invalid(
            "subtoken_len",
            subtoken_len,
            format!(
                "base {low} to this power must stay below 2^{bits}; {vocab_size} classes need no more than {} sub-tokens",
                64 - (vocab_size - 1).leading_zeros()
            ),
        )),
    }
}

/// Base-b digits, most significant first.
fn digits_of(code: u64, base: u64, subtoken_len: usize) -> Vec<u32> {
    let mut digits = vec![0; subtoken_len];
    let mut rest = code;
    for digit in digits.iter_mut().rev() {
        *digit = (rest % base) as u32;
        rest /= base;
    }
    digits
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_base_is_the_smallest_integer_root() {
        for (vocab_size, subtoken_len, base) in [
            (50257, 1, 50257),
            (50257, 2, 225),
            (50257, 4, 15),
            (50257, 6, 7),
            (50257, 16, 2),
            (256, 2, 16),
            (27, 3, 3),
            (28, 3, 4),
            (2, 5, 2),
            (16_777_216, 3, 256),
        ] {
            assert_eq!(
                SubTokenizer::new(vocab_size, subtoken_len).unwrap().base(),
                base,
                "{vocab_size} {subtoken_len}"
            );
        }
    }

    #[test]
    fn too_many_subtokens_overflow_with_a_clear_error() {
        let error = SubTokenizer::new(50257, 63).unwrap_err().to_string();
        assert!(error.contains("subtoken_len = 63") && error.contains("16 sub-tokens"), "{error}");
        assert!(SubTokenizer::new(50257, 62).is_ok());
        assert!(SubTokenizer::new(1, 1).is_err());
        assert!(SubTokenizer::new(10, 0).is_err());
    }

    #[test]
    fn invalid_codes_are_refused() {
        let codes = SubTokenizer::new(37, 2).unwrap();
        assert!(codes.has_invalid_codes());
        assert!(codes.decode(&[5, 2]).is_err(), "37 is no token");
        assert!(codes.decode(&[7, 0]).unwrap_err().to_string().contains("mask"));
        assert!(codes.decode(&[1]).is_err());
        assert!(codes.encode(&[37]).is_err());
    }

    #[test]
    fn a_permutation_must_hold_every_code_once() {
        let codes = || SubTokenizer::new(5, 2).unwrap();
        assert!(codes().with_permutation(&[0, 1, 2]).is_err());
        assert!(codes().with_permutation(&[0, 1, 2, 3, 4, 5, 6, 7, 7]).is_err());
        assert!(codes().with_permutation(&[0, 1, 2, 3, 4, 5, 6, 7, 9]).is_err());
        assert_eq!(codes().with_permutation(&[8, 1, 2, 3, 4, 5, 6, 7, 0]).unwrap().digits(0), [2, 2]);
    }

    #[test]
    fn tensors_encode_and_decode_as_slices_do() {
        let codes = SubTokenizer::new(37, 3).unwrap().with_seeded_permutation(5).unwrap();
        let x_0 = [0u32, 36, 5, 17, 20, 1];
        let tensor = Tensor::<2, Int>::from_data(
            TensorData::new(x_0.map(|x| x as i32).to_vec(), [2, 3]),
            &Device::flex(),
        );
        let y_0 = codes.encode_tensor(tensor);
        let digits: Vec<u32> = y_0.to_data().iter::<i64>().map(|digit| digit as u32).collect();
        assert_eq!(digits, codes.encode(&x_0).unwrap());
        let back: Vec<u32> =
            codes.decode_tensor(y_0).unwrap().to_data().iter::<i64>().map(|x| x as u32).collect();
        assert_eq!(back, x_0);
    }

    proptest! {
        #[test]
        fn decode_undoes_encode(vocab_size in 2usize..3000, subtoken_len in 1usize..12, seed: u64, permuted: bool) {
            let mut codes = SubTokenizer::new(vocab_size, subtoken_len).unwrap();
            if permuted {
                codes = codes.with_seeded_permutation(seed).unwrap();
            }
            let x_0: Vec<u32> = (0..50).map(|i| (seed.rotate_left(i) % vocab_size as u64) as u32).collect();
            let y_0 = codes.encode(&x_0).unwrap();
            prop_assert!(y_0.iter().all(|digit| *digit < codes.base()));
            prop_assert_eq!(codes.decode(&y_0).unwrap(), x_0);
        }
    }
}
