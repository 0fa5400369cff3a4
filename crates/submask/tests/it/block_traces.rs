//! The sampler of BD3-LM as its trace has it, replayed by the pieces of the library, and its stopping rule.

use std::path::Path;

use submask::Compute;
use submask::denoiser::{BlockDenoiser, Kept, States};
use submask::import::{Foreign, ImportOptions, import};
use submask::predictive::{Nucleus, Predictive, Sharpening, TokenDistribution};
use submask::sampler::EntropyRule;
use submask::subtoken::SubTokenizer;
use submask::{Model, Session};

use crate::fixtures::{Case, assert_close, cases};

/// Relative to the largest magnitude, of what the network computes in single precision.
const TOLERANCE: f64 = 1e-5;

/// The stopping rule as it is published: 4 nats of 256 tokens.
const PUBLISHED: EntropyRule = EntropyRule { window: 256, least: 4.0 };

/// The cases that have a trace.
fn sampling_cases() -> Vec<Case> {
    let mut cases = cases("block_");
    cases.retain(|case| case.name.ends_with("_sampling"));
    cases
}

fn session(case: &Case) -> Session {
    let options = ImportOptions {
        heads: Some(case.integer("heads")),
        seq_len: Some(case.integer("length")),
        block_len: Some(case.integer("block_size")),
        ..ImportOptions::default()
    };
    let file: &Path = &case.dir.join("weights.safetensors");
    let imported = import(&Foreign::open(file).unwrap(), &options).unwrap();
    let room = tempfile::tempdir().unwrap();
    let folder = room.path().join("model");
    imported.save(&folder).unwrap();
    Model::open(&folder).unwrap().session(&Compute::cpu()).unwrap()
}

/// The nucleus of the case: the crossing token is left out.
fn sharpening(case: &Case) -> Sharpening {
    Sharpening { top_p: case.number("nucleus_p"), nucleus: Nucleus::Exclusive, ..Sharpening::default() }
}

/// The columns of a trace, one row per step.
struct Trace {
    u: Vec<f64>,
    t: Vec<f64>,
    ordinal: Vec<usize>,
    position: Vec<usize>,
    token: Vec<u32>,
    /// \[step\]\[class\], the last class being the mask.
    prob: Vec<Vec<f64>>,
    prob_nucleus: Vec<Vec<f64>>,
    uniform: Vec<Vec<f64>>,
}

impl Trace {
    fn of(case: &Case) -> Self {
        let column = |name: &str| case.tensor_f64("vectors", name).1;
        let rows = |name: &str| {
            let (shape, values) = case.tensor_f64("vectors", name);
            assert_eq!(shape, [case.integer("trace_steps"), case.integer("network_classes")]);
            values.chunks(shape[1]).map(<[f64]>::to_vec).collect()
        };
        let places = |name: &str| case.ids("vectors", name).into_iter().map(|x| x as usize).collect();
        Self {
            u: column("trace_u"),
            t: column("trace_t"),
            ordinal: places("trace_ordinal"),
            position: places("trace_position"),
            token: case.ids("vectors", "trace_token"),
            prob: rows("trace_prob"),
            prob_nucleus: rows("trace_prob_nucleus"),
            uniform: rows("trace_uniform"),
        }
    }
}

/// The nucleus alone: from the probabilities of the trace, which are those of logarithms in single precision.
#[test]
fn the_exclusive_nucleus_is_that_of_the_reference() {
    for case in sampling_cases() {
        let trace = Trace::of(&case);
        let classes = case.integer("vocab_size");
        let predictive = Predictive::new(SubTokenizer::new(classes, 1).unwrap(), true);
        let (mut dropped, mut differ) = (0, 0);
        for (prob, expected) in trace.prob.iter().zip(&trace.prob_nucleus) {
            let logits: Vec<f32> = prob[..classes].iter().map(|p| p.ln() as f32).collect();
            let p = predictive.distribution(&logits, &[case.integer("mask_id") as u32]);
            let ours = p.clone().truncate(&sharpening(&case)).probabilities();
            assert_close(&case.name, &ours, &expected[..classes], 1e-9);
            let inclusive = Sharpening { nucleus: Nucleus::Inclusive, ..sharpening(&case) };
            let kept = |p: &[f64]| p.iter().filter(|p| **p > 0.0).count();
            dropped += classes - kept(&ours);
            differ += kept(&p.truncate(&inclusive).probabilities()) - kept(&ours);
        }
        // Both nuclei keep one token or differ by the one that crosses p.
        assert!(dropped > 0 && differ > 0 && differ <= trace.prob.len(), "{}", case.name);
    }
}

/// A block on its way.
struct Block<'a> {
    network: &'a dyn BlockDenoiser,
    predictive: &'a Predictive,
    kept: Option<&'a Kept>,
    /// Where it begins in the sequence.
    first: usize,
    tokens: Vec<u32>,
}

