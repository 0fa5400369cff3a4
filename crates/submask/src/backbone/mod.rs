//! Networks: from partially masked digits y_t (with the time and the class, where a network reads them) to logits over
//! the C tokens, at the positions that are asked for and nowhere else.
//!
//! [`Backbone`] is the one trait of diffusion networks. A network declares its weights when it is put together
//! ([`Declaration`]) and gives hidden states in groups of one output layer each ([`Head`]). Everything else is made of
//! these, the same for all: [`loss`] for training, [`logits`], and [`LoadedBackbone`], a network with its weights, which
//! samplers and likelihoods evaluate in memory and on the network's device.
//!
//! | room | what lives there |
//! |---|---|
//! | [`weights`] | what is declared of a weight; the values of all weights on a device |
//! | `declaration`, `layers`, `embedding` | how weights are declared; layers that networks share |
//! | `inputs`, `head`, `loaded` | what a network takes, what it gives, and what is made of that |
//! | [`dit`], [`encoder`] | transformers for text |
//! | [`unet`] | the U-Net for images |
//! | [`toy`] | a multilayer perceptron for a few tokens |
//! | [`autoregressive`] | the baseline, which is no denoiser: it predicts digits one after the other |

pub mod autoregressive;
mod block;
mod declaration;
pub mod dit;
mod dropout;
mod embedding;
pub mod encoder;
mod head;
mod inputs;
mod layers;
mod loaded;
mod stream;
pub mod toy;
mod transformer;
pub mod unet;
pub mod weights;

use std::fmt::Debug;

use self::weights::{Parameter, Weights};
use crate::Result;
use crate::denoiser::{Kept, Spec};
use crate::ops::Kernels;

pub use declaration::{Declaration, Definition, Handle};
pub use dropout::TrainingDropout;
pub use embedding::{DigitEmbedding, Embedding};
pub use head::{Head, Hidden, logits, loss};
pub use inputs::{Context, Digits, Inputs};
pub use layers::{LayerNorm, Linear, LinearConfig, ModulatedNorm, RmsNorm};
pub use loaded::LoadedBackbone;

/// A diffusion network without its weights.
///
/// # A network of one's own
///
/// Any type that implements this trait can be trained, evaluated and sampled. This one sees a token's own digits and
/// nothing else:
///
/// ```
/// use std::sync::Arc;
///
/// use submask::Device;
/// use submask::backbone::weights::{Init, Weights};
/// use submask::backbone::{
///     Backbone, Declaration, Definition, DigitEmbedding, Embedding, Head, Hidden, Inputs, Linear, LinearConfig,
///     LoadedBackbone, TrainingDropout,
/// };
/// use submask::denoiser::{Denoiser, Spec, States};
/// use submask::ops::Kernels;
/// use submask::subtoken::SubTokenizer;
///
/// #[derive(Debug)]
/// struct Alone {
///     definition: Definition,
///     embedding: DigitEmbedding,
///     output: Linear,
/// }
///
/// impl Alone {
///     fn new(codes: &SubTokenizer, width: usize, kernels: Kernels) -> Self {
///         let (spec, kind) = (Spec::new(codes, 64), Embedding::PerDigitSummed);
///         let mut parameters = Vec::new();
///         let mut all = Declaration::new(&mut parameters, kernels);
///         Self {
///             embedding: DigitEmbedding::declare(&mut all, "digits", kind, codes, width, Init::Normal(1.0)),
///             output: LinearConfig::new(spec.vocab_size, width).declare(&mut all, "output"),
///             definition: Definition { spec, kernels, parameters },
///         }
///     }
/// }
///
/// impl Backbone for Alone {
///     fn definition(&self) -> &Definition {
///         &self.definition
///     }
///     fn heads(
///         &self,
///         weights: &Weights,
///         inputs: &Inputs,
///         positions: &[usize],
///         _dropout: Option<TrainingDropout>,
///     ) -> submask::Result<Vec<Head>> {
///         inputs.check(self.spec(), positions)?;
///         let all = self.embedding.forward(weights, inputs.y_t);
///         let asked = positions.iter().map(|position| *position as u32).collect();
///         let (weight, bias) = (self.output.weight(weights), self.output.bias(weights));
///         Ok(vec![Head::of_all(Hidden::gathered(all, asked, 1), weight, bias)])
///     }
/// }
///
/// let codes = SubTokenizer::new(100, 2)?;
/// let network = Alone::new(&codes, 16, Kernels::FUSED);
/// let parameters = network.parameters();
/// let values: Vec<Vec<f32>> = parameters.iter().enumerate().map(|(i, p)| p.initial(1, i)).collect();
/// let weights = Weights::new(parameters, &values, &Device::flex());
/// let network = LoadedBackbone { network: Arc::new(network), weights };
/// let states = States { y_t: &[3, codes.mask_id()], t: &[0.5], labels: None };
/// network.evaluate(&states, &[0], &mut |_, logits| {
///     assert_eq!(logits.len(), 100);
///     Ok(())
/// })?;
/// # Ok::<(), submask::Error>(())
/// ```
pub trait Backbone: Debug + Send + Sync {
    /// What the network takes and gives, its operations and its weights.
    fn definition(&self) -> &Definition;

    /// What the network takes and gives.
    fn spec(&self) -> &Spec {
        &self.definition().spec
    }

    /// Which operations run.
    fn kernels(&self) -> Kernels {
        self.definition().kernels
    }

    /// All weights in definition order.
    fn parameters(&self) -> &[Parameter] {
        &self.definition().parameters
    }

    /// Hidden states at the asked `positions`, in groups of one output layer each: one group for transformers, one per
    /// colour channel for the U-Net, one per token for the toy.
    ///
    /// `positions` are flat indices b·L + i into [B, L] in any order, at least one. Every one of them is a row of exactly
    /// one head. The numbers for a sequence must be the same whatever batch it stands in.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] for what the network does not take: see [`Inputs::check`].
    fn heads(
        &self,
        weights: &Weights,
        inputs: &Inputs,
        positions: &[usize],
        dropout: Option<TrainingDropout>,
    ) -> Result<Vec<Head>>;

    /// Whether it takes sequences of several lengths together ([`Context::Lengths`]): they then share everything but attention.
    fn takes_lengths(&self) -> bool {
        false
    }

    /// Keys and values of clean tokens, whole blocks of them, after those that are `kept` already; `None` where the
    /// network has no blocks. `dims` are the sequences and their tokens.
    fn keep(&self, _: &Weights, _clean: Digits, _dims: [usize; 2], _kept: Option<&Kept>) -> Option<Kept> {
        None
    }
}
