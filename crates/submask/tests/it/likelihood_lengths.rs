//! Sequences of different lengths, given parts and keys in one call: no value depends on the others.

use submask::denoiser::{Autoregressor, Continuation, Denoiser, Spec, States};
use submask::likelihood::{
    Estimate, Exact, LikelihoodSettings, Meaning, Sequences, bound_k, enumerate, exact_autoregressive,
    exact_autoregressive_with_top, exact_in_order, exact_left_to_right, joint_objective, nelbo_subtoken,
    nelbo_token, path_bound, path_bound_full,
};
use submask::order::Order;
use submask::predictive::Predictive;
use submask::random::{Draws, Purpose};
use submask::schedule::{RevealSteps, RevealUnit, Schedule};
use submask::subtoken::SubTokenizer;
use submask::{Error, Result};

use crate::table_network::HashNetwork;

const LENGTHS: [usize; 7] = [3, 1, 5, 3, 2, 5, 1];

/// Seven sequences of up to five tokens, some with given digits, and the keys of their draws.
struct Mixed {
    codes: SubTokenizer,
    x_0: Vec<u32>,
    given: Vec<bool>,
    keys: Vec<u64>,
}

impl Mixed {
    fn new() -> Self {
        let tokens: usize = LENGTHS.iter().sum();
        let draws = Draws::new(5, Purpose::Point);
        Self {
            codes: SubTokenizer::new(7, 2).unwrap(),
            x_0: (0..tokens as u32).map(|i| draws.below(7, 0, i, 0) as u32).collect(),
            given: (0..2 * tokens).map(|digit| digit % 5 == 2).collect(),
            keys: (0..7).map(|s| draws.below(1 << 56, 1, s, 0)).collect(),
        }
    }

    fn all(&self) -> Sequences<'_> {
        let all = Sequences::of_lengths(&self.x_0, &LENGTHS).unwrap();
        all.with_given(&self.given).with_keys(&self.keys)
    }

    /// Sequence s by itself.
    fn one(&self, s: usize) -> Sequences<'_> {
        let start: usize = LENGTHS[..s].iter().sum();
        let end = start + LENGTHS[s];
        let one = Sequences::new(&self.x_0[start..end], LENGTHS[s]).unwrap();
        one.with_given(&self.given[2 * start..2 * end]).with_keys(&self.keys[s..=s])
    }

    /// Checks that together they have the values that they have alone.
    fn check<K: Meaning>(&self, estimate: impl Fn(&Sequences) -> Result<Estimate<K>>) {
        let together = estimate(&self.all()).unwrap();
        let mut alone = estimate(&self.one(0)).unwrap();
        (1..LENGTHS.len()).for_each(|s| alone.append(estimate(&self.one(s)).unwrap()));
        let bits = |values: &[f64]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(together.nats()), bits(alone.nats()));
        assert_eq!(bits(together.draw_errors()), bits(alone.draw_errors()));
        assert_eq!((together.tokens(), together.evaluations()), (alone.tokens(), alone.evaluations()));
        assert_eq!(together.token_nats(), alone.token_nats());
    }
}

fn settings(batch: usize) -> LikelihoodSettings {
    LikelihoodSettings { draws: 3, seed: 2, batch, schedule: Schedule::Cosine }
}

#[test]
fn values_of_sequences_of_different_lengths_are_those_of_each_alone() {
    let mixed = Mixed::new();
    let mut network = HashNetwork::new(mixed.codes.clone(), 5, 1);
    let predictive = Predictive::new(mixed.codes.clone(), true);
    let steps = RevealSteps::even(&Schedule::Cosine, 4).unwrap();
    for (batch, reads_time) in [(1, true), (4, true), (1000, false)] {
        network.spec.reads_time = reads_time;
        let (n, p, s) = (&network, &predictive, &settings(batch));
        mixed.check(|x| nelbo_subtoken(n, p, x, s));
        mixed.check(|x| nelbo_token(n, p, x, s));
        mixed.check(|x| joint_objective(n, p, x, s));
        for unit in [RevealUnit::Digits, RevealUnit::Tokens] {
            mixed.check(|x| path_bound(n, p, x, &steps, unit, s));
            mixed.check(|x| path_bound_full(n, p, x, &steps, unit, s));
            mixed.check(|x| enumerate::path_bound(n, p, x, &steps, unit, s));
            mixed.check(|x| bound_k(n, p, x, unit, s));
            for order in Order::deterministic() {
                mixed.check(|x| exact_in_order(n, p, x, order, unit, 2, s));
            }
        }
        if !reads_time {
            mixed.check(|x| enumerate::nelbo_subtoken(n, p, x, s));
            mixed.check(|x| enumerate::nelbo_token(n, p, x, s));
        }
    }
}

