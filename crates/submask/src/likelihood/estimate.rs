//! Results that know what they are: exact values, upper bounds, and what is neither.

use std::marker::PhantomData;

use serde::{Deserialize, Deserializer, Serialize};

use crate::{Error, Result};

/// What a figure is, where the type cannot say it (in a file).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The exact −log p(x_0) of the named generation process.
    Exact,
    /// In expectation not below −log p(x_0).
    UpperBound,
    /// No bound of anything: comparable with itself only.
    Surrogate,
}

mod sealed {
    pub trait Sealed {}
}

/// What an [`Estimate`] is: [`Exact`], [`UpperBound`] or [`Surrogate`], and nothing else.
pub trait Meaning: sealed::Sealed {
    /// The same at run time.
    const KIND: Kind;
}

/// Marks the exact −log p(x_0).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exact {}

/// Marks an upper bound of −log p(x_0).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpperBound {}

/// Marks a number that bounds no likelihood (math.md §5). It has no perplexity: the compiler refuses
///
/// ```compile_fail,E0599
/// # use submask::likelihood::{Estimate, Likelihood, Surrogate, UpperBound};
/// fn report(estimate: &Estimate<Surrogate>) -> f64 {
///     estimate.perplexity().value
/// }
/// ```
///
/// and accepts the same lines for an upper bound:
///
/// ```
/// # use submask::likelihood::{Estimate, Likelihood, Surrogate, UpperBound};
/// fn report(estimate: &Estimate<UpperBound>) -> f64 {
///     estimate.perplexity().value
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Surrogate {}

impl sealed::Sealed for Exact {}
impl sealed::Sealed for UpperBound {}
impl sealed::Sealed for Surrogate {}

impl Meaning for Exact {
    const KIND: Kind = Kind::Exact;
}
impl Meaning for UpperBound {
    const KIND: Kind = Kind::UpperBound;
}
impl Meaning for Surrogate {
    const KIND: Kind = Kind::Surrogate;
}

/// A number and its standard errors.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// The number; a file has null for one that is not finite, which is read as not a number.
    #[serde(deserialize_with = "null_is_not_a_number")]
    pub value: f64,
    /// Its standard error over sequences, what draws add to it included; `None` for a single sequence.
    pub standard_error: Option<f64>,
    /// The part of it that is of draws, √(Σ e²) / Σ c with the error e of every sequence over its draws: 0 where nothing is
    /// drawn, `None` where it is not known, as with a single draw.
    pub draw_error: Option<f64>,
}

impl Measured {
    /// R = Σ v / Σ c over n sequences, with the standard error √(n/(n−1) · Σ (v − R·c)²) / Σ c of a ratio of sums
    /// (linearised). With differences of two estimates of the same sequences for v it is their paired difference.
    ///
    /// # Errors
    /// [`Error::Invalid`] when there are not as many sizes c as values v, or their sum is 0.
    pub fn ratio(values: &[f64], sizes: &[u64]) -> Result<Self> {
        if sizes.len() != values.len() {
            let allowed = format!("one for each of {} values", values.len());
            return Err(Error::invalid("sizes", format!("{} sizes", sizes.len()), allowed));
        }
        if sizes.iter().all(|size| *size == 0) {
            return Err(Error::invalid("sizes", 0, "at least 1 in all"));
        }
        Ok(ratio(values, None, |s| sizes[s] as f64))
    }

    /// The part of the standard error that is of the choice of sequences: what is left, in squares, without that of draws,
    /// and 0 where nothing is.
    pub fn sequence_error(self) -> Option<f64> {
        let (all, draws) = (self.standard_error?, self.draw_error?);
        Some((all * all - draws * draws).max(0.0).sqrt())
    }

    fn map(self, value: impl Fn(f64) -> f64, slope: f64) -> Self {
        let scaled = |error: Option<f64>| error.map(|error| error * slope.abs());
        Self {
            value: value(self.value),
            standard_error: scaled(self.standard_error),
            draw_error: scaled(self.draw_error),
        }
    }
}

