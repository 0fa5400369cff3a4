//! Sequences that are written block by block: what is kept changes nothing, each is what it is alone, and texts go on beyond
//! the network's length.

use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};
use submask::Error;
use submask::backbone::LoadedBackbone;
use submask::backbone::dit::Dit;
use submask::backbone::encoder::Encoder;
use submask::denoiser::{BlockDenoiser, Denoiser, Kept, LogitRows, Spec, States};
use submask::ops::{Kernels, Precision};
use submask::predictive::{Predictive, Sharpening};
use submask::sampler::{
    Draw, EntropyRule, Event, MixtureDenoiser, Order, Prompt, Recipe, RevealUnit, SampleReport,
    SampleSettings, Sampler, SequenceRequest, Steps, Stream, Window,
};
use submask::subtoken::SubTokenizer;

use crate::block_table::BlockTable;
use crate::fixtures::cases;
use crate::sampler_distribution::{distance, indices};
use crate::tiny_networks::{dit_config, encoder_config, loaded};

const LENGTH: usize = 12;

/// Samples of a table.
const SAMPLES: usize = 20_000;

fn codes(subtoken_len: usize) -> SubTokenizer {
    SubTokenizer::new(11, subtoken_len).unwrap()
}

fn dit(subtoken_len: usize, block_len: usize, kernels: Kernels) -> LoadedBackbone {
    loaded(Dit::new(dit_config(LENGTH, block_len), &codes(subtoken_len), kernels).unwrap())
}

fn encoder(subtoken_len: usize, block_len: usize) -> LoadedBackbone {
    let config = encoder_config(LENGTH, block_len);
    loaded(Encoder::new(config, &codes(subtoken_len), Kernels::FUSED).unwrap())
}

/// The same network, which keeps tokens and reads all of them again for every evaluation.
struct Rereading(LoadedBackbone);

impl Denoiser for Rereading {
    fn spec(&self) -> &Spec {
        self.0.spec()
    }

    fn evaluate(&self, states: &States, positions: &[usize], rows: LogitRows) -> submask::Result<()> {
        self.0.evaluate(states, positions, rows)
    }

    fn by_blocks(&self) -> Option<&dyn BlockDenoiser> {
        Some(self)
    }
}

impl BlockDenoiser for Rereading {
    fn keep(&self, clean: &[u32], sequences: usize, kept: Option<&Kept>) -> submask::Result<Kept> {
        let len = self.spec().subtoken_len;
        let tokens = clean.len() / sequences / len;
        let digits = TensorData::new(
            clean.iter().map(|digit| *digit as f32).collect::<Vec<_>>(),
            [sequences, tokens, len],
        );
        let digits = Tensor::<3>::from_data(digits, &Device::flex());
        Ok(Kept::new(vec![match kept {
            Some(kept) => Tensor::cat(vec![kept.layer(0), digits], 1),
            None => digits,
        }]))
    }

    fn evaluate_after(
        &self,
        kept: Option<&Kept>,
        first: usize,
        states: &States,
        positions: &[usize],
        rows: LogitRows,
    ) -> submask::Result<()> {
        let Some(kept) = kept else { return self.evaluate(states, positions, rows) };
        assert_eq!(kept.tokens(), first);
        let len = self.spec().subtoken_len;
        let own = states.seq_len(len);
        let kept: Vec<f32> = kept.layer(0).into_data().try_into_vec().unwrap();
        let parts = kept.chunks_exact(first * len).zip(states.y_t.chunks_exact(own * len));
        let y_t: Vec<u32> =
            parts.flat_map(|(kept, own)| kept.iter().map(|x| *x as u32).chain(own.to_vec())).collect();
        let place = |position: &usize| position / own * (first + own) + first + position % own;
        let positions: Vec<usize> = positions.iter().map(place).collect();
        self.evaluate(&States { y_t: &y_t, ..*states }, &positions, rows)
    }
}