#[test]
fn draws_follow_the_key_and_not_the_place() {
    let mixed = Mixed::new();
    let network = HashNetwork::new(mixed.codes.clone(), 5, 1);
    let predictive = Predictive::new(mixed.codes.clone(), true);
    let nats = |x_0: &[u32], keys: &[u64]| {
        let x = Sequences::new(x_0, 3).unwrap().with_keys(keys);
        nelbo_subtoken(&network, &predictive, &x, &settings(8)).unwrap().nats().to_vec()
    };
    let (a, b) = ([1, 2, 3], [4, 5, 6]);
    let both = nats(&[a, b].concat(), &[70, 80]);
    let turned = nats(&[b, a].concat(), &[80, 70]);
    assert_eq!((both[0], both[1]), (turned[1], turned[0]));
    assert_ne!(both[0], nats(&a, &[71])[0], "another key, other draws");
    // Numbers are keys, too.
    let x = Sequences::new(&a, 3).unwrap().starting_at(70);
    assert_eq!(nelbo_subtoken(&network, &predictive, &x, &settings(8)).unwrap().nats(), &both[..1]);
}

#[test]
fn charges_of_tokens_add_up_to_the_value() {
    let mixed = Mixed::new();
    let network = HashNetwork::new(mixed.codes.clone(), 5, 1);
    let predictive = Predictive::new(mixed.codes.clone(), true);
    for (order, unit) in
        Order::deterministic().flat_map(|o| [(o, RevealUnit::Digits), (o, RevealUnit::Tokens)])
    {
        for per_step in [1, 3] {
            let s = settings(8);
            let found =
                exact_in_order(&network, &predictive, &mixed.all(), order, unit, per_step, &s).unwrap();
            for (s, (nats, tokens)) in found.nats().iter().zip(found.token_nats()).enumerate() {
                assert_eq!(tokens.len(), LENGTHS[s]);
                assert!(
                    (tokens.iter().sum::<f64>() - nats).abs() < 1e-12 * nats.max(1.0),
                    "{order} {unit:?}"
                );
            }
        }
    }
    let bound = nelbo_subtoken(&network, &predictive, &mixed.all(), &settings(8)).unwrap();
    assert!(bound.token_nats().is_empty(), "a bound is no sum over tokens");
}

/// log p of every token at token `i` of a sequence, given those before it.
fn given_those_before(network: &HashNetwork, predictive: &Predictive, x_0: &[u32], i: usize) -> Vec<f64> {
    let codes = predictive.codes();
    let mut y = codes.encode(x_0).unwrap();
    y[2 * i..].fill(codes.mask_id());
    let mut log_probs = Vec::new();
    let states = States { y_t: &y, t: &[0.0], labels: None };
    network
        .evaluate(&states, &[i], &mut |_, logits| {
            let p = predictive.distribution(logits, &y[2 * i..2 * i + 2]);
            log_probs = (0..codes.vocab_size() as u32).map(|token| p.log_prob(token)).collect();
            Ok(())
        })
        .unwrap();
    log_probs
}

#[test]
fn from_left_to_right_the_most_probable_tokens_are_those_of_the_network() {
    let mixed = Mixed::new();
    let mut network = HashNetwork::new(mixed.codes.clone(), 5, 1);
    network.spec.reads_time = false;
    let predictive = Predictive::new(mixed.codes.clone(), true);
    let x = Sequences::of_lengths(&mixed.x_0, &LENGTHS).unwrap();
    let found = exact_left_to_right(&network, &predictive, &x, 3, &settings(8)).unwrap();
    let mut start = 0;
    for (s, len) in LENGTHS.into_iter().enumerate() {
        let x_0 = &mixed.x_0[start..start + len];
        start += len;
        assert_eq!(found.top_tokens()[s].len(), len);
        for (i, top) in found.top_tokens()[s].iter().enumerate() {
            let log_probs = given_those_before(&network, &predictive, x_0, i);
            let mut order: Vec<u32> = (0..7).collect();
            order.sort_by(|a, b| log_probs[*b as usize].total_cmp(&log_probs[*a as usize]));
            assert_eq!(top.iter().map(|(token, _)| *token).collect::<Vec<_>>(), order[..3]);
            for (token, log_prob) in top {
                assert!((log_prob - log_probs[*token as usize]).abs() < 1e-12);
            }
            assert!((found.token_nats()[s][i] + log_probs[x_0[i] as usize]).abs() < 1e-12);
        }
    }
}

