//! Models with blocks in use: scores, figures and logits.

use std::fs;

use submask::Session;
use submask::data::Tokenizer;
use submask::denoiser::States;
use submask::likelihood::Kind;
use submask::model::{Estimator, EvaluateRequest, HeldOut, MaskedBatch, MaskedSequence, NetworkConfig};
use submask::order::Order;
use submask::schedule::RevealUnit;

use crate::scores::{LENGTH, dit, encoder, exact, score, session};

const BLOCK: usize = 4;

/// The networks of the scores, with blocks.
fn networks() -> Vec<NetworkConfig> {
    let with_blocks = |mut network: NetworkConfig| {
        match &mut network {
            NetworkConfig::Diffusion(config) => config.block_len = BLOCK,
            NetworkConfig::Encoder(config) => config.block_len = BLOCK,
            other => panic!("{other:?} has no blocks"),
        }
        network
    };
    vec![with_blocks(dit(false)), with_blocks(encoder())]
}

/// With one end of text the prompt is three blocks: what follows is seen by none of them.
#[test]
fn scores_of_parts_that_end_with_a_block_add_up() {
    let (prompt, completion) = ("The sea is ", "wide.");
    assert_eq!((1 + prompt.len()) % BLOCK, 0);
    for network in networks() {
        for subtokens in [1, 2] {
            let session = session(network.clone(), Tokenizer::bytes(), subtokens);
            for request in [
                exact(Order::LeftToRight, RevealUnit::Digits),
                exact(Order::Confidence, RevealUnit::Tokens),
                session.score_request(),
            ] {
                let whole = score(&session, &request, "", &format!("{prompt}{completion}"));
                let (first, rest) =
                    (score(&session, &request, "", prompt), score(&session, &request, prompt, completion));
                if let (Some(whole), Some(first), Some(rest)) =
                    (&whole.by_token, &first.by_token, &rest.by_token)
                {
                    let terms: Vec<f64> = first.iter().chain(rest).map(|term| term.nats).collect();
                    assert_eq!(whole.iter().map(|term| term.nats).collect::<Vec<_>>(), terms);
                } else {
                    assert_eq!(whole.kind, Kind::UpperBound, "bounds have draws of their own");
                    let error: f64 = [&whole, &first, &rest]
                        .map(|score| score.draw_error.unwrap().powi(2))
                        .iter()
                        .sum::<f64>()
                        .sqrt();
                    let difference = first.nats + rest.nats - whole.nats;
                    assert!(difference.abs() < 4.0 * error, "{difference} {error}");
                }
            }
        }
    }
}

#[test]
fn figures_of_held_out_text_are_those_of_every_batch() {
    for network in networks() {
        let session = session(network, Tokenizer::bytes(), 2);
        assert_eq!(session.usual_estimator(), Estimator::NelboSubtoken);
        let held_out = HeldOut {
            x_0: (0..60).map(|i| i * 37 % 257).collect(),
            seq_len: LENGTH,
            lengths: vec![24, 24, 11, 1],
            ..HeldOut::default()
        };
        for estimator in [Estimator::NelboSubtoken, Estimator::Path { steps: 3 }, Estimator::JointObjective] {
            let evaluate = |batch| {
                let request = EvaluateRequest { draws: 2, batch, ..EvaluateRequest::new(estimator) };
                session.evaluation(&request, &held_out).unwrap()
            };
            let all = evaluate(16);
            assert_eq!(evaluate(1), all);
            // Two draws of four sequences, and what is kept of the three that have several blocks.
            assert_eq!(all.figures[0].evaluations, 4 * 2 + 3, "{estimator:?}");
        }
    }
}

fn logits(session: &Session, sequences: &[MaskedSequence], batch: usize) -> Vec<(Vec<usize>, Vec<f32>)> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("logits.safetensors");
    session.write_logits(sequences, batch, &path).unwrap();
    let bytes = fs::read(path).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let tensor = |i: usize| tensors.tensor(&format!("logits.{i}")).unwrap();
    let floats = |bytes: &[u8]| bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    (0..sequences.len()).map(|i| (tensor(i).shape().to_vec(), floats(tensor(i).data()))).collect()
}

