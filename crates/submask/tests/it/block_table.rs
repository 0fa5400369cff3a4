//! A network with blocks given as a table: logits for every state of a block and the tokens before it.

use std::collections::HashMap;

use burn::tensor::{Device, Tensor, TensorData};
use submask::Result;
use submask::denoiser::{BlockDenoiser, Denoiser, Kept, LogitRows, Spec, States};
use submask::subtoken::SubTokenizer;

use crate::fixtures::Case;

/// Logits [token of the block, C] by the tokens before the block and the block's digits.
pub struct BlockTable {
    pub codes: SubTokenizer,
    pub seq_len: usize,
    pub block_len: usize,
    spec: Spec,
    logits: HashMap<(Vec<u32>, Vec<u32>), Vec<f64>>,
}

impl BlockTable {
    /// The table of a fixture.
    pub fn from_case(case: &Case) -> Self {
        let codes = SubTokenizer::new(case.integer("vocab_size"), case.integer("subtoken_len")).unwrap();
        assert_eq!(codes.base() as usize, case.integer("base"));
        let (seq_len, block_len) = (case.integer("length"), case.integer("block_size"));
        let (shape, states) = case.tensor_i64("oracle", "states");
        let blocks = case.tensor_i64("oracle", "state_block").1;
        let (logits_shape, rows) = case.tensor_f64("oracle", "logits");
        let width = logits_shape[1] * logits_shape[2];
        let mut logits = HashMap::new();
        for (k, (state, row)) in states.chunks_exact(shape[1]).zip(rows.chunks_exact(width)).enumerate() {
            let known: Vec<u32> =
                state.iter().filter(|id| **id >= 0).map(|id| u32::try_from(*id).unwrap()).collect();
            let (before, digits) = known.split_at(blocks[k] as usize * block_len);
            assert_eq!(digits.len() % codes.subtoken_len(), 0);
            logits.insert((before.to_vec(), digits.to_vec()), row.to_vec());
        }
        let spec = Spec { block_len, ..Spec::new(&codes, seq_len) };
        Self { codes, seq_len, block_len, spec, logits }
    }

    /// The logits [C] of token `i` of the block that follows the tokens `before` and has these digits.
    pub fn logits(&self, before: &[u32], digits: &[u32], i: usize) -> &[f64] {
        let row = self.logits.get(&(before.to_vec(), digits.to_vec()));
        let row = row.unwrap_or_else(|| panic!("{before:?}, {digits:?} is no state of the table"));
        &row[i * self.codes.vocab_size()..(i + 1) * self.codes.vocab_size()]
    }

    /// Hands over the logits of positions, where `before(b, tokens)` are the first tokens that sequence b reads.
    fn rows(
        &self,
        first: usize,
        states: &States,
        positions: &[usize],
        rows: LogitRows,
        before: impl Fn(usize, usize) -> Result<Vec<u32>>,
    ) -> Result<()> {
        let len = self.codes.subtoken_len();
        let seq_len = states.seq_len(len);
        let mut logits = Vec::with_capacity(positions.len() * self.codes.vocab_size());
        for position in positions {
            let (b, i) = (position / seq_len, position % seq_len);
            let start = i / self.block_len * self.block_len;
            let end = (start + self.block_len).min(seq_len);
            let digits = &states.y_t[(b * seq_len + start) * len..(b * seq_len + end) * len];
            let known = before(b, first + start)?;
            logits.extend(self.logits(&known, digits, i - start).iter().map(|x| *x as f32));
        }
        rows(0..positions.len(), &logits)
    }
}

impl Denoiser for BlockTable {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn evaluate(&self, states: &States, positions: &[usize], rows: LogitRows) -> Result<()> {
        let len = self.codes.subtoken_len();
        let width = states.seq_len(len) * len;
        self.rows(0, states, positions, rows, |b, tokens| {
            self.codes.decode(&states.y_t[b * width..b * width + tokens * len])
        })
    }

    fn by_blocks(&self) -> Option<&dyn BlockDenoiser> {
        Some(self)
    }
}

impl BlockDenoiser for BlockTable {
    /// The digits themselves, [B, P, ℓ].
    fn keep(&self, clean: &[u32], sequences: usize, kept: Option<&Kept>) -> Result<Kept> {
        let len = self.codes.subtoken_len();
        let digits: Vec<f32> = clean.iter().map(|digit| *digit as f32).collect();
        let tokens = digits.len() / (sequences * len);
        let new = Tensor::<3>::from_data(TensorData::new(digits, [sequences, tokens, len]), &Device::flex());
        let all = kept.map(|kept| kept.layer(0)).into_iter().chain([new]).collect();
        Ok(Kept::new(vec![Tensor::cat(all, 1)]))
    }

    fn evaluate_after(
        &self,
        kept: Option<&Kept>,
        first: usize,
        states: &States,
        positions: &[usize],
        rows: LogitRows,
    ) -> Result<()> {
        let len = self.codes.subtoken_len();
        let (sequences, tokens) = kept.map_or((1, 0), |kept| (kept.sequences(), kept.tokens()));
        assert_eq!(states.t.len() % sequences, 0);
        let digits: Vec<u32> = kept.map_or(Vec::new(), |kept| {
            kept.layer(0).into_data().iter::<f32>().map(|digit| digit as u32).collect()
        });
        self.rows(first, states, positions, rows, |b, needed| {
            assert!(needed <= tokens, "{needed} tokens are read of {tokens}");
            let start = b * sequences / states.t.len() * tokens * len;
            self.codes.decode(&digits[start..start + needed * len])
        })
    }
}
