//! Sequences of all kinds in one stream: each is what it is alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use submask::Error;
use submask::denoiser::{Denoiser, Spec};
use submask::predictive::{Predictive, Sharpening};
use submask::sampler::{
    Draw, Event, FinishedSequence, Order, Progress, Prompt, Recipe, Recorder, RevealUnit, SampleSettings,
    Sampler, SequenceRequest, Steps, Stream, Trajectory, WithDigits,
};
use submask::schedule::Schedule;
use submask::subtoken::SubTokenizer;

use crate::table_network::HashNetwork;

const LENGTHS: [usize; 12] = [3, 7, 1, 7, 4, 5, 7, 2, 6, 3, 7, 5];
/// Rounds that are over when each sequence is added.
const ADDED: [usize; 12] = [0, 0, 0, 1, 1, 2, 4, 4, 4, 7, 11, 40];

/// A network over 11 tokens, with codes that no token has; it reads the time and three classes.
fn network() -> HashNetwork {
    let codes = SubTokenizer::new(11, 3).unwrap().with_seeded_permutation(5).unwrap();
    let network = HashNetwork::new(codes, 7, 3);
    HashNetwork { spec: Spec { reads_time: true, classes: Some(3), ..network.spec }, ..network }
}

/// Settings that differ in everything that a sequence can be told.
fn settings(s: usize) -> SampleSettings {
    let default = SampleSettings::default;
    let grid = |steps| SampleSettings { steps: Steps::Grid(steps), ..default() };
    let settings = match s {
        0 => grid(5),
        1 => SampleSettings { unit: RevealUnit::Tokens, ..grid(9) },
        2 => SampleSettings { steps: Steps::Times(vec![0.9, 0.4, 0.1]), ..default() },
        3 => SampleSettings { corrector: Some([4.0, 0.5, 0.0].into()), ..grid(6) },
        4 => SampleSettings { draw: Draw::Marginal, ..grid(3) },
        5 => SampleSettings { sharpening: Sharpening { top_p: 0.7, ..Sharpening::default() }, ..default() },
        6 => SampleSettings { schedule: Schedule::Cosine, ..default() },
        7 => SampleSettings {
            draw: Draw::Marginal,
            corrector: Some([1.0, 1.0, 0.0].into()),
            schedule: Schedule::Polynomial { exponent: 3.0 },
            ..grid(11)
        },
        8 => SampleSettings { temperature_schedule: Some([-0.5, 1.0, 1.0].into()), ..grid(4) },
        9 => SampleSettings { unit: RevealUnit::Tokens, ..default() },
        10 => SampleSettings {
            sharpening: Sharpening { temperature: 0.5, top_k: Some(3), ..Sharpening::default() },
            ..grid(20)
        },
        _ => default(),
    };
    SampleSettings { seed: s as u64 % 4, ..settings }
}

/// Empty sequences and such with holes, of some class or of none.
fn request<'a>(predictive: &'a Predictive, s: usize) -> SequenceRequest<'a> {
    let x_0: Vec<u32> = (0..LENGTHS[s]).map(|i| ((3 * s + 5 * i) % 11) as u32).collect();
    let given = |i: usize, j: usize| s % 3 == 1 && (i + j).is_multiple_of(2);
    let prompt = Prompt::keeping(predictive, &x_0, given).unwrap();
    SequenceRequest {
        prompt: prompt.with_label((!s.is_multiple_of(4)).then_some(s % 3)),
        recipe: Arc::new(Recipe::new(predictive, &settings(s)).unwrap()),
        number: 100 - s as u64,
    }
}

/// A sequence that nobody joins.
fn alone(network: &dyn Denoiser, request: SequenceRequest) -> (FinishedSequence, Trajectory) {
    let mut nobody = |_: &Event| Ok(());
    let mut recorder = Recorder::new(&mut nobody);
    let mut stream = Stream::new(network, 1).unwrap();
    assert_eq!(stream.add(request).unwrap(), 0);
    let mut finished = Vec::new();
    while !stream.is_empty() {
        finished.extend(stream.round(&mut recorder).unwrap());
    }
    (finished.pop().unwrap(), recorder.take(0).unwrap())
}

