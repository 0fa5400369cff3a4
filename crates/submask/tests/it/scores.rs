//! Scores of texts under networks whose weights are drawn: what must hold whatever they have learnt.

use std::sync::Arc;

use submask::backbone::Embedding;
use submask::backbone::autoregressive::AutoregressiveConfig;
use submask::backbone::dit::DitConfig;
use submask::backbone::encoder::EncoderConfig;
use submask::backbone::weights::{Init, Parameter};
use submask::data::Tokenizer;
use submask::likelihood::Kind;
use submask::model::{
    Architecture, CodeSettings, Estimator, EvaluateRequest, FORMAT_VERSION, HeldOut, ModelConfig,
    NetworkConfig, Passage, Sampling, Score, Session, Subject, TextLayout, TextSubject,
};
use submask::order::Order;
use submask::schedule::{RevealUnit, Schedule};
use submask::{Compute, Model};

/// The models' length, in tokens.
pub const LENGTH: usize = 24;

const TEXTS: [&str; 7] =
    ["The sea is wide.", "a", "The ship is small.", "é", "A lantern", "The sea is wide.", "bcd"];

pub fn dit(time_conditioning: bool) -> NetworkConfig {
    NetworkConfig::Diffusion(DitConfig {
        block_len: 0,
        hidden: 16,
        heads: 2,
        blocks: 2,
        cond_dim: 8,
        seq_len: LENGTH,
        dropout: 0.0,
        embedding: Embedding::Concatenated,
        time_conditioning,
    })
}

pub fn encoder() -> NetworkConfig {
    NetworkConfig::Encoder(EncoderConfig {
        block_len: 0,
        hidden: 16,
        heads: 2,
        query_groups: 1,
        blocks: 2,
        intermediate: 24,
        seq_len: LENGTH,
        dropout: 0.0,
        embedding: Embedding::PerDigitSummed,
    })
}

pub fn baseline() -> NetworkConfig {
    NetworkConfig::Autoregressive(AutoregressiveConfig {
        hidden: 16,
        heads: 2,
        blocks: 2,
        seq_len: LENGTH,
        dropout: 0.0,
    })
}

/// A model with weights from U(−½, ½).
pub fn session(network: NetworkConfig, tokenizer: Tokenizer, subtokens: usize) -> Session {
    let config = ModelConfig {
        format_version: FORMAT_VERSION,
        subject: Subject::Text(TextSubject::of(&tokenizer)),
        network,
        codes: CodeSettings::plain(subtokens, true),
        schedule: Schedule::Linear,
        sample: Sampling::default(),
    };
    let architecture = Arc::new(Architecture::new(config, Some(tokenizer)).unwrap());
    let drawn = |(index, parameter): (usize, &Parameter)| {
        Parameter { init: Init::Uniform(0.5), ..parameter.clone() }.initial(3, index)
    };
    let weights = architecture.parameters().iter().enumerate().map(drawn).collect();
    Model::new(architecture, weights).unwrap().session(&Compute::cpu()).unwrap()
}

fn passages(session: &Session, texts: &[&str], layout: TextLayout) -> Vec<Passage> {
    texts.iter().map(|text| session.architecture().passage(layout, "", text).unwrap()).collect()
}

pub fn score(session: &Session, request: &EvaluateRequest, prompt: &str, text: &str) -> Score {
    let passage = session.architecture().passage(TextLayout::default(), prompt, text).unwrap();
    session.score(request, &[passage]).unwrap().remove(0)
}

pub fn exact(order: Order, unit: RevealUnit) -> EvaluateRequest {
    EvaluateRequest::new(Estimator::Exact { order, unit, per_step: 1 })
}

const ENDS: TextLayout = TextLayout::Alone { end: true, stride: None };

#[test]
fn a_score_depends_neither_on_its_neighbours_nor_on_batch_and_threads() {
    for network in [dit(true), encoder(), baseline()] {
        let session = session(network, Tokenizer::bytes(), 2);
        let usual = session.score_request();
        let requests = match session.is_autoregressive() {
            true => vec![usual],
            false => vec![usual, exact(Order::Confidence, RevealUnit::Digits)],
        };
        for request in requests {
            let alone: Vec<Score> = TEXTS.iter().map(|text| score(&session, &request, "", text)).collect();
            assert_eq!(alone[0], alone[5], "equal texts have equal scores");
            let mut all = passages(&session, &TEXTS, TextLayout::default());
            for (batch, threads) in [(1, 1), (5, 2), (1000, 2)] {
                let request = EvaluateRequest { batch, ..request };
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                assert_eq!(pool.install(|| session.score(&request, &all).unwrap()), alone);
            }
            all.reverse();
            let turned = session.score(&request, &all).unwrap();
            assert!(turned.iter().rev().eq(&alone), "nor on the order of the texts");
        }
    }
}