/// A figure for a file or a table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Figure {
    /// What was computed: `nelbo_subtoken`, `joint_objective`, ….
    pub name: String,
    /// The number; a file has null for one that is not finite, which is read as not a number.
    #[serde(deserialize_with = "null_is_not_a_number")]
    pub value: f64,
    /// Its unit: `nats per sequence`, `nats per token`, `bits per token`, `perplexity`, ….
    pub unit: String,
    /// What it is.
    pub kind: Kind,
    /// Standard error over sequences, what draws add to it included; absent for a single sequence.
    pub standard_error: Option<f64>,
    /// The part of it that is of the choice of sequences, where that of draws is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence_error: Option<f64>,
    /// The part of it that is of draws. The two parts add up in squares, unless that of draws alone is larger than the
    /// whole, as it may be for few sequences: then the other is 0. Absent where it is not known, as with a single draw.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub draw_error: Option<f64>,
    /// Network evaluations (states) that it took.
    pub evaluations: u64,
}

/// A number where JSON has null for what is not finite.
///
/// # Errors
/// For what is neither a number nor null.
pub(crate) fn null_is_not_a_number<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<f64, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or(f64::NAN))
}

/// Tokens and log p ≤ 0 of each, in nats, the most probable first.
pub type TopTokens = Vec<(u32, f64)>;

/// −log p(x_0), a bound of it, or a surrogate, of every sequence.
#[derive(Clone, Debug, PartialEq)]
pub struct Estimate<K> {
    nats: Vec<f64>,
    draw_errors: Vec<f64>,
    tokens: Vec<u64>,
    /// By sequence; empty where values are not sums over tokens.
    token_nats: Vec<Vec<f64>>,
    /// By sequence; empty where they were not asked for.
    top_tokens: Vec<Vec<TopTokens>>,
    evaluations: u64,
    kind: PhantomData<K>,
}

impl<K: Meaning> Estimate<K> {
    /// From the values, the standard errors over draws and the number of generated tokens of every sequence.
    pub(crate) fn new(nats: Vec<f64>, draw_errors: Vec<f64>, tokens: Vec<u64>, evaluations: u64) -> Self {
        debug_assert!(nats.len() == draw_errors.len() && nats.len() == tokens.len());
        let (token_nats, top_tokens) = (Vec::new(), Vec::new());
        Self { nats, draw_errors, tokens, token_nats, top_tokens, evaluations, kind: PhantomData }
    }

    /// The same with what every token of every sequence adds to its value.
    pub(super) fn with_token_nats(mut self, token_nats: Vec<Vec<f64>>) -> Self {
        self.token_nats = token_nats;
        self
    }

    /// The same with the most probable tokens in the place of every token of every sequence.
    pub(super) fn with_top_tokens(mut self, top_tokens: Vec<Vec<TopTokens>>) -> Self {
        self.top_tokens = top_tokens;
        self
    }

    /// Sequences that were estimated in groups, each of which comes with the places of its sequences among all.
    pub(super) fn gathered(groups: Vec<(Vec<usize>, Self)>) -> Self {
        let count = groups.iter().map(|(places, _)| places.len()).sum();
        let mut all = Self::new(vec![0.0; count], vec![0.0; count], vec![0; count], 0);
        if groups.iter().any(|(_, group)| !group.token_nats.is_empty()) {
            all.token_nats = vec![Vec::new(); count];
        }
        if groups.iter().any(|(_, group)| !group.top_tokens.is_empty()) {
            all.top_tokens = vec![Vec::new(); count];
        }
        for (places, group) in groups {
            all.evaluations += group.evaluations;
            for (s, &place) in places.iter().enumerate() {
                all.nats[place] = group.nats[s];
                all.draw_errors[place] = group.draw_errors[s];
                all.tokens[place] = group.tokens[s];
            }
            for (&place, own) in places.iter().zip(group.token_nats) {
                all.token_nats[place] = own;
            }
            for (&place, own) in places.iter().zip(group.top_tokens) {
                all.top_tokens[place] = own;
            }
        }
        all
    }

