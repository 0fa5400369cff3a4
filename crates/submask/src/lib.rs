//! Discrete diffusion models with partial masking (MDM-Prime): train, evaluate and sample.
//!
//! ```no_run
//! use submask::model::{Estimator, EvaluateRequest, HeldOut};
//! use submask::{Compute, Model, Request, Unobserved};
//!
//! // A model that `submask train` made: opened once, uploaded once, used as often as you like.
//! let model = Model::open("runs/dictionary")?;
//! let session = model.session(&Compute::cpu())?;
//!
//! // Three texts in which a hole of twelve tokens is filled, and what they cost.
//! let prompt = session.prompt(&"lantern: [[12]] light.".parse()?, None)?;
//! let request = Request { prompt, num: 3, ..session.request() };
//! let generated = session.generate(&request, &mut Unobserved)?;
//! println!("{:?}, {} network evaluations", generated.texts, generated.report.evaluations);
//!
//! // A valid bound for a text of your own. Every figure says what it is.
//! let text = "lantern: A case for a light.";
//! let x_0 = model.tokenizer().expect("a model of text has one").encode(text)?;
//! let characters = vec![text.chars().count() as u64];
//! let held_out = HeldOut { seq_len: x_0.len(), x_0, characters, ..HeldOut::default() };
//! for figure in session.evaluate(&EvaluateRequest::new(Estimator::NelboSubtoken), &held_out)? {
//!     println!("{:.3} {} ({:?})", figure.value, figure.unit, figure.kind);
//! }
//! # Ok::<(), submask::Error>(())
//! ```
//!
//! | type | is |
//! |---|---|
//! | [`Model`] | a model of text, images or points with its weights, opened from a folder |
//! | [`Session`] | a model on a device ([`Compute`]): it generates and evaluates, from several threads at once |
//! | [`Request`] | what is generated: how many, which sub-tokens are given, steps, temperature |
//! | [`Figure`] | a number that says what it is: exact, an upper bound or a surrogate, with unit and standard error |
//! | [`Denoiser`] | a network as samplers and likelihoods see it: what a network of your own implements |
//!
//! Training begins with [`train::run`], that of a network of your own with [`train::run_own`]. The examples `sample`,
//! `likelihood`, `train` and `own_network` of this crate are whole programs.
//!
//! # Sub-tokens
//!
//! A token of C classes is written as ℓ digits in base b = ⌈C^(1/ℓ)⌉, its *sub-tokens*. Each digit is masked on
//! its own, so a token can be clean, masked or in between, and generation goes from coarse to fine.
//!
//! ```
//! use submask::predictive::Predictive;
//! use submask::subtoken::SubTokenizer;
//!
//! // 4096 tokens as two digits in base 64.
//! let codes = SubTokenizer::new(4096, 2)?;
//! let y_0 = codes.encode(&[130, 7])?;
//! assert_eq!((codes.base(), y_0.as_slice()), (64, &[2, 2, 0, 7][..]));
//!
//! // The first token's low digit is masked: 64 tokens still agree with what is visible, and with the carry-over
//! // constraint only those have probability.
//! let predictive = Predictive::new(codes, true);
//! let logits = vec![0.0; 4096];
//! let p = predictive.distribution(&logits, &[2, predictive.codes().mask_id()]);
//! assert!((p.log_prob(130).exp() - 1.0 / 64.0).abs() < 1e-12);
//! assert_eq!(p.log_prob(7), f64::NEG_INFINITY);
//!
//! // What is known of the low digit alone, and of both together.
//! assert!((p.log_marginal(1, 2).exp() - 1.0 / 64.0).abs() < 1e-12);
//! assert_eq!(predictive.codes().decode(&y_0)?, [130, 7]);
//! # Ok::<(), submask::Error>(())
//! ```
//!
//! # The rooms, in the order of the method
//!
//! | module | what lives there |
//! |---|---|
//! | [`subtoken`] | f and f⁻¹: tokens to digits and back; permuted codes |
//! | [`schedule`] | α_t, α′_t, w(t); when sub-tokens are revealed |
//! | [`forward`] | q(y_t given y_0): masking |
//! | [`predictive`] | p_θ(x_0 given y_t), carry-over, digit marginals |
//! | [`order`] | which masked tokens or sub-tokens are revealed next |
//! | [`objective`] | the training losses `joint` and `marginal` |
//! | [`denoiser`] | a network as samplers and likelihoods see it |
//! | [`likelihood`] | bounds and exact values, whose types say what they are |
//! | [`sampler`] | reveal plans without idle steps, correctors, prompts with holes |
//! | [`backbone`] | the networks: diffusion transformer, encoder, autoregressive baseline, U-Net, toy |
//! | [`ops`] | the operations they are made of, plain and fused |
//! | [`data`] | texts and images: files to tokens to batches |
//! | [`model`] | models: their folders, sessions on a device, prompts |
//! | [`train`] | the loop, AdamW, averaged weights, checkpoints |
//! | [`import`] | checkpoints of other programs, read and never executed |
//! | [`pickle`] | Python's pickle format, read and never executed |
//! | [`metrics`] | generated text against its corpus, generated images against real ones |
//! | [`device`] | CPU or GPU |
//! | [`random`] | draws that are functions of (seed, purpose, place) |
//! | [`shard`] | which of N items one of several processes computes |
//! | [`parts`] | what each of them computed, in files, and all of it together |
//!
//! # Notation
//!
//! C `vocab_size`, L `seq_len`, ℓ `subtoken_len`, b `base`, m = b `mask_id`; x_0 \[L\] tokens, y_0 and y_t [L·ℓ]
//! digits, digit j of token i at i·ℓ + j, most significant first. Clean is t = 0, fully masked t = 1. Losses and
//! likelihoods are in nats unless a name says otherwise. Formulas carry the numbers of `docs/math.md`.
//!
//! # Not supported
//!
//! Training on GPUs at speed, several machines.

#![warn(missing_docs)]

pub mod backbone;
mod compute;
pub mod data;
pub mod denoiser;
pub mod device;
mod durable;
pub mod error;
pub mod forward;
pub mod import;
pub mod likelihood;
pub mod metrics;
pub mod model;
mod npz;
pub mod objective;
pub mod ops;
pub mod order;
pub mod parts;
pub mod pickle;
pub mod predictive;
pub mod random;
pub mod sampler;
pub mod schedule;
pub mod shard;
pub mod subtoken;
pub mod train;

#[doc(hidden)]
pub use burn::tensor::Device;
pub use compute::Compute;
pub use denoiser::Denoiser;
pub use device::DeviceChoice;
pub use error::{Error, Result};
pub use likelihood::Figure;
pub use model::{Generated, Model, Request, Session};
pub use ops::Precision;
pub use sampler::Unobserved;

/// The examples of this crate's README, compiled and run as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