/// The same of a sequence three times in a batch: of all its rows, and of some of them in any order.
fn logits_of_a_batch_are_those_of_its_sequences(session: &Session, one: &[MaskedSequence], expected: &[f32]) {
    let mask = session.architecture().predictive().codes().mask_id();
    let y_t: Vec<u32> = one[0].digits.iter().map(|digit| digit.unwrap_or(mask)).collect();
    let y_t = y_t.repeat(3);
    let positions = [21, 0, 27, 3, 10];
    let batch = MaskedBatch { y_t: &y_t, count: 3, t: None, labels: None, positions: Some(&positions) };
    let row = |position: usize| &expected[position % 10 * 257..(position % 10 + 1) * 257];
    for at_once in [1, 2, 16] {
        let mut some = vec![0.0; positions.len() * 257];
        session.logits_into(&batch, at_once, &mut some, &|| Ok(())).unwrap();
        assert!(some.chunks(257).zip(positions).all(|(own, position)| own == row(position)));
        let mut all = vec![0.0; 3 * 8 * 257];
        let batch = MaskedBatch { positions: None, ..batch };
        session.logits_into(&batch, at_once, &mut all, &|| Ok(())).unwrap();
        assert_eq!(all, expected.repeat(3));
    }
    for (positions, said) in [(&[30][..], "positions = 30"), (&[8], "behind the first block")] {
        let error = session.logits_shape(&MaskedBatch { positions: Some(positions), ..batch }).unwrap_err();
        assert!(error.to_string().contains(said), "{error}");
    }
    let interrupted =
        session.logits_into(&batch, 16, &mut [0.0; 5 * 257], &|| Err(submask::Error::Interrupted));
    assert!(matches!(interrupted, Err(submask::Error::Interrupted)));
}

#[test]
fn logits_end_with_the_first_block_that_is_masked() {
    for network in networks() {
        let session = session(network, Tokenizer::bytes(), 2);
        let tokens = |known: usize, total: usize| -> Vec<Option<u32>> {
            (0..total).map(|i| (i < known).then_some(97 + i as u32)).collect()
        };
        let mut hole = tokens(8, 10);
        hole[5] = None;
        hole[8..].fill(None);
        // Nothing known; five tokens; all; a hole in the second block; and half a token.
        let known = [tokens(0, 10), tokens(5, 10), tokens(10, 10), hole];
        let mut sequences: Vec<MaskedSequence> =
            known.iter().map(|tokens| MaskedSequence::of_tokens(tokens, &session).unwrap()).collect();
        let mut half = sequences[1].clone();
        half.digits[0] = None;
        half.digits[8..].fill(None);
        sequences.push(half);
        let found = logits(&session, &sequences, 16);
        let rows = [4, 8, 10, 8, 4];
        for ((shape, values), (sequence, rows)) in found.iter().zip(sequences.iter().zip(rows)) {
            assert_eq!(shape[..], [rows, 257]);
            let mask = session.architecture().predictive().codes().mask_id();
            let y_t: Vec<u32> = sequence.digits.iter().map(|digit| digit.unwrap_or(mask)).collect();
            let mut expected = Vec::new();
            let states = States { y_t: &y_t, t: &[0.0], labels: None };
            let positions: Vec<usize> = (0..rows).collect();
            session
                .denoiser()
                .unwrap()
                .evaluate(&states, &positions, &mut |_, logits| {
                    expected.extend_from_slice(logits);
                    Ok(())
                })
                .unwrap();
            assert_eq!(values, &expected);
            let batch = MaskedBatch { y_t: &y_t, count: 1, t: None, labels: None, positions: None };
            assert_eq!(session.logits_shape(&batch).unwrap(), (rows, 257));
            let mut written = vec![0.0; rows * 257];
            session.logits_into(&batch, 16, &mut written, &|| Ok(())).unwrap();
            assert_eq!(written, expected);
        }
        logits_of_a_batch_are_those_of_its_sequences(&session, &sequences[3..4], &found[3].1);
        assert_eq!(logits(&session, &sequences, 1), found);
        let mut later = sequences[1].clone();
        later.digits[17] = Some(3);
        let refused = session.check_masked(&later).unwrap_err().to_string();
        assert!(refused.contains("token given = 8") && refused.contains("tokens 4 to 7"), "{refused}");
    }
}