/// Every way to sample: plans, orders, correctors.
fn all_settings() -> Vec<SampleSettings> {
    let default = || SampleSettings { seed: 5, ..SampleSettings::default() };
    let grid = |steps| SampleSettings { steps: Steps::Grid(steps), ..default() };
    let order = |order, unit, per_step| SampleSettings { order, unit, per_step, ..default() };
    vec![
        default(),
        SampleSettings { unit: RevealUnit::Tokens, ..default() },
        grid(3),
        SampleSettings { draw: Draw::Marginal, ..grid(2) },
        SampleSettings { corrector: Some([4.0, 0.5, 0.0].into()), ..grid(4) },
        order(Order::Confidence, RevealUnit::Digits, 1),
        order(Order::Margin, RevealUnit::Tokens, 2),
        order(Order::LeftToRight, RevealUnit::Digits, 1),
        SampleSettings {
            sharpening: Sharpening { temperature: 0.0, ..Sharpening::default() },
            ..order(Order::Entropy, RevealUnit::Digits, 2)
        },
    ]
}

/// Samples of prompts, each with its report.
fn sample(
    network: &dyn Denoiser,
    settings: &SampleSettings,
    prompts: &[Prompt],
    end: Option<u32>,
) -> Vec<(Vec<u32>, SampleReport)> {
    let codes = codes(network.spec().subtoken_len);
    let predictive = Predictive::new(codes, true);
    let recipe = Arc::new(Recipe::new(&predictive, settings).unwrap().ending_at(end));
    let mut stream = Stream::new(network, settings.batch).unwrap();
    for (number, prompt) in prompts.iter().enumerate() {
        let (prompt, recipe, number) = (prompt.clone(), recipe.clone(), number as u64);
        stream.add(SequenceRequest { prompt, recipe, number }).unwrap();
    }
    let mut finished = Vec::new();
    while !stream.is_empty() {
        finished.extend(stream.round(&mut |_: &Event| Ok(())).unwrap());
    }
    finished.sort_by_key(|one| one.sequence);
    finished.into_iter().map(|one| (one.tokens, one.report)).collect()
}

/// Prompts of some lengths, of which as many tokens are given.
fn prompts(subtoken_len: usize, lengths: &[(usize, usize)]) -> Vec<Prompt> {
    let predictive = Predictive::new(codes(subtoken_len), true);
    let prompt = |(length, given): &(usize, usize)| {
        let tokens: Vec<Option<u32>> =
            (0..*length).map(|i| (i < *given).then_some((7 * i + length) as u32 % 11)).collect();
        Prompt::from_tokens(&predictive, &tokens).unwrap()
    };
    lengths.iter().map(prompt).collect()
}

#[test]
fn what_is_kept_changes_no_bit_up_to_the_networks_length() {
    let lengths = [(12, 0), (12, 5), (7, 0), (12, 0), (10, 8), (3, 1), (12, 9)];
    let bf16 = Kernels::FUSED.with_precision(Precision::Bf16).unwrap();
    for (subtoken_len, block_len) in [(1, 4), (2, 1), (2, 4), (3, 6), (2, 12)] {
        let networks: [&dyn Fn() -> LoadedBackbone; 4] = [
            &|| dit(subtoken_len, block_len, Kernels::FUSED),
            &|| dit(subtoken_len, block_len, Kernels::PLAIN),
            &|| dit(subtoken_len, block_len, bf16),
            &|| encoder(subtoken_len, block_len),
        ];
        for (which, network) in networks.into_iter().enumerate() {
            let (cached, rereading) = (network(), Rereading(network()));
            for settings in all_settings() {
                let prompts = prompts(subtoken_len, &lengths);
                let ours = sample(&cached, &settings, &prompts, None);
                let same = sample(&rereading, &settings, &prompts, None);
                // Without fused operations bits may depend on what else is computed.
                if which != 1 {
                    assert_eq!(ours, same, "{subtoken_len} {block_len} network {which} {settings:?}");
                }
                for ((tokens, report), (length, given)) in ours.iter().zip(lengths) {
                    assert_eq!(tokens.len(), length);
                    assert_eq!(report.digits as usize, (length - given) * subtoken_len);
                }
            }
        }
    }
}

