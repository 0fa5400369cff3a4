//! A model: what its tokens mean, its network and weights, the folder that holds them, and a session on a device that
//! generates and evaluates.
//!
//! | type | is |
//! |---|---|
//! | [`ModelConfig`] | `config.json`: subject, network, codes, schedule, sampling |
//! | [`Architecture`] | a model without its weights |
//! | [`Model`] | an architecture with its weights: open, save, export |
//! | [`Session`] | a model on a device: [`Session::generate`], [`Session::evaluate`], [`Session::score`] |

mod architecture;
pub mod checkpoints;
mod config;
mod estimator;
mod evaluate;
mod export;
mod export_bd3lm;
mod files;
mod folder;
pub(crate) mod format_1;
mod frames;
mod generate;
mod generator;
mod growing_text;
mod held_out;
pub(crate) mod keys;
mod logits;
mod network;
mod prompt;
mod score;
mod session;
mod subject;
mod values;

pub use crate::sampler::{Sampling, Temperature};
pub use architecture::Architecture;
pub use checkpoints::{BestValidation, CheckpointChoice, resolve, resolve_choice};
pub use config::{
    Assignment, CODES_FILE, CONFIG_FILE, CodeSettings, FORMAT_VERSION, ModelConfig, NetworkConfig,
    ToySettings, UnetSettings,
};
pub use estimator::Estimator;
pub use evaluate::{EvaluateRequest, Evaluation, SequenceValue};
pub use export::ExportFormat;
pub use files::{read_codes, read_safetensors, write_safetensors};
pub use folder::{Model, WEIGHTS_FILE};
pub use frames::{Cell, Frame};
pub use generate::{Generated, Label, Request, Sample};
pub use generator::{Generator, Prepared};
pub use growing_text::{GrowingText, GrowingTexts, Growth};
pub use held_out::{HeldOut, HeldOutShare};
pub use logits::{MaskedBatch, MaskedSequence};
pub use network::Network;
pub use prompt::TextPrompt;
pub use score::{Passage, SCORE_DRAWS, Score, TextLayout, TokenScore};
pub use session::Session;
pub use subject::{ImageSubject, PointSubject, Subject, TextSubject, Unit};
pub use values::{EvaluationValues, ItemValue};
