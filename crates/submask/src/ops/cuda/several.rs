//! Operations with several results, which Burn's autodiff does not have: the results are parts of a whole, each leaves its
//! gradient where the whole's backward pass, which comes after all of theirs, finds it.

use std::sync::{Arc, Mutex, PoisonError};

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Cube};

use super::device::{Array, contiguous};

/// The gradients of the parts; none of a part on which nothing depends.
#[derive(Clone, Debug)]
pub struct PartGradients(Arc<Mutex<Vec<Option<Array>>>>);

impl PartGradients {
    pub(super) fn of(count: usize) -> Self {
        Self(Arc::new(Mutex::new(vec![None; count])))
    }

    fn leave(&self, place: usize, gradient: Array) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)[place] = Some(gradient);
    }

    pub(super) fn take(&self) -> Vec<Option<Array>> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A part of `whole`.
pub(super) fn part<C: CheckpointStrategy>(
    whole: &FloatTensor<Autodiff<Cube, C>>,
    gradients: &PartGradients,
    place: usize,
    array: Array,
) -> FloatTensor<Autodiff<Cube, C>> {
    match PartBackward.prepare::<C>([whole.node()]).compute_bound().stateful() {
        OpsKind::Tracked(prepared) => prepared.finish((gradients.clone(), place), array),
        OpsKind::UnTracked(prepared) => prepared.finish(array),
    }
}

#[derive(Debug)]
struct PartBackward;

impl Backward<Cube, 1> for PartBackward {
    type State = (PartGradients, usize);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (gradients, place) = ops.state;
        gradients.leave(place, contiguous(grads.consume::<Cube>(&ops.node)));
    }
}
