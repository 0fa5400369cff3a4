//! Sums of predictions.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Cube, Dispatch, TensorMetadata, backend_extension};
use burn::tensor::Tensor;

use super::device::{Array, Launch, Source, contiguous, source};

static SOURCE: Source = source!("mixture.cu", "block.cuh");

/// Threads of a block, at most.
const MOST_THREADS: usize = 1024;

#[backend_extension(Cube)]
pub trait MixtureOp: Backend {
    fn submask_cuda_add_prediction(
        sums: FloatTensor<Self>,
        logits: FloatTensor<Self>,
        temperatures: FloatTensor<Self>,
        log_share: f32,
    ) -> FloatTensor<Self>;
}

/// See [`crate::ops::add_prediction`].
pub fn add_prediction(sums: Tensor<2>, logits: Tensor<2>, temperatures: Tensor<1>, share: f64) -> Tensor<2> {
    let (sums, logits) = (sums.into_dispatch(), logits.into_dispatch());
    let temperatures = temperatures.into_dispatch();
    Tensor::from_dispatch(Dispatch::submask_cuda_add_prediction(
        sums,
        logits,
        temperatures,
        share.ln() as f32,
    ))
}

impl MixtureOp for Cube {
    fn submask_cuda_add_prediction(sums: Array, logits: Array, temperatures: Array, log_share: f32) -> Array {
        let [sums, logits, temperatures] = [sums, logits, temperatures].map(contiguous);
        // Changed where they stand if nobody else reads them.
        let sums = if sums.can_mut() { sums } else { sums.copy() };
        let [rows, classes] = logits.shape().dims();
        assert_eq!((sums.shape(), temperatures.shape().num_elements()), (logits.shape(), rows));
        Launch::new(&SOURCE, "add_prediction")
            .write(&sums)
            .read(&logits)
            .read(&temperatures)
            .float(log_share)
            .int(classes)
            .run(&logits, [rows, 1, 1], classes.next_power_of_two().clamp(32, MOST_THREADS));
        sums
    }
}