    /// Sequences that belong together as one, `counts` of them at a time, one after the other; their draws are independent.
    pub(crate) fn joined(self, counts: impl IntoIterator<Item = usize>) -> Self {
        let mut all = Self { evaluations: self.evaluations, ..Self::new(vec![], vec![], vec![], 0) };
        let (mut token_nats, mut top_tokens) = (self.token_nats.into_iter(), self.top_tokens.into_iter());
        let mut first = 0;
        for count in counts {
            let own = first..first + count;
            first += count;
            all.nats.push(self.nats[own.clone()].iter().sum());
            all.draw_errors.push(match &self.draw_errors[own.clone()] {
                [one] => *one,
                errors => errors.iter().map(|error| error * error).sum::<f64>().sqrt(),
            });
            all.tokens.push(self.tokens[own].iter().sum());
            if token_nats.len() > 0 {
                all.token_nats.push(token_nats.by_ref().take(count).flatten().collect());
            }
            if top_tokens.len() > 0 {
                all.top_tokens.push(top_tokens.by_ref().take(count).flatten().collect());
            }
        }
        all
    }

    /// The same with other numbers of tokens, \[n\].
    pub(crate) fn with_tokens(mut self, tokens: Vec<u64>) -> Self {
        debug_assert!(tokens.len() == self.nats.len());
        self.tokens = tokens;
        self
    }

    /// The same, known to involve no draws.
    pub(crate) fn without_draws(mut self) -> Self {
        self.draw_errors.fill(0.0);
        self
    }

    /// The value of every sequence, in nats, \[n\].
    pub fn nats(&self) -> &[f64] {
        &self.nats
    }

    /// The standard error of every sequence's value over its draws, in nats, \[n\]; zero where nothing is drawn,
    /// and not a number for a single draw or where draws make one value together. Estimated from successive differences, which the stratification over
    /// draws makes smaller, as it should.
    pub fn draw_errors(&self) -> &[f64] {
        &self.draw_errors
    }

    /// The number of generated tokens of every sequence, \[n\].
    pub fn tokens(&self) -> &[u64] {
        &self.tokens
    }

    /// What every token of every sequence adds to its value, in nats: 0 for what is given. Of exact values, by
    /// [`exact_in_order`](super::exact_in_order) and [`exact_autoregressive`](super::exact_autoregressive); empty for others.
    pub fn token_nats(&self) -> &[Vec<f64>] {
        &self.token_nats
    }

    /// The most probable tokens in the place of every token of every sequence, given the tokens before it: none where the token
    /// is given. By [`exact_left_to_right`](super::exact_left_to_right) and
    /// [`exact_autoregressive_with_top`](super::exact_autoregressive_with_top); empty by others.
    pub fn top_tokens(&self) -> &[Vec<TopTokens>] {
        &self.top_tokens
    }

    /// Number of sequences n.
    pub fn sequences(&self) -> usize {
        self.nats.len()
    }

    /// Network evaluations: states (y_t, t) at which the network was asked, and one for every sequence of several blocks, for
    /// what the network keeps of its known tokens.
    pub fn evaluations(&self) -> u64 {
        self.evaluations
    }

    /// What this is.
    pub fn kind(&self) -> Kind {
        K::KIND
    }

    /// Σ nats / Σ sizes.
    fn over(&self, size: impl Fn(usize) -> f64) -> Measured {
        ratio(&self.nats, Some(&self.draw_errors), size)
    }

    /// Σ nats, of all sequences together. Its errors are those of n times the mean.
    pub fn total_nats(&self) -> Measured {
        let (mean, n) = (self.nats_per_sequence(), self.nats.len() as f64);
        Measured { value: self.nats.iter().sum(), ..mean.map(|mean| mean * n, n) }
    }

