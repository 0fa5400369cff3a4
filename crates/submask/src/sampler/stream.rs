//! The one loop: sequences come and go, and in every round each of the batch goes through one evaluation.

use std::collections::VecDeque;
use std::sync::Arc;

use super::blocks::{ByBlocks, check_holes};
use super::device::OnDevice;
use super::memory;
use super::observer::{Event, Observer, Progress};
use super::prompt::Prompt;
use super::recipe::Recipe;
use super::report::SampleReport;
use super::row::Row;
use super::stopping::EntropyRule;
use crate::denoiser::{Denoiser, Spec};
use crate::{Error, Result};

/// Rounds between waits for a device: then logits that were no distribution are noticed, and finished sequences read.
const ROUNDS_PER_SYNC: usize = 16;

/// A sequence to sample.
#[derive(Clone)]
pub struct SequenceRequest<'a> {
    /// What is given, how long the sequence is, and its class.
    pub prompt: Prompt,
    /// How it is sampled.
    pub recipe: Arc<Recipe<'a>>,
    /// Number of the sequence under the recipe's seed, the key of its draws.
    pub number: u64,
}

/// A complete sequence.
#[derive(Clone, Debug, PartialEq)]
pub struct FinishedSequence {
    /// What [`Stream::add`] returned for it.
    pub sequence: usize,
    /// x_0, \[L\]; of a recipe with an end ([`Recipe::ending_at`]) up to the token that ends the sequence.
    pub tokens: Vec<u32>,
    /// What it cost.
    pub report: SampleReport,
}

/// Samples sequences that may be added at any time, `batch` of them at once.
///
/// What becomes of a sequence depends on the network and its [`SequenceRequest`] alone: not on the other sequences, on
/// when it was added, on the batch size or on the thread count.
///
/// # Batches
///
/// Sequences start in the order in which they were added, as soon as there is room. The sequences of a batch may differ
/// in everything. A network takes sequences of one length, so a round is one network call per length in the batch.
///
/// # Blocks
///
/// A network with blocks writes sequences of any length, block after block, and keeps what it makes of those that are written
/// ([`BlockDenoiser`](crate::denoiser::BlockDenoiser)). So a round is one network call per place at which a block stands, and
/// a sequence takes one more pass per block. Its holes are filled from what stands before them and in their own block:
/// nothing may be given behind the first block that has a hole. Sub-tokens of a block are revealed by the recipe as those of a
/// sequence: with a grid in T steps per block, with an order the first of those masked in the block.
///
/// # Devices
///
/// Where a network's device can draw the digits, and nobody wants to be told of them
/// ([`Observer::wants_digits`]), they stay there, and no round waits for them. Such sequences are finished with the
/// next round that waits for the device: every 16th, and one that has nothing else to do.
///
/// ```no_run
/// use std::sync::Arc;
///
/// use submask::denoiser::Denoiser;
/// use submask::predictive::Predictive;
/// use submask::sampler::{Event, Prompt, Recipe, SampleSettings, SequenceRequest, Stream};
///
/// fn two_lengths(network: &dyn Denoiser, predictive: &Predictive) -> submask::Result<()> {
///     let recipe = Arc::new(Recipe::new(predictive, &SampleSettings::default())?);
///     let request = |len, number| -> submask::Result<SequenceRequest> {
///         let prompt = Prompt::empty(predictive, len)?;
///         Ok(SequenceRequest { prompt, recipe: Arc::clone(&recipe), number })
///     };
///     let mut stream = Stream::new(network, 8)?;
///     stream.add(request(64, 0)?)?;
///     stream.round(&mut |_: &Event| Ok(()))?;
///     stream.add(request(16, 1)?)?;
///     while !stream.is_empty() {
///         for finished in stream.round(&mut |_: &Event| Ok(()))? {
///             println!("{}: {:?}", finished.sequence, finished.tokens);
///         }
///     }
///     Ok(())
/// }
/// ```
pub struct Stream<'a> {
    network: &'a dyn Denoiser,
    batch: usize,
    waiting: VecDeque<(usize, SequenceRequest<'a>)>,
    in_memory: Vec<Row<'a>>,
    on_device: Vec<OnDevice<'a>>,
    /// Of a network with blocks; then all rows are there.
    by_blocks: Option<ByBlocks<'a>>,
    added: usize,
    rounds: usize,
    /// Sub-tokens of finished sequences that were revealed.
    digits_finished: usize,
    progress: Progress,
}

