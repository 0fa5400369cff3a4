//! `submask score`.

use std::fs::File;
use std::io::stdin;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use submask::data::{TextRecord, TextRecords};
use submask::model::{
    Architecture, Estimator, EvaluateRequest, Model, ModelConfig, Passage, SCORE_DRAWS, Score, Session,
    TextLayout,
};
use submask::parts::{Bytes, PartSet, Records};
use submask::shard::Shard;

use crate::args::{LayoutArgs, ScoreArgs};
use crate::compute::Compute;
use crate::failure::Failure;
use crate::format::counted;
use crate::output::{self, ScoreLine};
use crate::settings::estimate;
use crate::shares::{self, ModelFacts};
use crate::subject::Kind;
use crate::{flags, locate};

/// As parts call it.
pub const VERB: &str = "score";

/// Texts that are scored before their lines are printed.
const AT_ONCE: usize = 64;

/// A text to score.
struct Text {
    /// Its line, where it stands in a file.
    line: Option<u64>,
    id: Option<Box<RawValue>>,
    passage: Passage,
}

/// Scores the texts that are given.
pub fn run(args: &ScoreArgs, compute: Compute) -> Result<(), Failure> {
    estimate::check(&args.estimate)?;
    let folder = locate::checkpoint(&args.model, args.checkpoint)?;
    let config = ModelConfig::read(&folder)?;
    let kind = Kind::of(&config)?;
    if kind != Kind::Text {
        let message =
            format!("`score` is of texts, and {} is a model of {}", args.model.display(), kind.name());
        return Err(Failure::usage(message).hint("`submask eval` measures models of every kind"));
    }
    let layout = layout(args.layout, config.pairs())?;
    let model = Model::open(&folder)?;
    let session = model.session(&compute.open()?)?;
    let request = estimate::request(&args.estimate, &session, SCORE_DRAWS)?;
    if args.by_token && !request.estimator.is_by_token() {
        let message = format!(
            "--by-token has no meaning for {}: a bound is no sum over tokens",
            request.estimator.name()
        );
        return Err(Failure::usage(message).hint("--estimator exact is the chain rule, which is one"));
    }
    let texts = texts(args, layout, session.architecture())?;
    let own = &texts[args.shard.shard.unwrap_or(Shard::WHOLE).range(texts.len())];
    let count = counted(own.len() as u64, "text");
    if !args.shard.is_quiet() {
        eprintln!("score  {count}, {}, seed {}", described(&request), request.seed);
    }
    let Some(shard) = args.shard.shard else {
        return own.chunks(AT_ONCE).try_for_each(|texts| {
            score(&session, &request, texts, args.by_token)?.iter().try_for_each(|line| output::write(line))
        });
    };
    let passages: Vec<Passage> = texts.iter().map(|text| text.passage.clone()).collect();
    let facts = Facts {
        data_fingerprint: shares::fingerprint(Passage::fingerprint(&passages)),
        model: ModelFacts::of(&folder, &model, &session)?,
        estimator: request.estimator,
        draws: request.draws,
        seed: request.seed,
        carry_over: request.carry_over,
        by_token: args.by_token,
    };
    let lines: Vec<Vec<String>> = own
        .chunks(AT_ONCE)
        .map(|texts| score(&session, &request, texts, args.by_token))
        .collect::<Result<_, _>>()?;
    let items = shares::Items { count: texts.len() as u64, unit: "texts" };
    let fill = |records: &mut Records| {
        let record = |line: &String| Bytes::default().string(line.as_bytes()).into_vec();
        lines.iter().flatten().try_for_each(|line| records.push(&record(line)))
    };
    shares::write((&args.shard, shard), VERB, &items, &facts, fill, &[])
}

/// What the parts of scores say alike.
#[derive(Serialize, Deserialize)]
struct Facts {
    data_fingerprint: String,
    model: ModelFacts,
    estimator: Estimator,
    draws: usize,
    seed: u64,
    carry_over: Option<bool>,
    by_token: bool,
}

/// Prints the lines of all parts.
pub fn merge(set: &PartSet) -> Result<(), Failure> {
    set.facts::<Facts>()?;
    set.check_records(0)?;
    set.for_each(|fields| Ok(fields.text()?.to_owned()), |line| output::write(&line))
}

