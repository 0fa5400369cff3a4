//! Partial masking inside blocks, at equal compute: block lengths 1, 4, 16 and the whole sequence, ℓ = 1, 2 and 4, and the
//! autoregressive baseline, each with several seeds.
//!
//! `cargo run --release -p submask-experiments --bin blocks -- FOLDER [STEPS [SEEDS [bpe|characters]]]` trains and evaluates all
//! of them in FOLDER (what is there already is reused, so that it may be stopped at any time) and prints the tables of
//! `docs/experiments.md`.
//!
//! Equal compute is an equal number of positions that the network processes. A training pass of a model with blocks reads the
//! sequence twice, masked and clean, and so takes STEPS steps; the others take twice as many.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::{Value, json};
use submask::backbone::autoregressive::AutoregressiveConfig;
use submask::data::dictionary;
use submask::metrics::Corpus;
use submask::model::{Estimator, EvaluateRequest, HeldOut, NetworkConfig, Session};
use submask::objective::Objective;
use submask::order::Order;
use submask::sampler::RevealUnit;
use submask::train::settings::{RunData, RunSettings, TokenizerChoice};
use submask::{Compute, Model, Request, Unobserved};
use submask_experiments::{Fallible, held_out_text, train_once};

/// Width, attention heads and blocks of the networks, and tokens per sequence.
const HIDDEN: usize = 128;
const HEADS: usize = 4;
const LAYERS: usize = 2;
const SEQ_LEN: usize = 128;

/// Sequences per step.
const BATCH: usize = 4;

/// Held-out sequences of the bound, draws of each, and sequences of exact values.
const SEQUENCES: u64 = 256;
const DRAWS: usize = 8;
const EXACT_SEQUENCES: u64 = 64;

/// Sampled texts of a seed, and steps of the sampler per sequence.
const SAMPLES: usize = 32;
const STEPS: usize = 128;

/// Words in a row from the corpus that count as copied; not looked at here.
const COPIED: usize = 8;

/// What is trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Autoregressive,
    /// Tokens per block, and ℓ.
    Diffusion {
        block_len: usize,
        subtokens: usize,
    },
}

/// What an experiment is told.
struct Plan {
    folder: PathBuf,
    steps: u64,
    seeds: u64,
    characters: bool,
}

impl Kind {
    fn all() -> Vec<Self> {
        let blocks = [1, 4, 16, SEQ_LEN];
        let diffusion = blocks
            .into_iter()
            .flat_map(|block_len| [1, 2, 4].map(|subtokens| Self::Diffusion { block_len, subtokens }));
        std::iter::once(Self::Autoregressive).chain(diffusion).collect()
    }

    fn name(self) -> String {
        match self {
            Self::Autoregressive => "autoregressive".to_owned(),
            Self::Diffusion { block_len, subtokens } => format!("block{block_len}-l{subtokens}"),
        }
    }

    /// Whether a training pass reads the sequence twice.
    fn reads_twice(self) -> bool {
        matches!(self, Self::Diffusion { block_len, .. } if block_len < SEQ_LEN)
    }
}

fn main() -> Fallible {
    let mut args = std::env::args().skip(1);
    let plan = Plan {
        folder: PathBuf::from(args.next().ok_or("give a folder for the runs")?),
        steps: args.next().map_or(Ok(2500), |steps| steps.parse())?,
        seeds: args.next().map_or(Ok(3), |seeds| seeds.parse())?,
        characters: match args.next().as_deref() {
            None | Some("bpe") => false,
            Some("characters") => true,
            Some(other) => {
                return Err(format!("the fourth argument is bpe or characters, not {other:?}").into());
            }
        },
    };
    let kinds = Kind::all();
    // A seed of every kind before the next seed: what is there after a stop can be compared.
    let mut results = vec![Vec::new(); kinds.len()];
    for seed in 0..plan.seeds {
        for (kind, results) in kinds.iter().zip(&mut results) {
            results.push(plan.result(*kind, seed)?);
        }
    }
    plan.print(&kinds, &results)
}