#[test]
fn sequences_of_a_stream_are_what_they_are_alone() {
    let network = network();
    for carry_over in [true, false] {
        let predictive = Predictive::new(network.codes.clone(), carry_over);
        let other = Predictive::new(network.codes.clone(), !carry_over);
        for batch in [1, 5, 100] {
            let mut nobody = |_: &Event| Ok(());
            let mut recorder = Recorder::new(&mut nobody);
            let mut stream = Stream::new(&network, batch).unwrap();
            let mut finished = BTreeMap::new();
            let (mut rounds, mut added) = (0, 0);
            while added < LENGTHS.len() || !stream.is_empty() {
                while added < LENGTHS.len() && ADDED[added] <= rounds {
                    // Sequences with the constraint of another recipe stand beside each other.
                    let predictive = if added == 4 { &other } else { &predictive };
                    assert_eq!(stream.add(request(predictive, added)).unwrap(), added);
                    added += 1;
                }
                let done = stream.round(&mut recorder).unwrap();
                finished.extend(done.into_iter().map(|sequence| (sequence.sequence, sequence)));
                assert_eq!(stream.len(), added - finished.len());
                rounds += 1;
            }
            for s in 0..LENGTHS.len() {
                let predictive = if s == 4 { &other } else { &predictive };
                let (expected, trajectory) = alone(&network, request(predictive, s));
                let found = FinishedSequence { sequence: 0, ..finished[&s].clone() };
                assert_eq!(found, expected, "sequence {s}, batch {batch}");
                assert_eq!(found.tokens.len(), LENGTHS[s]);
                assert_eq!(recorder.take(s), Some(trajectory), "sequence {s}, batch {batch}");
            }
        }
    }
}

#[test]
fn a_text_written_from_left_to_right_stops_at_its_end_and_every_text_by_itself() {
    let network = network();
    let predictive = Predictive::new(network.codes.clone(), true);
    let end = 4;
    let recipe = |order, unit, per_step, end| {
        let settings = SampleSettings { order, unit, per_step, seed: 3, ..SampleSettings::default() };
        Arc::new(Recipe::new(&predictive, &settings).unwrap().ending_at(end))
    };
    // Nothing given, a beginning given, ends at the beginning, and something given behind a hole.
    let prompts: [&[Option<u32>]; 4] = [
        &[None; 7],
        &[Some(end), Some(2), None, None, None, None],
        &[Some(end), Some(end), None, None, None, None, None],
        &[Some(end), None, None, Some(7), None, None, None],
    ];
    let givens = [0, 2, 2, 4];
    let sample = |recipe: &Arc<Recipe>, batch| {
        let mut stream = Stream::new(&network, batch).unwrap();
        for number in 0..80 {
            let prompt = Prompt::from_tokens(&predictive, prompts[number % 4]).unwrap();
            let (recipe, number) = (Arc::clone(recipe), number as u64);
            stream.add(SequenceRequest { prompt: prompt.with_label(Some(1)), recipe, number }).unwrap();
        }
        let mut finished = Vec::new();
        let mut last = Progress::default();
        while !stream.is_empty() {
            let mut observer = |event: &Event| {
                if let Event::Progress(progress) = event {
                    last = *progress;
                }
                Ok(())
            };
            finished.extend(stream.round(&mut observer).unwrap());
        }
        finished.sort_by_key(|one: &FinishedSequence| one.sequence);
        let digits: u64 = finished.iter().map(|one| one.report.digits).sum();
        assert_eq!(last.digits as u64, digits, "what is left out is not waited for");
        finished
    };
    for (unit, per_step) in [(RevealUnit::Digits, 1), (RevealUnit::Digits, 4), (RevealUnit::Tokens, 2)] {
        let recipe = |order, end| recipe(order, unit, per_step, end);
        let whole = sample(&recipe(Order::LeftToRight, None), 5);
        let ended = sample(&recipe(Order::LeftToRight, Some(end)), 5);
        assert_eq!(ended, sample(&recipe(Order::LeftToRight, Some(end)), 1), "batches change nothing");
        let mut early = 0;
        for (whole, ended) in whole.iter().zip(&ended) {
            let begun = whole.tokens.iter().take_while(|token| **token == end).count();
            let given = givens[whole.sequence % 4].max(begun);
            let place = whole.tokens[given..].iter().position(|token| *token == end);
            let tokens = place.map_or(whole.tokens.len(), |place| given + place + 1);
            assert_eq!(ended.tokens, whole.tokens[..tokens], "the same up to the end");
            let (cost, full) = (ended.report, whole.report);
            if tokens == whole.tokens.len() {
                assert_eq!(cost, full);
                continue;
            }
            early += 1;
            let masked: usize =
                prompts[whole.sequence % 4][..tokens].iter().filter(|token| token.is_none()).count();
            let units = if unit == RevealUnit::Digits { 3 * masked } else { masked };
            assert_eq!(cost.evaluations, units.div_ceil(per_step) as u64);
            assert_eq!((cost.steps_total, cost.steps_skipped), (cost.evaluations, 0));
            // What an evaluation reveals behind the end is counted, too.
            assert!(cost.digits <= full.digits && cost.digits >= 3 * masked as u64);
        }
        assert!(early >= 10, "{early} of 80 end early");
        for order in [Order::Random, Order::Confidence] {
            if order == Order::Random && per_step > 1 {
                continue;
            }
            assert_eq!(sample(&recipe(order, None), 5), sample(&recipe(order, Some(end)), 5), "{order}");
        }
    }
}

