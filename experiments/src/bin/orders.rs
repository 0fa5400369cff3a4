//! Orders of revealing on the quick start's model: likelihoods by order, and samples by order and evaluations spent.
//!
//! `cargo run --release -p submask-experiments --bin orders -- RUN [SEQUENCES [DRAWS [SAMPLES]]]`, RUN being the folder of
//! `submask train`, prints the tables of `docs/experiments.md`, a row as soon as it is there.

use std::path::PathBuf;
use std::time::Instant;

use submask::data::dictionary;
use submask::likelihood::{Estimate, Kind, LikelihoodSettings, Meaning, Measured, Sequences};
use submask::likelihood::{bound_k, exact_in_order, nelbo_subtoken, nelbo_token};
use submask::metrics::Corpus;
use submask::model::{HeldOut, Session};
use submask::order::Order;
use submask::schedule::RevealUnit;
use submask::train::SETTINGS_FILE;
use submask::train::settings::RunSettings;
use submask::{Compute, Model, Request, Unobserved};
use submask_experiments::{Fallible, held_out_text};

/// Sequences whose likelihood is estimated; orders that a bound mixes; samples per row.
const SEQUENCES: u64 = 64;
const DRAWS: usize = 8;
const SAMPLES: usize = 64;

/// Draws per sequence of the usual bounds, which take one evaluation per draw.
const NELBO_DRAWS: usize = 64;

/// Network evaluations that a sample of 128 tokens takes in an order.
const EVALUATIONS: [usize; 3] = [128, 64, 32];

const UNITS: [RevealUnit; 2] = [RevealUnit::Digits, RevealUnit::Tokens];

fn main() -> Fallible {
    let mut args = std::env::args().skip(1);
    let run = PathBuf::from(args.next().ok_or("give the folder of a run")?);
    let count = args.next().map_or(Ok(SEQUENCES), |count| count.parse())?;
    let draws = args.next().map_or(Ok(DRAWS), |draws| draws.parse())?;
    let samples = args.next().map_or(Ok(SAMPLES), |samples| samples.parse())?;
    let settings = RunSettings::read(&run.join(SETTINGS_FILE))?;
    let model = Model::open(&run)?;
    let held_out = held_out_text(&run, &settings, &model, count)?;
    let session = model.session(&Compute::cpu())?;
    likelihoods(&session, &held_out, draws)?;
    generated(&session, samples)
}

/// A likelihood of every sequence.
struct Values {
    nats: Vec<f64>,
    evaluations: u64,
    kind: Kind,
}

impl<K: Meaning> From<Estimate<K>> for Values {
    fn from(estimate: Estimate<K>) -> Self {
        Self { nats: estimate.nats().to_vec(), evaluations: estimate.evaluations(), kind: estimate.kind() }
    }
}