#[test]
fn the_sum_of_scores_is_the_figure_by_document() {
    for network in [dit(false), baseline()] {
        let session = session(network, Tokenizer::bytes(), 2);
        for layout in [TextLayout::default(), ENDS] {
            let request = EvaluateRequest { batch: 3, ..session.score_request() };
            let documents = passages(&session, &TEXTS, layout);
            let evaluation = session.evaluation_by_document(&request, &documents).unwrap();
            let one_by_one: Vec<Score> = documents
                .iter()
                .map(|document| {
                    session.score(&session.score_request(), std::slice::from_ref(document)).unwrap().remove(0)
                })
                .collect();
            let total = evaluation.figures.iter().find(|figure| figure.unit == "nats in total").unwrap();
            assert_eq!(total.value, one_by_one.iter().map(|score| score.nats).sum::<f64>());
            assert!(total.name.ends_with("_by_document") && total.standard_error.is_some(), "{total:?}");
            let per_character = &evaluation.figures[0];
            assert_eq!(per_character.unit, "bits per character");
            let characters = TEXTS.iter().map(|text| text.chars().count()).sum::<usize>() as f64;
            let expected = total.value / characters / std::f64::consts::LN_2;
            assert!((per_character.value / expected - 1.0).abs() < 1e-12);
            for (value, score) in evaluation.sequences.iter().zip(&one_by_one) {
                assert_eq!(
                    (value.nats, value.tokens, value.characters),
                    (score.nats, score.tokens, score.characters)
                );
                assert_eq!(value.draw_error, score.draw_error);
            }
        }
    }
}

#[test]
fn what_is_given_is_not_charged_and_ends_only_where_asked_for() {
    let session = session(dit(false), Tokenizer::bytes(), 2);
    let request = session.score_request();
    let plain = score(&session, &request, "", "née");
    assert_eq!((plain.tokens, plain.characters, plain.windows), (4, Some(3), 1));
    assert_eq!((plain.kind, plain.estimator.as_str()), (Kind::UpperBound, "nelbo_subtoken"));
    assert!(plain.draw_error.is_some_and(|error| error > 0.0) && plain.by_token.is_none());
    let single = score(&session, &EvaluateRequest { draws: 1, ..request }, "", "née");
    assert_eq!(single.draw_error, None);
    let behind = score(&session, &request, "à ", "née");
    assert_eq!((behind.tokens, behind.characters), (4, Some(3)));
    assert_ne!(behind.nats, plain.nats);
    let ended = session.score(&request, &passages(&session, &["née"], ENDS)).unwrap().remove(0);
    assert_eq!((ended.tokens, ended.characters), (5, Some(3)));
    // A text of nothing but its end.
    assert_eq!(session.score(&request, &passages(&session, &[""], ENDS)).unwrap()[0].tokens, 1);
}

#[test]
fn from_left_to_right_the_terms_of_a_completion_are_its_score_given_the_prompt() {
    let (prompt, completion) = ("The sea is ", "wide.");
    let whole_text = format!("{prompt}{completion}");
    for (network, unit) in [
        (dit(false), RevealUnit::Tokens),
        (dit(false), RevealUnit::Digits),
        (encoder(), RevealUnit::Digits),
        (baseline(), RevealUnit::Tokens),
    ] {
        for subtokens in [1, 2] {
            let session = session(network.clone(), Tokenizer::bytes(), subtokens);
            let request = exact(Order::LeftToRight, unit);
            let whole = score(&session, &request, "", &whole_text);
            let given = score(&session, &request, prompt, completion);
            let (whole_terms, terms) = (whole.by_token.unwrap(), given.by_token.unwrap());
            assert_eq!((whole_terms.len(), terms.len()), (whole_text.len(), completion.len()));
            let text = |terms: &[submask::model::TokenScore]| {
                terms.iter().map(|t| t.text.clone()).collect::<String>()
            };
            assert_eq!((text(&whole_terms), text(&terms)), (whole_text.clone(), completion.to_owned()));
            let sum = whole_terms[prompt.len()..].iter().map(|term| term.nats).sum::<f64>();
            assert!((sum / given.nats - 1.0).abs() < 1e-9, "{sum} {}", given.nats);
            assert!(given.kind == Kind::Exact && given.draw_error == Some(0.0));
            let alone = score(&session, &request, "", prompt).nats + given.nats;
            match session.is_autoregressive() {
                true => assert!((alone / whole.nats - 1.0).abs() < 1e-9, "{alone} {}", whole.nats),
                // The masked places of the completion are seen while the prompt is charged.
                false => assert!((alone / whole.nats - 1.0).abs() > 1e-6),
            }
        }
    }
}