impl Block<'_> {
    fn masked(&self, mask: u32) -> Vec<usize> {
        (0..self.tokens.len()).filter(|i| self.tokens[*i] == mask).collect()
    }

    /// p(x_0 | y_t) of the token at place `i` of the block.
    fn predict(&self, i: usize) -> TokenDistribution<'_> {
        let mut row = Vec::new();
        let states = States { y_t: &self.tokens, t: &[0.5], labels: None };
        self.network
            .evaluate_after(self.kept, self.first, &states, &[i], &mut |_, logits| {
                row.extend_from_slice(logits);
                Ok(())
            })
            .unwrap();
        self.predictive.distribution(&row, &self.tokens[i..=i])
    }
}

/// The reference draws by Gumbel's maximum, which is computed here from the library's probabilities.
fn argmax(p: &[f64], uniforms: &[f64]) -> u32 {
    let scored = p.iter().zip(uniforms).map(|(p, u)| p / (1e-10 - (u + 1e-10).ln()));
    let best =
        scored.enumerate().fold(
            (0, f64::NEG_INFINITY),
            |best, (token, score)| {
                if score > best.1 { (token, score) } else { best }
            },
        );
    best.0 as u32
}

#[test]
fn the_first_hitting_trace_of_the_reference_comes_out_token_by_token() {
    for case in sampling_cases() {
        let (trace, session) = (Trace::of(&case), session(&case));
        let network = session.denoiser().unwrap();
        let predictive = session.architecture().predictive();
        let (mask, block_len) = (network.spec().base, case.integer("block_size"));
        let (mut sample, mut kept, mut step) = (Vec::new(), None::<Kept>, 0);
        while sample.len() < case.integer("length") {
            let mut tokens = vec![mask; block_len];
            if sample.is_empty() {
                tokens[0] = case.integer("bos_token") as u32;
            }
            let network = network.by_blocks().unwrap();
            let mut block = Block { network, predictive, kept: kept.as_ref(), first: sample.len(), tokens };
            let mut t = 1.0;
            loop {
                let masked = block.masked(mask);
                let Some(&place) = masked.get(trace.ordinal.get(step).copied().unwrap_or(0)) else { break };
                let what = format!("{} step {step}", case.name);
                t *= trace.u[step].powf(1.0 / masked.len() as f64);
                // The reference computes the time in single precision.
                assert_close(&what, &[t], &[trace.t[step]], 1e-6);
                assert_eq!(block.first + place, trace.position[step], "{what}");
                let p = block.predict(place);
                assert_close(
                    &what,
                    &p.probabilities(),
                    &trace.prob[step][..predictive.codes().vocab_size()],
                    TOLERANCE,
                );
                let p = p.truncate(&sharpening(&case)).probabilities();
                assert_close(&what, &p, &trace.prob_nucleus[step][..p.len()], TOLERANCE);
                let token = argmax(&p, &trace.uniform[step]);
                assert_eq!(token, trace.token[step], "{what}");
                block.tokens[place] = token;
                step += 1;
            }
            let tokens = block.tokens;
            kept = Some(network.keep(&tokens, 1, kept.as_ref()).unwrap());
            sample.extend(tokens);
        }
        assert_eq!(step, case.integer("trace_steps"), "{}", case.name);
        assert_eq!(sample, case.ids("vectors", "trace_sample"), "{}", case.name);
    }
}

#[test]
fn the_stopping_rule_is_that_of_the_reference() {
    for case in sampling_cases() {
        let end = case.integer("stop_end_of_text") as u32;
        let stops = case.json["stops"].as_array().unwrap();
        assert!(!stops.is_empty(), "{}", case.name);
        for stop in stops {
            let what =
                format!("{}: {} (variable length {})", case.name, stop["name"], stop["variable_length"]);
            let tokens: Vec<u32> = stop["tokens"]
                .as_array()
                .unwrap()
                .iter()
                .map(|token| token.as_u64().unwrap() as u32)
                .collect();
            let entropy = stop["entropy_of_last_256"].as_f64().unwrap();
            assert_close(&what, &[PUBLISHED.entropy(&tokens)], &[entropy], 1e-6);
            let (stopped, kept) = (stop["stop"].as_bool().unwrap(), stop["kept"].as_u64().unwrap() as usize);
            if stop["variable_length"].as_bool().unwrap() {
                let ours = PUBLISHED.kept(&tokens, Some(end));
                assert_eq!((ours.is_some(), ours.unwrap_or(tokens.len())), (stopped, kept), "{what}");
            } else {
                // What is thrown away is not cut.
                assert_eq!((PUBLISHED.stops(&tokens), tokens.len()), (stopped, kept), "{what}");
            }
        }
    }
}