#[test]
fn the_most_probable_tokens_change_no_value_and_depend_on_no_other_sequence() {
    let mixed = Mixed::new();
    let network = HashNetwork::new(mixed.codes.clone(), 5, 1);
    for carry_over in [true, false] {
        let predictive = Predictive::new(mixed.codes.clone(), carry_over);
        let (n, p) = (&network, &predictive);
        let found = |x: &Sequences, top, batch| exact_left_to_right(n, p, x, top, &settings(batch)).unwrap();
        let (order, unit) = (Order::LeftToRight, RevealUnit::Tokens);
        let plain = exact_in_order(n, p, &mixed.all(), order, unit, 1, &settings(8)).unwrap();
        assert_eq!(found(&mixed.all(), 0, 8), plain);
        assert!(plain.top_tokens().is_empty());
        let (three, all) = (found(&mixed.all(), 3, 8), found(&mixed.all(), 7, 1));
        assert_eq!((all.nats(), all.token_nats()), (plain.nats(), plain.token_nats()));
        for (s, len) in LENGTHS.into_iter().enumerate() {
            assert_eq!(found(&mixed.one(s), 7, 8).top_tokens()[0], all.top_tokens()[s]);
            let start: usize = LENGTHS[..s].iter().sum();
            for i in 0..len {
                let top = &all.top_tokens()[s][i];
                assert_eq!(three.top_tokens()[s][i], top[..3.min(top.len())]);
                // The token itself is among all, with the bits of its charge.
                let own = top.iter().find(|(token, _)| *token == mixed.x_0[start + i]).unwrap();
                assert_eq!(-own.1, all.token_nats()[s][i]);
                let given = mixed.given[2 * (start + i)..2 * (start + i) + 2].contains(&true);
                // Of a token given in part, the same missing digits belong to several without the constraint.
                if given && !carry_over {
                    continue;
                }
                let mass: f64 = top.iter().map(|(_, log_prob)| log_prob.exp()).sum();
                assert!((mass - 1.0).abs() < 1e-12 && top.is_sorted_by(|a, b| a.1 >= b.1), "{top:?}");
            }
        }
    }
}

/// An autoregressive network whose logits are a hash of what stands before.
struct HashAutoregressor {
    spec: Spec,
    base: usize,
}

impl Autoregressor for HashAutoregressor {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn base(&self) -> usize {
        self.base
    }

    fn logits(&self, inputs: &[u32], batch: usize) -> Result<Vec<f32>> {
        let draws = Draws::new(9, Purpose::Init);
        let rows = inputs.chunks_exact(inputs.len() / batch);
        let states = rows.flat_map(|row| {
            row.iter().scan(7_u64, |state, &input| {
                *state = (*state ^ u64::from(input)).wrapping_mul(0x100_0000_01b3);
                Some(*state & 0xffff_ffff_ffff)
            })
        });
        let logits = |state| (0..self.base as u32).map(move |x| 2.0 * draws.normal(state, x, 0) as f32);
        Ok(states.flat_map(logits).collect())
    }

    fn begin(&self) -> Box<dyn Continuation + '_> {
        unimplemented!("nothing is sampled here")
    }
}

#[test]
fn the_baseline_charges_what_is_not_given_and_its_parts_make_the_whole() {
    let codes = SubTokenizer::new(7, 2).unwrap();
    let predictive = Predictive::new(codes.clone(), true);
    let network = HashAutoregressor { spec: Spec::new(&codes, 6), base: codes.base() as usize };
    let exact = |x: &Sequences| -> Result<Estimate<Exact>> {
        exact_autoregressive(&network, &predictive, x, &settings(2))
    };
    let x_0 = [1, 6, 3, 0, 2, 5];
    let given = |digits: usize| (0..12).map(|digit| digit < digits).collect::<Vec<_>>();
    let whole = exact(&Sequences::new(&x_0, 6).unwrap()).unwrap();
    for digits in 1..12 {
        let rest = exact(&Sequences::new(&x_0, 6).unwrap().with_given(&given(digits))).unwrap();
        assert_eq!(rest.tokens(), [(12 - digits as u64).div_ceil(2)]);
        if digits % 2 == 0 {
            let beginning = exact(&Sequences::new(&x_0[..digits / 2], digits / 2).unwrap()).unwrap();
            let sum = beginning.nats()[0] + rest.nats()[0];
            assert!((sum / whole.nats()[0] - 1.0).abs() < 1e-12, "{digits} digits given");
            let tokens = &whole.token_nats()[0];
            assert_eq!(tokens[digits / 2..], rest.token_nats()[0][digits / 2..]);
            assert_eq!(rest.token_nats()[0][..digits / 2], vec![0.0; digits / 2]);
        }
    }
    let mut hole = given(4);
    hole[7] = true;
    let refused = exact(&Sequences::new(&x_0, 6).unwrap().with_given(&hole)).unwrap_err().to_string();
    assert!(refused.contains("given = sub-tokens behind others"), "{refused}");

    let mixed = Mixed { given: vec![false; 2 * LENGTHS.iter().sum::<usize>()], ..Mixed::new() };
    mixed.check(exact);
}

