//! Results: text or JSON on standard output, and files.

use std::fs;
use std::io::{Write, stdout};
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::failure::Failure;
use crate::format;
use submask::likelihood::Figure;
use submask::model::{Score, SequenceValue};
use submask::sampler::{SampleReport, Window};

/// Writes text to standard output.
pub fn write(text: &str) -> Result<(), Failure> {
    let mut out = stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(())
}

/// Writes a file whole, or leaves what was there.
pub fn write_file(path: &Path, content: impl AsRef<[u8]>) -> Result<(), Failure> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let beside = path.with_file_name(format!(".{name}.new"));
    fs::write(&beside, content).and_then(|()| fs::rename(&beside, path)).map_err(|error| {
        // What could not be written whole is of no use; the error that counts is the first one.
        let _ = fs::remove_file(&beside);
        Failure::failed(format!("cannot write {}: {error}", path.display()))
    })
}

/// Writes a result as indented JSON and a line end.
pub fn write_json(result: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(result)
        .map_err(|error| Failure::failed(format!("the result does not fit JSON: {error}")))?;
    write(&format!("{text}\n"))
}

/// A result as JSON on one line, with its end.
pub fn json_line(result: &impl Serialize) -> Result<String, Failure> {
    let text = serde_json::to_string(result)
        .map_err(|error| Failure::failed(format!("the result does not fit JSON: {error}")))?;
    Ok(text + "\n")
}

/// What `eval --json` prints.
#[derive(Clone, Debug, Serialize)]
pub struct EvalResult {
    /// Folder of the model: of a run, that of its newest checkpoint.
    pub model: String,
    /// The text.
    pub data: String,
    /// The estimator.
    pub estimator: String,
    /// How much was evaluated.
    #[serde(flatten)]
    pub evaluated: Evaluated,
    /// Draws per sequence.
    pub draws: u64,
    /// Seed of the draws.
    pub seed: u64,
    /// Steps T of the path estimator.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<u64>,
    /// What the estimators exact and orders reveal at once: `token` or `subtoken`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<&'static str>,
    /// Units that the estimator exact reveals per evaluation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_step: Option<u64>,
    /// Whether tokens that contradict a visible digit were excluded; of diffusion models.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub carry_over: Option<bool>,
    /// Whether the figures are of sequences given their class.
    pub conditional_on_class: bool,
    /// The figures.
    pub figures: Vec<Figure>,
    /// The value of every sequence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by_sequence: Option<Vec<SequenceValue>>,
    /// The value of every document, where each was evaluated alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by_document: Option<Vec<SequenceValue>>,
}

/// How much was evaluated.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Evaluated {
    /// Sequences that the network read.
    pub sequences: u64,
    /// Documents of which there was something in them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub documents: Option<u64>,
    /// Tokens that were charged.
    pub tokens: u64,
    /// Characters of text that they stand for, where every document decodes to itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub characters: Option<u64>,
}

impl Evaluated {
    /// What so many sequences, of so many documents, come to, with the value of each of them or of each document.
    pub fn new(sequences: u64, documents: Option<u64>, values: &[SequenceValue]) -> Self {
        Self {
            sequences,
            documents,
            tokens: values.iter().map(|value| value.tokens).sum(),
            characters: values.iter().map(|value| value.characters).sum(),
        }
    }

    /// In words.
    fn shown(&self) -> String {
        let Self { sequences, documents, tokens, characters } = self;
        let characters = characters.map(|count| format!(", {}", format::counted(count, "character")));
        let documents = documents.map(|count| format!(" of {}", format::counted(count, "document")));
        let [tokens, sequences] =
            [(tokens, "token"), (sequences, "sequence")].map(|(count, what)| format::counted(*count, what));
        let [characters, documents] = [characters, documents].map(Option::unwrap_or_default);
        format!("{tokens}{characters} in {sequences}{documents}")
    }
}

/// A line of what `score` prints.
#[derive(Clone, Debug, Serialize)]
pub struct ScoreLine<'a> {
    /// The line of the file with the text, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// What the file calls it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<&'a RawValue>,
    /// What it costs.
    #[serde(flatten)]
    pub score: Score,
}

/// What `sample --json` prints.
#[derive(Clone, Debug, Serialize)]
pub struct SampleResult {
    /// Folder of the model: of a run, that of its newest checkpoint.
    pub model: String,
    /// The seed.
    pub seed: u64,
    /// What blocks read beyond the model's length: which generator wrote longer texts. Of models that write block by block.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<Window>,
    /// The texts.
    pub samples: Vec<SampleText>,
    /// What they cost, all together.
    pub cost: SampleCost,
}

