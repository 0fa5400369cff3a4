//! Single operations of a case's training step, each by itself.

use std::sync::Arc;
use std::time::Instant;

use burn::tensor::{Distribution, Tensor};
use submask::objective::{LossRows, Objective};
use submask::ops::{AttentionMask, Rotary, TableRows};
use submask_experiments::peers::{Outcome, in_rounds};

use crate::WARM_UP;
use crate::case::{Case, Size};

/// An operation by name, and milliseconds of its forward pass, and of both passes.
type Timed = (&'static str, [f64; 2]);

impl Case {
    /// Times of operations on the tensors that a training step has: each COUNT times without a wait between, forward, and
    /// forward and backward for all of its inputs. Inputs and results are in single precision.
    pub fn operations(&self, count: usize) -> Outcome<serde_json::Value> {
        let ready = serde_json::json!({ "device": self.compute.device_name() });
        in_rounds(ready, || {
            let mut times = self.of_layers(count)?;
            times.extend(self.of_both_ends(count)?);
            let times: serde_json::Map<_, _> =
                times.into_iter().map(|(name, ms)| (name.to_owned(), serde_json::json!(ms))).collect();
            Ok(serde_json::json!({ "operations": times }))
        })
    }

    fn drawn<const D: usize>(&self, shape: [usize; D]) -> Tensor<D> {
        let device = self.compute.device().clone().autodiff();
        Tensor::random(shape, Distribution::Normal(0.0, 0.1), &device).require_grad()
    }

    fn time<const D: usize>(
        &self,
        count: usize,
        name: &'static str,
        call: impl Fn() -> Tensor<D>,
    ) -> Outcome<Timed> {
        let forward = || drop(call());
        let both = || drop(call().backward());
        Ok((name, [self.time_calls(count, forward)?, self.time_calls(count, both)?]))
    }

    fn time_calls(&self, count: usize, call: impl Fn()) -> Outcome<f64> {
        let device = self.compute.device();
        (0..WARM_UP).for_each(|_| call());
        device.sync()?;
        let start = Instant::now();
        (0..count).for_each(|_| call());
        device.sync()?;
        Ok(start.elapsed().as_secs_f64() * 1e3 / count as f64)
    }

    /// Of a block.
    fn of_layers(&self, count: usize) -> Outcome<Vec<Timed>> {
        let Size { hidden, heads, seq_len, .. } = *self.size;
        let (kernels, batch, inner) = (self.compute.kernels(), self.batch, self.size.swiglu_width());
        let tokens = batch * seq_len;
        let (x, sequences) = (self.drawn([tokens, hidden]), self.drawn([batch, seq_len, hidden]));
        let (ones, row) = (self.drawn([hidden]), self.drawn([1, hidden]));
        let (qkv, out) = (self.drawn([3 * hidden, hidden]), self.drawn([hidden, hidden]));
        let (up, down) = (self.drawn([4 * hidden, hidden]), self.drawn([hidden, 4 * hidden]));
        let (up_bias, middle) = (self.drawn([4 * hidden]), self.drawn([tokens, 4 * hidden]));
        let of_heads = self.drawn([batch, seq_len, 3 * hidden]);
        let rotary = Arc::new(Rotary::new(seq_len, hidden / heads));
        let gates = [(); 2].map(|()| self.drawn([tokens, inner]));
        Ok(vec![
            self.time(count, "modulated norm", || {
                kernels.modulated_norm(sequences.clone(), ones.clone(), row.clone(), row.clone())
            })?,
            self.time(count, "RMSNorm", || kernels.rms_norm(x.clone(), ones.clone()))?,
            self.time(count, "linear d to 3d", || kernels.linear(x.clone(), qkv.clone(), None))?,
            self.time(count, "attention", || {
                kernels.attention(of_heads.clone(), heads, rotary.clone(), AttentionMask::FULL)
            })?,
            self.time(count, "linear d to d", || kernels.linear(x.clone(), out.clone(), None))?,
            self.time(count, "gated residual", || {
                kernels.gated_residual(sequences.clone(), sequences.clone(), row.clone(), None)
            })?,
            self.time(count, "linear d to 4d, GELU", || {
                kernels.linear_gelu(x.clone(), up.clone(), up_bias.clone())
            })?,
            self.time(count, "linear 4d to d", || {
                kernels.linear(middle.clone(), down.clone(), Some(ones.clone()))
            })?,
            self.time(count, "SwiGLU's middle", || kernels.swiglu(gates[0].clone(), gates[1].clone()))?,
        ])
    }

    /// Of the embedding, and of the output layer with the loss.
    fn of_both_ends(&self, count: usize) -> Outcome<Vec<Timed>> {
        let Size { hidden, subtokens, vocab_size, .. } = *self.size;
        let kernels = self.compute.kernels();
        let codes = self.predictive.codes();
        let table = self.drawn([codes.base() as usize + 1, hidden / subtokens]);
        let digits = || TableRows { indices: self.y_t.clone(), per_token: subtokens, hidden, summed: false };
        let charged = self.charged();
        let weight = (self.x_0.len() as f32).recip();
        let rows = LossRows::new(
            self.predictive.clone(),
            Objective::Joint,
            charged.iter().map(|&i| self.x_0[i]).collect(),
            charged.iter().flat_map(|&i| self.y_t[i * subtokens..(i + 1) * subtokens].to_vec()).collect(),
            vec![weight; charged.len()],
        );
        let rows = Arc::new(rows);
        let states = self.drawn([charged.len(), hidden]);
        let (output, bias) = (self.drawn([vocab_size, hidden]), self.drawn([vocab_size]));
        Ok(vec![
            self.time(count, "embedding", || kernels.embedding(table.clone(), digits()))?,
            self.time(count, "output layer and loss", || {
                kernels.head_loss(states.clone(), output.clone(), bias.clone(), rows.clone())
            })?,
        ])
    }
}
