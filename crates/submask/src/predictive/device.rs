//! p_θ(x_0 | y_t) as tensors, where logits stay on the network's device.

use burn::tensor::{Bool, Device, Int, Tensor};

use super::Predictive;
use crate::ops::integers;

/// The digits of all tokens on a device.
#[derive(Clone, Debug)]
pub struct DeviceCodes {
    /// The digits of every token, [C, ℓ].
    by_token: Tensor<2, Int>,
    /// Digit j of every token, [1, C], for every j.
    by_digit: Vec<Tensor<2, Int>>,
    mask_id: u32,
    carry_over: bool,
}

/// What was drawn for n positions.
pub struct DeviceDraw {
    /// Digits of the tokens, [n, ℓ].
    pub digits: Tensor<2, Int>,
    /// Whether the logits of the possible tokens are a distribution, [n, 1]; what was drawn of others means nothing.
    pub proper: Tensor<2, Bool>,
}

impl DeviceCodes {
    /// The codes of `predictive`, and whether carry-over constrains tokens.
    pub fn new(predictive: &Predictive, device: &Device) -> Self {
        let codes = predictive.codes();
        let (classes, len) = (codes.vocab_size(), codes.subtoken_len());
        let all = (0..classes as u32).flat_map(|x| codes.digits(x).iter().copied());
        let by_token = integers(all, [classes, len], device);
        let by_digit = (0..len).map(|j| by_token.clone().narrow(1, j, 1).reshape([1, classes])).collect();
        Self { by_token, by_digit, mask_id: codes.mask_id(), carry_over: predictive.carry_over() }
    }

    /// The digits [n, ℓ] of tokens \[n\].
    pub fn digits(&self, tokens: Tensor<1, Int>) -> Tensor<2, Int> {
        self.by_token.clone().select(0, tokens)
    }

    /// Tokens whose digit `j` is another than that of `digits` [n, ℓ]: [n, C].
    pub fn differing(&self, digits: &Tensor<2, Int>, j: usize) -> Tensor<2, Bool> {
        let shape = [digits.dims()[0], self.by_token.dims()[0]];
        let digit = digits.clone().narrow(1, j, 1).expand(shape);
        digit.not_equal(self.by_digit[j].clone().expand(shape))
    }

    /// `logits` [n, C], −∞ where carry-over excludes a token that contradicts a visible digit of `y` [n, ℓ].
    pub fn constrain(&self, logits: Tensor<2>, y: &Tensor<2, Int>) -> Tensor<2> {
        if !self.carry_over {
            return logits;
        }
        let excluded_by = |j: usize| {
            let visible = y.clone().narrow(1, j, 1).not_equal_scalar(self.mask_id);
            self.differing(y, j).bool_and(visible.expand(logits.dims()))
        };
        match (0..self.by_digit.len()).map(excluded_by).reduce(Tensor::bool_or) {
            Some(excluded) => logits.mask_fill(excluded, f32::NEG_INFINITY),
            None => logits,
        }
    }

    /// Tokens at `uniforms` [n, 1] ∈ [0, 1) of the cumulative distributions, in token order, of softmax(logits/τ) over
    /// the possible tokens.
    ///
    /// Sums are in single precision, in blocks of about √C tokens and over the blocks: devices sum a row of k numbers up
    /// in k² steps, and long sums would lose small terms. A token's probability is off by up to about 10⁻⁷.
    ///
    /// # Shapes
    /// - `logits`: [n, C], `y`: digits [n, ℓ] 0..=b, `temperatures`: τ > 0, [n, 1]
    pub fn draw(
        &self,
        logits: Tensor<2>,
        y: &Tensor<2, Int>,
        temperatures: Tensor<2>,
        uniforms: Tensor<2>,
    ) -> DeviceDraw {
        let ([n, classes], device) = (logits.dims(), logits.device());
        let logits = self.constrain(logits, y);
        let largest = logits.clone().max_dim(1);
        let weights = ((logits - largest) / temperatures).exp();
        let width = classes.isqrt().max(1);
        let count = classes.div_ceil(width);
        let filling = Tensor::zeros([n, count * width - classes], &device);
        let weights = Tensor::cat(vec![weights, filling], 1).reshape([n, count, width]);

        let blocks = weights.clone().sum_dim(2).reshape([n, count]);
        let sums = blocks.clone().cumsum(1);
        let total = sums.clone().narrow(1, count - 1, 1);
        let target = uniforms * total.clone();
        let block = first_beyond(sums.clone(), target.clone(), blocks.clone());
        let before = sums.gather(1, block.clone()) - blocks.gather(1, block.clone());
        let weights = weights.gather(1, block.clone().reshape([n, 1, 1]).expand([n, 1, width]));
        let weights = weights.reshape([n, width]);
        let within = first_beyond(weights.clone().cumsum(1), target - before, weights);
        DeviceDraw {
            digits: self.digits((block * width as u32 + within).reshape([n])),
            proper: total.is_finite(),
        }
    }
}