    /// Mean over sequences, nats per sequence.
    pub fn nats_per_sequence(&self) -> Measured {
        self.over(|_| 1.0)
    }

    /// Σ nats / Σ tokens, nats per generated token.
    pub fn nats_per_token(&self) -> Measured {
        self.over(|s| self.tokens[s] as f64)
    }

    /// The mean under its name, for a file: nats per sequence.
    pub fn figure(&self, name: &str) -> Figure {
        self.figure_of(name, "nats per sequence", self.nats_per_sequence())
    }

    /// A number of this estimate under a name and unit given, for a file.
    pub fn figure_of(&self, name: &str, unit: &str, measured: Measured) -> Figure {
        Figure {
            name: name.to_string(),
            value: measured.value,
            unit: unit.to_string(),
            kind: K::KIND,
            standard_error: measured.standard_error,
            sequence_error: measured.sequence_error(),
            draw_error: measured.draw_error,
            evaluations: self.evaluations,
        }
    }

    /// Adds the sequences of `other` after these.
    pub fn append(&mut self, other: Self) {
        self.nats.extend(other.nats);
        self.draw_errors.extend(other.draw_errors);
        self.tokens.extend(other.tokens);
        self.token_nats.extend(other.token_nats);
        self.top_tokens.extend(other.top_tokens);
        self.evaluations += other.evaluations;
    }
}

impl Estimate<Exact> {
    /// The same as bounds, where it is the exact value of less probable things: of one way among several to write a text.
    pub fn into_bound(self) -> Estimate<UpperBound> {
        let Self { nats, draw_errors, tokens, token_nats, top_tokens, evaluations, .. } = self;
        Estimate { nats, draw_errors, tokens, token_nats, top_tokens, evaluations, kind: PhantomData }
    }
}

/// What may be called a perplexity, a number of bits, a likelihood: implemented for exact values and upper bounds,
/// not for the surrogate.
///
/// Over sequences of different lengths all figures are ratios of sums, with the standard error of the ratio
/// (linearised) and the delta method for functions of it.
pub trait Likelihood {
    /// exp(Σ nats / Σ tokens).
    fn perplexity(&self) -> Measured;

    /// Σ nats / (ln 2 · Σ tokens).
    fn bits_per_token(&self) -> Measured;

    /// Σ nats / (ln 2 · n·D) for `dimensions` = D per sequence (an image's channels times pixels).
    ///
    /// # Errors
    /// [`Error::Invalid`] when D is 0.
    fn bits_per_dimension(&self, dimensions: usize) -> Result<Measured>;

    /// Σ nats / (ln 2 · Σ characters), for `characters` \[n\] of every sequence.
    ///
    /// # Errors
    /// [`Error::Invalid`] when there are not n counts, or all are 0.
    fn bits_per_character(&self, characters: &[u64]) -> Result<Measured>;
}

/// Kinds for which [`Likelihood`] holds.
trait IsLikelihood: Meaning {}
impl IsLikelihood for Exact {}
impl IsLikelihood for UpperBound {}

#[allow(private_bounds, reason = "the set of kinds is closed")]
impl<K: IsLikelihood> Likelihood for Estimate<K> {
    fn perplexity(&self) -> Measured {
        let nats = self.nats_per_token();
        nats.map(f64::exp, nats.value.exp())
    }

    fn bits_per_token(&self) -> Measured {
        bits(self.nats_per_token())
    }

    fn bits_per_dimension(&self, dimensions: usize) -> Result<Measured> {
        if dimensions == 0 {
            return Err(Error::invalid("dimensions", dimensions, "at least 1"));
        }
        Ok(bits(self.over(|_| dimensions as f64)))
    }