impl<'a> Stream<'a> {
    /// A stream without sequences, which evaluates at most `batch` of them at once.
    ///
    /// # Errors
    /// [`Error::Invalid`] when `batch` is 0, and for a network whose blocks do not divide its length.
    pub fn new(network: &'a dyn Denoiser, batch: usize) -> Result<Self> {
        if batch == 0 {
            return Err(Error::invalid("batch", batch, "at least 1"));
        }
        let Spec { block_len, .. } = *network.spec();
        if network.by_blocks().is_some() && !network.spec().max_seq_len().is_multiple_of(block_len.max(1)) {
            let allowed = format!("a divisor of {}, the network's length", network.spec().max_seq_len());
            return Err(Error::invalid("block_len", block_len, allowed));
        }
        Ok(Self {
            network,
            batch,
            waiting: VecDeque::new(),
            in_memory: Vec::new(),
            on_device: Vec::new(),
            by_blocks: network.by_blocks().map(|blocks| ByBlocks::new(blocks, network.spec())),
            added: 0,
            rounds: 0,
            digits_finished: 0,
            progress: Progress::default(),
        })
    }

    /// Adds a sequence and returns its number in the stream: 0 for the first, 1 for the second, …
    ///
    /// # Errors
    /// [`Error::Invalid`] for a prompt, a recipe or a class that is not for this network.
    pub fn add(&mut self, request: SequenceRequest<'a>) -> Result<usize> {
        let spec = self.network.spec();
        let codes = request.recipe.predictive().codes();
        spec.check_codes(codes)?;
        let (width, mask_id) = (request.prompt.y().len(), request.prompt.mask_id());
        if !width.is_multiple_of(codes.subtoken_len()) || mask_id != codes.mask_id() {
            let given = format!("{width} sub-tokens in base {mask_id}");
            let allowed =
                format!("a multiple of {} sub-tokens in base {}", codes.subtoken_len(), codes.mask_id());
            return Err(Error::invalid("prompt", given, allowed));
        }
        if let (Some(rule), None) = (request.recipe.entropy_rule, &self.by_blocks) {
            return Err(EntropyRule::without_blocks(rule.least));
        }
        match self.by_blocks {
            Some(_) => {
                let tokens = request.prompt.y().chunks_exact(codes.subtoken_len());
                let masked = |y: &[u32]| y.iter().filter(|digit| **digit == mask_id).count();
                let tokens = tokens.map(|y| (masked(y) > 0, masked(y) < y.len()));
                check_holes(tokens, spec.block_len)?;
            }
            None => spec.check_seq_len(width / codes.subtoken_len())?,
        }
        match (request.prompt.label(), spec.classes) {
            (Some(_), None) => {
                return Err(Error::invalid("label", "given", "none: the network takes no labels"));
            }
            (Some(label), Some(classes)) if label > classes => {
                return Err(Error::invalid("label", label, format!("0 to {classes}")));
            }
            _ => {}
        }
        self.progress.digits_total += request.prompt.masked().len();
        self.waiting.push_back((self.added, request));
        self.added += 1;
        Ok(self.added - 1)
    }

    /// Whether every sequence that was added is finished.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many sequences that were added are not finished.
    pub fn len(&self) -> usize {
        self.added - self.progress.sequences
    }

