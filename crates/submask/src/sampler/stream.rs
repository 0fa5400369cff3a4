//! The one loop: sequences come and go, and in every round each of the batch goes through one evaluation.

use std::collections::VecDeque;
use std::sync::Arc;

use super::blocks::{ByBlocks, check_holes};
use super::device::OnDevice;
use super::memory;
use super::mixture::MixtureDenoiser;
use super::observer::{Event, Observer, Progress};
use super::prompt::Prompt;
use super::recipe::Recipe;
use super::report::SampleReport;
use super::row::Row;
use super::stopping::EntropyRule;
use crate::denoiser::{Denoiser, DeviceDenoiser, Spec};
use crate::ops::draws_by_kernel;
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
/// in everything; a round is one network call, or one per length in the batch where a network takes one length at a time.
///
/// In a stream whose sequences take turns ([`Self::taking_turns`]) all start at once, and those go through the next round that
/// have waited longest: a short sequence need not wait until a long one is finished.
///
/// # Blocks
///
/// A network with blocks writes sequences of any length, block after block, and keeps what it makes of those that are written
/// ([`BlockDenoiser`](crate::denoiser::BlockDenoiser)): a sequence takes one more pass per block, which it shares with those
/// whose block stands at the same place. Its holes are filled from what stands before them and in their own block:
/// nothing may be given behind the first block that has a hole. Sub-tokens of a block are revealed by the recipe as those of a
/// sequence: with a grid in T steps per block, with an order the first of those masked in the block.
///
/// # Devices
///
/// Where a network's device can draw the digits, and nobody wants to be told of them
/// ([`Observer::wants_digits`]), they stay there, and no round waits for them. Such sequences are finished with the
/// next round that waits for the device: every 16th, and one that has nothing else to do.
///
/// CUDA devices draw in all the ways that there are. Where digits are needed in memory (somebody is told of them, an order ranks
/// them, blocks follow each other) each round waits for them, and logits still stay on the device, unless probabilities are to
/// be told.
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
    network: Network<'a>,
    batch: usize,
    /// Sequences under way at most; more than a batch where they take turns.
    most_active: usize,
    waiting: VecDeque<(usize, SequenceRequest<'a>)>,
    in_memory: Vec<Row<'a>>,
    on_device: Vec<OnDevice<'a>>,
    /// Of a network with blocks; then all rows are there.
    by_blocks: Option<ByBlocks<'a>>,
    added: usize,
    cancelled: usize,
    rounds: usize,
    /// Sub-tokens of finished sequences that were revealed.
    digits_finished: usize,
    progress: Progress,
}

/// What evaluates the sequences.
enum Network<'a> {
    Borrowed(&'a dyn Denoiser),
    /// It has no blocks, and no device on which digits stay.
    Mixture(Box<MixtureDenoiser<'a>>),
}

impl<'a> Network<'a> {
    fn get(&self) -> &dyn Denoiser {
        match self {
            Self::Borrowed(network) => *network,
            Self::Mixture(mixture) => &**mixture,
        }
    }

    fn borrowed(&self) -> Option<&'a dyn Denoiser> {
        match self {
            Self::Borrowed(network) => Some(*network),
            Self::Mixture(_) => None,
        }
    }
}

impl<'a> Stream<'a> {
    /// A stream without sequences, which evaluates at most `batch` of them at once.
    ///
    /// # Errors
    /// [`Error::Invalid`] when `batch` is 0, and for a network whose blocks do not divide its length.
    pub fn new(network: &'a dyn Denoiser, batch: usize) -> Result<Self> {
        let Spec { block_len, .. } = *network.spec();
        if network.by_blocks().is_some() && !network.spec().max_seq_len().is_multiple_of(block_len.max(1)) {
            let allowed = format!("a divisor of {}, the network's length", network.spec().max_seq_len());
            return Err(Error::invalid("block_len", block_len, allowed));
        }
        Self::of(Network::Borrowed(network), batch)
    }

    /// The same with a mixture of networks, which the stream keeps.
    ///
    /// # Errors
    /// [`Error::Invalid`] when `batch` is 0.
    pub fn of_mixture(mixture: MixtureDenoiser<'a>, batch: usize) -> Result<Self> {
        Self::of(Network::Mixture(Box::new(mixture)), batch)
    }

    fn of(network: Network<'a>, batch: usize) -> Result<Self> {
        if batch == 0 {
            return Err(Error::invalid("batch", batch, "at least 1"));
        }
        let blocks = network.borrowed().and_then(|network| Some((network.by_blocks()?, network)));
        Ok(Self {
            batch,
            most_active: batch,
            waiting: VecDeque::new(),
            in_memory: Vec::new(),
            on_device: Vec::new(),
            by_blocks: blocks.map(|(blocks, network)| {
                ByBlocks::new(blocks, network.drawing_device(), network.spec(), batch)
            }),
            network,
            added: 0,
            cancelled: 0,
            rounds: 0,
            digits_finished: 0,
            progress: Progress::default(),
        })
    }

