//! AdamW, clipping by the global norm, and the exponential moving average of the weights.
//!
//! The state of a run on the CPU lives in memory and one pass updates everything, element by element, so the result
//! depends neither on the number of threads nor on which process updates which elements. The steps on a GPU are in
//! [`super::stepper`].

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::backbone::weights::Parameter;
use crate::ops::lanes;
use crate::{Error, Result};

/// Settings of AdamW (Loshchilov and Hutter, arXiv 1711.05101).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdamWConfig {
    /// Decay of the first moment, in [0, 1).
    pub beta_1: f64,
    /// Decay of the second moment, in [0, 1).
    pub beta_2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Decoupled weight decay, times the learning rate.
    pub weight_decay: f64,
}

impl Default for AdamWConfig {
    fn default() -> Self {
        Self { beta_1: 0.9, beta_2: 0.999, epsilon: 1e-8, weight_decay: 0.0 }
    }
}

/// How far a step goes.
#[derive(Clone, Copy, Debug)]
pub struct StepSize {
    /// Learning rate lr.
    pub learning_rate: f64,
    /// What gradients are multiplied by first, see [`clip_factor`].
    pub gradient_factor: f64,
}

/// An exponential moving average of the weights.
#[derive(Debug)]
pub struct Average<'a> {
    /// Averaged weights, in definition order.
    pub values: &'a mut [Vec<f32>],
    /// Decay d in [0, 1).
    pub decay: f64,
}

/// Moments of every weight, and the number of steps taken.
#[derive(Clone, Debug, PartialEq)]
pub struct AdamW {
    /// Rates of decay, ε and weight decay.
    pub config: AdamWConfig,
    /// Steps taken.
    pub steps: u64,
    /// First moments, in definition order.
    pub first: Vec<Vec<f32>>,
    /// Second moments, in definition order.
    pub second: Vec<Vec<f32>>,
}

/// Elements that are updated, and whose squares are added up, together. Ranges of gradients begin at its multiples.
pub const CHUNK: usize = 16_384;

/// The gradient of a range of one weight.
#[derive(Clone, Debug, PartialEq)]
pub struct GradientRange {
    /// Place of the weight in definition order.
    pub parameter: usize,
    /// First element of the range, a multiple of [`CHUNK`].
    pub start: usize,
    /// The gradient of as many elements as this holds; the range ends at a multiple of [`CHUNK`] or with the weight.
    pub values: Vec<f32>,
}

impl GradientRange {
    /// The gradients of all weights, each a range of its own. Nothing is copied.
    pub fn of_all(gradients: Vec<Vec<f32>>) -> Vec<Self> {
        let whole = |(parameter, values)| Self { parameter, start: 0, values };
        gradients.into_iter().enumerate().map(whole).collect()
    }

    /// Behind the last element of the range.
    fn end(&self) -> usize {
        self.start + self.values.len()
    }
}

impl AdamW {
    /// Fresh moments.
    pub fn new(config: AdamWConfig, parameters: &[Parameter]) -> Self {
        let zeros = || parameters.iter().map(|parameter| vec![0.0; parameter.len()]).collect();
        Self { config, steps: 0, first: zeros(), second: zeros() }
    }

