//! Texts with holes, filled by a trained model, and what they cost.
//!
//! ```sh
//! cargo run --release -- train
//! cargo run --release --example sample -- runs/dictionary 'lantern: [[12]] light [[*]]'
//! ```
//!
//! `[[12]]` is a hole of twelve tokens, `[[*]]` one up to the end of the sequence.

use submask::sampler::Event;
use submask::{Compute, Model, Request};

fn main() -> submask::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().unwrap_or_else(|| "runs/dictionary".to_owned());
    let text = arguments.next().unwrap_or_else(|| "[[*]]".to_owned());

    // The weights are uploaded once; a session generates as often as it is asked to.
    let session = Model::open(path)?.session(&Compute::cpu())?;
    let prompt = session.prompt(&text.parse()?, None)?;

    // What is not said here (steps, temperature, nucleus) is the model's own.
    let request = Request { prompt, num: 3, seed: 7, ..session.request() };
    let generated = session.generate(&request, &mut |event: &Event| {
        if let Event::Finished { sequence, report, .. } = event {
            eprintln!("text {sequence}: {} network evaluations", report.evaluations);
        }
        Ok(())
    })?;

    for text in &generated.texts {
        println!("{text}\n");
    }
    let cost = generated.report;
    println!(
        "{} sequences: {} network evaluations, {} of {} steps idle and skipped",
        cost.sequences, cost.evaluations, cost.steps_skipped, cost.steps_total
    );
    Ok(())
}