impl Plan {
    /// What was measured of a kind and a seed; from its file where that is done.
    fn result(&self, kind: Kind, seed: u64) -> Fallible<Value> {
        let steps = if kind.reads_twice() { self.steps } else { 2 * self.steps };
        let corpus = if self.characters { "characters" } else { "bpe" };
        let out = self.folder.join(format!("{corpus}-{}-{steps}-seed{seed}", kind.name()));
        let file = out.join("result.json");
        if let Ok(text) = fs::read_to_string(&file) {
            return Ok(serde_json::from_str(&text)?);
        }
        let settings = self.settings(kind, seed, steps)?;
        let seconds = train_once(&out, settings.clone())?;
        let result = measure(kind, &out, &settings, seconds)?;
        let partial = out.join("result.json.partial");
        fs::write(&partial, serde_json::to_string_pretty(&result)?)?;
        fs::rename(&partial, &file)?;
        eprintln!("{}: {} bits per character, {seconds:.0} s", out.display(), result["bound"]);
        Ok(result)
    }

    fn settings(&self, kind: Kind, seed: u64, steps: u64) -> Fallible<RunSettings> {
        let preset = include_str!("../../../crates/submask-cli/presets/dictionary.toml");
        let mut settings: RunSettings = toml::from_str(preset)?;
        if let RunData::Text(data) = &mut settings.data {
            let corpus = if self.characters { "data-characters" } else { "data" };
            data.cache = self.folder.join(corpus);
            // What is held out follows from the seed: all seeds have the first one's.
            if seed > 0 {
                data.paths = vec![data.cache.clone()];
            }
        }
        if let (Some(tokenizer), true) = (&mut settings.tokenizer, self.characters) {
            tokenizer.kind = TokenizerChoice::Bytes;
        }
        settings.network = network(kind, &settings.network);
        if let Kind::Diffusion { subtokens, .. } = kind {
            settings.codes.subtokens = subtokens;
        } else {
            settings.codes.subtokens = 1;
        }
        let train = &mut settings.train;
        (train.seed, train.steps, train.validate_every, train.checkpoint_every) = (seed, steps, steps, steps);
        (train.batch_size, train.accumulate) = (BATCH, 1);
        // The bound is of sub-tokens: this objective is that bound.
        train.objective = Objective::Marginal;
        (train.final_sequences, train.final_draws, train.final_samples) = (1, 1, 0);
        Ok(settings)
    }