#[test]
fn a_sequence_of_blocks_is_what_it_is_alone() {
    let lengths = [(40, 0), (12, 5), (40, 0), (7, 0), (31, 26), (12, 9), (40, 30), (40, 30)];
    let network = dit(2, 4, Kernels::FUSED);
    for window in [Window::Cached, Window::Recomputed] {
        for settings in all_settings() {
            let settings = SampleSettings { window, ..settings };
            let prompts = prompts(2, &lengths);
            let of_batch = |batch| {
                let settings = SampleSettings { batch, ..settings.clone() };
                sample(&network, &settings, &prompts, Some(3))
            };
            let alone = of_batch(1);
            assert_eq!(alone, of_batch(3), "{settings:?}");
            assert_eq!(alone, of_batch(100), "{settings:?}");
        }
    }
}

#[test]
fn one_block_as_long_as_the_sequence_is_no_block() {
    for subtoken_len in [1, 2] {
        let (blocks, none) =
            (dit(subtoken_len, LENGTH, Kernels::FUSED), dit(subtoken_len, 0, Kernels::FUSED));
        for settings in all_settings() {
            let prompts = prompts(subtoken_len, &[(12, 0), (12, 5), (7, 0)]);
            let samples = |network| sample(network, &settings, &prompts, None);
            assert_eq!(samples(&blocks), samples(&none), "{settings:?}");
        }
    }
}

#[test]
fn windows_are_two_generators_beyond_the_networks_length_only() {
    let network = dit(2, 4, Kernels::FUSED);
    let of = |window, length| {
        let settings = SampleSettings { window, seed: 1, ..SampleSettings::default() };
        let samples = sample(&network, &settings, &prompts(2, &[(length, 0); 24]), None);
        samples.into_iter().map(|(tokens, report)| (tokens, report.clean_passes)).collect::<Vec<_>>()
    };
    assert_eq!(of(Window::Cached, LENGTH), of(Window::Recomputed, LENGTH));
    let (cached, recomputed) = (of(Window::Cached, 60), of(Window::Recomputed, 60));
    for ((cached, passes), (recomputed, others)) in cached.iter().zip(&recomputed) {
        assert_eq!(cached[..LENGTH], recomputed[..LENGTH]);
        assert_eq!((*passes, *others), (14, 14), "one pass per block but the last");
    }
    assert_ne!(cached, recomputed, "some text differs");
    // What is recomputed is what a text gives of which the last tokens alone are the prompt.
    let predictive = Predictive::new(codes(2), true);
    let settings = SampleSettings { window: Window::Recomputed, seed: 1, ..SampleSettings::default() };
    let greedy = SampleSettings {
        sharpening: Sharpening { temperature: 0.0, ..Sharpening::default() },
        order: Order::LeftToRight,
        ..settings
    };
    let (long, _) = sample(&network, &greedy, &prompts(2, &[(40, 0)]), None).remove(0);
    for start in (LENGTH..40).step_by(4) {
        let last: Vec<Option<u32>> = long[start - 8..start].iter().map(|token| Some(*token)).collect();
        let prompt = Prompt::from_tokens(&predictive, &[last, vec![None; 4]].concat()).unwrap();
        let (short, _) = sample(&network, &greedy, &[prompt], None).remove(0);
        assert_eq!(short[8..], long[start..start + 4]);
    }
}

#[test]
fn a_long_prompt_is_read_as_if_it_had_been_written() {
    let network = dit(2, 4, Kernels::FUSED);
    let predictive = Predictive::new(codes(2), true);
    for window in [Window::Cached, Window::Recomputed] {
        let settings = SampleSettings { window, seed: 9, ..SampleSettings::default() };
        let (whole, report) = sample(&network, &settings, &prompts(2, &[(44, 0)]), None).remove(0);
        for given in [4, 8, 12, 20, 40] {
            let tokens: Vec<Option<u32>> =
                whole.iter().enumerate().map(|(i, token)| (i < given).then_some(*token)).collect();
            let prompt = Prompt::from_tokens(&predictive, &tokens).unwrap();
            let (again, rest) = sample(&network, &settings, &[prompt], None).remove(0);
            assert_eq!(again, whole, "{window:?} {given}");
            assert!(rest.evaluations < report.evaluations);
        }
    }
}