fn likelihoods(session: &Session, held_out: &HeldOut, draws: usize) -> Fallible {
    println!("{} sequences of {} tokens.\n", held_out.len(), held_out.seq_len);
    println!(
        "| order | unit | per step | bits per character | what it is | less the first row, paired | evaluations per \
         sequence | s per sequence |\n|---|---|---|---|---|---|---|---|"
    );
    let mut first = None;
    let mut row =
        |order: String, unit, per_step, estimate: &dyn Fn() -> submask::Result<Values>| -> Fallible {
            let started = Instant::now();
            let values = estimate()?;
            let seconds = started.elapsed().as_secs_f64() / held_out.len() as f64;
            let first = first.get_or_insert_with(|| values.nats.clone());
            let paired: Vec<f64> = values.nats.iter().zip(first).map(|(nats, first)| nats - *first).collect();
            let kind = match values.kind {
                Kind::Exact => "exact",
                Kind::UpperBound => "upper bound",
                Kind::Surrogate => "surrogate",
            };
            println!(
                "| {order} | {} | {per_step} | {} | {kind} | {} | {} | {seconds:.2} |",
                name(unit),
                bits(&values.nats, held_out)?,
                bits(&paired, held_out)?,
                values.evaluations / held_out.len() as u64,
            );
            Ok(())
        };

    let network = session.denoiser()?;
    let architecture = session.architecture();
    let predictive = architecture.predictive();
    let sequences = Sequences::new(&held_out.x_0, held_out.seq_len)?;
    let settings =
        |draws| LikelihoodSettings { draws, seed: 0, batch: 16, schedule: architecture.schedule() };
    let (nelbo, mixed) = (settings(NELBO_DRAWS), settings(draws));
    row("random".to_owned(), RevealUnit::Digits, 1, &|| {
        nelbo_subtoken(network, predictive, &sequences, &nelbo).map(Values::from)
    })?;
    row("random".to_owned(), RevealUnit::Tokens, 1, &|| {
        nelbo_token(network, predictive, &sequences, &nelbo).map(Values::from)
    })?;
    for unit in UNITS {
        row(format!("random, K = {draws}"), unit, 1, &|| {
            bound_k(network, predictive, &sequences, unit, &mixed).map(Values::from)
        })?;
    }
    for (unit, per_step) in [(RevealUnit::Digits, 1), (RevealUnit::Tokens, 1), (RevealUnit::Tokens, 2)] {
        for order in Order::ALL.into_iter().filter(|order| *order != Order::Random) {
            row(order.to_string(), unit, per_step, &|| {
                exact_in_order(network, predictive, &sequences, order, unit, per_step, &mixed)
                    .map(Values::from)
            })?;
        }
    }
    Ok(())
}

/// Nats of sequences in bits per character.
fn bits(nats: &[f64], held_out: &HeldOut) -> Fallible<String> {
    let bits: Vec<f64> = nats.iter().map(|nats| nats / std::f64::consts::LN_2).collect();
    Ok(shown(Measured::ratio(&bits, &held_out.characters)?))
}

fn generated(session: &Session, samples: usize) -> Fallible {
    let tokens = session.architecture().config().seq_len();
    let digits = tokens * session.architecture().predictive().codes().subtoken_len();
    let corpus = Corpus::new(dictionary()?.map(|document| document.text), 8);
    let sampling = &session.architecture().config().sample;
    let (temperature, top_p) = (sampling.temperature.schedule().at(0.0), sampling.top_p);
    println!("\n{samples} samples of {tokens} tokens, temperature {temperature}, nucleus {top_p}.\n");
    println!(
        "| order | unit | evaluations per sample | share of known words | words | entries with eight words in a row from \
         the corpus |\n|---|---|---|---|---|---|"
    );
    for evaluations in EVALUATIONS {
        for unit in UNITS {
            for order in Order::ALL {
                let mut request = Request { num: samples, unit, order, ..session.request() };
                (request.sampling.steps, request.per_step) = match (order, unit) {
                    (Order::Random, _) => (evaluations, 1),
                    (_, RevealUnit::Digits) => (0, digits.div_ceil(evaluations)),
                    (_, RevealUnit::Tokens) => (0, tokens.div_ceil(evaluations)),
                };
                let generated = session.generate(&request, &mut Unobserved)?;
                let words: Vec<(usize, usize)> =
                    generated.texts.iter().map(|text| corpus.known_words(text)).collect();
                let known: Vec<f64> = words.iter().map(|(known, _)| *known as f64).collect();
                let all: Vec<u64> = words.iter().map(|(_, all)| *all as u64).collect();
                println!(
                    "| {order} | {} | {:.1} | {} | {} | {} |",
                    name(unit),
                    generated.report.evaluations as f64 / samples as f64,
                    shown(Measured::ratio(&known, &all)?),
                    all.iter().sum::<u64>(),
                    generated.texts.iter().filter(|text| corpus.has_copied_run(text)).count(),
                );
            }
        }
    }
    Ok(())
}

fn name(unit: RevealUnit) -> &'static str {
    match unit {
        RevealUnit::Digits => "sub-token",
        RevealUnit::Tokens => "token",
    }
}

fn shown(measured: Measured) -> String {
    let error = measured.standard_error.map_or(String::new(), |error| format!(" ± {error:.3}"));
    format!("{:.3}{error}", measured.value)
}
