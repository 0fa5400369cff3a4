//! Tokens by their digits as kernels compare them: one number per token, on the device.

use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use burn::backend::Cube;
use burn::backend::ops::IntTensorOps;
use burn::tensor::TensorData;

use super::device::{Array, Launch, Source, contiguous};
use crate::subtoken::SubTokenizer;

/// Codes are there for a multiple of so many tokens.
const PADDING: usize = 8;

/// The codes of all tokens on a device: digit j of a token is in its code's bits from j times the bits of a digit on.
#[derive(Clone, Debug)]
pub(super) struct TokenCodes {
    /// C codes and a few zeros behind them.
    table: Array,
    /// Number of tokens C.
    pub classes: usize,
    /// Sub-tokens per token ℓ.
    pub subtoken_len: usize,
    /// Base b of the sub-tokens, and the mask.
    pub base: u32,
    digit_bits: u32,
    code_bits: u32,
    /// See [`Self::by_digit`].
    by_digit: Arc<OnceLock<Array>>,
}

/// Codes that are on a device already, by the digits that they were made of.
static KNOWN: Mutex<Vec<(Weak<[u32]>, TokenCodes)>> = Mutex::new(Vec::new());

impl TokenCodes {
    /// Those of `codes` on the device of `like`; uploaded once.
    pub fn new(codes: &SubTokenizer, like: &Array) -> Self {
        let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|(digits, _)| digits.strong_count() > 0);
        let is_same = |(digits, on): &&(Weak<[u32]>, Self)| {
            std::ptr::addr_eq(digits.as_ptr(), Arc::as_ptr(codes.table())) && on.table.device == like.device
        };
        if let Some((_, on_device)) = known.iter().find(is_same) {
            return on_device.clone();
        }
        let on_device = Self::upload(codes, like);
        known.push((Arc::downgrade(codes.table()), on_device.clone()));
        on_device
    }

    fn upload(codes: &SubTokenizer, like: &Array) -> Self {
        let (subtoken_len, classes, base) = (codes.subtoken_len(), codes.vocab_size(), codes.base());
        let digit_bits = u32::BITS - (base - 1).leading_zeros();
        let code_bits = if digit_bits * subtoken_len as u32 <= 32 { 32 } else { 64 };
        let code = |digits: &[u32]| {
            let placed =
                digits.iter().zip(0..).map(|(&digit, j): (_, u32)| u64::from(digit) << (j * digit_bits));
            placed.fold(0, |code, digit| code | digit)
        };
        let all = codes.table().chunks_exact(subtoken_len).map(code).chain([0; PADDING]);
        let all = all.take(classes.next_multiple_of(PADDING));
        let words: Vec<i32> = match code_bits {
            32 => all.map(|code| code as i32).collect(),
            _ => all.flat_map(|code| [code as i32, (code >> 32) as i32]).collect(),
        };
        let table = upload(words, like);
        Self { table, classes, subtoken_len, base, digit_bits, code_bits, by_digit: Arc::default() }
    }

    /// A launch of a kernel of a source that begins with `codes.cuh`.
    pub fn launch(&self, source: &'static Source, name: &'static str) -> Launch {
        Launch::new(source, name)
            .define("DIGITS", self.subtoken_len)
            .define("DIGIT_BITS", self.digit_bits)
            .define("CODE_BITS", self.code_bits)
    }

    /// For every digit the tokens in the order of its values, [ℓ, C], of equals the lowest first; then where the tokens of each
    /// value begin, and the last ones end, [ℓ, b + 1].
    pub fn by_digit(&self, codes: &SubTokenizer) -> Array {
        let lists = || {
            let (mut order, mut starts) = (Vec::new(), Vec::new());
            for j in 0..self.subtoken_len {
                let value = |token: &i32| codes.digits(*token as u32)[j];
                let mut tokens: Vec<i32> = (0..self.classes as i32).collect();
                tokens.sort_by_key(value);
                starts
                    .extend((0..=self.base).map(|v| tokens.partition_point(|token| value(token) < v) as i32));
                order.extend(tokens);
            }
            upload([order, starts].concat(), &self.table)
        };
        self.by_digit.get_or_init(lists).clone()
    }

    /// The codes, of C tokens at least and of a multiple of 8.
    pub fn table(&self) -> &Array {
        &self.table
    }
}

/// Integers on the device of `like`.
pub(super) fn upload(values: Vec<i32>, like: &Array) -> Array {
    let count = values.len();
    contiguous(Cube::int_from_data(TensorData::new(values, [count]), &like.device))
}