    /// One step on the elements that `gradients` are of: m ← β₁m + (1 − β₁)g, v ← β₂v + (1 − β₂)g²,
    /// θ ← (1 − lr·decay)θ − lr·m̂/(√v̂ + ε), with m̂, v̂ corrected for their bias and g the scaled gradient;
    /// then, in the n-th step (n = 1, 2, …), average ← average − (1 − min(d, (1+n)/(10+n)))·(average − θ).
    ///
    /// One pass over memory; an element's result depends on that element alone. Others are not touched.
    ///
    /// # Errors
    /// [`Error::Internal`] for gradients that are not of these weights, not in their order, or overlap; nothing is
    /// changed then.
    pub fn step(
        &mut self,
        weights: &mut [impl AsMut<[f32]>],
        gradients: &[GradientRange],
        size: StepSize,
        average: Option<Average>,
    ) -> Result<()> {
        let (mut averages, decay) =
            average.map_or((None, 0.0), |average| (Some(average.values), average.decay));
        let lens: Vec<usize> = weights.iter_mut().map(|weights| weights.as_mut().len()).collect();
        check_lens("moments", &self.first, &lens)?;
        check_lens("moments", &self.second, &lens)?;
        averages.as_ref().map_or(Ok(()), |averages| check_lens("averages", averages, &lens))?;
        check_ranges(gradients, &lens)?;
        self.steps += 1;
        let update = Update::new(self.config, self.steps, size.learning_rate);
        let factor = size.gradient_factor as f32;
        let share = average_share(decay, self.steps);
        let mut averages = averages.as_mut().map(|averages| averages.iter_mut());
        let moments = self.first.iter_mut().zip(&mut self.second);
        let mut ranges = gradients.iter().peekable();
        let mut chunks = Vec::new();
        for (index, (weights, (first, second))) in weights.iter_mut().zip(moments).enumerate() {
            let average = averages.as_mut().and_then(Iterator::next).map(Vec::as_mut_slice);
            let mut rest = Elements { weights: weights.as_mut(), first, second, average };
            let mut at = 0;
            while let Some(range) = ranges.next_if(|range| range.parameter == index) {
                rest.take(range.start - at);
                let parts = range.values.chunks(CHUNK);
                chunks.extend(parts.map(|gradients| (rest.take(gradients.len()), gradients)));
                at = range.end();
            }
        }
        chunks.into_par_iter().for_each(|(elements, gradients)| {
            lanes::vectorized(
                #[inline(always)]
                || elements.step(gradients, update, factor, share),
            );
        });
        Ok(())
    }
}

/// Checks that `values` are as many and as long as the weights.
fn check_lens(what: &str, values: &[Vec<f32>], lens: &[usize]) -> Result<()> {
    match values.iter().map(Vec::len).eq(lens.iter().copied()) {
        true => Ok(()),
        false => Err(Error::invalid(what, "of other sizes", "as many and as long as the weights")),
    }
}

/// Checks that `ranges` lie in weights of `lens` elements, one after another, and begin and end where chunks do.
fn check_ranges(ranges: &[GradientRange], lens: &[usize]) -> Result<()> {
    let (mut parameter, mut at) = (0, 0);
    for range in ranges {
        if range.parameter > parameter {
            (parameter, at) = (range.parameter, 0);
        }
        let len = lens.get(range.parameter).copied().unwrap_or(0);
        let in_order = range.parameter == parameter && range.start >= at;
        let whole = range.start.is_multiple_of(CHUNK)
            && (range.end() == len || range.end() < len && range.values.len().is_multiple_of(CHUNK));
        if !(in_order && whole) {
            let given = format!(
                "{} elements of weight {} from {} on",
                range.values.len(),
                range.parameter,
                range.start
            );
            let allowed = format!("ranges of whole chunks of {CHUNK} elements, in the order of the weights");
            return Err(Error::Internal {
                what: "ranges of gradients",
                found: format!("{given}, not {allowed}"),
            });
        }
        at = range.end();
    }
    Ok(())
}

/// What the average takes of the difference in the n-th step: 1 − min(d, (1+n)/(10+n)).
pub(super) fn average_share(decay: f64, n: u64) -> f32 {
    let n = n as f64;
    (1.0 - decay.min((1.0 + n) / (10.0 + n))) as f32
}

/// What a step does to an element, as numbers.
#[derive(Clone, Copy)]
pub(super) struct Update {
    /// β₁ and β₂.
    pub beta_1: f32,
    pub beta_2: f32,
    /// What keeps the update finite where gradients vanish, ε.
    pub epsilon: f32,
    /// √(1 − β₂ⁿ).
    pub correction_2: f32,
    /// lr/(1 − β₁ⁿ).
    pub rate: f32,
    /// 1 − lr·decay.
    pub keep: f32,
}

impl Update {
    /// Of the `step`-th step.
    pub fn new(config: AdamWConfig, step: u64, learning_rate: f64) -> Self {
        let AdamWConfig { beta_1, beta_2, epsilon, weight_decay } = config;
        let correction_1 = 1.0 - beta_1.powf(step as f64);
        Self {
            beta_1: beta_1 as f32,
            beta_2: beta_2 as f32,
            epsilon: epsilon as f32,
            correction_2: (1.0 - beta_2.powf(step as f64)).sqrt() as f32,
            rate: (learning_rate / correction_1) as f32,
            keep: (1.0 - learning_rate * weight_decay) as f32,
        }
    }

