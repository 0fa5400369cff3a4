//! Networks with blocks agree with the reference implementation: logits, terms, losses, every gradient, draws of clipped
//! times, and the paths of sampling.

use std::sync::Arc;

use burn::tensor::{Device, Tensor};
use submask::backbone::weights::Weights;
use submask::backbone::{self, Backbone, Context, Digits, Inputs, LoadedBackbone};
use submask::denoiser::{BlockDenoiser, Denoiser, Kept, States};
use submask::forward::{ClipInterval, mask_block, stratified_times};
use submask::objective::{LossRows, Objective};
use submask::ops::{Kernels, Precision};
use submask::predictive::Predictive;

use crate::fixtures::{Case, assert_close, cases, deviation, hold, places, tolerances};
use crate::parity_networks::{codes, floats, network, values};

/// Cases with losses; the others are of sampling.
fn training_cases() -> Vec<Case> {
    let cases = cases("block_").into_iter().chain(cases("blockprime_"));
    cases.filter(|case| !case.name.ends_with("_sampling")).collect()
}

/// The digits of the clean tokens.
fn clean(case: &Case) -> Vec<u32> {
    codes(case).encode(&case.ids("vectors", "x_0")).unwrap()
}

/// The digits that the network sees in the noisy half.
fn noisy(case: &Case) -> Vec<u32> {
    case.ids("vectors", if case.integer("subtoken_len") == 1 { "x_t" } else { "y_t" })
}

/// One number per token, from one per block.
fn per_token(case: &Case, per_block: &[f64]) -> Vec<f64> {
    let (length, block) = (case.integer("length"), case.integer("block_size"));
    let blocks = length.div_ceil(block);
    per_block.chunks(blocks).flat_map(|row| (0..length).map(|i| row[i / block])).collect()
}

/// Logits of the C tokens of rows that have a class of the mask besides.
fn of_tokens(case: &Case, rows: &[f64]) -> Vec<f64> {
    let (tokens, classes) = (case.integer("vocab_size"), case.integer("network_classes"));
    rows.chunks_exact(classes).flat_map(|row| row[..tokens].to_vec()).collect()
}

fn theirs(case: &Case, name: &str) -> Option<Vec<f64>> {
    Some(case.tensor("vectors", name)?.1)
}

/// The logits of the noisy half, `y_t`, at all positions.
fn logits(case: &Case, kernels: Kernels, device: &Device, y_t: &[u32]) -> Vec<f64> {
    let network = network(case, kernels);
    let parameters = network.parameters();
    let weights = Weights::new(parameters, &values(case, "weights", parameters), device);
    let (clean, sequences) = (clean(case), y_t.len() / network.spec().subtoken_len / case.integer("length"));
    let t = vec![0.0; sequences];
    let context = Context::Clean(Digits::Host(&clean));
    let inputs = Inputs { y_t: Digits::Host(y_t), t: &t, labels: None, context };
    let all: Vec<usize> = (0..sequences * case.integer("length")).collect();
    floats(backbone::logits(&network, &weights, &inputs, &all).unwrap().into_data())
}

#[test]
fn logits_of_the_noisy_half_agree() {
    for case in training_cases() {
        let mask = codes(&case).mask_id();
        let all_masked = vec![mask; noisy(&case).len()];
        let states =
            [("logits", noisy(&case)), ("logits_mdlm", noisy(&case)), ("logits_all_masked", all_masked)];
        let bos = case.tensor("vectors", "x_t_bos").map(|_| ("logits_bos", case.ids("vectors", "x_t_bos")));
        let mut compared = 0;
        for (name, y_t) in states.into_iter().chain(bos) {
            let Some(theirs) = theirs(&case, name) else { continue };
            let theirs = of_tokens(&case, &theirs);
            for (device, kernels) in places() {
                let ours = logits(&case, kernels, &device, &y_t);
                println!("{} {name} {kernels:?}: {:.1e}", case.name, deviation(&ours, &theirs));
                let what = format!("{} {name} {kernels:?}", case.name);
                assert_close(&what, &ours, &theirs, tolerances(kernels).values);
                compared += 1;
            }
        }
        assert!(compared > 0, "{}", case.name);
    }
}