#[test]
fn lengths_that_do_not_fit_are_refused() {
    let refused =
        |x_0: &[u32], lengths: &[usize]| Sequences::of_lengths(x_0, lengths).unwrap_err().to_string();
    assert!(refused(&[], &[]).contains("lengths = no sequence"));
    assert!(refused(&[1], &[1, 0]).contains("lengths = 0 tokens"));
    assert!(refused(&[1, 2], &[1, 2]).contains("tokens = 2 is not allowed: 3"));
    assert!(refused(&[1], &[usize::MAX, 1]).contains("tokens = 1"));
    let codes = SubTokenizer::new(7, 2).unwrap();
    let predictive = Predictive::new(codes.clone(), true);
    let mut network = HashNetwork::new(codes, 3, 1);
    let estimate = |network: &HashNetwork, x: Sequences| -> Error {
        nelbo_subtoken(network, &predictive, &x, &settings(8)).unwrap_err()
    };
    let x_0 = [1, 2, 3, 4, 5];
    let of = |lengths| Sequences::of_lengths(&x_0, lengths).unwrap();
    assert!(estimate(&network, of(&[1, 4])).to_string().contains("sequence length = 4"));
    assert!(estimate(&network, of(&[2, 3]).with_keys(&[1])).to_string().contains("keys = 1"));
    assert!(estimate(&network, of(&[2, 3]).with_given(&[true; 9])).to_string().contains("given = 9"));
    assert!(estimate(&network, of(&[2, 3]).with_given(&[true; 10])).to_string().contains("every sub-token"));
    network.spec.seq_lens = 3..=3;
    assert!(estimate(&network, of(&[3, 2])).to_string().contains("3 tokens, the model's only length"));
}

#[test]
fn the_baseline_tells_the_most_probable_tokens_of_one_digit_each() {
    let codes = SubTokenizer::new(7, 1).unwrap();
    let predictive = Predictive::new(codes.clone(), true);
    let network = HashAutoregressor { spec: Spec::new(&codes, 6), base: 7 };
    let x_0 = [1, 6, 3, 0, 2, 5, 4, 4, 1, 3];
    let x = Sequences::of_lengths(&x_0, &[6, 4]).unwrap();
    let given: Vec<bool> = (0..10).map(|digit| digit < 2).collect();
    let x = x.with_given(&given);
    let top =
        |top, batch| exact_autoregressive_with_top(&network, &predictive, &x, top, &settings(batch)).unwrap();
    let (plain, two, all) =
        (exact_autoregressive(&network, &predictive, &x, &settings(2)), top(2, 1), top(9, 8));
    let plain = plain.unwrap();
    assert_eq!(top(0, 2), plain);
    assert_eq!((all.nats(), all.token_nats()), (plain.nats(), plain.token_nats()));
    for (place, x) in x_0.into_iter().enumerate() {
        let (s, i) = if place < 6 { (0, place) } else { (1, place - 6) };
        let top = &all.top_tokens()[s][i];
        if place < 2 {
            assert!(top.is_empty(), "it is given");
            continue;
        }
        assert_eq!(two.top_tokens()[s][i], top[..2]);
        assert!(top.len() == 7 && top.is_sorted_by(|a, b| a.1 >= b.1));
        let own = top.iter().find(|(token, _)| *token == x).unwrap();
        assert_eq!(-own.1, all.token_nats()[s][i]);
        assert!((top.iter().map(|(_, log_prob)| log_prob.exp()).sum::<f64>() - 1.0).abs() < 1e-12);
    }
    let codes = SubTokenizer::new(7, 2).unwrap();
    let predictive = Predictive::new(codes.clone(), true);
    let network = HashAutoregressor { spec: Spec::new(&codes, 6), base: codes.base() as usize };
    let refused = exact_autoregressive_with_top(&network, &predictive, &x, 1, &settings(2)).unwrap_err();
    assert!(refused.to_string().contains("top = 1"), "{refused}");
}