#[test]
fn holes_are_filled_within_one_block_and_refused_before_what_is_given_in_a_later_one() {
    let network = dit(2, 4, Kernels::FUSED);
    let predictive = Predictive::new(codes(2), true);
    let mut tokens: Vec<Option<u32>> = (0..12).map(Some).map(|token| token.map(|token| token % 11)).collect();
    tokens[9] = None;
    let prompt = Prompt::from_tokens(&predictive, &tokens).unwrap();
    let (filled, _) = sample(&network, &SampleSettings::default(), &[prompt], None).remove(0);
    let known = filled.iter().zip(&tokens).filter(|(token, given)| given.as_ref() == Some(token));
    assert_eq!(known.count(), 11);
    tokens[5] = None;
    let recipe = Arc::new(Recipe::new(&predictive, &SampleSettings::default()).unwrap());
    let mut stream = Stream::new(&network, 1).unwrap();
    let prompt = Prompt::from_tokens(&predictive, &tokens).unwrap();
    let error = stream.add(SequenceRequest { prompt, recipe, number: 0 }).unwrap_err();
    assert!(matches!(error, Error::Conflict { .. }));
    let text = error.to_string();
    for part in ["prompt", "token 8, which is given", "hole at token 5", "tokens 4 to 7", "tokens 8 to 11"] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn a_text_of_blocks_ends_at_its_end() {
    let network = dit(2, 4, Kernels::FUSED);
    let end = 7;
    let mut ended = 0;
    for settings in all_settings() {
        let prompts = prompts(2, &[(60, 0), (60, 7), (60, 0), (24, 2)]);
        let whole = sample(&network, &settings, &prompts, None);
        let cut = sample(&network, &settings, &prompts, Some(end));
        for ((whole, all), ((cut, report), given)) in whole.iter().zip(cut.iter().zip([0, 7, 0, 2])) {
            let begin = whole.iter().position(|token| *token != end).unwrap_or(whole.len());
            let place = (0..whole.len()).find(|i| whole[*i] == end && *i >= given && *i > begin);
            assert_eq!(*cut, whole[..place.map_or(whole.len(), |place| place + 1)], "{settings:?}");
            if place.is_some_and(|place| place + 4 < whole.len()) {
                assert!(report.evaluations < all.evaluations);
                ended += 1;
            }
        }
    }
    assert!(ended > 5, "{ended}");
}

/// The rule looks at what is written and changes no draw: a text with it is the beginning of the text without it.
#[test]
fn a_monotonous_text_of_blocks_is_stopped_after_a_block_and_cut() {
    let lengths = [(40, 0), (23, 5), (40, 30), (6, 0)];
    let (mut stopped, mut whole) = (0, 0);
    for subtoken_len in [1, 2] {
        let network = dit(subtoken_len, 4, Kernels::FUSED);
        for settings in all_settings() {
            let prompts = prompts(subtoken_len, &lengths);
            let without = sample(&network, &settings, &prompts, None);
            for (window, least) in [(6, 0.9), (8, 1.5), (6, 1.7), (12, 1e-9), (8, 2.07)] {
                let rule = EntropyRule { window, least };
                let settings = SampleSettings { entropy_rule: Some(rule), ..settings.clone() };
                let with = sample(&network, &settings, &prompts, None);
                for (((tokens, report), (all, _)), (length, given)) in with.iter().zip(&without).zip(lengths)
                {
                    // Blocks that are given are not written.
                    let ends = (1..=length).filter(|end| end.is_multiple_of(4) || *end == length);
                    let stop = ends.filter(|end| *end > given).find(|end| rule.stops(&all[..*end]));
                    let kept = stop.map_or(length, |end| (end - window).max(given));
                    assert_eq!(tokens, &all[..kept], "{rule:?} {settings:?}");
                    let written = stop.unwrap_or(length) - given;
                    assert_eq!(report.digits as usize, written * subtoken_len, "{rule:?} {settings:?}");
                    stopped += usize::from(stop.is_some());
                    whole += usize::from(stop.is_none());
                }
            }
        }
    }
    assert!(stopped > 20 && whole > 20, "{stopped} {whole}");
}

/// Where a text whose blocks of 4 tokens are all known ends or is cut, given the token that ends it: whichever keeps less.
fn kept(all: &[u32], given: usize, end: u32, rule: EntropyRule) -> usize {
    let begin = all.iter().position(|token| *token != end).unwrap_or(all.len());
    for block in (4..all.len()).step_by(4).chain([all.len()]).filter(|block| *block > given) {
        let known = &all[..block];
        let ended = (given.max(begin)..block).find(|place| known[*place] == end).map(|place| place + 1);
        let cut = rule.stops(known).then(|| (block - rule.window).max(given));
        if let Some(kept) = [ended, cut].into_iter().flatten().min() {
            return kept;
        }
    }
    all.len()
}

#[test]
fn a_text_that_ends_in_the_block_after_which_it_is_cut_keeps_what_stands_before_both() {
    let network = dit(2, 4, Kernels::FUSED);
    let (end, lengths) = (7, [(60, 0), (60, 7), (24, 2), (60, 1)]);
    let (mut both, prompts) = (0, prompts(2, &lengths));
    for settings in all_settings().into_iter().filter(|settings| settings.order != Order::LeftToRight) {
        let whole = sample(&network, &settings, &prompts, None);
        for rule in [(2, 0.5), (3, 0.8), (3, 1.05)].map(|(window, least)| EntropyRule { window, least }) {
            let settings = SampleSettings { entropy_rule: Some(rule), ..settings.clone() };
            let texts = sample(&network, &settings, &prompts, Some(end));
            for (((text, report), (all, _)), (_, given)) in texts.iter().zip(&whole).zip(lengths) {
                let expected = kept(all, given, end, rule);
                assert_eq!(*text, all[..expected], "{rule:?} {settings:?}");
                let ends = expected > 0 && all[expected - 1] == end;
                both += usize::from(ends && report.monotonous == 0 && expected < all.len());
            }
        }
    }
    assert!(both > 5, "{both} texts end");
}

#[test]
fn what_a_network_with_blocks_cannot_read_is_refused() {
    let network = dit(1, 4, Kernels::FUSED);
    let refused = |result: submask::Result<Kept>, field: &str| {
        let error = result.err().unwrap();
        assert!(error.to_string().starts_with(field), "{error}");
    };
    let block = network.keep(&[1; 8], 2, None).unwrap();
    assert_eq!((block.sequences(), block.tokens()), (2, 4));
    refused(network.keep(&[1; 4], 1, Some(&block)), "sequences = 1");
    refused(network.keep(&[1; 3], 2, None), "clean digits = 3");
    refused(network.keep(&[1; 20], 2, Some(&block)), "sequence length = 14");
    let part = network.keep(&[1; 10], 2, None).unwrap();
    refused(network.keep(&[1; 8], 2, Some(&part)), "tokens kept = 5");
    let states = States { y_t: &[11; 8], t: &[0.0; 2], labels: None };
    let mut rows = |_: std::ops::Range<usize>, _: &[f32]| Ok(());
    for (kept, first, field) in [
        (Some(&block), 3, "first token of a block = 3"),
        (Some(&block), 8, "tokens kept = 4"),
        (None, 4, "tokens kept = 0"),
        (Some(&block), 12, "sequence length = 16"),
    ] {
        let error = network.evaluate_after(kept, first, &states, &[0], &mut rows).unwrap_err();
        assert!(error.to_string().starts_with(field), "{error}");
    }
    let alone = States { y_t: &[11; 12], t: &[0.0; 3], labels: None };
    let error = network.evaluate_after(Some(&block), 4, &alone, &[0], &mut rows).unwrap_err();
    assert!(error.to_string().starts_with("sequences kept = 2"), "{error}");
    let error = MixtureDenoiser::new(&[&network]).err().unwrap();
    assert!(error.to_string().contains("without blocks"), "{error}");
}

/// A network whose blocks do not divide its length.
struct Odd(LoadedBackbone, Spec);

impl Denoiser for Odd {
    fn spec(&self) -> &Spec {
        &self.1
    }

    fn evaluate(&self, states: &States, positions: &[usize], rows: LogitRows) -> submask::Result<()> {
        self.0.evaluate(states, positions, rows)
    }

    fn by_blocks(&self) -> Option<&dyn BlockDenoiser> {
        self.0.by_blocks()
    }
}

#[test]
fn blocks_divide_the_length_of_a_network_that_writes() {
    let network = dit(1, 4, Kernels::FUSED);
    let spec = Spec { block_len: 5, ..network.spec().clone() };
    let error = Stream::new(&Odd(network, spec), 1).err().unwrap();
    assert!(error.to_string().starts_with("block_len = 5 is not allowed: a divisor of 12"), "{error}");
}

#[test]
fn a_network_without_blocks_has_no_entropy_rule() {
    let network = dit(1, 0, Kernels::FUSED);
    let settings = SampleSettings {
        entropy_rule: Some(EntropyRule { window: 4, least: 1.2 }),
        ..SampleSettings::default()
    };
    let predictive = Predictive::new(codes(1), true);
    let prompt = Prompt::empty(&predictive, 8).unwrap();
    let recipe = Arc::new(Recipe::new(&predictive, &settings).unwrap());
    let mut stream = Stream::new(&network, 1).unwrap();
    let by_stream = stream.add(SequenceRequest { prompt, recipe, number: 0 }).unwrap_err();
    let by_sampler = Sampler::new(&network, &predictive, settings).err().unwrap();
    for error in [by_stream, by_sampler] {
        assert!(error.to_string().starts_with("min_entropy = 1.2 is not allowed: 0, off"), "{error}");
    }
}

#[test]
fn samples_have_the_exact_distribution_of_the_tables() {
    let (digits, tokens) = (RevealUnit::Digits, RevealUnit::Tokens);
    let columns = [
        ("log_lik_random_subtoken_order", Order::Random, digits),
        ("log_lik_random_token_order", Order::Random, tokens),
        ("log_lik_left_to_right_subtokens", Order::LeftToRight, digits),
        ("log_lik_left_to_right_tokens", Order::LeftToRight, tokens),
        ("log_lik_greedy_confidence_tokens", Order::Confidence, tokens),
    ];
    for case in cases("blockexact_") {
        let table = BlockTable::from_case(&case);
        let (vocab_size, seq_len) = (table.codes.vocab_size(), table.seq_len);
        let predictive = Predictive::new(table.codes.clone(), true);
        let index = |x: &[u32]| x.iter().fold(0, |index, token| index * vocab_size + *token as usize);
        let sequences = case.ids("oracle", "sequences");
        let prompts = vec![Prompt::empty(&predictive, seq_len).unwrap(); SAMPLES];
        for (name, order, unit) in columns {
            let Some(log_lik) = case.column("oracle", name) else { continue };
            let mut exact = vec![0.0; vocab_size.pow(seq_len as u32)];
            let rows = sequences.chunks_exact(seq_len).zip(log_lik);
            rows.for_each(|(x, log_lik)| exact[index(x)] = log_lik.exp());
            assert!((exact.iter().sum::<f64>() - 1.0).abs() < 1e-6, "{name}");
            let settings = SampleSettings { order, unit, batch: 4096, ..SampleSettings::default() };
            let samples = Sampler::new(&table, &predictive, settings).unwrap().sample(&prompts).unwrap();
            let found = distance(indices(&samples, vocab_size), &exact);
            assert!(found < 1.0, "{} {name}: {found} of the distance that chance allows", case.name);
            // Samples are told from those of another distribution.
            exact.rotate_right(1);
            assert!(distance(indices(&samples, vocab_size), &exact) > 1.0);
        }
    }
}