/// Within the error of bfloat16, which has 8 significant bits.
#[test]
fn logits_of_the_noisy_half_are_near_in_bf16() {
    for case in training_cases() {
        let theirs = of_tokens(&case, &theirs(&case, "logits").unwrap());
        for kernels in [Kernels::FUSED, Kernels::GPU] {
            let kernels = kernels.with_precision(Precision::Bf16).unwrap();
            let off = deviation(&logits(&case, kernels, &Device::flex(), &noisy(&case)), &theirs);
            println!("{} in bf16, {kernels:?}: largest deviation {off:.1e}", case.name);
            hold(off > 1e-5 && off < 0.03, || format!("{}: {off}", case.name));
        }
    }
}

#[test]
fn log_probabilities_and_terms_agree() {
    for case in training_cases() {
        let codes = codes(&case);
        let (len, tokens, mask) = (codes.subtoken_len(), codes.vocab_size(), codes.mask_id());
        let (x_0, predictive) = (case.ids("vectors", "x_0"), Predictive::new(codes.clone(), true));
        let weight: Vec<f64> = theirs(&case, "t").unwrap().iter().map(|t| 1.0 / t).collect();
        let distributions = |y_t: &[u32]| -> Vec<Vec<f64>> {
            let rows = logits(&case, Kernels::FUSED, &Device::flex(), y_t);
            let row = |(row, y): (&[f64], &[u32])| -> Vec<f64> {
                let row: Vec<f32> = row.iter().map(|x| *x as f32).collect();
                let p = predictive.distribution(&row, y);
                let terms = codes.digits(0).len();
                assert_eq!(terms, len);
                (0..tokens as u32).map(|x| p.log_prob(x)).collect()
            };
            rows.chunks_exact(tokens).zip(y_t.chunks_exact(len)).map(row).collect()
        };
        let compare = |name: &str, ours: &[f64]| {
            let Some(theirs) = theirs(&case, name) else { return 0 };
            let classes = theirs.len() / x_0.len();
            let is_table = classes == case.integer("network_classes") && name.starts_with("log_prob");
            let theirs = if is_table { of_tokens(&case, &theirs) } else { theirs };
            assert_close(&format!("{} {name}", case.name), ours, &theirs, 1e-5);
            1
        };
        let nll = |rows: &[Vec<f64>]| -> Vec<f64> {
            rows.iter().zip(&x_0).map(|(row, x)| 0.0 - row[*x as usize]).collect()
        };
        let weighted =
            |nll: &[f64]| -> Vec<f64> { nll.iter().zip(&weight).map(|(nll, w)| nll * w).collect() };
        let rows = distributions(&noisy(&case));
        let nll_masked = nll(&rows);
        let mut compared = 0;
        compared += compare("log_prob", &rows.concat());
        compared += compare("log_prob_carry_over", &rows.concat());
        compared += compare("nll_masked", &nll_masked);
        compared += compare("joint_nll", &nll_masked);
        compared += compare("nelbo_terms", &weighted(&nll_masked));
        compared += compare("weight", &weight);
        if case.tensor("vectors", "x_t_bos").is_some() {
            let bos = nll(&distributions(&case.ids("vectors", "x_t_bos")));
            compared += compare("nelbo_terms_bos", &weighted(&bos));
        }
        if case.tensor("vectors", "nll_ar").is_some() {
            // Everything masked in blocks of one token: the chain rule of an autoregressive model.
            let rows = distributions(&vec![mask; x_0.len()]);
            let nll = nll(&rows);
            compared += compare("log_prob_all_masked", &rows.concat());
            compared += compare("nll_ar", &nll);
            compared += compare("nll_chain_rule", &nll);
        }
        if let Some(theirs) = theirs(&case, "marginal_nll") {
            let (y_t, tables) = (noisy(&case), logits(&case, Kernels::FUSED, &Device::flex(), &noisy(&case)));
            let mut ours = Vec::new();
            for (i, row) in tables.chunks_exact(tokens).enumerate() {
                let (row, y) =
                    (row.iter().map(|x| *x as f32).collect::<Vec<_>>(), &y_t[i * len..(i + 1) * len]);
                let p = predictive.distribution(&row, y);
                let digits = codes.digits(x_0[i]).iter().enumerate();
                ours.extend(
                    digits.map(|(j, digit)| if y[j] == mask { -p.log_marginal(j, *digit) } else { 0.0 }),
                );
            }
            assert_close(&format!("{} marginal_nll", case.name), &ours, &theirs, 1e-5);
            compared += 1;
        }
        assert!(compared >= 3, "{}: {compared}", case.name);
    }
}