    #[inline(always)]
    fn apply(self, weight: &mut f32, gradient: f32, first: &mut f32, second: &mut f32) {
        *first = self.beta_1 * *first + (1.0 - self.beta_1) * gradient;
        *second = self.beta_2 * *second + (1.0 - self.beta_2) * gradient * gradient;
        let root = second.sqrt() / self.correction_2 + self.epsilon;
        *weight = self.keep * *weight - self.rate * *first / root;
    }
}

/// Elements of one weight, with all that belongs to them.
struct Elements<'a> {
    weights: &'a mut [f32],
    first: &'a mut [f32],
    second: &'a mut [f32],
    average: Option<&'a mut [f32]>,
}

impl<'a> Elements<'a> {
    /// Cuts off the first `count`.
    fn take(&mut self, count: usize) -> Elements<'a> {
        fn cut<'a>(rest: &mut &'a mut [f32], count: usize) -> &'a mut [f32] {
            let (taken, after) = std::mem::take(rest).split_at_mut(count);
            *rest = after;
            taken
        }
        Elements {
            weights: cut(&mut self.weights, count),
            first: cut(&mut self.first, count),
            second: cut(&mut self.second, count),
            average: self.average.as_mut().map(|average| cut(average, count)),
        }
    }

    #[inline(always)]
    fn step(self, gradients: &[f32], update: Update, factor: f32, share: f32) {
        let elements = self.weights.iter_mut().zip(gradients);
        let elements = elements.zip(self.first.iter_mut().zip(self.second));
        match self.average {
            None => {
                for ((weight, &gradient), (first, second)) in elements {
                    update.apply(weight, factor * gradient, first, second);
                }
            }
            Some(average) => {
                for (((weight, &gradient), (first, second)), average) in elements.zip(average) {
                    update.apply(weight, factor * gradient, first, second);
                    *average -= share * (*average - *weight);
                }
            }
        }
    }
}

/// min(1, limit/(norm + 10⁻⁶)): what gradients of this norm are multiplied by.
pub fn clip_factor(norm: f64, limit: f64) -> f64 {
    (limit / (norm + 1e-6)).min(1.0)
}

/// ‖g‖₂ over all gradients, summed in a fixed order.
pub fn global_norm(gradients: &[Vec<f32>]) -> f64 {
    norm(&chunk_squares(gradients.iter().map(Vec::as_slice)), gradients.iter().map(Vec::len))
}

/// Σ g² of every chunk of [`CHUNK`] elements of every gradient, in order.
pub(super) fn chunk_squares<'a>(gradients: impl Iterator<Item = &'a [f32]>) -> Vec<f64> {
    let square = |chunk: &&[f32]| chunk.iter().map(|g| f64::from(*g) * f64::from(*g)).sum::<f64>();
    let chunks: Vec<&[f32]> = gradients.flat_map(|gradient| gradient.chunks(CHUNK)).collect();
    chunks.par_iter().map(square).collect()
}