#[test]
fn longer_texts_are_cut_into_windows() {
    let session = session(baseline(), Tokenizer::bytes(), 1);
    let request = session.score_request();
    let text = "the sea is wide and the ship is small, and that is all there is";
    // One end of text and 23 tokens; then the last token given, and 23 new ones.
    let disjoint = score(&session, &request, "", text);
    assert_eq!((disjoint.tokens, disjoint.windows), (63, 3));
    // The same by hand: what begins a window is given by itself, and no end of text before it.
    let by_hand = |tokens: &[u8], given: usize| {
        let tokens: Vec<u32> = tokens.iter().map(|byte| u32::from(*byte)).collect();
        let lengths = [tokens.len()];
        let given: Vec<bool> = (0..tokens.len()).map(|token| token < given).collect();
        let x = submask::likelihood::Sequences::of_lengths(&tokens, &lengths).unwrap().with_given(&given);
        let settings = submask::likelihood::LikelihoodSettings::default();
        let (network, predictive) = (session.autoregressive().unwrap(), session.architecture().predictive());
        submask::likelihood::exact_autoregressive(network, predictive, &x, &settings).unwrap().nats()[0]
    };
    let bytes = text.as_bytes();
    let first = score(&session, &request, "", &text[..23]).nats;
    let expected = first + by_hand(&bytes[22..46], 1) + by_hand(&bytes[45..63], 1);
    assert!((disjoint.nats / expected - 1.0).abs() < 1e-12);

    let strided = |stride| {
        let layout = TextLayout::Alone { end: false, stride: Some(stride) };
        let passage = session.architecture().passage(layout, "", text)?;
        Ok::<_, submask::Error>(session.score(&request, &[passage])?.remove(0))
    };
    let ten = strided(10).unwrap();
    assert_eq!((ten.tokens, ten.windows, ten.by_token.unwrap().len()), (63, 5, 63));
    let expected = first
        + by_hand(&bytes[9..33], 14)
        + by_hand(&bytes[19..43], 14)
        + by_hand(&bytes[29..53], 14)
        + by_hand(&bytes[39..63], 14);
    assert!((ten.nats / expected - 1.0).abs() < 1e-12);
    assert_eq!(strided(23).unwrap().windows, 3);
    for stride in [0, 24] {
        let refused = strided(stride).unwrap_err().to_string();
        assert!(refused.contains(&format!("stride = {stride} is not allowed: 1 to 23")), "{refused}");
    }
    // A prompt that fills the model leaves no room, unless only its last tokens are given.
    let passage = |layout| session.architecture().passage(layout, &text[..40], &text[40..]);
    let refused = passage(TextLayout::default()).unwrap_err().to_string();
    assert!(refused.contains("prompt = 41 tokens") && refused.contains("at most 23"), "{refused}");
    let cut = passage(TextLayout::Alone { end: false, stride: Some(15) }).unwrap();
    let cut = session.score(&request, &[cut]).unwrap().remove(0);
    let expected = by_hand(&bytes[31..55], 9) + by_hand(&bytes[39..63], 16);
    assert!((cut.nats / expected - 1.0).abs() < 1e-12 && cut.tokens == 23);
}

#[test]
fn tokenizers_without_end_of_text_have_nothing_given() {
    let session = session(baseline(), Tokenizer::text8(), 1);
    let request = session.score_request();
    assert_eq!(score(&session, &request, "", "the sea").by_token.unwrap().len(), 7);
    let refused = session.architecture().passage(ENDS, "", "the sea").unwrap_err().to_string();
    assert!(refused.contains("end = true is not allowed: only with a tokenizer that has"), "{refused}");
    let refused = session.architecture().passage(TextLayout::Filled, "", "the sea").unwrap_err().to_string();
    assert!(refused.contains("layout = filled is not allowed"), "{refused}");
    let refused = session.architecture().passage(TextLayout::default(), "", "Sea").unwrap_err().to_string();
    assert!(refused.contains("'S'"), "{refused}");
    let refused = session.architecture().passage(TextLayout::default(), "the", "").unwrap_err().to_string();
    assert!(refused.contains("text = of no tokens"), "{refused}");
    // A long text begins without a given token, and goes on with one.
    let long = "the sea is wide and the ship is small";
    let score = score(&session, &request, "", long);
    assert_eq!((score.windows, score.tokens), (2, 37));
}