    /// Both tables.
    fn print(&self, kinds: &[Kind], results: &[Vec<Value>]) -> Fallible {
        println!(
            "{} steps with blocks and {} without, of {BATCH} × {SEQ_LEN} tokens; d = {HIDDEN}, {LAYERS} layers, {HEADS} heads; \
             {} seeds; bounds of {SEQUENCES} sequences with {DRAWS} draws, exact values of {EXACT_SEQUENCES}. Errors of the first \
             table are over seeds and sequences, those of the second over seeds. Samples of {SEQ_LEN} tokens in {STEPS} steps \
             per sequence: with blocks of one token a step reveals a whole token, so ℓ changes nothing there.\n",
            self.steps,
            2 * self.steps,
            self.seeds,
        );
        println!(
            "| block length | ℓ | bits per character | what it is | against ℓ = 1, same blocks | against one block, ℓ = 1 | \
             against autoregression | training, s | evaluations per sample | seconds per sample | known words |\n\
             |---|---|---|---|---|---|---|---|---|---|---|"
        );
        let find = |wanted: Kind| kinds.iter().position(|kind| *kind == wanted).map(|place| &results[place]);
        let diffusion = |block_len, subtokens| find(Kind::Diffusion { block_len, subtokens });
        for (kind, results) in kinds.iter().zip(results) {
            let (block, len, what) = match kind {
                Kind::Autoregressive => ("–".to_owned(), "–".to_owned(), "exact"),
                Kind::Diffusion { block_len, subtokens } => {
                    (block_name(*block_len), subtokens.to_string(), "upper bound")
                }
            };
            let same = match kind {
                Kind::Diffusion { block_len, subtokens } if *subtokens > 1 => diffusion(*block_len, 1),
                _ => None,
            };
            let ordinary = diffusion(SEQ_LEN, 1)
                .filter(|_| *kind != Kind::Diffusion { block_len: SEQ_LEN, subtokens: 1 });
            let baseline = find(Kind::Autoregressive).filter(|_| *kind != Kind::Autoregressive);
            let against = |other: Option<&Vec<Value>>| {
                other.map_or("–".to_owned(), |other| difference(results, other))
            };
            println!(
                "| {block} | {len} | {} | {what} | {} | {} | {} | {:.0} | {:.0} | {:.3} | {:.1} % |",
                bits_per_character(&results.iter().map(nats).collect::<Vec<_>>(), results),
                against(same),
                against(ordinary),
                against(baseline),
                mean_of(results, "seconds"),
                mean_of(results, "evaluations"),
                mean_of(results, "sample_seconds"),
                100.0 * mean_of(results, "known_words"),
            );
        }
        println!(
            "\n| block length | ℓ | left to right by tokens, exact | confidence by tokens, exact | bound of the same sequences |\n\
             |---|---|---|---|---|"
        );
        for (kind, results) in kinds.iter().zip(results) {
            let Kind::Diffusion { block_len, subtokens } = kind else { continue };
            let exact = |key: &str| {
                over_seeds(
                    &results
                        .iter()
                        .map(|result| result[key].as_f64().unwrap_or(f64::NAN))
                        .collect::<Vec<_>>(),
                    None,
                )
            };
            let [left, confidence, bound] = ["left_to_right", "confidence", "bound_of_exact"].map(exact);
            let block = block_name(*block_len);
            println!("| {block} | {subtokens} | {left} | {confidence} | {bound} |");
        }
        Ok(())
    }
}

/// A block length in a table.
fn block_name(block_len: usize) -> String {
    if block_len == SEQ_LEN { "L".to_owned() } else { block_len.to_string() }
}

/// The network of a kind, with the dropout of the preset's.
fn network(kind: Kind, preset: &NetworkConfig) -> NetworkConfig {
    match (kind, preset) {
        (Kind::Diffusion { block_len, .. }, NetworkConfig::Diffusion(sizes)) => {
            let mut sizes = sizes.clone();
            (sizes.hidden, sizes.heads, sizes.blocks, sizes.seq_len) = (HIDDEN, HEADS, LAYERS, SEQ_LEN);
            sizes.block_len = if block_len == SEQ_LEN { 0 } else { block_len };
            NetworkConfig::Diffusion(sizes)
        }
        _ => NetworkConfig::Autoregressive(AutoregressiveConfig {
            hidden: HIDDEN,
            heads: HEADS,
            blocks: LAYERS,
            seq_len: SEQ_LEN,
            dropout: preset.dropout(),
        }),
    }
}

