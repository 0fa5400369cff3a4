//! A network that is asked only while somebody waits for what it says.

use super::{Autoregressor, BlockDenoiser, BlocksAt, Continuation, Denoiser, Kept, LogitRows, Spec, States};
use crate::{Error, Result};

/// Whether to go on: its error ends the work that asks.
pub type Wanted<'a> = &'a (dyn Fn() -> Result<()> + Sync);

/// A network in memory that asks before every evaluation whether it is wanted. Its numbers are those of the network.
pub struct Watched<'a> {
    network: &'a dyn Denoiser,
    wanted: Wanted<'a>,
}

impl<'a> Watched<'a> {
    /// A network and who is asked.
    pub fn new(network: &'a dyn Denoiser, wanted: Wanted<'a>) -> Self {
        Self { network, wanted }
    }

    fn blocks(&self) -> Result<&dyn BlockDenoiser> {
        (self.wanted)()?;
        self.network.by_blocks().ok_or("none").map_err(Error::internal("a network with blocks"))
    }
}

impl Denoiser for Watched<'_> {
    fn spec(&self) -> &Spec {
        self.network.spec()
    }

    fn evaluate(&self, states: &States, positions: &[usize], rows: LogitRows) -> Result<()> {
        (self.wanted)()?;
        self.network.evaluate(states, positions, rows)
    }

    fn evaluate_each(
        &self,
        states: &States,
        lengths: &[usize],
        positions: &[usize],
        rows: LogitRows,
    ) -> Result<()> {
        (self.wanted)()?;
        self.network.evaluate_each(states, lengths, positions, rows)
    }

    fn by_blocks(&self) -> Option<&dyn BlockDenoiser> {
        self.network.by_blocks().map(|_| self as &dyn BlockDenoiser)
    }
}

/// The same of the autoregressive baseline; continuations do not ask.
pub struct WatchedAutoregressor<'a> {
    network: &'a dyn Autoregressor,
    wanted: Wanted<'a>,
}

impl<'a> WatchedAutoregressor<'a> {
    /// A network and who is asked.
    pub fn new(network: &'a dyn Autoregressor, wanted: Wanted<'a>) -> Self {
        Self { network, wanted }
    }
}

impl Autoregressor for WatchedAutoregressor<'_> {
    fn spec(&self) -> &Spec {
        self.network.spec()
    }

    fn base(&self) -> usize {
        self.network.base()
    }

    fn logits(&self, inputs: &[u32], batch: usize) -> Result<Vec<f32>> {
        (self.wanted)()?;
        self.network.logits(inputs, batch)
    }

    fn begin(&self) -> Box<dyn Continuation + '_> {
        self.network.begin()
    }
}

impl BlockDenoiser for Watched<'_> {
    fn keep(&self, clean: &[u32], sequences: usize, kept: Option<&Kept>) -> Result<Kept> {
        self.blocks()?.keep(clean, sequences, kept)
    }

    fn evaluate_after(
        &self,
        kept: Option<&Kept>,
        first: usize,
        states: &States,
        positions: &[usize],
        rows: LogitRows,
    ) -> Result<()> {
        self.blocks()?.evaluate_after(kept, first, states, positions, rows)
    }

    fn evaluate_after_each(
        &self,
        groups: &[BlocksAt],
        states: &States,
        positions: &[usize],
        rows: LogitRows,
    ) -> Result<()> {
        self.blocks()?.evaluate_after_each(groups, states, positions, rows)
    }
}
