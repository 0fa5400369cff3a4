//! Likelihoods against values from exact enumeration.

use submask::likelihood::{
    Estimate, LikelihoodSettings, Meaning, Sequences, bound_k, enumerate, exact_in_order, joint_objective,
    nelbo_subtoken, nelbo_token, path_bound, path_bound_full,
};
use submask::order::Order;
use submask::predictive::Predictive;
use submask::schedule::{RevealSteps, RevealUnit, Schedule};

use crate::fixtures::{Case, cases};
use crate::table_network::TableNetwork;

struct Oracle {
    case: Case,
    network: TableNetwork,
    predictive: Predictive,
    x_0: Vec<u32>,
}

impl Oracle {
    fn all() -> Vec<Self> {
        cases("likelihood_").into_iter().map(Self::new).collect()
    }

    fn new(case: Case) -> Self {
        let network = TableNetwork::from_case(&case);
        let predictive = Predictive::new(network.codes.clone(), true);
        let x_0 = case.ids("oracle", "sequences");
        Self { case, network, predictive, x_0 }
    }

    fn sequences(&self) -> Sequences<'_> {
        Sequences::new(&self.x_0, self.network.seq_len).unwrap()
    }

    /// The columns `path_bound_T*` with their T.
    fn path_columns(&self) -> Vec<(usize, Vec<f64>)> {
        let names = self.case.tensor_names("oracle");
        let steps = names.iter().filter_map(|name| name.strip_prefix("path_bound_T")?.parse().ok());
        let mut columns: Vec<(usize, Vec<f64>)> = steps
            .map(|t| (t, self.case.column("oracle", &format!("path_bound_T{t}")).unwrap_or_default()))
            .collect();
        columns.sort_by_key(|(t, _)| *t);
        if columns.is_empty() {
            println!("case {}: no column path_bound_T*, skipped", self.case.name);
        }
        columns
    }

    /// The probability of every sequence under the data distribution.
    fn data(&self) -> Option<Vec<f64>> {
        let distribution = self.case.column("oracle", "data_distribution")?;
        let vocab_size = self.network.codes.vocab_size();
        let index = |x: &[u32]| x.iter().fold(0, |index, &token| index * vocab_size + token as usize);
        Some(self.x_0.chunks_exact(self.network.seq_len).map(|x| distribution[index(x)]).collect())
    }
}

fn linear(steps: usize) -> RevealSteps {
    RevealSteps::even(&Schedule::Linear, steps).unwrap()
}

fn settings(seed: u64, draws: usize) -> LikelihoodSettings {
    LikelihoodSettings { draws, seed, batch: 8192, schedule: Schedule::Linear }
}

fn assert_equal<K: Meaning>(case: &Case, name: &str, found: &Estimate<K>, expected: &[f64]) {
    assert_eq!(found.sequences(), expected.len());
    let largest = expected.iter().fold(0.0f64, |largest, value| largest.max(value.abs()));
    let error = found.nats().iter().zip(expected).map(|(a, b)| (a - b).abs() / largest).fold(0.0, f64::max);
    println!("case {}: {name}: largest relative difference {error:.1e}", case.name);
    assert!(error < 1e-9, "{} {name}: {error}", case.name);
    assert!(found.draw_errors().iter().all(|error| *error == 0.0));
}

/// The mean over sequences within three standard errors of the draws, no sequence beyond five, and the standardised
/// deviations spread as they should.
fn assert_within_errors<K: Meaning>(case: &Case, name: &str, found: &Estimate<K>, expected: &[f64]) {
    let n = expected.len() as f64;
    let difference = found.nats().iter().zip(expected).map(|(a, b)| a - b).sum::<f64>() / n;
    let error = found.draw_errors().iter().map(|e| e * e).sum::<f64>().sqrt() / n;
    let floor = 1e-11 * expected.iter().fold(1.0f64, |largest, value| largest.max(value.abs()));
    let scores: Vec<f64> = (found.nats().iter().zip(expected).zip(found.draw_errors()))
        .map(|((a, b), e)| (a - b) / e.max(floor))
        .collect();
    let largest = scores.iter().fold(0.0f64, |largest, score| largest.max(score.abs()));
    let spread = (scores.iter().map(|score| score * score).sum::<f64>() / n).sqrt();
    let score = difference / error.max(floor);
    println!(
        "case {}: {name}: mean off by {difference:+.1e} = {score:+.2} standard errors, largest {largest:.2}, spread {spread:.2}",
        case.name
    );
    assert!(score.abs() < 3.0 && largest < 5.0, "{} {name}: {score} {largest}", case.name);
    assert!(expected.len() < 10 || spread < 1.5, "{} {name}: spread {spread}", case.name);
}

