//! Answers: a model trained on pairs of words and their definitions against one trained on the plain text of the same
//! pairs, at equal steps, judged by held-out definitions given their words.
//!
//! `cargo run --release -p submask-experiments --bin pairs -- FOLDER [STEPS]` makes the corpus from the built-in
//! dictionary, trains both models into FOLDER (runs that are there already are reused) and prints the table of
//! `docs/experiments.md`.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;
use submask::data::{PairLayout, PairSequence, PairSequences, PairSource, dictionary};
use submask::likelihood::{LikelihoodSettings, Measured, Sequences, nelbo_subtoken};
use submask::model::{NetworkConfig, Session};
use submask::train::settings::{RunData, RunSettings};
use submask::{Compute, Model};
use submask_experiments::{Fallible, train_once};

/// Width, attention heads and blocks of the networks, tokens per sequence, and size of the BPE.
const HIDDEN: usize = 128;
const HEADS: usize = 4;
const BLOCKS: usize = 2;
const SEQ_LEN: usize = 64;
const VOCAB_SIZE: usize = 2048;

/// Sequences per step.
const BATCH: usize = 16;

/// Longest entries in bytes: nearly all of them fit into a sequence.
const LONGEST: usize = 150;

/// Every so many entries one is held out.
const HELD_OUT_EVERY: usize = 50;

/// Held-out pairs that are scored, and draws of each.
const PAIRS: usize = 256;
const DRAWS: usize = 16;

/// A model, and what of it is measured.
struct Trained {
    session: Session,
    seconds: f64,
}

fn main() -> Fallible {
    let mut args = std::env::args().skip(1);
    let folder = PathBuf::from(args.next().ok_or("give a folder for the runs")?);
    let steps = args.next().map_or(Ok(3000), |steps| steps.parse())?;
    let (train, valid) = write_corpus(&folder)?;
    let of_pairs = trained(&folder, "pairs", steps)?;
    let of_text = trained(&folder, "text", steps)?;
    let tokenizer = of_pairs.session.architecture().tokenizer().ok_or("a model of text")?;
    let other = of_text.session.architecture().tokenizer().ok_or("a model of text")?;
    if tokenizer.fingerprint() != other.fingerprint() {
        return Err("the two corpora have the same texts, and so must have the same tokens".into());
    }
    let source = PairSource::new([folder.join("pairs-valid.jsonl")]);
    let layout = PairLayout { seq_len: SEQ_LEN, truncate: false };
    let PairSequences { sequences: pairs, counts, .. } = source.sequences(tokenizer, layout)?;
    let pairs = spread(&pairs, PAIRS);
    println!(
        "{steps} steps of {BATCH} × {SEQ_LEN} tokens; d = {HIDDEN}, {BLOCKS} blocks, {HEADS} heads, ℓ = 2; BPE of \
         {VOCAB_SIZE} tokens; {train} pairs to train on, {valid} held out ({} too long), {} of them scored with {DRAWS} \
         draws.\n",
        counts.too_long,
        pairs.len(),
    );
    print_table(&pairs, &of_pairs, &of_text)
}

/// Writes the entries of the dictionary as pairs and as texts; returns how many there are to train on and held out.
fn write_corpus(folder: &Path) -> Fallible<(usize, usize)> {
    fs::create_dir_all(folder)?;
    let entries: Vec<String> =
        dictionary()?.map(|entry| entry.text).filter(|text| text.len() <= LONGEST).collect();
    let (mut files, mut counts) = ([const { String::new() }; 4], (0, 0));
    for (n, entry) in entries.iter().enumerate() {
        let colon = entry.find(':').ok_or("an entry is a word, a colon and a definition")?;
        let (prompt, completion) = entry.split_at(colon + 1);
        let part = usize::from(n % HELD_OUT_EVERY == HELD_OUT_EVERY / 2);
        files[part] += &format!("{}\n", json!({ "prompt": prompt, "completion": completion }));
        files[2 + part] += &format!("{}\n", json!({ "text": entry }));
        counts = if part == 0 { (counts.0 + 1, counts.1) } else { (counts.0, counts.1 + 1) };
    }
    for (name, text) in ["pairs-train", "pairs-valid", "text-train", "text-valid"].iter().zip(&files) {
        let path = folder.join(format!("{name}.jsonl"));
        // A file that is written anew would be another corpus to runs that are there.
        if fs::read_to_string(&path).ok().as_ref() != Some(text) {
            fs::write(path, text)?;
        }
    }
    Ok(counts)
}

