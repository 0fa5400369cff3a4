//! How a sequence is sampled: settings that have been checked and worked out once, for any number of sequences.

use std::ops::Range;
use std::sync::Arc;

use super::draw::TokenDraws;
use super::plan::Planner;
use super::policy::{Corrected, CorrectedSteps, Ordered, Ordering, Planned, Policy};
use super::settings::{SampleSettings, Window};
use super::stopping::EntropyRule;
use crate::order::Order;
use crate::predictive::Predictive;
use crate::{Error, Result};

/// The part of [`SampleSettings`] that says how each sequence is sampled, ready for use with a [`Predictive`].
pub struct Recipe<'a> {
    pub(super) draws: TokenDraws<'a>,
    method: Method,
    /// The token that ends a text, and whether units are revealed from left to right, so that it ends a sequence.
    end: Option<u32>,
    left_to_right: bool,
    /// What blocks read of a text that is longer than the network's length.
    pub(super) window: Window,
    /// When a text that is written block by block stops before its end.
    pub(super) entropy_rule: Option<EntropyRule>,
}

/// What is shared by the policies of all sequences.
enum Method {
    Planned(Planner),
    Corrected(Arc<CorrectedSteps>),
    Ordered(Arc<Ordering>),
}

impl<'a> Recipe<'a> {
    /// `settings` for a network whose logits `predictive` turns into p_θ(x_0 | y_t).
    ///
    /// `batch`, `first_sequence` and `trajectories` are about many sequences: they are checked and not kept.
    ///
    /// # Errors
    /// [`Error::Invalid`] for settings out of range.
    pub fn new(predictive: &'a Predictive, settings: &SampleSettings) -> Result<Self> {
        settings.validate()?;
        let codes = predictive.codes();
        let SampleSettings { unit, per_step, schedule, seed, window, entropy_rule, .. } = *settings;
        let method = match (settings.order.ranking(), &settings.corrector, settings.reveal_steps()?) {
            (Some(ranking), ..) => {
                let ordering = Ordering::new(ranking, per_step, unit, schedule, codes);
                Method::Ordered(Arc::new(Ordering { log_probs: settings.log_probs, ..ordering }))
            }
            (None, Some(corrector), Some(grid)) => {
                Method::Corrected(Arc::new(CorrectedSteps::new(corrector, &grid, &schedule, seed)))
            }
            _ => Method::Planned(Planner::new(settings, codes.subtoken_len())?),
        };
        let left_to_right = settings.order == Order::LeftToRight;
        let draws = TokenDraws::new(predictive, settings);
        if let (Some(top), true) = (settings.log_probs, draws.may_contradict()) {
            let allowed =
                "off without carry-over where digits may belong to no token: some draws are then repeated";
            return Err(Error::invalid("log_probs", top, allowed));
        }
        Ok(Self { draws, method, end: None, left_to_right, window, entropy_rule })
    }

    /// The same, where the token `end` ends a text: revealed from left to right, or block by block, a sequence is complete
    /// with the first one behind everything that is given and behind those with which it begins, and the network is not
    /// evaluated for what would follow. With other orders of networks without blocks nothing changes.
    #[must_use]
    pub fn ending_at(self, end: Option<u32>) -> Self {
        Self { end, ..self }
    }

    /// The token that ends a sequence, which may be written block by block.
    pub(super) fn end(&self, by_blocks: bool) -> Option<u32> {
        self.end.filter(|_| self.left_to_right || by_blocks)
    }

    /// Whether units are revealed from left to right.
    pub(super) fn is_left_to_right(&self) -> bool {
        self.left_to_right
    }

    /// The tokens and their digits, and whether they are constrained.
    pub fn predictive(&self) -> &'a Predictive {
        self.draws.predictive
    }

    /// The policy of some `tokens` of a sequence, whose sub-tokens `y` [L·ℓ] are those at the start there.
    pub(super) fn begin(&self, number: u64, y: &[u32], tokens: Range<usize>) -> Box<dyn Policy> {
        let codes = self.predictive().codes();
        let (len, mask_id) = (codes.subtoken_len(), codes.mask_id());
        match &self.method {
            Method::Planned(planner) => {
                let masked: Vec<usize> =
                    (tokens.start * len..tokens.end * len).filter(|digit| y[*digit] == mask_id).collect();
                Box::new(Planned::new(planner.plan(number, &masked), len))
            }
            Method::Ordered(ordering) => Box::new(Ordered::new(Arc::clone(ordering), y, tokens)),
            Method::Corrected(steps) => Box::new(Corrected::new(Arc::clone(steps), y, tokens, len, mask_id)),
        }
    }

    /// Whether a network's device can draw the digits, by a kernel or by tensor operations: where nothing depends on them but
    /// digits that come later.
    pub(super) fn fits_device(&self, by_kernel: bool) -> bool {
        match self.method {
            Method::Planned(_) => by_kernel || self.draws.is_plain(),
            Method::Corrected(_) => by_kernel,
            Method::Ordered(_) => false,
        }
    }
}