/// Where `sums` of `weights` first exceed a target, [n, 1], among the positive weights; the last of these if nowhere, and
/// 0 if there is none.
///
/// A device may add up in any order: sums need not be the same where a weight adds nothing, nor grow up to the target.
fn first_beyond(sums: Tensor<2>, target: Tensor<2>, weights: Tensor<2>) -> Tensor<2, Int> {
    let shape = weights.dims();
    let places = integers(0..shape[1] as u32, [1, shape[1]], &weights.device()).expand(shape);
    let positive = weights.greater_scalar(0.0);
    let beyond = sums.greater(target.expand(shape)).bool_and(positive.clone());
    let first = places.clone().mask_fill(beyond.bool_not(), shape[1] as u32).min_dim(1);
    first.min_pair(places.mask_fill(positive.bool_not(), 0).max_dim(1))
}

#[cfg(test)]
mod tests {
    use burn::tensor::TensorData;

    use super::*;
    use crate::random::{Draws, Purpose};
    use crate::subtoken::SubTokenizer;

    /// The same tokens as on the CPU, but where a target is as near to a partial sum as single precision rounds.
    #[test]
    fn draws_are_those_of_the_distributions() {
        let device = Device::flex();
        let draws = Draws::new(1, Purpose::Token);
        for (classes, carry_over) in [(11, true), (11, false), (2, true), (1000, false)] {
            let predictive = Predictive::new(SubTokenizer::new(classes, 2).unwrap(), carry_over);
            let (codes, mask) = (predictive.codes(), predictive.codes().mask_id());
            let on_device = DeviceCodes::new(&predictive, &device);
            let n = 400u32;
            let logits: Vec<f32> =
                (0..n * classes as u32).map(|i| 2.0 * draws.normal(0, i, 0) as f32).collect();
            let temperature = |i: u32| 0.5 + f64::from(i % 3);
            let y: Vec<u32> = (0..n)
                .flat_map(|i| {
                    let digits = codes.digits(draws.below(classes as u64, 1, i, 0) as u32).iter().enumerate();
                    digits.map(move |(j, digit)| if i >> j & 1 == 0 { mask } else { *digit })
                })
                .collect();
            let uniforms: Vec<f32> = (0..n).map(|i| draws.uniform(2, i, 0) as f32).collect();
            let column = |x: Vec<f32>| Tensor::<2>::from_data(TensorData::new(x, [n as usize, 1]), &device);
            let drawn = on_device.draw(
                Tensor::from_data(TensorData::new(logits.clone(), [n as usize, classes]), &device),
                &integers(y.iter().copied(), [n as usize, 2], &device),
                column((0..n).map(|i| temperature(i) as f32).collect()),
                column(uniforms.clone()),
            );
            assert!(drawn.proper.all().into_scalar::<bool>());
            let drawn = drawn.digits.into_data().convert::<i32>().try_into_vec::<i32>().unwrap();
            let mut differing = 0;
            for i in 0..n as usize {
                let p = predictive.distribution_at(
                    &logits[classes * i..][..classes],
                    &y[2 * i..][..2],
                    temperature(i as u32),
                );
                let expected = codes.digits(p.draw(f64::from(uniforms[i])));
                let ours: Vec<u32> = drawn[2 * i..][..2].iter().map(|digit| *digit as u32).collect();
                differing += u32::from(ours != expected);
            }
            assert!(differing <= 1, "{differing} of {n} differ");
        }
    }

    #[test]
    fn the_last_possible_token_is_drawn_at_the_end_and_logits_that_are_no_numbers_are_told() {
        let device = Device::flex();
        let predictive = Predictive::new(SubTokenizer::new(5, 2).unwrap(), true);
        let on_device = DeviceCodes::new(&predictive, &device);
        let mut logits = [[0.0f32; 5]; 3];
        logits[1][4] = f32::NAN;
        logits[2] = [f32::NEG_INFINITY; 5];
        let column = |x: f32| Tensor::<2>::full([3, 1], x, &device);
        let y = integers([0, 3, 3, 3, 3, 3], [3, 2], &device);
        let drawn = on_device.draw(Tensor::from_data(logits, &device), &y, column(1.0), column(1.0));
        let digits = drawn.digits.narrow(0, 0, 1).into_data().convert::<i32>().try_into_vec::<i32>().unwrap();
        assert_eq!(digits, [0, 2]);
        let proper = drawn.proper.int().into_data().convert::<i32>().try_into_vec::<i32>().unwrap();
        assert_eq!(proper, [1, 0, 0]);
    }
}
