//! Networks, as the rest of the library sees them.
//!
//! A network maps partially masked digits y_t (and the time, if it reads it) to logits over the C
//! tokens, at the positions that are asked for and nowhere else.

pub mod autoregressive;
mod block;
mod declaration;
pub mod dit;
mod dropout;
mod embedding;
pub mod encoder;
mod layers;
pub mod toy;
pub mod unet;
pub mod weights;

use std::fmt::Debug;
use std::ops::Range;
use std::sync::Arc;

use burn::tensor::{Device, Int, Tensor};

use self::weights::{Parameter, Weights};
use crate::denoiser::{Denoiser, DeviceDenoiser, DeviceStates, Spec, States};
use crate::objective::LossRows;
use crate::ops::{Factor, Kernels, integers};
use crate::{Error, Result};

pub use declaration::{Declaration, Handle};
pub use dropout::TrainingDropout;
pub use embedding::{DigitEmbedding, Embedding};
pub use layers::{LayerNorm, Linear, LinearConfig, ModulatedNorm, RmsNorm};

/// Where digits are.
#[derive(Clone, Copy, Debug)]
pub enum Digits<'a> {
    /// In memory.
    Host(&'a [u32]),
    /// On the network's device, [n, ℓ].
    Device(&'a Tensor<2, Int>),
}

/// A diffusion network without its weights: a trunk that runs over whole sequences, and an output layer for
/// the positions that are asked for.
///
/// Training needs no more than this, and [`LoadedBackbone`] makes a [`Denoiser`] of any.
pub trait Backbone: Debug + Send + Sync {
    /// What the network takes and gives.
    fn spec(&self) -> &Spec;

    /// Which operations run.
    fn kernels(&self) -> Kernels;

    /// All weights in definition order.
    fn parameters(&self) -> &[Parameter];

    /// Vectors of the tokens whose digits are `y_t` [n·ℓ], 0..=b: [n, d].
    fn embed(&self, weights: &Weights, y_t: Digits) -> Tensor<2>;

    /// Hidden states of the asked `positions` (flat indices b·L + i, in any order), ready for the output layer.
    ///
    /// # Shapes
    /// - `embedded`: [B·L, d] as of [`Self::embed`], `t`: \[B\] times, `positions`: \[n\]
    /// - result: [n, d]
    fn hidden_states(
        &self,
        weights: &Weights,
        embedded: Tensor<2>,
        t: &[f64],
        positions: &[usize],
        dropout: Option<TrainingDropout>,
    ) -> Tensor<2>;

    /// The hidden states of sequences whose digits are `y_t` [B, L·ℓ].
    fn trunk(
        &self,
        weights: &Weights,
        y_t: &[u32],
        t: &[f64],
        positions: &[usize],
        dropout: Option<TrainingDropout>,
    ) -> Tensor<2> {
        self.hidden_states(weights, self.embed(weights, Digits::Host(y_t)), t, positions, dropout)
    }

    /// Weight [C, d] and bias \[C\] of the output layer: no row is the mask's.
    fn output_layer(&self, weights: &Weights) -> (Factor, Tensor<1>);

    /// Logits [n, C] of `hidden` states [n, d].
    fn logits(&self, weights: &Weights, hidden: Tensor<2>) -> Tensor<2> {
        let (weight, bias) = self.output_layer(weights);
        self.kernels().linear(hidden, weight, Some(bias))
    }

    /// The training loss Σ_r weight_r·loss_r, \[1\], of `rows`, whose `hidden` states are [n, d].
    fn loss(&self, weights: &Weights, hidden: Tensor<2>, rows: Arc<LossRows>) -> Tensor<1> {
        let (weight, bias) = self.output_layer(weights);
        self.kernels().head_loss(hidden, weight.into_tensor(), bias, rows)
    }
}

/// Rows of [B·L, d].
fn at(hidden: &Tensor<2>, positions: &[usize]) -> Tensor<2> {
    let rows = positions.iter().map(|position| *position as u32);
    hidden.clone().select(0, integers(rows, [positions.len()], &hidden.device()))
}

/// The loss of rows that belong to several output layers, Σ over layers of the loss of that layer's rows.
///
/// `layer_of` gives the layer of a row, below `layers`; `layer` gives for a layer and its rows their hidden states
/// [n, d], the weight [C, d] and the bias \[C\].
fn loss_of_layers(
    kernels: Kernels,
    rows: &LossRows,
    layers: usize,
    layer_of: impl Fn(usize) -> usize,
    mut layer: impl FnMut(usize, &[usize]) -> (Tensor<2>, Tensor<2>, Tensor<1>),
) -> Option<Tensor<1>> {
    let mut total: Option<Tensor<1>> = None;
    for index in 0..layers {
        let own: Vec<usize> = (0..rows.len()).filter(|row| layer_of(*row) == index).collect();
        if own.is_empty() {
            continue;
        }
        let (hidden, weight, bias) = layer(index, &own);
        let loss = kernels.head_loss(hidden, weight, bias, Arc::new(rows.part(&own)));
        total = Some(match total {
            Some(total) => total + loss,
            None => loss,
        });
    }
    total
}

/// A diffusion network with its weights, ready to be evaluated.
pub struct LoadedBackbone {
    /// The network.
    pub network: Arc<dyn Backbone>,
    /// Its weights, not on an autodiff device.
    pub weights: Weights,
}

impl Denoiser for LoadedBackbone {
    fn spec(&self) -> &Spec {
        self.network.spec()
    }

    fn evaluate(
        &self,
        states: &States,
        positions: &[usize],
        rows: &mut dyn FnMut(Range<usize>, &[f32]) -> Result<()>,
    ) -> Result<()> {
        if positions.is_empty() {
            return Ok(());
        }
        let Spec { vocab_size, subtoken_len, .. } = *self.spec();
        self.spec().check_seq_len(states.seq_len(subtoken_len))?;
        check_unlabelled(states.labels)?;
        let hidden = self.network.trunk(&self.weights, states.y_t, states.t, positions, None);
        chunks(positions.len(), vocab_size).try_for_each(|range| {
            let logits = self.logits(&hidden, &range).into_data();
            let logits = logits
                .as_slice::<f32>()
                .map_err(|e| Error::invalid("logits", format!("{e:?}"), "32-bit floats"))?;
            rows(range, logits)
        })
    }

    fn on_device(&self) -> Option<&dyn DeviceDenoiser> {
        self.network.kernels().are_for_gpus().then_some(self)
    }
}

impl LoadedBackbone {
    /// Logits of some rows of hidden states.
    fn logits(&self, hidden: &Tensor<2>, rows: &Range<usize>) -> Tensor<2> {
        self.network.logits(&self.weights, hidden.clone().narrow(0, rows.start, rows.len()))
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
        check_unlabelled(states.labels)?;
        let embedded = self.network.embed(&self.weights, Digits::Device(states.y_t));
        let hidden = self.network.hidden_states(&self.weights, embedded, states.t, positions, None);
        for range in chunks(positions.len(), self.spec().vocab_size) {
            let logits = self.logits(&hidden, &range);
            rows(range, logits);
        }
        Ok(())
    }
}

/// Refuses labels, for networks that read none.
fn check_unlabelled(labels: Option<&[usize]>) -> Result<()> {
    match labels {
        Some(_) => Err(Error::invalid("labels", "given", "none: the network takes no labels")),
        None => Ok(()),
    }
}

/// The elements of logits.
fn floats(logits: Tensor<2>) -> Result<Vec<f32>> {
    logits
        .try_into_vec_as::<f32>()
        .map_err(|error| Error::invalid("logits", format!("{error:?}"), "32-bit floats"))
}

/// Logits that exist at once while a network is evaluated.
const CHUNK_LOGITS: usize = 1 << 24;

/// Cuts 0..count into ranges whose logits fit [`CHUNK_LOGITS`].
fn chunks(count: usize, classes: usize) -> impl Iterator<Item = Range<usize>> {
    let size = (CHUNK_LOGITS / classes).max(1);
    (0..count).step_by(size).map(move |start| start..(start + size).min(count))
}