/// A loss of a case: what is seen, what is charged, and how much each token counts.
struct Charged {
    y_t: Vec<u32>,
    positions: Vec<usize>,
    weights: Vec<f64>,
    objective: Objective,
}

impl Charged {
    /// Every position by 1/t of its block, as a mean over all tokens.
    fn all(y_t: Vec<u32>, t: &[f64], objective: Objective) -> Self {
        let count = t.len();
        let weights = t.iter().map(|t| 1.0 / t / count as f64).collect();
        Self { y_t, positions: (0..count).collect(), weights, objective }
    }

    /// The first token of every sequence is given: charged are the others, as a mean over `count` tokens.
    fn without_first(self, length: usize, count: usize) -> Self {
        let scale = self.positions.len() as f64 / count as f64;
        let positions = self.positions.into_iter().filter(|p| p % length > 0).collect();
        Self { positions, weights: self.weights.iter().map(|weight| weight * scale).collect(), ..self }
    }

    fn loss(&self, case: &Case, network: &dyn Backbone, weights: &Weights) -> Tensor<1> {
        let (x_0, clean) = (case.ids("vectors", "x_0"), clean(case));
        let len = case.integer("subtoken_len");
        let rows = LossRows::new(
            Arc::new(Predictive::new(codes(case), true)),
            self.objective,
            self.positions.iter().map(|&p| x_0[p]).collect(),
            self.positions.iter().flat_map(|&p| self.y_t[p * len..(p + 1) * len].iter().copied()).collect(),
            self.positions.iter().map(|&p| self.weights[p] as f32).collect(),
        );
        let t = vec![0.0; x_0.len() / case.integer("length")];
        let context = Context::Clean(Digits::Host(&clean));
        let inputs = Inputs { y_t: Digits::Host(&self.y_t), t: &t, labels: None, context };
        backbone::loss(network, weights, &inputs, &self.positions, rows, None)
            .unwrap()
            .expect("there are rows")
    }
}

/// Every loss of a case by its name.
fn losses(case: &Case) -> Vec<(String, Charged)> {
    let (length, t) = (case.integer("length"), theirs(case, "t").unwrap());
    let count = t.len();
    let all = |y_t: Vec<u32>, t: &[f64]| Charged::all(y_t, t, Objective::Joint);
    let bos = || all(case.ids("vectors", "x_t_bos"), &t);
    let mut losses = vec![
        ("block".to_owned(), all(noisy(case), &t)),
        ("mdlm".to_owned(), all(noisy(case), &t)),
        ("joint".to_owned(), all(noisy(case), &t)),
        ("marginal".to_owned(), Charged::all(noisy(case), &t, Objective::Marginal)),
        ("ar".to_owned(), all(vec![codes(case).mask_id(); noisy(case).len()], &vec![1.0; count])),
    ];
    if case.tensor("vectors", "x_t_bos").is_some() {
        losses.push(("bos_train".to_owned(), bos().without_first(length, count)));
        losses.push(("bos_eval".to_owned(), bos().without_first(length, count - count / length)));
    }
    for (number, _) in case.json["clip"].as_object().into_iter().flatten() {
        let t = per_token(case, &theirs(case, &format!("clip{number}_t_block")).unwrap());
        for kind in ["plain", "resampled"] {
            let y_t = case.ids("vectors", &format!("clip{number}_{kind}_x_t"));
            losses.push((format!("clip{number}_{kind}"), all(y_t, &t)));
        }
    }
    losses.retain(|(name, _)| case.json[format!("loss_{name}")].is_number());
    losses
}