    fn bits_per_character(&self, characters: &[u64]) -> Result<Measured> {
        if characters.len() != self.nats.len() {
            let allowed = format!("one count for each of {} sequences", self.nats.len());
            return Err(Error::invalid("characters", format!("{} counts", characters.len()), allowed));
        }
        if characters.iter().all(|count| *count == 0) {
            return Err(Error::invalid("characters", 0, "at least 1 in all"));
        }
        Ok(bits(self.over(|s| characters[s] as f64)))
    }
}

fn bits(nats: Measured) -> Measured {
    let per_bit = std::f64::consts::LN_2.recip();
    nats.map(|value| value * per_bit, per_bit)
}

/// As [`Measured::ratio`]; `draw_errors` are those of the values over their draws.
fn ratio(values: &[f64], draw_errors: Option<&[f64]>, size: impl Fn(usize) -> f64) -> Measured {
    let n = values.len() as f64;
    let total: f64 = (0..values.len()).map(&size).sum();
    let value = values.iter().sum::<f64>() / total;
    let squares: f64 = values.iter().enumerate().map(|(s, v)| (v - value * size(s)).powi(2)).sum();
    let standard_error = (values.len() > 1).then(|| (n / (n - 1.0) * squares).sqrt() / total);
    let of_draws = |errors: &[f64]| errors.iter().map(|error| error * error).sum::<f64>().sqrt() / total;
    let draw_error = draw_errors.map(of_draws).filter(|error| error.is_finite());
    Measured { value, standard_error, draw_error }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound(nats: &[f64], tokens: &[u64]) -> Estimate<UpperBound> {
        Estimate::new(nats.to_vec(), vec![0.0; nats.len()], tokens.to_vec(), 7)
    }

    #[test]
    fn equal_lengths_give_the_mean_and_its_standard_error() {
        let mean = bound(&[1.0, 2.0, 3.0, 6.0], &[2; 4]).nats_per_token();
        // Mean 3, sample variance 14/3 of the sequences; two tokens per sequence.
        assert!((mean.value - 1.5).abs() < 1e-12);
        assert!((mean.standard_error.unwrap() - (14.0 / 3.0 / 4.0f64).sqrt() / 2.0).abs() < 1e-12);
    }

    #[test]
    fn unequal_lengths_give_the_ratio_of_sums() {
        let estimate = bound(&[4.0, 2.0, 9.0], &[4, 2, 9]);
        let per_token = estimate.nats_per_token();
        assert_eq!((per_token.value, per_token.standard_error), (1.0, Some(0.0)));
        let perplexity = estimate.perplexity();
        assert!((perplexity.value - std::f64::consts::E).abs() < 1e-12);
        let bits = estimate.bits_per_character(&[8, 4, 18]).unwrap();
        assert!((bits.value - 0.5 / std::f64::consts::LN_2).abs() < 1e-12);
        assert!(estimate.bits_per_character(&[1]).is_err());
        let ratio = Measured::ratio(estimate.nats(), &[4, 2, 9]).unwrap();
        assert_eq!(Measured { draw_error: Some(0.0), ..ratio }, per_token);
        assert!(Measured::ratio(estimate.nats(), &[1]).is_err());
        assert!(Measured::ratio(&[1.0], &[0]).is_err());
        assert!(estimate.bits_per_dimension(0).is_err());
    }

    #[test]
    fn the_standard_error_of_the_ratio_covers_its_spread() {
        use crate::random::{Draws, Purpose};
        let draws = Draws::new(1, Purpose::Likelihood);
        let experiments: Vec<Measured> = (0..2000)
            .map(|experiment| {
                let tokens: Vec<u64> = (0..50).map(|s| 1 + draws.below(9, experiment, s, 0)).collect();
                let noise = |s: usize| 0.3 * draws.normal(experiment, s as u32, 1);
                let nats: Vec<f64> = (0..50).map(|s| tokens[s] as f64 * (2.0 + noise(s))).collect();
                bound(&nats, &tokens).perplexity()
            })
            .collect();
        let mean = experiments.iter().map(|m| m.value).sum::<f64>() / 2000.0;
        let spread = (experiments.iter().map(|m| (m.value - mean).powi(2)).sum::<f64>() / 2000.0).sqrt();
        let claimed = experiments.iter().map(|m| m.standard_error.unwrap()).sum::<f64>() / 2000.0;
        assert!((claimed / spread - 1.0).abs() < 0.06, "{claimed} {spread}");
    }

    #[test]
    fn a_figure_is_read_from_a_file_as_it_was_written() {
        use crate::random::{Draws, Purpose};
        let draws = Draws::new(2, Purpose::Likelihood);
        let estimate = bound(&[1.0, 2.0], &[1, 1]);
        let figure = estimate.figure_of("a", "nats per token", estimate.nats_per_token());
        for n in 0..10_000 {
            let value = draws.normal(n, 0, 0).exp() * 10_f64.powi(draws.below(30, n, 1, 0) as i32 - 15);
            let json = serde_json::to_string(&Figure { value, ..figure.clone() }).unwrap();
            let read: Figure = serde_json::from_str(&json).unwrap();
            assert_eq!(read.value.to_bits(), value.to_bits(), "{json}");
        }
    }

    #[test]
    fn the_errors_of_sequences_and_of_draws_add_up_in_squares() {
        let estimate: Estimate<UpperBound> =
            Estimate::new(vec![1.0, 2.0, 3.0, 6.0], vec![0.3, 0.4, 0.0, 0.0], vec![2; 4], 7);
        let mean = estimate.nats_per_token();
        assert!((mean.draw_error.unwrap() - 0.5 / 8.0).abs() < 1e-12);
        let (all, draws) = (mean.standard_error.unwrap(), mean.draw_error.unwrap());
        let sequences = mean.sequence_error().unwrap();
        assert!((sequences.powi(2) + draws.powi(2) - all.powi(2)).abs() < 1e-12);
        let figure = estimate.figure_of("a", "perplexity", estimate.perplexity());
        assert!((figure.draw_error.unwrap() - draws * figure.value).abs() < 1e-12);
        // With one draw per sequence it is not known.
        let single: Estimate<UpperBound> = Estimate::new(vec![1.0, 2.0], vec![f64::NAN; 2], vec![1; 2], 2);
        let mean = single.nats_per_token();
        assert_eq!((mean.draw_error, mean.sequence_error()), (None, None));
    }

    #[test]
    fn one_sequence_has_no_standard_error() {
        assert_eq!(bound(&[3.0], &[3]).perplexity().standard_error, None);
    }

    #[test]
    fn figures_say_what_they_are() {
        let figure = bound(&[1.0, 2.0], &[1, 1]).figure("nelbo_subtoken");
        let json = serde_json::to_string(&figure).unwrap();
        assert!(json.contains(r#""kind":"upper_bound""#) && json.contains(r#""unit":"nats per sequence""#));
        assert_eq!(serde_json::from_str::<Figure>(&json).unwrap(), figure);
        let overflown = serde_json::to_string(&Figure { value: f64::INFINITY, ..figure }).unwrap();
        assert!(overflown.contains(r#""value":null"#), "{overflown}");
        assert!(serde_json::from_str::<Figure>(&overflown).unwrap().value.is_nan());
        assert!(serde_json::from_str::<Figure>(&overflown.replace(r#""value":null,"#, "")).is_err());
        assert_eq!(
            serde_json::to_string(&[Kind::Exact, Kind::Surrogate]).unwrap(),
            r#"["exact","surrogate"]"#
        );
    }

    #[test]
    fn appended_sequences_count_as_if_they_were_one_run() {
        let mut parts = bound(&[1.0, 2.0], &[1, 2]);
        parts.append(bound(&[5.0], &[3]));
        assert_eq!(parts.nats_per_token(), bound(&[1.0, 2.0, 5.0], &[1, 2, 3]).nats_per_token());
        assert_eq!((parts.sequences(), parts.evaluations()), (3, 14));
    }
}
