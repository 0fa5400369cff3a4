//! What only networks with blocks can do: texts longer than the network's length.

use std::time::Instant;

use submask::denoiser::{Denoiser, Kept, States};
use submask::sampler::{Event, Prompt, SampleSettings, Sampler, Window};
use submask_experiments::peers::Outcome;

use crate::case::{Case, Size};
use crate::sum_of_squares;

/// A text that is sampled is so many times as long as the network.
const TIMES_AS_LONG: usize = 4;

/// Times are measured of so many parts of the network's length.
const PARTS: usize = 4;

impl Case {
    /// The sum of the squares of the logits of the first two sequences as one text, each block after what is kept of those
    /// before it, without the first ones where these are too many.
    pub fn evaluate_kept(&self) -> Outcome<serde_json::Value> {
        let Size { seq_len, block_len, subtokens, .. } = *self.size;
        let network = self.loaded();
        let blocks = network.by_blocks().ok_or("a case without blocks")?;
        let (mut squares, mut kept) = (0.0, None);
        let digits = |y: &[u32]| y[..2 * seq_len * subtokens].to_vec();
        let (noisy, clean) = (digits(&self.y_t), digits(&self.y_0));
        let positions: Vec<usize> = (0..block_len).collect();
        let block_digits = block_len * subtokens;
        for (y_t, y_0) in noisy.chunks_exact(block_digits).zip(clean.chunks_exact(block_digits)) {
            let states = States { y_t, t: &[1.0], labels: None };
            let first = kept.as_ref().map_or(0, Kept::tokens);
            blocks.evaluate_after(kept.as_ref(), first, &states, &positions, &mut |_, logits| {
                squares += sum_of_squares(logits);
                Ok(())
            })?;
            let all = blocks.keep(y_0, 1, kept.as_ref())?;
            let surplus = (all.tokens() + block_len).saturating_sub(seq_len);
            kept = Some(if surplus > 0 { all.without_first(surplus) } else { all });
        }
        Ok(serde_json::json!({ "squares": squares }))
    }

    /// The time per token of every part of a long text, sampled one sub-token per evaluation.
    pub fn sample_long(mut self) -> Outcome<serde_json::Value> {
        let Size { seq_len, subtokens, .. } = *self.size;
        let network = self.loaded();
        self.values.clear();
        let settings = SampleSettings { window: Window::Cached, seed: 1, ..SampleSettings::default() };
        let sampler = Sampler::new(&network, &self.predictive, settings)?;
        let part = seq_len / PARTS;
        let measure = |tokens: usize| -> Outcome<Vec<f64>> {
            let prompt = Prompt::empty(&self.predictive, tokens)?;
            let (mut start, mut times) = (Instant::now(), Vec::new());
            sampler.sample_observed(&[prompt], &mut |event: &Event| {
                if let Event::Progress(progress) = event
                    && progress.digits == (times.len() + 1) * part * subtokens
                {
                    times.push(start.elapsed().as_secs_f64() * 1e3 / part as f64);
                    start = Instant::now();
                }
                Ok(())
            })?;
            Ok(times)
        };
        measure(part)?;
        let start = Instant::now();
        let parts = measure(TIMES_AS_LONG * seq_len)?;
        let ms = start.elapsed().as_secs_f64() * 1e3 / (TIMES_AS_LONG * seq_len) as f64;
        Ok(serde_json::json!({ "ms": ms, "ms_by_part": parts, "tokens_per_part": part }))
    }
}