#[test]
fn losses_and_every_gradient_agree() {
    for case in training_cases() {
        let (mut compared, losses) = (0, losses(&case));
        let in_file = case.json.as_object().unwrap().keys().filter(|key| key.starts_with("loss_")).count();
        assert_eq!(losses.len(), in_file, "{}: every loss is compared", case.name);
        for (name, charged) in &losses {
            for (device, kernels) in places() {
                let network = network(&case, kernels);
                let parameters = network.parameters();
                let start = values(&case, "weights", parameters);
                let weights = Weights::new(parameters, &start, &device.autodiff());
                let loss = charged.loss(&case, &network, &weights);
                let value = f64::from(loss.clone().into_scalar::<f32>());
                let what = format!("{} loss_{name} {kernels:?}", case.name);
                let theirs = case.number(&format!("loss_{name}"));
                assert_close(&what, &[value], &[theirs], tolerances(kernels).values);
                let file = format!("grads_{name}");
                if !case.has(&file) {
                    continue;
                }
                let gradients = loss.backward();
                assert_eq!(case.tensor_names(&file).len(), parameters.len(), "{file} holds every parameter");
                for (parameter, tensor) in parameters.iter().zip(weights.tensors()) {
                    let ours = match tensor.grad(&gradients) {
                        Some(gradient) => floats(gradient.into_data()),
                        None => vec![0.0; parameter.len()],
                    };
                    let theirs = case.tensor(&file, &parameter.name).unwrap().1;
                    let what = format!("{} {file} {} {kernels:?}", case.name, parameter.name);
                    assert_close(&what, &ours, &theirs, tolerances(kernels).gradients);
                    compared += 1;
                }
            }
        }
        assert!(compared > 0, "{}: no gradients were compared", case.name);
    }
}

/// Times from their uniforms in the reference's order, and masks from theirs: masked where v ≤ t, here where 1 − v ≥ 1 − t.
#[test]
fn times_and_masks_agree_with_and_without_an_interval() {
    for case in training_cases() {
        let (length, mask) = (case.integer("length"), codes(&case).mask_id());
        let (digits, block) = (case.integer("subtoken_len") * length, case.integer("block_size"));
        let block = block * case.integer("subtoken_len");
        let times = |rand: &str, range: [f64; 2]| -> Vec<f64> {
            let rand = theirs(&case, rand).unwrap();
            stratified_times(rand.len(), range, rand.into_iter()).collect()
        };
        // `rounds` of uniforms, each [B, L·ℓ].
        let masked =
            |rounds: &[f64], times: &[f64], interval: Option<ClipInterval>, used: &mut usize| -> Vec<u32> {
                let (clean, blocks) = (clean(&case), digits.div_ceil(block));
                let one = |(b, y_0): (usize, &[u32]), used: &mut usize| -> Vec<u32> {
                    let row = |(k, y_0): (usize, &[u32])| {
                        let start = b * digits + k * block;
                        let uniforms = |round: u32| {
                            *used = (*used).max(round as usize + 1);
                            rounds[round as usize * clean.len() + start..].iter().map(|v| 1.0 - v)
                        };
                        mask_block(y_0, 1.0 - times[b * blocks + k], mask, interval, uniforms)
                    };
                    y_0.chunks(block).enumerate().flat_map(row).collect()
                };
                clean.chunks(digits).enumerate().flat_map(|sequence| one(sequence, used)).collect()
            };
        let ends: Vec<f64> =
            case.json["sampling_eps"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect();
        let t = times("rand_t", [ends[0], ends[1]]);
        assert_close(&format!("{} t_block", case.name), &t, &theirs(&case, "t_block").unwrap(), 1e-6);
        let (exact, rand_mask) = (theirs(&case, "t_block").unwrap(), theirs(&case, "rand_mask").unwrap());
        assert_eq!(masked(&rand_mask, &exact, None, &mut 0), noisy(&case), "{}", case.name);
        for (number, ends) in case.json["clip"].as_object().into_iter().flatten() {
            let (low, high) = (ends[0].as_f64().unwrap(), ends[1].as_f64().unwrap());
            let name = |what: &str| format!("clip{number}_{what}");
            let t = times(&name("rand_t"), [low, high]);
            let exact = theirs(&case, &name("t_block")).unwrap();
            assert_close(&name("t_block"), &t, &exact, 1e-6);
            let (shape, rand_mask) = case.tensor("vectors", &name("rand_mask")).unwrap();
            let plain = masked(&rand_mask, &exact, None, &mut 0);
            assert_eq!(plain, case.ids("vectors", &name("plain_x_t")), "{} {number}", case.name);
            let (interval, mut used) = (ClipInterval::new(low, high).unwrap(), 0);
            let resampled = masked(&rand_mask, &exact, Some(interval), &mut used);
            assert_eq!(resampled, case.ids("vectors", &name("resampled_x_t")), "{} {number}", case.name);
            assert_eq!(used, shape[0], "{} {number}: all rounds are used", case.name);
        }
    }
}

/// Logits of `rows` as they come.
fn gather(into: &mut Vec<f64>) -> impl FnMut(std::ops::Range<usize>, &[f32]) -> submask::Result<()> + '_ {
    |_, rows| {
        into.extend(rows.iter().map(|x| f64::from(*x)));
        Ok(())
    }
}

