//! How likely a text of your own is under a trained model: an upper bound, and the exact value.
//!
//! ```sh
//! cargo run --release -- train
//! cargo run --release --example likelihood -- runs/dictionary my.txt
//! ```
//!
//! A figure says what it is. Bounds and exact values can be compared, with the process in mind that each describes: the
//! bound is of sub-tokens revealed in random order, the exact value of whole tokens written from left to right, and either
//! can be the lower one. The joint objective, a surrogate, compares with nothing but itself, so it has no perplexity.

use submask::data::{Tokenizer, ValidationBlock};
use submask::likelihood::Kind;
use submask::model::{Estimator, EvaluateRequest, HeldOut};
use submask::{Compute, Error, Figure, Model, Result};

/// Sequences that are evaluated at most: the exact value takes a network evaluation per token.
const SEQUENCES: usize = 8;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().unwrap_or_else(|| "runs/dictionary".to_owned());
    let text = match arguments.next() {
        Some(file) => std::fs::read_to_string(&file).map_err(Error::io(&file))?,
        None => "harbour: A place where ships lie safe from wind and sea.".to_owned(),
    };

    let model = Model::open(path)?;
    let tokenizer =
        model.tokenizer().ok_or_else(|| Error::invalid("model", "of no text", "a model of text"))?;
    let held_out = sequences(tokenizer, &text, model.config().seq_len())?;
    let session = model.session(&Compute::cpu())?;

    for estimator in [Estimator::NelboSubtoken, Estimator::LEFT_TO_RIGHT, Estimator::JointObjective] {
        let request = EvaluateRequest { draws: 32, ..EvaluateRequest::new(estimator) };
        for figure in session.evaluate(&request, &held_out)? {
            print(&figure);
        }
    }
    Ok(())
}

/// The text cut into sequences of one length: `longest` tokens, or all of a text that is shorter.
fn sequences(tokenizer: &Tokenizer, text: &str, longest: usize) -> Result<HeldOut> {
    let tokens = tokenizer.encode(text)?;
    let length = longest.min(tokens.len()).max(1);
    let blocks = tokens.chunks_exact(length).take(SEQUENCES).map(|tokens| {
        Ok(ValidationBlock { tokens: tokens.to_vec(), characters: Some(tokenizer.count_characters(tokens)?) })
    });
    Ok(HeldOut::of_text(&blocks.collect::<Result<Vec<_>>>()?))
}

fn print(figure: &Figure) {
    let kind = match figure.kind {
        Kind::Exact => "exact",
        Kind::UpperBound => "upper bound",
        Kind::Surrogate => "surrogate, no likelihood",
    };
    // The standard error is over sequences: a single one has none.
    let error = figure.standard_error.map_or(String::new(), |error| format!("± {error:.4} "));
    println!(
        "{:<20} {:>9.4} {error}{} ({kind}, {} network evaluations)",
        figure.name, figure.value, figure.unit, figure.evaluations
    );
}