#[test]
fn a_sampler_gives_what_a_stream_gives() {
    let network = network();
    let predictive = Predictive::new(network.codes.clone(), true);
    for s in 0..LENGTHS.len() {
        let request = request(&predictive, s);
        let settings = SampleSettings { first_sequence: request.number, trajectories: true, ..settings(s) };
        let sampler = Sampler::new(&network, &predictive, settings).unwrap();
        let samples = sampler.sample(std::slice::from_ref(&request.prompt)).unwrap();
        let (sequence, trajectory) = alone(&network, request);
        assert_eq!((samples.tokens, samples.reports), (sequence.tokens, vec![sequence.report]));
        assert_eq!(samples.trajectories, [trajectory]);
    }
}

/// From what is told as it happens, the state after every evaluation and the samples can be put together.
#[test]
fn events_tell_the_whole_story_in_order() {
    let network = network();
    let predictive = Predictive::new(network.codes.clone(), true);
    let whole = Prompt::from_tokens(&predictive, &[Some(4); 3]).unwrap();
    let prompts = [vec![Prompt::empty(&predictive, 3).unwrap(); 4], vec![whole]].concat();
    let settings = SampleSettings { steps: Steps::Grid(4), batch: 2, ..SampleSettings::default() };
    let sampler = Sampler::new(&network, &predictive, settings).unwrap();
    let mut states: BTreeMap<usize, Vec<u32>> = BTreeMap::new();
    let (mut revealed, mut finished, mut evaluations) = (0, Vec::new(), 0);
    let mut observer = WithDigits(|event: &Event| {
        match *event {
            Event::Started { sequence, y } => {
                assert!(states.insert(sequence, y.to_vec()).is_none());
                assert!(states.len() - finished.len() <= 2);
            }
            Event::Revealed { sequence, step, time, digits, settled, .. } => {
                assert_eq!(time, 1.0 - step as f64 / 4.0);
                evaluations += 1;
                revealed += digits.len();
                let y = states.get_mut(&sequence).unwrap();
                digits.iter().for_each(|&(digit, value)| y[digit] = value);
                let mask_id = network.codes.mask_id();
                let clean = y.chunks_exact(3).take_while(|token| !token.contains(&mask_id));
                assert_eq!(settled, clean.count());
            }
            Event::Finished { sequence, tokens, report } => {
                assert_eq!(network.codes.decode(&states[&sequence]).unwrap(), tokens);
                assert_eq!(report.digits, if sequence == 4 { 0 } else { 9 });
                finished.push((sequence, tokens.to_vec()));
            }
            Event::Progress(progress) => {
                assert_eq!((progress.digits, progress.digits_total), (revealed, 36));
                assert_eq!(progress.sequences, finished.len());
            }
            _ => unreachable!("{event:?}"),
        }
        Ok(())
    });
    let samples = sampler.sample_observed(&prompts, &mut observer).unwrap();
    finished.sort();
    let told: Vec<u32> = finished.into_iter().flat_map(|(_, tokens)| tokens).collect();
    assert_eq!(told, samples.tokens);
    assert_eq!((revealed, evaluations), (36, samples.report().evaluations));
}

