//! The time that the library takes per evaluation of a network which itself takes next to none: a table of the logits of
//! every place in the sequence.
//!
//! ```sh
//! cargo run --release --example table_network
//! ```
//!
//! `crates/submask-py/examples/overhead.py` measures the same network as a callable of Python.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use submask::denoiser::{LogitRows, Spec, States};
use submask::predictive::Predictive;
use submask::sampler::{Prompt, SampleSettings, Sampler};
use submask::subtoken::SubTokenizer;
use submask::{Denoiser, Result};

/// Tokens C, length L, sequences that are evaluated together, and how many are sampled.
const SIZES: [[usize; 4]; 4] = [[16, 8, 1, 200], [16, 8, 16, 1600], [512, 64, 1, 20], [512, 64, 16, 160]];

/// The logits at place i are row i of a table, whatever is known of the sequence.
struct Table {
    spec: Spec,
    /// [L, C].
    logits: Vec<f32>,
    calls: AtomicU64,
}

impl Table {
    fn new(codes: &SubTokenizer, seq_len: usize) -> Self {
        let numbers = (0..seq_len * codes.vocab_size()).map(|k| (k * k % 1009) as f32 / 500.0);
        Self { spec: Spec::new(codes, seq_len), logits: numbers.collect(), calls: AtomicU64::new(0) }
    }
}

impl Denoiser for Table {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn evaluate(&self, states: &States, positions: &[usize], rows: LogitRows) -> Result<()> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let (seq_len, vocab_size) = (states.seq_len(self.spec.subtoken_len), self.spec.vocab_size);
        let mut logits = Vec::with_capacity(positions.len() * vocab_size);
        for position in positions {
            let place = position % seq_len;
            logits.extend_from_slice(&self.logits[place * vocab_size..(place + 1) * vocab_size]);
        }
        rows(0..positions.len(), &logits)
    }
}

fn main() -> Result<()> {
    println!("tokens\tlength\tbatch\tmicroseconds per evaluation");
    for [vocab_size, seq_len, batch, num] in SIZES {
        let codes = SubTokenizer::new(vocab_size, 2)?;
        let predictive = Predictive::new(codes.clone(), true);
        let table = Table::new(&codes, seq_len);
        let sampler =
            Sampler::new(&table, &predictive, SampleSettings { batch, ..SampleSettings::default() })?;
        let prompts = vec![Prompt::empty(&predictive, seq_len)?; num];
        let mut fastest = f64::INFINITY;
        for _ in 0..10 {
            let (before, start) = (table.calls.load(Ordering::Relaxed), Instant::now());
            sampler.sample(&prompts)?;
            let calls = table.calls.load(Ordering::Relaxed) - before;
            fastest = fastest.min(start.elapsed().as_secs_f64() / calls as f64);
        }
        println!("{vocab_size}\t{seq_len}\t{batch}\t{:.2}", fastest * 1e6);
    }
    Ok(())
}