#[test]
fn enumeration_reproduces_the_exact_values() {
    for oracle in Oracle::all() {
        let (case, network, predictive, x) =
            (&oracle.case, &oracle.network, &oracle.predictive, oracle.sequences());
        let settings = settings(0, 1);
        if let Some(expected) = case.column("oracle", "joint_objective") {
            let found = enumerate::joint_objective(network, predictive, &x, &settings).unwrap();
            assert_equal(case, "joint_objective", &found, &expected);
        }
        if let Some(expected) = case.column("oracle", "nelbo_subtoken") {
            let found = enumerate::nelbo_subtoken(network, predictive, &x, &settings).unwrap();
            assert_equal(case, "nelbo_subtoken", &found, &expected);
        }
        if let Some(expected) = case.column("oracle", "nelbo_token") {
            let found = enumerate::nelbo_token(network, predictive, &x, &settings).unwrap();
            assert_equal(case, "nelbo_token", &found, &expected);
        }
        for (t, expected) in oracle.path_columns() {
            let unit = RevealUnit::Digits;
            let found = enumerate::path_bound(network, predictive, &x, &linear(t), unit, &settings).unwrap();
            assert_equal(case, &format!("path_bound_T{t}"), &found, &expected);
        }
    }
}

#[test]
fn left_to_right_likelihoods_are_the_exact_ones() {
    for oracle in Oracle::all() {
        for (name, unit) in [("tokens", RevealUnit::Tokens), ("subtokens", RevealUnit::Digits)] {
            let name = format!("log_lik_left_to_right_{name}");
            let Some(expected) = oracle.case.column("oracle", &name) else { continue };
            let expected: Vec<f64> = expected.into_iter().map(|log_lik| -log_lik).collect();
            let (network, predictive, x) = (&oracle.network, &oracle.predictive, oracle.sequences());
            let (order, s) = (Order::LeftToRight, settings(0, 1));
            let found = exact_in_order(network, predictive, &x, order, unit, 1, &s).unwrap();
            assert_equal(&oracle.case, &name, &found, &expected);
            let mass: f64 = found.nats().iter().map(|nats| (-nats).exp()).sum();
            assert!((mass - 1.0).abs() < 1e-9, "the probabilities of all sequences sum to {mass}");
        }
    }
}

#[test]
fn the_greedy_likelihood_is_the_exact_one() {
    for oracle in Oracle::all() {
        let name = "log_lik_greedy_confidence_tokens";
        let Some(expected) = oracle.case.column("oracle", name) else { continue };
        let expected: Vec<f64> = expected.into_iter().map(|log_lik| -log_lik).collect();
        let (network, predictive, x) = (&oracle.network, &oracle.predictive, oracle.sequences());
        let exact = |order| {
            exact_in_order(network, predictive, &x, order, RevealUnit::Tokens, 1, &settings(0, 1)).unwrap()
        };
        let found = exact(Order::Confidence);
        assert_equal(&oracle.case, name, &found, &expected);
        assert_eq!(found.evaluations() as usize, x.count() * network.seq_len);
        for order in [Order::Margin, Order::Entropy] {
            let mass: f64 = exact(order).nats().iter().map(|nats| (-nats).exp()).sum();
            assert!((mass - 1.0).abs() < 1e-9, "the probabilities of all sequences sum to {mass}");
        }
    }
}

/// The bound falls from the NELBO at one order to the exact mixture over all orders.
#[test]
fn the_multi_order_bound_lies_between_the_nelbo_and_the_exact_mixture() {
    for oracle in Oracle::all() {
        let (Some(nelbo), Some(mixture)) = (
            oracle.case.column("oracle", "nelbo_subtoken"),
            oracle.case.column("oracle", "log_lik_random_subtoken_order"),
        ) else {
            continue;
        };
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        let (above, below) = (mean(&nelbo), -mean(&mixture));
        let means: Vec<(f64, f64)> = [(1, 100), (4, 100), (1000, 1)]
            .into_iter()
            .map(|(orders, repeats)| {
                let runs: Vec<f64> = (0..repeats)
                    .map(|seed| {
                        let (network, predictive, x) =
                            (&oracle.network, &oracle.predictive, oracle.sequences());
                        let found =
                            bound_k(network, predictive, &x, RevealUnit::Digits, &settings(seed, orders));
                        mean(found.unwrap().nats())
                    })
                    .collect();
                let centre = mean(&runs);
                let spread = runs.iter().map(|run| (run - centre).powi(2)).sum::<f64>();
                (centre, (spread / (runs.len() * runs.len()) as f64).sqrt())
            })
            .collect();
        println!(
            "case {}: nelbo {above:.4}, K = 1, 4, 1000: {means:.4?}, mixture {below:.4}",
            oracle.case.name
        );
        assert!((means[0].0 - above).abs() < 3.0 * means[0].1 + 1e-9);
        assert!(means[1].0 <= above + 1e-9 && means[1].0 >= below - 3.0 * means[1].1 - 1e-9);
        assert!((means[2].0 - below).abs() < 0.02 * below);
    }
}

