//! A network with its weights.

use std::ops::Range;
use std::sync::Arc;

use burn::tensor::{Device, Tensor};

use super::head::Heads;
use super::weights::Weights;
use super::{Backbone, Context, Digits, Inputs};
use crate::denoiser::{
    BlockDenoiser, BlocksAt, Denoiser, DeviceDenoiser, DeviceRows, DeviceStates, DrawingDevice, Kept,
    LogitRows, Spec, States, evaluate_runs,
};
use crate::ops::draws_by_kernel;
use crate::{Error, Result};

/// A network with its weights, ready to be evaluated.
pub struct LoadedBackbone {
    /// The network.
    pub network: Arc<dyn Backbone>,
    /// Its weights, not on an autodiff device.
    pub weights: Weights,
}

impl LoadedBackbone {
    fn heads(&self, inputs: &Inputs, positions: &[usize]) -> Result<Heads> {
        Heads::new(&*self.network, &self.weights, inputs, positions, None)
    }

    fn evaluate_inputs(&self, inputs: &Inputs, positions: &[usize], rows: LogitRows) -> Result<()> {
        self.chunks(inputs, positions, |range, logits| {
            let logits = logits.into_data();
            let logits = logits.as_slice::<f32>().map_err(Error::internal("logits are 32-bit floats"))?;
            rows(range, logits)
        })
    }

    fn logits_of_inputs(&self, inputs: &Inputs, positions: &[usize], rows: DeviceRows) -> Result<()> {
        self.chunks(inputs, positions, |range, logits| {
            rows(range, logits);
            Ok(())
        })
    }

    fn chunks(
        &self,
        inputs: &Inputs,
        positions: &[usize],
        mut each: impl FnMut(Range<usize>, Tensor<2>) -> Result<()>,
    ) -> Result<()> {
        if positions.is_empty() {
            return Ok(());
        }
        let heads = self.heads(inputs, positions)?;
        heads.chunks().try_for_each(|range| each(range.clone(), heads.logits(range)))
    }

    /// Checks that no block that is asked about stands after a masked digit of another.
    fn check_blocks(&self, states: &States, positions: &[usize]) -> Result<()> {
        let Spec { subtoken_len, block_len, base: mask, .. } = *self.spec();
        if block_len == 0 || states.t.is_empty() {
            return Ok(());
        }
        let seq_len = states.seq_len(subtoken_len);
        let masked: Vec<usize> = states
            .y_t
            .chunks_exact((seq_len * subtoken_len).max(1))
            .map(|y| y.iter().position(|digit| *digit == mask).unwrap_or(y.len()) / subtoken_len)
            .collect();
        let readable = |position: &usize| {
            let first_masked = masked.get(position / seq_len.max(1)).copied().unwrap_or(seq_len);
            position % seq_len.max(1) / block_len <= first_masked / block_len
        };
        match positions.iter().find(|position| !readable(position)) {
            None => Ok(()),
            Some(position) => {
                let token = position % seq_len;
                let start = masked[position / seq_len] / block_len * block_len;
                let allowed = format!(
                    "at most {}: blocks of {block_len} tokens are predicted from the known tokens before them, and that of \
                     tokens {start} to {} has a masked digit",
                    start + block_len - 1,
                    start + block_len - 1
                );
                Err(Error::invalid("token asked for", token, allowed))
            }
        }
    }
}

impl Denoiser for LoadedBackbone {
    fn spec(&self) -> &Spec {
        self.network.spec()
    }

    fn evaluate(&self, states: &States, positions: &[usize], rows: LogitRows) -> Result<()> {
        self.check_blocks(states, positions)?;
        self.evaluate_inputs(&(*states).into(), positions, rows)
    }

    fn evaluate_each(
        &self,
        states: &States,
        lengths: &[usize],
        positions: &[usize],
        rows: LogitRows,
    ) -> Result<()> {
        let differ = lengths.windows(2).any(|pair| pair[0] != pair[1]);
        match differ && self.network.takes_lengths() {
            true => {
                let inputs = Inputs { context: Context::Lengths(lengths), ..(*states).into() };
                self.evaluate_inputs(&inputs, positions, rows)
            }
            false => evaluate_runs(self, states, lengths, positions, rows),
        }
    }

    fn by_blocks(&self) -> Option<&dyn BlockDenoiser> {
        (self.spec().block_len > 0).then_some(self)
    }

