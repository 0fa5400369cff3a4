//! A model: settings, tokenizer and weights, and the folder that holds them.

mod evaluate;
mod export;
mod files;
mod folder;
mod generate;
mod network;
mod settings;
pub mod visual;

pub use evaluate::Estimator;
pub use export::ExportFormat;
pub use files::{read_codes, read_safetensors, write_safetensors};
pub use folder::{
    CODES_FILE, CONFIG_FILE, FORMAT_VERSION, Model, ModelConfig, ModelParts, WEIGHTS_FILE, resolve,
};
pub use generate::{GenerateRequest, Generated};
pub use network::Network;
pub use settings::{
    CodeChoice, ModelSettings, NetworkChoice, SampleDefaults, ScheduleChoice, ScheduleSettings,
};