/// What is said of a trained model: its bound with the nats of every sequence, exact values, samples.
fn measure(kind: Kind, out: &Path, settings: &RunSettings, seconds: f64) -> Fallible<Value> {
    let model = Model::open(out)?;
    let held_out = held_out_text(out, settings, &model, SEQUENCES)?;
    let few = held_out_text(out, settings, &model, EXACT_SEQUENCES)?;
    let session = model.session(&Compute::cpu())?;
    let (bound, nats) = evaluated(&session, session.usual_estimator(), &held_out)?;
    let mut result = json!({
        "seconds": seconds,
        "bound": bound,
        "nats": nats,
        "characters": held_out.characters.iter().sum::<u64>(),
    });
    if let Kind::Diffusion { .. } = kind {
        for (key, order) in [("left_to_right", Order::LeftToRight), ("confidence", Order::Confidence)] {
            let exact = Estimator::Exact { order, unit: RevealUnit::Tokens, per_step: 1 };
            result[key] = evaluated(&session, exact, &few)?.0.into();
        }
        result["bound_of_exact"] = evaluated(&session, session.usual_estimator(), &few)?.0.into();
    }
    let started = Instant::now();
    let mut request = Request { num: SAMPLES, seed: settings.train.seed, ..session.request() };
    request.sampling.steps = match kind {
        Kind::Diffusion { block_len, .. } => STEPS * block_len / SEQ_LEN,
        Kind::Autoregressive => STEPS,
    };
    let generated = session.generate(&request, &mut Unobserved)?;
    let corpus = Corpus::new(dictionary()?.map(|document| document.text), COPIED);
    let words = generated.texts.iter().map(|text| corpus.known_words(text));
    let (known, all) = words.fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
    result["sample_seconds"] = (started.elapsed().as_secs_f64() / SAMPLES as f64).into();
    result["evaluations"] = (generated.report.evaluations as f64 / SAMPLES as f64).into();
    result["known_words"] = (known as f64 / all.max(1) as f64).into();
    Ok(result)
}

/// Bits per character, and the nats of every sequence.
fn evaluated(session: &Session, estimator: Estimator, held_out: &HeldOut) -> Fallible<(f64, Vec<f64>)> {
    let request = EvaluateRequest { draws: DRAWS, ..EvaluateRequest::new(estimator) };
    let evaluation = session.evaluation(&request, held_out)?;
    let figure = evaluation.figures.iter().find(|figure| figure.unit == "bits per character");
    let bits = figure.ok_or("a figure of bits per character")?.value;
    Ok((bits, evaluation.sequences.iter().map(|value| value.nats).collect()))
}

/// Mean over seeds with its standard error; `sequences` is a further error, independent of that.
fn over_seeds(values: &[f64], sequences: Option<f64>) -> String {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    if values.len() < 2 {
        return format!("{mean:.3}");
    }
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (n - 1.0) / n;
    let error = (variance + sequences.unwrap_or(0.0).powi(2)).sqrt();
    format!("{mean:.3} ± {error:.3}")
}

/// The nats of every sequence.
fn nats(result: &Value) -> Vec<f64> {
    result["nats"].as_array().into_iter().flatten().filter_map(Value::as_f64).collect()
}

/// Bits per character, from the nats of every sequence by seed, with their error over seeds and over sequences.
fn bits_per_character(by_seed: &[Vec<f64>], results: &[Value]) -> String {
    let characters = results[0]["characters"].as_f64().unwrap_or(f64::NAN);
    let per_bit = characters * std::f64::consts::LN_2;
    let totals: Vec<f64> = by_seed.iter().map(|nats| nats.iter().sum::<f64>() / per_bit).collect();
    // The error over sequences, of the means over seeds.
    let n = by_seed[0].len();
    let means: Vec<f64> =
        (0..n).map(|s| by_seed.iter().map(|nats| nats[s]).sum::<f64>() / by_seed.len() as f64).collect();
    let mean = means.iter().sum::<f64>() / n as f64;
    let variance = means.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (n as f64 - 1.0);
    let error = (variance * n as f64).sqrt() / per_bit;
    over_seeds(&totals, Some(error))
}

/// The difference of two models in bits per character, by seed and by sequence.
fn difference(ours: &[Value], others: &[Value]) -> String {
    let pairs: Vec<Vec<f64>> = ours
        .iter()
        .zip(others)
        .map(|(a, b)| nats(a).iter().zip(nats(b)).map(|(a, b)| a - b).collect())
        .collect();
    let text = bits_per_character(&pairs, ours);
    if text.starts_with('-') { text.replacen('-', "−", 1) } else { format!("+{text}") }
}

fn mean_of(results: &[Value], key: &str) -> f64 {
    results.iter().filter_map(|result| result[key].as_f64()).sum::<f64>() / results.len() as f64
}