/// How texts stand in sequences. Flags of texts that stand alone are refused for a model of pairs, each of which is one
/// sequence.
pub fn layout(args: LayoutArgs, is_of_pairs: bool) -> Result<TextLayout, Failure> {
    let LayoutArgs { end, stride } = args;
    let flags = [
        ("--end", end, "the end of a text is always charged"),
        ("--stride", stride.is_some(), "a text is one sequence, and longer ones are refused"),
    ];
    match flags.into_iter().find(|(_, given, _)| is_of_pairs && *given) {
        Some((flag, _, hint)) => {
            Err(Failure::usage(format!("{flag} has no meaning for a model of pairs")).hint(hint))
        }
        None if is_of_pairs => Ok(TextLayout::Filled),
        None => Ok(TextLayout::Alone { end, stride: stride.map(Into::into) }),
    }
}

/// The estimator, and its draws where it draws.
fn described(request: &EvaluateRequest) -> String {
    let name = request.estimator.name();
    match request.estimator.is_by_token() {
        true => name,
        false => format!("{name}, {} draws", request.draws),
    }
}

/// Scores some of the texts; gives the line of each.
fn score(
    session: &Session,
    request: &EvaluateRequest,
    texts: &[Text],
    by_token: bool,
) -> Result<Vec<String>, Failure> {
    let passages: Vec<Passage> = texts.iter().map(|text| text.passage.clone()).collect();
    let scores = session.score(request, &passages).map_err(|error| flags::SCORE.name_in(error))?;
    let line = |(text, mut score): (&Text, Score)| {
        score.by_token = score.by_token.filter(|_| by_token);
        output::json_line(&ScoreLine { line: text.line, id: text.id.as_deref(), score })
    };
    texts.iter().zip(scores).map(line).collect()
}

/// The texts, encoded: all of them, so that what is wrong with one is told before any is scored.
fn texts(args: &ScoreArgs, layout: TextLayout, architecture: &Architecture) -> Result<Vec<Text>, Failure> {
    let given = |flag: &str, prompt: &str, text: &str| {
        let passage = architecture.passage(layout, prompt, text).map_err(|error| {
            let of_flags = |field: &str| match field {
                "text" => flag.to_owned(),
                "prompt" => "--prompt".to_owned(),
                field => flags::SCORE.of(field).to_owned(),
            };
            error.rename_field(of_flags)
        });
        Ok(Text { line: None, id: None, passage: passage? })
    };
    if let Some(file) = &args.data {
        return records(file)?
            .into_iter()
            .map(|record| of_record(record, file, layout, architecture))
            .collect();
    }
    match &args.completion {
        Some(completion) => {
            let prompt = args.prompt.as_deref().unwrap_or_default();
            Ok(vec![given("--completion", prompt, completion)?])
        }
        None => args.text.iter().map(|text| given("--text", "", text)).collect(),
    }
}

fn of_record(
    record: TextRecord,
    file: &Path,
    layout: TextLayout,
    architecture: &Architecture,
) -> Result<Text, Failure> {
    let TextRecord { line, id, prompt, text } = record;
    let passage = architecture.passage(layout, &prompt, &text).map_err(|error| {
        let place = format!("{}: line {line}", name(file).display());
        Failure::from(flags::SCORE.name_in(error)).context(place)
    });
    Ok(Text { line: Some(line), id, passage: passage? })
}

/// The lines of a file, or of standard input.
fn records(file: &Path) -> Result<Vec<TextRecord>, Failure> {
    let TextRecords { records, unread } = match file == Path::new("-") {
        true => TextRecords::read(stdin(), name(file))?,
        false => TextRecords::read(File::open(file).map_err(submask::Error::io(file))?, file)?,
    };
    if !unread.is_empty() {
        let unread: Vec<&str> = unread.iter().map(String::as_str).collect();
        eprintln!("note: fields that are not read: {}", unread.join(", "));
    }
    Ok(records)
}

/// What errors call a file.
fn name(file: &Path) -> &Path {
    if file == Path::new("-") { Path::new("standard input") } else { file }
}