/// What `sample --json` prints of images and points.
#[derive(Clone, Debug, Serialize)]
pub struct PictureResult {
    /// Folder of the model: of a run, that of its newest checkpoint.
    pub model: String,
    /// The seed.
    pub seed: u64,
    /// The pictures that were written.
    pub pictures: Vec<String>,
    /// The tokens of every sample.
    pub samples: Vec<Vec<u32>>,
    /// What they cost, all together.
    pub cost: SampleCost,
}

/// Counts of a sampling call: no figures, since they measure no model.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct SampleCost {
    /// Network evaluations, counted for every text.
    pub evaluations: u64,
    /// Steps, the idle ones included.
    pub steps: u64,
    /// Steps in which nothing was revealed and the network was not evaluated.
    pub idle_steps: u64,
    /// Draws repeated to keep codes valid.
    pub redraws: u64,
    /// How many texts.
    pub sequences: u64,
    /// Positions at which logits were computed.
    pub positions: u64,
    /// Passes of known tokens through a network with blocks, whose keys and values are kept.
    #[serde(skip_serializing_if = "is_zero")]
    pub clean_passes: u64,
    /// Texts that were cut because their last tokens were too monotonous (`sample.min_entropy`).
    #[serde(skip_serializing_if = "is_zero")]
    pub monotonous: u64,
    /// Sub-tokens that a corrector changed.
    pub jumps: u64,
    /// Sub-tokens that it left as they were to keep codes valid.
    pub jumps_dropped: u64,
}

impl From<&SampleReport> for SampleCost {
    fn from(report: &SampleReport) -> Self {
        Self {
            evaluations: report.evaluations,
            steps: report.steps_total,
            idle_steps: report.steps_skipped,
            redraws: report.redraws,
            sequences: report.sequences,
            positions: report.positions,
            clean_passes: report.clean_passes,
            monotonous: report.monotonous,
            jumps: report.jumps,
            jumps_dropped: report.jumps_dropped,
        }
    }
}

/// Whether there is none.
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// One text.
#[derive(Clone, Debug, Serialize)]
pub struct SampleText {
    /// Its number under the seed.
    pub index: u64,
    /// The number of its prompt, from 0, among the lines of a file that are not blank.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// What the file calls the prompt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Box<RawValue>>,
    /// The text.
    pub text: String,
    /// All its tokens, also those that are not shown; of texts written from left to right up to the end of text.
    pub tokens: Vec<u32>,
}

/// What sampling cost.
pub fn sampling_cost(report: &SampleReport) -> String {
    let SampleReport { evaluations, steps_skipped, steps_total, redraws, jumps, jumps_dropped, .. } = report;
    let mut text =
        format!("{evaluations} network evaluations, {steps_skipped} of {steps_total} steps idle and skipped");
    if report.clean_passes > 0 {
        let passes = match report.clean_passes {
            1 => "1 pass".to_owned(),
            passes => format!("{passes} passes"),
        };
        text += &format!(", {passes} of written blocks");
    }
    if report.monotonous > 0 {
        let texts = format::counted(report.monotonous, "text");
        text += &format!(", {texts} cut by sample.min_entropy");
    }
    if *redraws > 0 {
        text += &format!(", {redraws} draws repeated to keep codes valid");
    }
    if *jumps > 0 {
        text += &format!(", {jumps} jumps of the corrector");
    }
    if *jumps_dropped > 0 {
        text += &format!(", {jumps_dropped} jumps dropped to keep codes valid");
    }
    text
}

/// Figures as a table, one a line, and what they are of.
pub fn evaluation_table(figures: &[Figure], evaluated: &Evaluated) -> String {
    let mut rows = figure_rows(figures);
    rows.push(["evaluated".to_owned(), evaluated.shown()]);
    table(&rows)
}

/// Figures as a table, one a line.
pub fn figure_table(figures: &[Figure]) -> String {
    table(&figure_rows(figures))
}

/// Name, value with error and unit, kind, evaluations.
fn figure_rows(figures: &[Figure]) -> Vec<[String; 2]> {
    figures
        .iter()
        .map(|figure| {
            let evaluations = match figure.evaluations {
                0 => String::new(),
                n => format!(", {n} network evaluations"),
            };
            let note = format!("{}  ({}{evaluations})", format::value(figure), format::kind(figure.kind));
            [figure.name.clone(), note]
        })
        .collect()
}