#[test]
fn filled_sequences_charge_the_filling_and_are_bounds() {
    let tokenizer = Tokenizer::bytes();
    let session = session(dit(false), tokenizer, 2);
    let filled = |prompt: &str, text: &str| session.architecture().passage(TextLayout::Filled, prompt, text);
    let passage = filled("The sea is ", "wide").unwrap();
    assert_eq!((passage.tokens(), passage.characters(), passage.windows()), (5, Some(4), 1));
    let request = exact(Order::LeftToRight, RevealUnit::Tokens);
    let found = session.score(&request, std::slice::from_ref(&passage)).unwrap().remove(0);
    assert_eq!((found.kind, found.tokens), (Kind::UpperBound, 5), "one way among many to fill");
    // The end of text given, the prompt, the text, its end and the filling up to 24.
    let mut tokens = vec![256];
    tokens.extend("The sea is wide".bytes().map(u32::from));
    tokens.resize(LENGTH, 256);
    let given: Vec<bool> = (0..2 * LENGTH).map(|digit| digit < 2 * 12).collect();
    let sequences = submask::likelihood::Sequences::new(&tokens, LENGTH).unwrap().with_given(&given);
    let expected = submask::likelihood::exact_in_order(
        session.denoiser().unwrap(),
        session.architecture().predictive(),
        &sequences,
        Order::LeftToRight,
        RevealUnit::Tokens,
        1,
        &submask::likelihood::LikelihoodSettings::default(),
    );
    assert_eq!(found.nats, expected.unwrap().nats()[0]);
    let terms = found.by_token.unwrap();
    assert_eq!(terms.len(), LENGTH - 12);
    assert!((terms.iter().map(|term| term.nats).sum::<f64>() / found.nats - 1.0).abs() < 1e-12);
    // The figure of documents is a bound, too.
    let evaluation = session.evaluation_by_document(&request, &[passage]).unwrap();
    assert!(evaluation.figures.iter().all(|figure| figure.kind == Kind::UpperBound));
    assert!(filled("The sea is ", "wide and de").is_ok(), "exactly as long as the model");
    let refused = filled("The sea is ", "wide and deep").unwrap_err().to_string();
    assert!(refused.contains("text = 26 tokens with what is given and its end"), "{refused}");
}

#[test]
fn held_out_sequences_may_have_different_lengths() {
    let session = session(dit(true), Tokenizer::bytes(), 2);
    let tokens: Vec<u32> = (0..60).map(|i| i * 37 % 257).collect();
    let lengths = vec![24, 24, 11, 1];
    let all = HeldOut { x_0: tokens.clone(), seq_len: 24, lengths, ..HeldOut::default() };
    let whole = HeldOut { x_0: tokens[..48].to_vec(), seq_len: 24, ..HeldOut::default() };
    let request = EvaluateRequest { draws: 3, ..EvaluateRequest::new(Estimator::NelboSubtoken) };
    let evaluation = session.evaluation(&request, &all).unwrap();
    assert_eq!((all.len(), evaluation.sequences.len()), (4, 4));
    assert_eq!(evaluation.sequences.iter().map(|value| value.tokens).collect::<Vec<_>>(), [24, 24, 11, 1]);
    // Sequences of the whole length keep their draws, whatever stands behind them.
    assert_eq!(evaluation.sequences[..2], session.evaluation(&request, &whole).unwrap().sequences);
    let refused = HeldOut { lengths: vec![24, 24], ..all };
    assert!(session.evaluation(&request, &refused).unwrap_err().to_string().contains("tokens = 60"));
}

/// A score that nobody waits for any more ends before the next evaluation, and asking changes no bit.
#[test]
fn a_score_goes_on_while_it_is_wanted() {
    use std::sync::atomic::{AtomicUsize, Ordering};

    let NetworkConfig::Diffusion(sizes) = dit(false) else { unreachable!("a transformer") };
    let blocks = NetworkConfig::Diffusion(DitConfig { block_len: 4, ..sizes });
    for network in [dit(true), blocks, baseline()] {
        let session = session(network, Tokenizer::bytes(), 2);
        let request = EvaluateRequest { batch: 2, ..session.score_request() };
        let passages = passages(&session, &TEXTS, TextLayout::default());
        let asked = AtomicUsize::new(0);
        let count = |most: usize| match asked.fetch_add(1, Ordering::Relaxed) < most {
            true => Ok(()),
            false => Err(submask::Error::Interrupted),
        };
        let whole = session.score_while(&request, &passages, &|| count(usize::MAX)).unwrap();
        assert_eq!(whole, session.score(&request, &passages).unwrap());
        let often = asked.swap(0, Ordering::Relaxed);
        assert!(often > if session.is_autoregressive() { 0 } else { 50 }, "{often}");
        let ended = session.score_while(&request, &passages, &|| count(often / 2)).unwrap_err();
        assert!(matches!(ended, submask::Error::Interrupted), "{ended}");
        assert_eq!(asked.into_inner(), often / 2 + 1);
    }
}