    fn on_device(&self) -> Option<&dyn DeviceDenoiser> {
        // What is kept of blocks is read by states in memory.
        (self.network.kernels().are_for_gpus() && self.spec().block_len == 0).then_some(self)
    }

    fn drawing_device(&self) -> Option<&dyn DrawingDevice> {
        draws_by_kernel(&self.weights.device()).then_some(self)
    }
}

impl DrawingDevice for LoadedBackbone {
    fn device(&self) -> Device {
        self.weights.device()
    }

    fn takes_lengths(&self) -> bool {
        self.network.takes_lengths()
    }

    fn logits_of_each(
        &self,
        states: &States,
        lengths: &[usize],
        positions: &[usize],
        rows: DeviceRows,
    ) -> Result<()> {
        let differ = lengths.windows(2).any(|pair| pair[0] != pair[1]);
        if !differ {
            self.check_blocks(states, positions)?;
        }
        let inputs = Inputs::from(*states);
        let context = if differ { Context::Lengths(lengths) } else { inputs.context };
        self.logits_of_inputs(&Inputs { context, ..inputs }, positions, rows)
    }

    fn logits_after_each(
        &self,
        groups: &[BlocksAt],
        states: &States,
        positions: &[usize],
        rows: DeviceRows,
    ) -> Result<()> {
        let context = match *groups {
            [BlocksAt { kept, first, .. }] => Context::Kept { kept, first },
            _ => Context::KeptOfEach(groups),
        };
        self.logits_of_inputs(&Inputs { context, ..(*states).into() }, positions, rows)
    }
}

impl BlockDenoiser for LoadedBackbone {
    fn keep(&self, clean: &[u32], sequences: usize, kept: Option<&Kept>) -> Result<Kept> {
        let spec = self.spec();
        let rows = sequences * spec.subtoken_len;
        if rows == 0 || clean.is_empty() || !clean.len().is_multiple_of(rows) {
            let allowed =
                format!("a positive multiple of {} for each of {sequences} sequences", spec.subtoken_len);
            return Err(Error::invalid("clean digits", clean.len(), allowed));
        }
        if let Some(kept) = kept {
            if kept.sequences() != sequences {
                let allowed = format!("{}, those that are kept", kept.sequences());
                return Err(Error::invalid("sequences", sequences, allowed));
            }
            if !kept.tokens().is_multiple_of(spec.block_len) {
                let allowed = format!("a multiple of {}: whole blocks", spec.block_len);
                return Err(Error::invalid("tokens kept", kept.tokens(), allowed));
            }
        }
        let tokens = clean.len() / rows;
        spec.check_seq_len(kept.map_or(0, Kept::tokens).saturating_add(tokens))?;
        let kept = self.network.keep(&self.weights, Digits::Host(clean), [sequences, tokens], kept);
        kept.ok_or("none").map_err(Error::internal("a network with blocks keeps known tokens"))
    }

    fn evaluate_after(
        &self,
        kept: Option<&Kept>,
        first: usize,
        states: &States,
        positions: &[usize],
        rows: LogitRows,
    ) -> Result<()> {
        let inputs = Inputs { context: Context::Kept { kept, first }, ..(*states).into() };
        self.evaluate_inputs(&inputs, positions, rows)
    }

    fn evaluate_after_each(
        &self,
        groups: &[BlocksAt],
        states: &States,
        positions: &[usize],
        rows: LogitRows,
    ) -> Result<()> {
        if let [BlocksAt { kept, first, .. }] = *groups {
            return self.evaluate_after(kept, first, states, positions, rows);
        }
        let inputs = Inputs { context: Context::KeptOfEach(groups), ..(*states).into() };
        self.evaluate_inputs(&inputs, positions, rows)
    }
}

impl DeviceDenoiser for LoadedBackbone {
    fn device(&self) -> Device {
        self.weights.device()
    }

    fn evaluate_on_device(
        &self,
        states: &DeviceStates,
        positions: &[usize],
        rows: &mut dyn FnMut(Range<usize>, Tensor<2>),
    ) -> Result<()> {
        if positions.is_empty() {
            return Ok(());
        }
        let heads = self.heads(&(*states).into(), positions)?;
        heads.chunks().for_each(|range| rows(range.clone(), heads.logits(range)));
        Ok(())
    }
}
