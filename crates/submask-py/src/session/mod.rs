//! Models: opened, sampled, scored and evaluated as the program does it.

pub mod evaluate;
mod failing;
pub mod images;
pub mod logits;
pub mod open;
mod options;
pub mod sample;
pub mod score;
pub mod stream;
pub mod tokenizer;