/// ‖g‖₂ from the [`chunk_squares`] of all gradients, which are of weights of `lens` elements: those of a weight are
/// added up first, so that the order depends on sizes alone.
pub(super) fn norm(squares: &[f64], lens: impl Iterator<Item = usize>) -> f64 {
    let mut rest = squares.iter();
    lens.map(|len| rest.by_ref().take(len.div_ceil(CHUNK)).sum::<f64>()).sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backbone::weights::Init;

    /// One step from `weights`, with an optimiser that has made `steps`.
    fn step(
        weights: &mut [Vec<f32>; 1],
        gradients: &[f32],
        gradient_factor: f64,
        average: Option<Average>,
        steps: u64,
    ) -> AdamW {
        let parameters = [Parameter::new("w", &[weights[0].len()], Init::Zeros)];
        let mut optimizer = AdamW { steps, ..AdamW::new(AdamWConfig::default(), &parameters) };
        let size = StepSize { learning_rate: 0.01, gradient_factor };
        optimizer.step(weights, &GradientRange::of_all(vec![gradients.to_vec()]), size, average).unwrap();
        optimizer
    }

    #[test]
    fn the_first_step_moves_every_weight_by_the_learning_rate() {
        // Scaling the gradient changes nothing here: the step is the gradient over its size.
        for factor in [1.0, 0.25] {
            let mut weights = [vec![1.0; 3]];
            step(&mut weights, &[0.5, -20.0, 1e-3], factor, None, 0);
            for (weight, expected) in weights[0].iter().zip([0.99, 1.01, 0.99]) {
                assert!((weight - expected).abs() < 1e-5, "{weight}");
            }
        }
    }

    #[test]
    fn moments_see_scaled_gradients() {
        let AdamW { first, second, .. } = step(&mut [vec![1.0]], &[4.0], 0.5, None, 0);
        assert!((first[0][0] - 0.1 * 2.0).abs() < 1e-6, "{first:?}");
        assert!((second[0][0] - 0.001 * 4.0).abs() < 1e-6, "{second:?}");
    }

    #[test]
    fn clipping_scales_only_what_is_too_long() {
        let norm = global_norm(&[vec![3.0], vec![0.0, 4.0]]);
        assert_eq!(norm, 5.0);
        assert_eq!(clip_factor(norm, 10.0), 1.0);
        assert!((clip_factor(norm, 1.0) - 0.2).abs() < 1e-6);
    }

    #[test]
    fn the_average_warms_up_and_follows_the_weights_after_their_step() {
        // More than a chunk; without a gradient the weights stay.
        let len = CHUNK + 3;
        for (decay, steps, expected) in [(0.9999, 0, 9.0 / 11.0), (0.5, 1_000_000, 0.5)] {
            let mut values = [vec![0.0; len]];
            let average = Some(Average { values: &mut values, decay });
            step(&mut [vec![1.0; len]], &vec![0.0; len], 1.0, average, steps);
            assert!(values[0].iter().all(|average| (average - expected).abs() < 1e-6), "{decay}");
        }
        let (mut weights, mut values) = ([vec![1.0]], [vec![0.0]]);
        step(&mut weights, &[1.0], 1.0, Some(Average { values: &mut values, decay: 0.0 }), 0);
        assert_eq!(values[0], weights[0]);
    }

    #[test]
    fn ranges_updated_apart_come_to_the_same_as_all_at_once() {
        let parameters = [2 * CHUNK + 7, 3].map(|len| Parameter::new("w", &[len], Init::Uniform(1.0)));
        let values = |seed| -> Vec<Vec<f32>> { parameters.iter().map(|p| p.initial(seed, 0)).collect() };
        let gradients = values(2);
        let size = StepSize { learning_rate: 0.01, gradient_factor: 0.5 };
        let fresh = || (values(1), values(3), AdamW::new(AdamWConfig::default(), &parameters));
        let step = |(weights, averages, optimizer): &mut (Vec<_>, Vec<_>, AdamW), ranges: &[_]| {
            optimizer.step(weights, ranges, size, Some(Average { values: averages, decay: 0.9 }))
        };
        let mut whole = fresh();
        step(&mut whole, &GradientRange::of_all(gradients.clone())).unwrap();

        let range = |parameter: usize, start, end| {
            let values: &Vec<f32> = &gradients[parameter];
            GradientRange { parameter, start, values: values[start..end].to_vec() }
        };
        let owned = [vec![range(0, 0, CHUNK)], vec![range(0, CHUNK, 2 * CHUNK + 7), range(1, 0, 3)]];
        let mut apart = fresh();
        step(&mut apart, &owned[0]).unwrap();
        assert_eq!(apart.0[0][..CHUNK], whole.0[0][..CHUNK]);
        assert_eq!(apart.0[0][CHUNK..], values(1)[0][CHUNK..], "another process has these");
        apart.2.steps = 0;
        step(&mut apart, &owned[1]).unwrap();
        assert_eq!(apart, whole);

        let squares = owned.iter().map(|own| chunk_squares(own.iter().map(|range| range.values.as_slice())));
        let squares = squares.collect::<Vec<_>>().concat();
        assert_eq!(norm(&squares, parameters.iter().map(Parameter::len)), global_norm(&gradients));

        let unchanged = fresh();
        for wrong in [
            vec![range(0, 1, CHUNK)],
            vec![range(0, 0, CHUNK - 1)],
            vec![range(1, 0, 3), range(0, 0, CHUNK)],
            vec![range(0, 0, 2 * CHUNK), range(0, CHUNK, 2 * CHUNK)],
            vec![GradientRange { parameter: 2, ..range(1, 0, 3) }],
            vec![GradientRange { values: vec![0.0; 4], ..range(1, 0, 3) }],
        ] {
            let mut state = fresh();
            let error = step(&mut state, &wrong).unwrap_err().to_string();
            assert!(error.contains("ranges of gradients"), "{error}");
            assert_eq!(state, unchanged);
        }
    }
}