/// The model of a corpus, `pairs` or `text`.
fn trained(folder: &Path, corpus: &str, steps: u64) -> Fallible<Trained> {
    let preset = include_str!("../../../crates/submask-cli/presets/dictionary.toml");
    let mut settings: RunSettings = toml::from_str(preset)?;
    if let RunData::Text(data) = &mut settings.data {
        data.paths = vec![folder.join(format!("{corpus}-train.jsonl"))];
        data.valid_paths = vec![folder.join(format!("{corpus}-valid.jsonl"))];
        if corpus == "pairs" {
            data.prompt_field = "prompt".to_owned();
            data.completion_field = "completion".to_owned();
        }
    }
    if let Some(tokenizer) = &mut settings.tokenizer {
        tokenizer.vocab_size = VOCAB_SIZE;
    }
    if let NetworkConfig::Diffusion(sizes) = &mut settings.network {
        (sizes.hidden, sizes.heads, sizes.blocks, sizes.seq_len) = (HIDDEN, HEADS, BLOCKS, SEQ_LEN);
    }
    let train = &mut settings.train;
    (train.steps, train.validate_every, train.checkpoint_every) = (steps, steps, steps);
    (train.batch_size, train.accumulate) = (BATCH, 1);
    (train.final_sequences, train.final_draws, train.final_samples) = (1, 1, 0);
    let out = folder.join(format!("{corpus}-{steps}"));
    let seconds = train_once(&out, settings)?;
    Ok(Trained { session: Model::open(&out)?.session(&Compute::cpu())?, seconds })
}

/// `count` of the pairs, spread evenly; all where there are fewer.
fn spread(pairs: &[PairSequence], count: usize) -> Vec<PairSequence> {
    let count = count.min(pairs.len());
    (0..count).map(|i| pairs[i * pairs.len() / count].clone()).collect()
}

/// The bound of every completion and its end given its prompt, in nats. The network runs on the whole sequence, in which
/// ends of text are charged up to its length, or on the positions up to the first end alone.
fn scores(session: &Session, pairs: &[PairSequence], filled: bool) -> Fallible<Vec<f64>> {
    let predictive = session.architecture().predictive();
    let len = predictive.codes().subtoken_len();
    let settings = LikelihoodSettings {
        draws: DRAWS,
        schedule: session.architecture().schedule(),
        ..LikelihoodSettings::default()
    };
    let score = |(index, pair): (usize, &PairSequence)| -> Fallible<f64> {
        let length = if filled { pair.tokens.len() } else { pair.given + pair.counted as usize };
        let given: Vec<bool> = (0..length * len).map(|digit| digit / len < pair.given).collect();
        let sequences = Sequences::new(&pair.tokens[..length], length)?;
        let sequences = sequences.with_given(&given).starting_at(index as u64);
        Ok(nelbo_subtoken(session.denoiser()?, predictive, &sequences, &settings)?.nats()[0])
    };
    pairs.iter().enumerate().map(score).collect()
}

fn print_table(pairs: &[PairSequence], of_pairs: &Trained, of_text: &Trained) -> Fallible {
    println!(
        "| trained on | scored on | nats per token of completions (upper bound) | less than the first, paired | training, s |\n\
         |---|---|---|---|---|"
    );
    let (as_trained, alone) = ("sequences filled with ends of text", "the positions of the pair alone");
    let rows = [
        ("plain text", alone, of_text, false),
        ("pairs", as_trained, of_pairs, true),
        ("pairs", alone, of_pairs, false),
        ("plain text", as_trained, of_text, true),
    ];
    let sizes: Vec<u64> = pairs.iter().map(|pair| pair.counted).collect();
    let first = scores(&of_text.session, pairs, false)?;
    for (n, (corpus, sequences, trained, filled)) in rows.into_iter().enumerate() {
        let nats = if n == 0 { first.clone() } else { scores(&trained.session, pairs, filled)? };
        let less: Vec<f64> = first.iter().zip(&nats).map(|(first, nats)| first - nats).collect();
        let less = if n == 0 { "–".to_owned() } else { measured(Measured::ratio(&less, &sizes)?) };
        let value = measured(Measured::ratio(&nats, &sizes)?);
        println!("| {corpus} | {sequences} | {value} | {less} | {:.0} |", trained.seconds);
    }
    Ok(())
}

fn measured(Measured { value, standard_error, .. }: Measured) -> String {
    match standard_error {
        Some(error) => format!("{value:.3} ± {error:.3}"),
        None => format!("{value:.3}"),
    }
}
