//! What a run tells, as JSON.

use serde_json::{Value, json};
use submask::data::{Phase, Progress};
use submask::model::BestValidation;
use submask::train::Summary;
use submask::train::event::Event;
use submask_cli::data_notes::data_notes;

use crate::failures::as_argument;

/// Progress of reading a corpus.
pub fn preparing(progress: Progress) -> Value {
    let phase = match progress.phase {
        Phase::Survey => "survey",
        Phase::Train => "train",
        Phase::Tokenize => "tokenize",
    };
    let Progress { documents, bytes, total_bytes, .. } = progress;
    json!({ "event": "preparing", "phase": phase, "documents": documents, "bytes": bytes, "total_bytes": total_bytes })
}

/// An event of a run.
pub fn event(event: &Event) -> Value {
    match event {
        Event::Preparing(progress) => preparing(*progress),
        Event::Data(note) => json!({ "event": "data", "lines": lines(&data_notes(note)) }),
        Event::Started { parameters, train_tokens, valid_tokens, fidelity, step, steps } => json!({
            "event": "started", "parameters": parameters, "train_tokens": train_tokens, "valid_tokens": valid_tokens,
            "fidelity": fidelity, "step": step, "steps": steps,
        }),
        Event::Step(record) => named("step", json!(record)),
        Event::Validation(record) => named("validation", json!(record)),
        Event::Clip(record) => named("clip", json!(record)),
        Event::Checkpoint(folder) => {
            json!({ "event": "checkpoint", "folder": folder.file_name().map(|name| name.to_string_lossy()) })
        }
        Event::EndsEarly { step, best: one } => {
            json!({ "event": "ends_early", "step": step, "best": best(*one) })
        }
    }
}

/// Lines of the program without its flags.
pub fn lines(lines: &[String]) -> Vec<String> {
    lines.iter().map(|line| as_argument(line)).collect()
}

fn named(name: &str, mut record: Value) -> Value {
    record["event"] = json!(name);
    record
}

fn best(best: BestValidation) -> Value {
    let BestValidation { step, value, since } = best;
    json!({ "step": step, "value": value, "since": since })
}

/// How a run ended that was not stopped.
pub fn summary(summary: &Summary) -> Value {
    let Summary { validation, step, early, .. } = summary;
    json!({
        "step": step, "early": early, "best": summary.best.map(best), "figures": validation.figures,
        "samples": validation.samples, "report": validation.report,
    })
}