    /// The same, where all sequences are under way at once and take turns: `batch` of them in a round, those first that have waited
    /// longest. Sequences whose digits stay on a device wait for room there.
    #[must_use]
    pub fn taking_turns(self) -> Self {
        Self { most_active: usize::MAX, ..self }
    }

    /// Adds a sequence and returns its number in the stream: 0 for the first, 1 for the second, …
    ///
    /// # Errors
    /// [`Error::Invalid`] for a prompt, a recipe or a class that is not for this network.
    pub fn add(&mut self, request: SequenceRequest<'a>) -> Result<usize> {
        let spec = self.network.get().spec();
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

    /// Takes a sequence out, of which nothing is told any more. Returns what it has cost, where it was there and not finished. The
    /// others are what they would have been.
    pub fn cancel(&mut self, sequence: usize) -> Option<SampleReport> {
        let (masked, report) = self.take(sequence)?;
        self.progress.digits_total -= masked;
        self.cancelled += 1;
        Some(report)
    }

    /// Takes a sequence out; returns how many sub-tokens were masked at its start, and what it has cost.
    fn take(&mut self, sequence: usize) -> Option<(usize, SampleReport)> {
        if let Some(place) = self.waiting.iter().position(|(waiting, _)| *waiting == sequence) {
            let (_, request) = self.waiting.remove(place)?;
            return Some((request.prompt.masked().len(), SampleReport::default()));
        }
        let cost = |row: &Row| (row.masked(), row.report_so_far());
        if let Some(place) = self.in_memory.iter().position(|row| row.sequence == sequence) {
            return Some(cost(&self.in_memory.remove(place)));
        }
        if let Some(row) = self.by_blocks.as_mut().and_then(|blocks| blocks.take(sequence)) {
            return Some(cost(&row));
        }
        self.on_device.iter_mut().find_map(|group| group.abandon(sequence).map(cost))
    }

    /// Whether every sequence that was added is finished.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many sequences that were added are not finished.
    pub fn len(&self) -> usize {
        self.added - self.progress.sequences - self.cancelled
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
        let turn = self.batch.min(self.in_memory.len());
        memory::visit(self.network.get(), &mut self.in_memory[..turn], observer)?;
        self.in_memory.rotate_left(turn);
        if let Some(blocks) = &mut self.by_blocks {
            blocks.visit(observer)?;
        }
        let spec = self.network.get().spec();
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

    /// Rows on devices that are not done.
    fn active_on_device(&self) -> usize {
        self.on_device.iter().map(|group| group.rows.len()).sum()
    }

    /// Rows under way.
    fn active(&self) -> usize {
        let on_device = self.active_on_device();
        let by_blocks = self.by_blocks.as_ref().map_or(0, |blocks| blocks.rows().count());
        self.in_memory.len() + on_device + by_blocks
    }

    /// Rows that were started and are not finished.
    fn rows(&self) -> impl Iterator<Item = &Row<'a>> {
        let elsewhere = self.on_device.iter().flat_map(OnDevice::all_rows).filter(|row| !row.is_abandoned);
        self.in_memory.iter().chain(elsewhere).chain(self.by_blocks.iter().flat_map(ByBlocks::rows))
    }

    fn start(&mut self, observer: &mut dyn Observer, finished: &mut Vec<FinishedSequence>) -> Result<()> {
        let block_len = self.by_blocks.as_ref().map(|_| self.network.get().spec().block_len);
        let mut started = Vec::new();
        while self.active() + started.len() < self.most_active
            && let Some((sequence, request)) = self.waiting.pop_front()
        {
            let device = self.device(&request.recipe, observer.wants_digits(sequence));
            if device.is_some() && self.active_on_device() >= self.batch {
                self.waiting.push_front((sequence, request));
                break;
            }
            let row = Row::new(sequence, request, block_len);
            observer.notify(&Event::Started { sequence, y: &row.y })?;
            match (row.is_done(), block_len) {
                (true, _) => self.finish(row, observer, finished)?,
                (false, Some(_)) => started.push(row),
                (false, None) => self.place(row, device),
            }
        }
        if let Some(blocks) = &mut self.by_blocks {
            blocks.add(started);
        }
        Ok(())
    }

    /// Where the digits of a sequence can be drawn but in memory.
    fn device(&self, recipe: &Recipe, wants_digits: bool) -> Option<&'a dyn DeviceDenoiser> {
        let device = self.network.borrowed()?.on_device()?;
        let fits = || recipe.fits_device(draws_by_kernel(&device.device()));
        (!wants_digits && self.by_blocks.is_none() && fits()).then_some(device)
    }

    /// Puts a row where its digits are drawn.
    fn place(&mut self, row: Row<'a>, device: Option<&'a dyn DeviceDenoiser>) {
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
                if !row.is_abandoned {
                    self.finish(row, observer, finished)?;
                }
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
