//! What the kernels of a device are told of the tokens that they draw.

use std::sync::Arc;

use burn::tensor::{Device, Int, Tensor};

#[cfg(feature = "cuda")]
use super::cuda;
use crate::random::Draws;
use crate::subtoken::SubTokenizer;

/// Numbers that are told of a token: whether its logits were no distribution, draws that were repeated, jumps, and jumps that
/// did not happen.
pub const DRAW_NOTES: usize = 4;

/// One visit of some sequences: how each draws, and which tokens are drawn.
#[derive(Clone, Debug, Default)]
pub struct VisitDraws {
    /// The sequences.
    pub sequences: Vec<SequenceDraws>,
    /// The tokens, in the order of their logits.
    pub tokens: Vec<TokenDraw>,
}

/// How the tokens of a sequence are drawn in a visit.
#[derive(Clone, Copy, Debug)]
pub struct SequenceDraws {
    /// The draws of tokens under the seed; those of digits, reveals and jumps have its key.
    pub draws: Draws,
    /// Number of the sequence under the seed.
    pub number: u64,
    /// Number of the visit, the key of its draws.
    pub event: u32,
    /// Temperature τ; 0 takes the most probable token, the first of equals.
    pub temperature: f64,
    /// Most probable tokens kept; `None` keeps all.
    pub top_k: Option<usize>,
    /// Mass kept of them, in (0, 1]; 1 keeps all.
    pub top_p: f64,
    /// Whether the token with which the mass crosses p is left out.
    pub exclusive: bool,
    /// Whether every digit is drawn by itself; otherwise one token serves all digits that are revealed.
    pub each_digit: bool,
    /// Whether digits may be drawn that no token has, and have to be drawn again.
    pub may_contradict: bool,
    /// The step with a corrector, if this is one.
    pub step: Option<StepDraws>,
}

/// A step that reveals masked digits at random, and lets digits jump.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepDraws {
    /// Probability that a masked digit is revealed.
    pub share: f64,
    /// Rates of jumps to the drawn digit and to the mask, times the length of the step.
    pub jumps: Option<[f64; 2]>,
}

/// A token that is drawn.
#[derive(Clone, Copy, Debug)]
pub struct TokenDraw {
    /// Its place among all tokens of the batch.
    pub position: usize,
    /// Its place i in its sequence.
    pub i: usize,
    /// Which of the sequences of the visit.
    pub sequence: usize,
    /// The digits that are revealed, or in a step with a corrector those that may change: bit j of digit j.
    pub digits: u64,
}

/// Whose digits are drawn.
#[derive(Clone, Debug)]
pub struct DrawnTokens {
    /// The tokens' digits.
    pub codes: SubTokenizer,
    /// Whether tokens that contradict a visible digit are excluded.
    pub carry_over: bool,
}

/// How sure a network is of what is masked: what orders rank by, see [`crate::order`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Score {
    /// The largest probability.
    Confidence,
    /// That less the second largest.
    Margin,
    /// Σ p log p.
    Entropy,
}

/// What the kernel that ranks tokens says of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ranks {
    /// By what; `None` only draws.
    pub score: Option<Score>,
    /// Whether every masked digit has a score; otherwise every token.
    pub by_digit: bool,
}

impl Ranks {
    /// Scores of a token of `subtoken_len` digits.
    pub fn units(self, subtoken_len: usize) -> usize {
        if self.by_digit { subtoken_len } else { 1 }
    }
}

/// Whether a device has kernels that draw digits.
pub fn draws_by_kernel(device: &Device) -> bool {
    #[cfg(feature = "cuda")]
    let has_kernels = cuda::is_cuda(device);
    #[cfg(not(feature = "cuda"))]
    let has_kernels = {
        _ = device;
        false
    };
    has_kernels
}

/// A visit on a device that has kernels.
#[derive(Clone, Debug)]
pub struct DeviceVisit {
    #[cfg(feature = "cuda")]
    on_device: cuda::DeviceVisit,
    /// No device has kernels.
    #[cfg(not(feature = "cuda"))]
    never: std::convert::Infallible,
}

#[cfg_attr(not(feature = "cuda"), allow(unused_variables, reason = "no device has kernels"))]
impl DeviceVisit {
    /// Uploads a visit. `None` where the device has no kernels.
    pub fn new(visit: &VisitDraws, device: &Device) -> Option<Self> {
        #[cfg(feature = "cuda")]
        return draws_by_kernel(device).then(|| Self { on_device: cuda::DeviceVisit::new(visit, device) });
        #[cfg(not(feature = "cuda"))]
        None
    }