/// Sequences [B, n] of tokens, cut to the tokens in `range`.
fn cut(x: &[u32], length: usize, range: std::ops::Range<usize>) -> Vec<u32> {
    x.chunks_exact(length).flat_map(|row| row[range.clone()].to_vec()).collect()
}

/// Each sequence's tokens followed by those of the other.
fn joined(first: &[u32], second: &[u32], sequences: usize) -> Vec<u32> {
    let (a, b) = (first.len() / sequences, second.len() / sequences);
    (0..sequences).flat_map(|s| [&first[s * a..(s + 1) * a], &second[s * b..(s + 1) * b]].concat()).collect()
}

/// A case of sampling: its network, clean tokens [B, L], and one noisy block per block.
struct Paths {
    network: LoadedBackbone,
    x_0: Vec<u32>,
    x_t: Vec<u32>,
    length: usize,
    block: usize,
    sequences: usize,
}

impl Paths {
    fn new(case: &Case, kernels: Kernels, device: &Device) -> Self {
        let network = network(case, kernels);
        let parameters = network.parameters();
        let weights = Weights::new(parameters, &values(case, "weights", parameters), device);
        let (x_0, length) = (case.ids("vectors", "x_0"), case.integer("length"));
        Self {
            network: LoadedBackbone { network: Arc::new(network), weights },
            sequences: x_0.len() / length,
            x_t: case.ids("vectors", "x_t"),
            block: case.integer("block_size"),
            x_0,
            length,
        }
    }

    fn blocks(&self) -> usize {
        self.length / self.block
    }

    fn noisy(&self, k: usize) -> &[u32] {
        let size = self.sequences * self.block;
        &self.x_t[k * size..(k + 1) * size]
    }

    fn clean(&self, range: std::ops::Range<usize>) -> Vec<u32> {
        cut(&self.x_0, self.length, range)
    }

    /// Logits at the last block of sequences `y_t`, without a cache.
    fn uncached(&self, y_t: &[u32]) -> Vec<f64> {
        let (n, mut all) = (y_t.len() / self.sequences, Vec::new());
        let positions: Vec<usize> =
            (0..self.sequences).flat_map(|s| (n - self.block..n).map(move |i| s * n + i)).collect();
        let states = States { y_t, t: &vec![0.0; self.sequences], labels: None };
        self.network.evaluate(&states, &positions, &mut gather(&mut all)).unwrap();
        all
    }