    /// Takes waiting sequences into the batch and gives every sequence of the batch its next evaluation. Returns the
    /// sequences that this finishes. Without sequences it does nothing.
    ///
    /// # Errors
    /// What the network reports, [`Error::Invalid`] for logits that are no distribution, and what `observer` returns.
    /// After an error sequences are in no definite state: the stream is to be dropped.
    pub fn round(&mut self, observer: &mut dyn Observer) -> Result<Vec<FinishedSequence>> {
        let mut finished = Vec::new();
        self.start(observer, &mut finished)?;
        if self.active() == 0 {
            self.sync(observer, &mut finished)?;
            return Ok(finished);
        }
        memory::visit(self.network, &mut self.in_memory, observer)?;
        if let Some(blocks) = &mut self.by_blocks {
            blocks.visit(observer)?;
        }
        let spec = self.network.spec();
        self.on_device.iter_mut().try_for_each(|group| group.visit(spec))?;
        self.rounds += 1;
        self.progress.digits = self.digits_finished + self.rows().map(|row| row.revealed).sum::<usize>();
        observer.notify(&Event::Progress(self.progress))?;
        self.on_device.iter_mut().for_each(OnDevice::retire);
        let mut done: Vec<Row> = self.in_memory.extract_if(.., |row| row.is_done()).collect();
        if let Some(blocks) = &mut self.by_blocks {
            done.extend(blocks.advance()?);
        }
        done.into_iter().try_for_each(|row| self.finish(row, observer, &mut finished))?;
        if self.rounds.is_multiple_of(ROUNDS_PER_SYNC) {
            self.sync(observer, &mut finished)?;
        }
        Ok(finished)
    }

    /// Rows in the batch.
    fn active(&self) -> usize {
        let on_device = self.on_device.iter().map(|group| group.rows.len()).sum::<usize>();
        let by_blocks = self.by_blocks.as_ref().map_or(0, |blocks| blocks.rows().count());
        self.in_memory.len() + on_device + by_blocks
    }

    /// Rows that were started and are not finished.
    fn rows(&self) -> impl Iterator<Item = &Row<'a>> {
        let elsewhere = self.on_device.iter().flat_map(OnDevice::all_rows);
        self.in_memory.iter().chain(elsewhere).chain(self.by_blocks.iter().flat_map(ByBlocks::rows))
    }

    fn start(&mut self, observer: &mut dyn Observer, finished: &mut Vec<FinishedSequence>) -> Result<()> {
        let block_len = self.by_blocks.as_ref().map(|_| self.network.spec().block_len);
        let mut started = Vec::new();
        while self.active() + started.len() < self.batch
            && let Some((sequence, request)) = self.waiting.pop_front()
        {
            let row = Row::new(sequence, request, block_len);
            observer.notify(&Event::Started { sequence, y: &row.y })?;
            match (row.is_done(), block_len) {
                (true, _) => self.finish(row, observer, finished)?,
                (false, Some(_)) => started.push(row),
                (false, None) => self.place(row, observer.wants_digits()),
            }
        }
        self.by_blocks.as_mut().map_or(Ok(()), |blocks| blocks.add(started))
    }

    /// Puts a row where its digits are drawn.
    fn place(&mut self, row: Row<'a>, wants_digits: bool) {
        let device = self.network.on_device().filter(|_| row.recipe.fits_device() && !wants_digits);
        let Some(device) = device else { return self.in_memory.push(row) };
        match self.on_device.iter_mut().find(|group| group.takes(&row)) {
            Some(group) => group.add(row),
            None => self.on_device.push(OnDevice::new(device, row)),
        }
    }

    /// Waits for devices and finishes the rows that are done there.
    fn sync(&mut self, observer: &mut dyn Observer, finished: &mut Vec<FinishedSequence>) -> Result<()> {
        for mut group in std::mem::take(&mut self.on_device) {
            for row in group.sync()? {
                self.finish(row, observer, finished)?;
            }
            if !group.rows.is_empty() {
                self.on_device.push(group);
            }
        }
        Ok(())
    }

    fn finish(
        &mut self,
        row: Row<'a>,
        observer: &mut dyn Observer,
        finished: &mut Vec<FinishedSequence>,
    ) -> Result<()> {
        let (sequence, report) = (row.sequence, row.report());
        let tokens = row.tokens()?;
        self.progress.sequences += 1;
        self.progress.digits_total -= row.left_out();
        self.digits_finished += row.revealed;
        observer.notify(&Event::Finished { sequence, tokens: &tokens, report: &report })?;
        finished.push(FinishedSequence { sequence, tokens, report });
        Ok(())
    }
}
