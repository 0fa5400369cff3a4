//! What the output layer's kernels need to know of a training loss.

use std::fmt::Debug;
use std::ops::Range;

use burn::tensor::{Device, Tensor};

use crate::subtoken::TokenSet;

/// Rows of logits that a training loss charges: Σ_r weight_r·loss_r, where loss_r is a function of the logits \[C\] of
/// row r alone. See [`super::Kernels::head_loss`].
pub trait RowLoss: Debug + Send + Sync {
    /// Number of rows n.
    fn len(&self) -> usize;

    /// Whether nothing is charged.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The tokens on whose logits the loss of a row depends.
    fn support(&self, row: usize) -> TokenSet;

    /// The rows in groups of the same support; the rows of a group in increasing order.
    fn group_by_support(&self) -> Vec<Vec<usize>>;

    /// weight·loss of a row in nats; `logits` \[C\] become weight·∂loss/∂logits.
    fn loss_and_gradient(&self, row: usize, logits: &mut [f32]) -> f64;

    /// The same with the logits of the row's support alone, those of `tokens` in increasing order.
    fn loss_and_gradient_within(&self, row: usize, tokens: &[u32], logits: &mut [f32]) -> f64;

    /// The same loss composed of tensor operations, for logits on `device`.
    fn composed(&self, device: &Device) -> ComposedLoss<'_>;
}

/// Σ of weight·loss, \[1\], of a range of rows, given their logits [n, C].
pub type ComposedLoss<'a> = Box<dyn Fn(Range<usize>, Tensor<2>) -> Tensor<1> + 'a>;