#[test]
fn estimators_agree_with_the_exact_values_within_their_errors() {
    const DRAWS: usize = 10_000;
    for oracle in Oracle::all() {
        let (case, network, predictive, x) =
            (&oracle.case, &oracle.network, &oracle.predictive, oracle.sequences());
        if let Some(expected) = case.column("oracle", "joint_objective") {
            let found = joint_objective(network, predictive, &x, &settings(1, DRAWS)).unwrap();
            assert_within_errors(case, "joint_objective", &found, &expected);
        }
        if let Some(expected) = case.column("oracle", "nelbo_subtoken") {
            let found = nelbo_subtoken(network, predictive, &x, &settings(2, DRAWS)).unwrap();
            assert_within_errors(case, "nelbo_subtoken", &found, &expected);
        }
        if let Some(expected) = case.column("oracle", "nelbo_token") {
            let found = nelbo_token(network, predictive, &x, &settings(3, DRAWS)).unwrap();
            assert_within_errors(case, "nelbo_token", &found, &expected);
        }
        for (t, expected) in oracle.path_columns() {
            let (unit, steps) = (RevealUnit::Digits, linear(t));
            let found = path_bound(network, predictive, &x, &steps, unit, &settings(4, DRAWS)).unwrap();
            assert_within_errors(case, &format!("path_bound_T{t}"), &found, &expected);
            let found =
                path_bound_full(network, predictive, &x, &steps, unit, &settings(5, DRAWS / 10)).unwrap();
            assert_within_errors(case, &format!("path_bound_full_T{t}"), &found, &expected);
        }
    }
}

/// With the exact posterior no valid figure may lie below the entropy of the data, and the joint objective does.
#[test]
fn bounds_stay_above_the_entropy_floor_and_the_joint_objective_falls_below() {
    for oracle in Oracle::all().into_iter().filter(|oracle| oracle.case.json["bayes_optimal"] == true) {
        let Some(data) = oracle.data() else { continue };
        let entropy: f64 = data.iter().filter(|p| **p > 0.0).map(|p| -p * p.ln()).sum();
        let (network, predictive, x) = (&oracle.network, &oracle.predictive, oracle.sequences());
        let s = |seed| settings(seed, 2000);
        let (unit, steps) = (RevealUnit::Digits, linear(4));
        let figures = [
            ("nelbo_subtoken", data_mean(&nelbo_subtoken(network, predictive, &x, &s(11)).unwrap(), &data)),
            ("nelbo_token", data_mean(&nelbo_token(network, predictive, &x, &s(12)).unwrap(), &data)),
            (
                "path_bound_T4",
                data_mean(&path_bound(network, predictive, &x, &steps, unit, &s(13)).unwrap(), &data),
            ),
            (
                "left_to_right",
                data_mean(
                    &exact_in_order(network, predictive, &x, Order::LeftToRight, unit, 1, &s(0)).unwrap(),
                    &data,
                ),
            ),
        ];
        for (name, (value, error)) in figures {
            println!("case {}: {name} {value:.4} ± {error:.4}, entropy {entropy:.4}", oracle.case.name);
            assert!(is_above_floor(value, error, entropy), "{name} {value} below {entropy}");
        }
        let (value, error) = data_mean(&joint_objective(network, predictive, &x, &s(14)).unwrap(), &data);
        println!("case {}: joint_objective {value:.4} ± {error:.4}, entropy {entropy:.4}", oracle.case.name);
        assert!(!is_above_floor(value, error, entropy), "the check cannot fail: {value} is above {entropy}");
    }
}

fn is_above_floor(value: f64, error: f64, entropy: f64) -> bool {
    value >= entropy - 3.0 * error - 1e-9
}

/// Σ p(x) · value(x) and its standard error over draws.
fn data_mean<K: Meaning>(estimate: &Estimate<K>, data: &[f64]) -> (f64, f64) {
    let mean = estimate.nats().iter().zip(data).map(|(v, p)| v * p).sum();
    let error = estimate.draw_errors().iter().zip(data).map(|(e, p)| (e * p).powi(2)).sum::<f64>().sqrt();
    (mean, error)
}