    /// `digits` [_, ℓ] after the draws of the tokens from `first` on, from their `logits` [n, C]. What is told of the tokens
    /// is added to `notes` [_, [`DRAW_NOTES`]] where these stand.
    pub fn draw(
        &self,
        tokens: &Arc<DrawnTokens>,
        first: usize,
        logits: Tensor<2>,
        digits: Tensor<2, Int>,
        notes: &Tensor<2, Int>,
    ) -> Tensor<2, Int> {
        #[cfg(feature = "cuda")]
        return self.on_device.draw(tokens, first, logits, digits, notes);
        #[cfg(not(feature = "cuda"))]
        match self.never {}
    }

    /// Ranks the tokens from `first` on and draws them for whichever digits will be revealed, from their `logits` [n, C] and
    /// `digits` [_, ℓ], and writes that into `out`: of all tokens the scores, in double precision, then the token drawn and
    /// the one to copy from where its digits would leave no possible token. See [`rank_words`] and [`read_ranks`].
    pub fn rank(
        &self,
        tokens: &Arc<DrawnTokens>,
        ranks: Ranks,
        first: usize,
        logits: Tensor<2>,
        states: [&Tensor<2, Int>; 2],
        out: &Tensor<1, Int>,
    ) {
        #[cfg(feature = "cuda")]
        self.on_device.rank(tokens, ranks, first, logits, states, out);
        #[cfg(not(feature = "cuda"))]
        match self.never {}
    }
}

/// Numbers of 32 bits that [`DeviceVisit::rank`] writes of `tokens` tokens.
pub fn rank_words(ranks: Ranks, tokens: usize, subtoken_len: usize) -> usize {
    tokens * (2 * ranks.units(subtoken_len) + 2)
}

/// Scores \[n, units\] and candidates \[n\] of what [`DeviceVisit::rank`] wrote of `tokens` tokens.
pub fn read_ranks(words: &[i32], tokens: usize) -> (Vec<f64>, Vec<[u32; 2]>) {
    let (scores, candidates) = words.split_at(words.len() - 2 * tokens);
    let bits = |pair: &[i32]| u64::from(pair[0] as u32) | u64::from(pair[1] as u32) << 32;
    let scores = scores.chunks_exact(2).map(|pair| f64::from_bits(bits(pair)));
    let candidates = candidates.chunks_exact(2).map(|pair| [pair[0] as u32, pair[1] as u32]);
    (scores.collect(), candidates.collect())
}

/// 32-bit words of a sequence, as the kernels read them.
#[cfg(feature = "cuda")]
const SEQUENCE_WORDS: usize = 16;

#[cfg(feature = "cuda")]
impl VisitDraws {
    /// As the kernels read them: the sequences, then the tokens.
    pub(super) fn words(&self) -> Vec<i32> {
        let sequences = self.sequences.iter().flat_map(SequenceDraws::words);
        let tokens = self.tokens.iter().flat_map(|token| {
            let [position, i, sequence] = [token.position, token.i, token.sequence].map(|place| place as u32);
            [position, i, sequence, 0, token.digits as u32, (token.digits >> 32) as u32]
        });
        sequences.chain(tokens).map(|word| word as i32).collect()
    }
}

#[cfg(feature = "cuda")]
impl SequenceDraws {
    fn words(&self) -> [u32; SEQUENCE_WORDS] {
        // The limit of small temperatures is the most probable token of any.
        let (temperature, top_k) = match self.temperature {
            0.0 => (1.0, 1),
            temperature => {
                (temperature, self.top_k.map_or(u32::MAX, |k| u32::try_from(k).unwrap_or(u32::MAX)))
            }
        };
        let StepDraws { share, jumps } = self.step.unwrap_or(StepDraws { share: 0.0, jumps: None });
        let how =
            [self.each_digit, self.exclusive, self.may_contradict, self.step.is_some(), jumps.is_some()];
        let how = how.iter().rev().fold(0, |bits, is_so| bits << 1 | u32::from(*is_so));
        let [seed_low, seed_high, number_low, number_high] = self.draws.words(self.number);
        let words = [
            seed_low,
            seed_high,
            number_low,
            number_high,
            self.event,
            how,
            top_k,
            ((1.0 / temperature) as f32).to_bits(),
        ];
        let [to_value, to_mask] = jumps.unwrap_or_default();
        let numbers = [self.top_p, share, to_value, to_mask].map(f64::to_bits);
        let mut all = [0; SEQUENCE_WORDS];
        let numbers = numbers.iter().flat_map(|bits| [*bits as u32, (bits >> 32) as u32]);
        all.iter_mut().zip(words.into_iter().chain(numbers)).for_each(|(word, value)| *word = value);
        all
    }
}