    /// Logits of whole blocks `y_t`, the first of which begins at token `first`, after what is kept.
    fn cached(&self, kept: Option<&Kept>, first: usize, y_t: &[u32]) -> Vec<f64> {
        let mut all = Vec::new();
        let positions: Vec<usize> = (0..y_t.len()).collect();
        let states = States { y_t, t: &vec![0.0; self.sequences], labels: None };
        self.network.evaluate_after(kept, first, &states, &positions, &mut gather(&mut all)).unwrap();
        all
    }

    fn keep(&self, clean: &[u32], kept: Option<&Kept>) -> Kept {
        self.network.keep(clean, self.sequences, kept).unwrap()
    }
}

#[test]
fn the_paths_of_sampling_agree() {
    for case in cases("block_").into_iter().filter(|case| case.name.ends_with("_sampling")) {
        let compare = |name: &str, k: usize, ours: &[f64], kernels: Kernels| {
            let all = of_tokens(&case, &theirs(&case, name).unwrap());
            let theirs = &all[k * ours.len()..(k + 1) * ours.len()];
            let what = format!("{} {name} {k} {kernels:?}", case.name);
            assert_close(&what, ours, theirs, tolerances(kernels).values);
        };
        for (device, kernels) in places() {
            let paths = Paths::new(&case, kernels, &device);
            let (block, blocks) = (paths.block, paths.blocks());
            let mut kept: Option<Kept> = None;
            for k in 0..blocks {
                let prefix = paths.clean(0..k * block);
                let full = paths.uncached(&joined(&prefix, paths.noisy(k), paths.sequences));
                let cached = paths.cached(kept.as_ref(), k * block, paths.noisy(k));
                compare("logits_full", k, &full, kernels);
                compare("logits_cached", k, &cached, kernels);
                if kernels == Kernels::FUSED {
                    assert!(full == cached, "{}: block {k} with a cache and without", case.name);
                }
                kept = Some(paths.keep(&paths.clean(k * block..(k + 1) * block), kept.as_ref()));
            }
            // All blocks at once, each after the clean tokens before it.
            let mut all = paths.noisy(0).to_vec();
            (1..blocks).for_each(|k| all = joined(&all, paths.noisy(k), paths.sequences));
            let together = paths.cached(Some(&paths.keep(&paths.x_0, None)), 0, &all);
            let classes = together.len() / all.len();
            for k in 0..blocks {
                let rows = together.chunks_exact(paths.length * classes);
                let range = k * block * classes..(k + 1) * block * classes;
                let ours: Vec<f64> = rows.flat_map(|row| row[range.clone()].to_vec()).collect();
                compare("logits_2l", k, &ours, kernels);
                if kernels == Kernels::FUSED {
                    let alone =
                        paths.uncached(&joined(&paths.clean(0..k * block), paths.noisy(k), paths.sequences));
                    assert!(ours == alone, "{}: block {k} alone and among others", case.name);
                }
            }
            windows_agree(&case, &paths, kernels, compare);
        }
    }
}

/// A window of fewer tokens than the network's length, that slides by a block.
fn windows_agree(
    case: &Case,
    paths: &Paths,
    kernels: Kernels,
    compare: impl Fn(&str, usize, &[f64], Kernels),
) {
    let (window, block) = (case.integer("window_length"), paths.block);
    let mut kept: Option<Kept> = None;
    for k in 0..paths.blocks() {
        let first = kept.as_ref().map_or(0, Kept::tokens);
        compare("logits_window_cached", k, &paths.cached(kept.as_ref(), first, paths.noisy(k)), kernels);
        let all = paths.keep(&paths.clean(k * block..(k + 1) * block), kept.as_ref());
        kept = Some(if all.tokens() >= window { all.without_first(block) } else { all });
        let start = ((k + 1) * block).saturating_sub(window);
        let recomputed = joined(&paths.clean(start..k * block), paths.noisy(k), paths.sequences);
        compare("logits_window_recomputed", k, &paths.uncached(&recomputed), kernels);
    }
}
