//! A network given as a table: logits for every state y_t. Its distributions are known exactly.

use std::ops::Range;

use submask::Result;
use submask::denoiser::{Denoiser, Spec, States};
use submask::random::{Draws, Purpose};
use submask::subtoken::SubTokenizer;

use crate::fixtures::Case;

/// Logits [state, L, C], the state being y_t read as a number in base b + 1.
#[derive(Clone)]
pub struct TableNetwork {
    pub codes: SubTokenizer,
    pub seq_len: usize,
    spec: Spec,
    logits: Vec<f32>,
    /// Logits are multiplied by 1 + `time_slope` · t; 0 for a network that does not read the time.
    time_slope: f64,
    /// Largest number of positions handed over at once.
    chunk: usize,
}

impl TableNetwork {
    /// Logits spread normally with standard deviation `spread`.
    pub fn random(codes: SubTokenizer, seq_len: usize, spread: f64, seed: u64) -> Self {
        let draws = Draws::new(seed, Purpose::Init);
        let states = (codes.base() as usize + 1).pow((seq_len * codes.subtoken_len()) as u32);
        let count = states * seq_len * codes.vocab_size();
        let logits = (0..count).map(|k| (spread * draws.normal(0, k as u32, 0)) as f32).collect();
        Self::from_logits(codes, seq_len, logits)
    }

    /// A table of given logits, [state, L, C].
    pub fn from_logits(codes: SubTokenizer, seq_len: usize, logits: Vec<f32>) -> Self {
        let spec = Spec::new(&codes, seq_len);
        Self { spec, codes, seq_len, logits, time_slope: 0.0, chunk: 1000 }
    }

    /// The table of a fixture.
    pub fn from_case(case: &Case) -> Self {
        let codes = SubTokenizer::new(case.integer("vocab_size"), case.integer("subtoken_len")).unwrap();
        assert_eq!(codes.base() as usize, case.integer("base"));
        let (shape, states) = case.tensor_i64("oracle", "states");
        let (logits_shape, rows) = case.tensor_f32("oracle", "logits");
        let seq_len = case.integer("tokens");
        let mut network = Self {
            spec: Spec::new(&codes, seq_len),
            codes,
            seq_len,
            logits: rows.clone(),
            time_slope: 0.0,
            chunk: 1000,
        };
        let width = logits_shape[1] * logits_shape[2];
        for (state, row) in states.chunks_exact(shape[1]).zip(rows.chunks_exact(width)) {
            let y: Vec<u32> = state.iter().map(|digit| *digit as u32).collect();
            let start = network.index(&y) * width;
            network.logits[start..start + width].copy_from_slice(row);
        }
        network
    }

    /// The same network, reading the time.
    pub fn with_time_slope(mut self, slope: f64) -> Self {
        self.time_slope = slope;
        self.spec.reads_time = slope != 0.0;
        self
    }

    /// The same network, handing over at most `chunk` positions at once.
    pub fn with_chunk(mut self, chunk: usize) -> Self {
        self.chunk = chunk;
        self
    }

    fn index(&self, y: &[u32]) -> usize {
        y.iter().fold(0, |index, &digit| index * (self.codes.base() as usize + 1) + digit as usize)
    }

    /// The logits [C] at token `i` of state `y` at time `t`.
    pub fn logits(&self, y: &[u32], i: usize, t: f64) -> Vec<f32> {
        let vocab_size = self.codes.vocab_size();
        let start = (self.index(y) * self.seq_len + i) * vocab_size;
        let scale = 1.0 + self.time_slope * t;
        self.logits[start..start + vocab_size]
            .iter()
            .map(|&logit| (f64::from(logit) * scale) as f32)
            .collect()
    }
}

impl Denoiser for TableNetwork {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn evaluate(
        &self,
        states: &States,
        positions: &[usize],
        rows: &mut dyn FnMut(Range<usize>, &[f32]) -> Result<()>,
    ) -> Result<()> {
        let States { y_t, t, .. } = *states;
        let width = self.seq_len * self.codes.subtoken_len();
        assert_eq!(y_t.len(), t.len() * width);
        for start in (0..positions.len()).step_by(self.chunk) {
            let range = start..(start + self.chunk).min(positions.len());
            let mut logits = Vec::with_capacity(range.len() * self.codes.vocab_size());
            for &position in &positions[range.clone()] {
                let (b, i) = (position / self.seq_len, position % self.seq_len);
                logits.extend(self.logits(&y_t[b * width..(b + 1) * width], i, t[b]));
            }
            rows(range, &logits)?;
        }
        Ok(())
    }
}

/// Every sequence of `seq_len` tokens below `vocab_size`, [vocab_size^seq_len, seq_len], the last token fastest.
pub fn all_sequences(vocab_size: usize, seq_len: usize) -> Vec<u32> {
    (0..vocab_size.pow(seq_len as u32))
        .flat_map(|code| {
            (0..seq_len).rev().map(move |place| (code / vocab_size.pow(place as u32) % vocab_size) as u32)
        })
        .collect()
}

/// A network whose logits are a hash of the state (and of the time and the class, where it reads them): for sizes whose
/// table would be too large, and for sequences of any length up to `seq_len`.
pub struct HashNetwork {
    pub codes: SubTokenizer,
    pub seed: u64,
    pub spec: Spec,
}

impl HashNetwork {
    pub fn new(codes: SubTokenizer, seq_len: usize, seed: u64) -> Self {
        Self { spec: Spec::new(&codes, seq_len), codes, seed }
    }
}

impl Denoiser for HashNetwork {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn evaluate(
        &self,
        states: &States,
        positions: &[usize],
        rows: &mut dyn FnMut(Range<usize>, &[f32]) -> Result<()>,
    ) -> Result<()> {
        let seq_len = states.seq_len(self.codes.subtoken_len());
        let (draws, width) = (Draws::new(self.seed, Purpose::Init), seq_len * self.codes.subtoken_len());
        let mix = |h: u64, word: u64| (h ^ word).wrapping_mul(0x100_0000_01b3);
        for (k, &position) in positions.iter().enumerate() {
            let (b, i) = (position / seq_len, position % seq_len);
            let digits = states.y_t[b * width..(b + 1) * width].iter();
            let mut state = digits.fold(7u64, |h, &digit| mix(h, u64::from(digit)));
            if self.spec.reads_time {
                state = mix(state, states.t[b].to_bits());
            }
            if let Some(labels) = states.labels {
                state = mix(state, labels[b] as u64);
            }
            let logit = |x| 2.0 * draws.normal(state & 0xffff_ffff_ffff, i as u32, x) as f32;
            rows(k..k + 1, &(0..self.codes.vocab_size() as u32).map(logit).collect::<Vec<_>>())?;
        }
        Ok(())
    }
}