#[test]
fn an_error_of_the_observer_ends_the_round_at_any_event() {
    let network = network();
    let predictive = Predictive::new(network.codes.clone(), true);
    let sampler = Sampler::new(&network, &predictive, SampleSettings::default()).unwrap();
    let prompt = [Prompt::empty(&predictive, 1).unwrap()];
    let mut events = 0;
    let count = |_: &Event| {
        events += 1;
        Ok(())
    };
    sampler.sample_observed(&prompt, &mut WithDigits(count)).unwrap();
    // One start, three reveals, each with progress, one end.
    assert_eq!(events, 8);
    for last in 1..=events {
        let mut told = 0;
        let stop = |_: &Event| {
            told += 1;
            if told == last { Err(Error::Interrupted) } else { Ok(()) }
        };
        let stopped = sampler.sample_observed(&prompt, &mut WithDigits(stop));
        assert!(matches!(stopped, Err(Error::Interrupted)) && told == last);
    }
}

#[test]
fn requests_that_do_not_fit_the_network_are_refused_and_leave_the_stream_as_it_was() {
    let network = network();
    let predictive = Predictive::new(network.codes.clone(), true);
    let mut stream = Stream::new(&network, 4).unwrap();
    fn refused<'a>(stream: &mut Stream<'a>, request: SequenceRequest<'a>, field: &str) {
        let error = stream.add(request).unwrap_err().to_string();
        assert!(error.starts_with(field), "{error}");
    }
    let request = || request(&predictive, 0);
    let long = Prompt::empty(&predictive, 8).unwrap();
    refused(&mut stream, SequenceRequest { prompt: long, ..request() }, "sequence length = 8");
    let prompt = request().prompt.with_label(Some(4));
    refused(&mut stream, SequenceRequest { prompt, ..request() }, "label = 4");
    let coarse = Predictive::new(SubTokenizer::new(11, 2).unwrap(), true);
    let prompt = Prompt::empty(&coarse, 3).unwrap();
    refused(&mut stream, SequenceRequest { prompt, ..request() }, "prompt = 6 sub-tokens in base 4");
    let other = Predictive::new(SubTokenizer::new(12, 3).unwrap(), true);
    let recipe = Arc::new(Recipe::new(&other, &SampleSettings::default()).unwrap());
    refused(&mut stream, SequenceRequest { recipe, ..request() }, "network = 11 tokens");
    assert!(stream.is_empty());
    assert_eq!(stream.add(request()).unwrap(), 0);
    let silent = HashNetwork::new(network.codes.clone(), 7, 3);
    let mut unlabelled = Stream::new(&silent, 1).unwrap();
    let prompt = request().prompt.with_label(Some(0));
    refused(&mut unlabelled, SequenceRequest { prompt, ..request() }, "label = given");
    assert!(Stream::new(&network, 0).is_err());
}
