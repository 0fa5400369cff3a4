//! Draws of digits from logits, and scores of tokens: a kernel per evaluation of a network.

use std::sync::Arc;

use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, Cube, Dispatch, TensorMetadata, backend_extension};
use burn::tensor::{DType, Device, Int, Tensor, TensorData};

use super::codes::TokenCodes;
use super::device::{Array, Launch, Source, contiguous, reshaped, source};
use crate::ops::{DrawnTokens, Ranks, Score, VisitDraws, rank_words};

static SOURCE: Source = source!("draw.cu", "block.cuh", "codes.cuh", "random.cuh");

/// Classes per thread, and threads of a block at most.
const CLASSES: usize = 8;
const MOST_THREADS: usize = 1024;

#[backend_extension(Cube)]
pub trait DrawOp: Backend {
    fn submask_cuda_draw(
        logits: FloatTensor<Self>,
        digits: IntTensor<Self>,
        notes: IntTensor<Self>,
        visit: IntTensor<Self>,
        which: Which,
    ) -> IntTensor<Self>;
    fn submask_cuda_rank(
        logits: FloatTensor<Self>,
        digits: IntTensor<Self>,
        notes: IntTensor<Self>,
        visit: IntTensor<Self>,
        out: IntTensor<Self>,
        which: Which,
        ranks: Ranks,
    ) -> IntTensor<Self>;
}

/// Which tokens of a visit the logits are of.
#[derive(Clone, Debug)]
pub struct Which {
    tokens: Arc<DrawnTokens>,
    sequences: usize,
    first: usize,
}

impl Which {
    /// A launch with the arguments that both kernels begin with, the third of which are the digits.
    fn launch(
        &self,
        kernel: &'static str,
        codes: &TokenCodes,
        logits: &Array,
        with_digits: impl FnOnce(Launch) -> Launch,
        notes: &Array,
        visit: &Array,
    ) -> Launch {
        let launch = codes.launch(&SOURCE, kernel).read(logits);
        let launch = launch.int(codes.classes).int(codes.classes).read(codes.table());
        with_digits(launch)
            .write(notes)
            .int(notes_stride(notes))
            .read(visit)
            .int(self.sequences)
            .int(self.first)
            .int(codes.base)
            .int(u32::from(self.tokens.carry_over))
    }
}

/// A visit on a device.
#[derive(Clone, Debug)]
pub struct DeviceVisit {
    words: Tensor<1, Int>,
    sequences: usize,
}

impl DeviceVisit {
    /// Uploads a visit.
    pub fn new(visit: &VisitDraws, device: &Device) -> Self {
        let words = visit.words();
        let count = words.len();
        let words = Tensor::from_data(TensorData::new(words, [count]), device);
        Self { words, sequences: visit.sequences.len() }
    }

    /// See [`crate::ops::DeviceVisit::draw`].
    pub fn draw(
        &self,
        tokens: &Arc<DrawnTokens>,
        first: usize,
        logits: Tensor<2>,
        digits: Tensor<2, Int>,
        notes: &Tensor<2, Int>,
    ) -> Tensor<2, Int> {
        let which = Which { tokens: tokens.clone(), sequences: self.sequences, first };
        let (notes, words) = (notes.clone().into_dispatch(), self.words.clone().into_dispatch());
        let (logits, digits) = (logits.into_dispatch(), digits.into_dispatch());
        Tensor::from_dispatch(Dispatch::submask_cuda_draw(logits, digits, notes, words, which))
    }

    /// See [`crate::ops::DeviceVisit::rank`].
    pub fn rank(
        &self,
        tokens: &Arc<DrawnTokens>,
        ranks: Ranks,
        first: usize,
        logits: Tensor<2>,
        [digits, notes]: [&Tensor<2, Int>; 2],
        out: &Tensor<1, Int>,
    ) {
        let which = Which { tokens: tokens.clone(), sequences: self.sequences, first };
        let [digits, notes] = [digits, notes].map(|tensor| tensor.clone().into_dispatch());
        let [words, out] = [&self.words, out].map(|tensor| tensor.clone().into_dispatch());
        // What it writes is in `out`.
        _ = Dispatch::submask_cuda_rank(logits.into_dispatch(), digits, notes, words, out, which, ranks);
    }
}

/// Integers of 32 bits, contiguous.
fn checked(x: Array) -> Array {
    assert_eq!(x.dtype, DType::I32);
    contiguous(x)
}

impl DrawOp for Cube {
    fn submask_cuda_draw(logits: Array, digits: Array, notes: Array, visit: Array, which: Which) -> Array {
        let codes = TokenCodes::new(&which.tokens.codes, &logits);
        let (logits, visit) = (contiguous(logits), checked(visit));
        // Changed where they stand if nobody else reads them.
        let digits = checked(digits);
        let digits = if digits.can_mut() { digits } else { copy(digits) };
        let ([count, classes], [_, subtoken_len]) = (logits.shape().dims(), digits.shape().dims());
        assert_eq!((classes, subtoken_len), (codes.classes, codes.subtoken_len));
        which.launch("draw", &codes, &logits, |launch| launch.write(&digits), &notes, &visit).run(
            &logits,
            [count, 1, 1],
            threads(classes),
        );
        digits
    }

    fn submask_cuda_rank(
        logits: Array,
        digits: Array,
        notes: Array,
        visit: Array,
        out: Array,
        which: Which,
        ranks: Ranks,
    ) -> Array {
        let codes = TokenCodes::new(&which.tokens.codes, &logits);
        let (logits, digits, visit) = (contiguous(logits), checked(digits), checked(visit));
        let ([count, classes], [all, _]) = (logits.shape().dims(), digits.shape().dims());
        let words = rank_words(ranks, all, codes.subtoken_len);
        assert_eq!((classes, out.dtype, out.shape().num_elements()), (codes.classes, DType::I32, words));
        let by_digit = ranks.by_digit.then(|| codes.by_digit(&which.tokens.codes));
        // Masses of the values of a digit, or of the warps.
        let masses = (codes.base as usize).max(MOST_THREADS / 32);
        let shared = if ranks.by_digit { masses * size_of::<f64>() } else { 0 };
        which
            .launch("rank", &codes, &logits, |launch| launch.read(&digits), &notes, &visit)
            .int(match ranks.score {
                Some(Score::Confidence) => 0,
                Some(Score::Margin) => 1,
                Some(Score::Entropy) => 2,
                None => 3,
            })
            .read_if(by_digit.as_ref())
            .int(all)
            .write(&out)
            .shared(shared)
            .run(&logits, [count, 1, 1], threads(classes));
        out
    }
}

/// A copy in memory without padding.
fn copy(x: Array) -> Array {
    let shape = x.shape();
    // Of one dimension there is none.
    reshaped(reshaped(x, [shape.num_elements()]).copy(), shape)
}

/// What lies between the notes of two tokens, which are changed where they stand.
fn notes_stride(notes: &Array) -> usize {
    let strides = notes.meta.strides();
    assert_eq!((notes.dtype, strides[1]), (DType::I32, 1));
    strides[0]
}

/// Threads of a block that works on a token.
fn threads(classes: usize) -> usize {
    classes.div_ceil(CLASSES).next_power_of_two().clamp(32, MOST_THREADS)
}