/// A JSON value as a table of its dotted keys; figures stand on a line of their own.
pub fn value_table(value: &Value) -> String {
    let mut rows = Vec::new();
    flatten("", value, &mut rows);
    table(&rows)
}

fn flatten(key: &str, value: &Value, rows: &mut Vec<[String; 2]>) {
    let shown = match value {
        Value::Object(inner) => {
            if let Ok(one) = Figure::deserialize(value) {
                rows.push([
                    one.name.clone(),
                    format!("{}  ({})", format::value(&one), format::kind(one.kind)),
                ]);
                return;
            }
            let mut entries: Vec<_> = inner.iter().collect();
            entries.sort_by_key(|(name, value)| {
                (name.as_str() != "kind", name.as_str() != "path", nested(value))
            });
            for (name, value) in entries {
                let key = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
                flatten(&key, value, rows);
            }
            return;
        }
        Value::Array(values) if nested(value) => {
            return values.iter().for_each(|value| flatten(key, value, rows));
        }
        Value::Array(values) => values.iter().map(plain).collect::<Vec<_>>().join(", "),
        value => plain(value),
    };
    rows.push([key.to_owned(), if shown.is_empty() { "-".to_owned() } else { shown }]);
}

fn nested(value: &Value) -> bool {
    value.is_object() || value.as_array().is_some_and(|values| values.iter().any(Value::is_object))
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => format::one_line(text),
        value => value.to_string(),
    }
}

/// Two columns, the first as wide as its widest entry.
pub fn table(rows: &[[String; 2]]) -> String {
    let width = rows.iter().map(|row| row[0].chars().count()).max().unwrap_or(0);
    rows.iter().map(|[name, value]| format!("{name:<width$}  {value}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::tests::{bound, joint};

    #[test]
    fn figures_line_up() {
        insta::assert_snapshot!(figure_table(&[bound(), joint()]), @r"
        nelbo_subtoken   3.2123 ± 0.0123 bits per character  (upper bound, 512 network evaluations)
        joint_objective  2.5000 nats per token  (surrogate, no likelihood, 64 network evaluations)
        ");
    }

    #[test]
    fn what_was_evaluated_stands_below() {
        let mut evaluated = Evaluated { sequences: 4, documents: Some(3), tokens: 50, characters: Some(47) };
        insta::assert_snapshot!(evaluation_table(&[bound()], &evaluated), @r"
        nelbo_subtoken  3.2123 ± 0.0123 bits per character  (upper bound, 512 network evaluations)
        evaluated       50 tokens, 47 characters in 4 sequences of 3 documents
        ");
        (evaluated.documents, evaluated.characters) = (None, None);
        assert_eq!(evaluated.shown(), "50 tokens in 4 sequences");
    }

    #[test]
    fn values_are_flattened() {
        let value = serde_json::json!({ "kind": "run", "train": { "steps": 7, "seed": null }, "paths": ["a", "b"], "figures": [joint()] });
        insta::assert_snapshot!(value_table(&value), @r"
        kind             run
        paths            a, b
        joint_objective  2.5000 nats per token  (surrogate, no likelihood)
        train.seed       -
        train.steps      7
        ");
    }

    #[test]
    fn json_figures_have_every_field() {
        let result = EvalResult {
            model: "runs/a".into(),
            data: "text.txt".into(),
            estimator: "nelbo_subtoken".into(),
            evaluated: Evaluated { sequences: 9, documents: Some(2), tokens: 18, characters: Some(81) },
            draws: 1,
            seed: 0,
            steps: None,
            unit: None,
            per_step: None,
            carry_over: Some(true),
            conditional_on_class: false,
            figures: vec![joint()],
            by_sequence: Some(vec![SequenceValue {
                index: 0,
                nats: 5.0,
                draw_error: None,
                tokens: 2,
                characters: Some(9),
            }]),
            by_document: None,
        };
        insta::assert_snapshot!(serde_json::to_string_pretty(&result).unwrap(), @r#"
        {
          "model": "runs/a",
          "data": "text.txt",
          "estimator": "nelbo_subtoken",
          "sequences": 9,
          "documents": 2,
          "tokens": 18,
          "characters": 81,
          "draws": 1,
          "seed": 0,
          "carry_over": true,
          "conditional_on_class": false,
          "figures": [
            {
              "name": "joint_objective",
              "value": 2.5,
              "unit": "nats per token",
              "kind": "surrogate",
              "standard_error": null,
              "evaluations": 64
            }
          ],
          "by_sequence": [
            {
              "index": 0,
              "nats": 5.0,
              "tokens": 2,
              "characters": 9
            }
          ]
        }
        "#);
    }
}
