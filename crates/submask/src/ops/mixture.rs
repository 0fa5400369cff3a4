//! Sums of predictions of several networks.

use burn::tensor::Tensor;

#[cfg(feature = "cuda")]
use super::cuda;

/// log(e^sums + share·softmax(logits/τ)), element by element: how a mixture takes in one more prediction.
///
/// # Shapes
/// - `sums`, `logits` and the result: [n, C]; `sums` are −∞ as long as there is nothing
/// - `temperatures`: τ > 0, \[n\]
pub fn add_prediction(sums: Tensor<2>, logits: Tensor<2>, temperatures: Tensor<1>, share: f64) -> Tensor<2> {
    #[cfg(feature = "cuda")]
    if cuda::is_cuda(&logits.device()) {
        return cuda::add_prediction(sums, logits, temperatures, share);
    }
    composed(sums, logits, temperatures, share)
}

fn composed(sums: Tensor<2>, logits: Tensor<2>, temperatures: Tensor<1>, share: f64) -> Tensor<2> {
    let rows = temperatures.dims()[0];
    let scaled = (logits.clone() - logits.max_dim(1)) / temperatures.reshape([rows, 1]);
    let own = scaled.clone() - scaled.exp().sum_dim(1).log() + share.ln();
    let (high, low) = (sums.clone().max_pair(own.clone()), sums.min_pair(own));
    let nothing = high.clone().equal_scalar(f32::NEG_INFINITY);
    (high.clone() + (low - high).exp().log1p()).mask_fill(nothing, f32::NEG_INFINITY)
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};

    use super::*;
    use crate::random::{Draws, Purpose};

    #[test]
    fn predictions_add_up_to_their_mean() {
        check(&Device::flex());
        #[cfg(feature = "cuda")]
        if let Some(gpu) = crate::device::gpus().into_iter().find(|gpu| gpu.interface == "CUDA") {
            check(&gpu.device);
        }
    }

    fn check(device: &Device) {
        let draws = Draws::new(1, Purpose::Init);
        for classes in [3, 33, 1500] {
            let logits: Vec<Vec<f32>> = (0..3)
                .map(|k| (0..2 * classes as u32).map(|i| 5.0 * draws.normal(k, i, 0) as f32).collect())
                .collect();
            let logits: Vec<Vec<f32>> = logits
                .into_iter()
                .map(|mut logits| {
                    // A token that no network thinks possible.
                    logits[1] = f32::NEG_INFINITY;
                    logits
                })
                .collect();
            let shape = [2, classes];
            let mut sums = Tensor::<2>::full(shape, f32::NEG_INFINITY, device);
            for (logits, share) in logits.iter().zip([0.5, 0.25, 0.25]) {
                let logits = Tensor::from_data(TensorData::new(logits.clone(), shape), device);
                sums = add_prediction(sums, logits, Tensor::from_data([0.7f32, 1.5], device), share);
            }
            let found = sums.into_data().try_into_vec::<f32>().unwrap();
            for (row, (found, tau)) in found.chunks_exact(classes).zip([0.7, 1.5]).enumerate() {
                let scaled = |k: usize, x: usize| (f64::from(logits[k][row * classes + x]) / tau).exp();
                let totals: Vec<f64> = (0..3).map(|k| (0..classes).map(|x| scaled(k, x)).sum()).collect();
                for (x, found) in found.iter().enumerate() {
                    let mean: f64 =
                        [0.5, 0.25, 0.25].iter().enumerate().map(|(k, s)| s * scaled(k, x) / totals[k]).sum();
                    let found = f64::from(*found);
                    assert!(
                        found == mean.ln() || (found - mean.ln()).abs() < 1e-5,
                        "{found}, not {}",
                        mean.ln()
                    );
                }
            }
        }
    }
}
