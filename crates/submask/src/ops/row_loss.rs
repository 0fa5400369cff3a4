//! What the output layer's kernels need to know of a training loss.

use std::fmt::Debug;
use std::ops::Range;

use burn::tensor::{Device, Tensor};

use crate::subtoken::{SubTokenizer, TokenSet};

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

    /// The same rows as a device's kernel computes them; `None` where no kernel does.
    fn by_digits(&self) -> Option<DigitRows<'_>> {
        None
    }
}

/// Σ of weight·loss, \[1\], of a range of rows, given their logits [n, C].
pub type ComposedLoss<'a> = Box<dyn Fn(Range<usize>, Tensor<2>) -> Tensor<1> + 'a>;

/// Rows that each predict a token from digits that are seen of it, and what a row costs.
#[derive(Clone, Copy, Debug)]
pub struct DigitRows<'a> {
    /// The tokens' digits.
    pub codes: &'a SubTokenizer,
    /// Whether tokens that contradict a digit that is seen are excluded from a row's softmax.
    pub carry_over: bool,
    /// What a row costs.
    pub cost: RowCost,
    /// Digits that are seen, [n, ℓ], b being that of a masked one.
    pub y_t: &'a [u32],
    /// The tokens to predict, \[n\].
    pub x_0: &'a [u32],
    /// Weights of the rows, \[n\].
    pub weights: &'a [f32],
}

/// What a row costs, with p the softmax of its logits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowCost {
    /// −log p(x_0).
    Token,
    /// Σ over masked digits j of −log of the mass of the tokens that have digit j of x_0.
    MaskedDigits,
}
