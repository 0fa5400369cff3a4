//! `submask logits`.

use std::num::NonZeroUsize;
use std::path::Path;

use serde::Deserialize;
use submask::model::{MaskedSequence, Model, Session, TextPrompt};

use crate::args::LogitsArgs;
use crate::compute::Compute;
use crate::failure::Failure;
use crate::{json_lines, locate, output, prompts};

/// Writes the logits of partly masked sequences.
pub fn run(args: &LogitsArgs, compute: Compute) -> Result<(), Failure> {
    let prompt = args.prompt.as_deref().map(|text| text.parse().map_err(prompts::bad_prompt)).transpose()?;
    let lines = args.sequences.as_deref().map(json_lines::read::<Fields>).transpose()?.unwrap_or_default();
    let folder = locate::checkpoint(&args.model, args.checkpoint)?;
    let session = Model::open(&folder)?.session(&compute.open()?)?;
    let sequences = match (prompt, &args.sequences) {
        (Some(prompt), _) => vec![of_prompt(&prompt, None, &session)?],
        (None, Some(path)) => of_lines(lines, path, &session)?,
        (None, None) => Vec::new(),
    };
    session.write_logits(&sequences, args.batch.get(), &args.out)?;
    output::write(&format!("{}\n", args.out.display()))
}

/// The fields of a line.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    digits: Option<Vec<Option<u32>>>,
    tokens: Option<Vec<Option<u32>>>,
    prompt: Option<String>,
    length: Option<NonZeroUsize>,
    time: Option<f64>,
    label: Option<usize>,
}

fn of_lines(
    lines: Vec<(usize, Fields)>,
    path: &Path,
    session: &Session,
) -> Result<Vec<MaskedSequence>, Failure> {
    let sequence = |(line, fields)| {
        let sequence = of_fields(fields, session).and_then(|sequence| {
            session.check_masked(&sequence)?;
            Ok(sequence)
        });
        sequence.map_err(|failure| failure.context(json_lines::place(path, line)))
    };
    lines.into_iter().map(sequence).collect()
}

fn of_fields(fields: Fields, session: &Session) -> Result<MaskedSequence, Failure> {
    let Fields { digits, tokens, prompt, length, time, label } = fields;
    if length.is_some() && prompt.is_none() {
        return Err(Failure::usage("\"length\" goes with \"prompt\" only"));
    }
    let mask = session.architecture().predictive().codes().mask_id();
    let sequence = match (digits, tokens, prompt) {
        (Some(digits), None, None) => {
            let digits = digits.into_iter().map(|digit| digit.filter(|digit| *digit != mask)).collect();
            MaskedSequence { digits, time: None, label: None }
        }
        (None, Some(tokens), None) => MaskedSequence::of_tokens(&tokens, session)?,
        (None, None, Some(prompt)) => {
            of_prompt(&prompt.parse().map_err(prompts::bad_prompt)?, length, session)?
        }
        _ => return Err(Failure::usage("one of the fields \"digits\", \"tokens\" and \"prompt\" is needed")),
    };
    Ok(MaskedSequence { time, label, ..sequence })
}

fn of_prompt(
    prompt: &TextPrompt,
    length: Option<NonZeroUsize>,
    session: &Session,
) -> Result<MaskedSequence, Failure> {
    let digits = session.prompt(prompt, length.map(Into::into))?;
    Ok(MaskedSequence { digits, time: None, label: None })
}
