//! Rows that are written block by block: what the network makes of the blocks that are written is kept.

use std::collections::VecDeque;

use super::memory::{self, Logits};
use super::observer::Observer;
use super::row::Row;
use super::settings::Window;
use crate::denoiser::{BlockDenoiser, BlocksAt, DrawingDevice, Kept, Spec};
use crate::{Error, Result};

/// Rows that are written block by block.
pub(super) struct ByBlocks<'a> {
    network: &'a dyn BlockDenoiser,
    /// The same network, where its device draws digits.
    device: Option<&'a dyn DrawingDevice>,
    spec: &'a Spec,
    /// Most rows of a round, and of a group.
    batch: usize,
    /// Those that have waited longest for their turn come first.
    groups: Vec<Group<'a>>,
    /// Rows that still read what they are given.
    reading: VecDeque<(Read, Vec<Row<'a>>)>,
}

/// Rows whose blocks stand at the same place of the network's length and are equally long: they are evaluated together.
struct Group<'a> {
    /// The position of the first token of the block, and how many tokens are kept before it.
    first: usize,
    rows: Vec<Row<'a>>,
    /// What is kept of each row; `None` where nothing stands before its block.
    kept: Option<Kept>,
}

impl Group<'_> {
    fn length(&self) -> usize {
        self.rows.first().map_or(0, |row| row.block.len())
    }
}

impl<'a> ByBlocks<'a> {
    /// No rows yet, of a network with the given `spec`, at most `batch` of which are evaluated in a round.
    pub fn new(
        network: &'a dyn BlockDenoiser,
        device: Option<&'a dyn DrawingDevice>,
        spec: &'a Spec,
        batch: usize,
    ) -> Self {
        Self { network, device, spec, batch, groups: Vec::new(), reading: VecDeque::new() }
    }

    /// All rows on their way.
    pub fn rows(&self) -> impl Iterator<Item = &Row<'a>> {
        let reading = self.reading.iter().flat_map(|(_, rows)| rows);
        self.groups.iter().flat_map(|group| &group.rows).chain(reading)
    }

    /// Takes rows in that have just been started. What they are given before their first block is read in the rounds that follow; rows
    /// that are given the same one after the other share the reading.
    pub fn add(&mut self, rows: Vec<Row<'a>>) {
        let mut rows = rows.into_iter().peekable();
        while let Some(first) = rows.next() {
            let (given, window, length) =
                (first.digits(0..first.block.start).to_vec(), first.recipe.window, first.block.len());
            let is_same = |row: &Row| {
                row.digits(0..row.block.start) == given
                    && (row.recipe.window, row.block.len()) == (window, length)
            };
            let read = self.unread(&first);
            let mut group = vec![first];
            while group.len() < self.batch
                && let Some(row) = rows.next_if(is_same)
            {
                group.push(row);
            }
            self.reading.push_back((read, group));
        }
    }

    /// One more pass for those that are still reading, as many of them as have their turn; those that are through can be evaluated.
    fn read_on(&mut self) -> Result<()> {
        for _ in 0..self.reading.len().min(self.batch) {
            let Some((mut read, mut rows)) = self.reading.pop_front() else { break };
            if let Some(row) = rows.first() {
                self.read_pass(&mut read, row)?;
            }
            if !read.is_done() {
                self.reading.push_back((read, rows));
                continue;
            }
            rows.iter_mut().for_each(|row| row.clean_passes += read.passes);
            let kept = read.kept.map(|kept| kept.of(&vec![0; rows.len()]));
            self.place(Group { first: read.first, rows, kept });
        }
        Ok(())
    }

    /// The next visit of every row, or of those that have waited longest where there are too many, in one network call.
    ///
    /// # Errors
    /// What the network reports, [`Error::Invalid`] for logits that are no distribution, and what the observer returns.
    pub fn visit(&mut self, observer: &mut dyn Observer) -> Result<()> {
        self.read_on()?;
        if self.groups.is_empty() {
            return Ok(());
        }
        let rows = self.groups.iter().scan(0, |rows, group| {
            *rows += group.rows.len();
            Some(*rows)
        });
        let turn = rows.take_while(|rows| *rows <= self.batch).count().max(1).min(self.groups.len());
        let (mut places, mut rows) = (Vec::new(), Vec::<&mut Row>::new());
        for group in &mut self.groups[..turn] {
            let (sequences, tokens) = (group.rows.len(), group.length());
            places.push(BlocksAt { kept: group.kept.as_ref(), first: group.first, sequences, tokens });
            rows.extend(&mut group.rows);
        }
        let device = self.device.map(|device| device.device());
        memory::visit_together(self.spec, &mut rows, observer, device, |states, positions, logits| {
            match (logits, self.device) {
                (Logits::OnDevice(rows), Some(device)) => {
                    device.logits_after_each(&places, states, positions, rows)
                }
                (Logits::OnDevice(_), None) => Ok(()),
                (Logits::InMemory(rows), _) => {
                    self.network.evaluate_after_each(&places, states, positions, rows)
                }
            }
        })?;
        self.groups.rotate_left(turn);
        Ok(())
    }

    /// Takes out a row. Returns it where it was there.
    pub fn take(&mut self, sequence: usize) -> Option<Row<'a>> {
        let of = |row: &Row| row.sequence == sequence;
        for place in 0..self.reading.len() {
            let rows = &mut self.reading[place].1;
            if let Some(row) = rows.iter().position(of) {
                let row = rows.remove(row);
                self.reading.retain(|(_, rows)| !rows.is_empty());
                return Some(row);
            }
        }
        let group = self.groups.iter_mut().find(|group| group.rows.iter().any(of))?;
        let place = group.rows.iter().position(of)?;
        let row = group.rows.remove(place);
        if group.rows.is_empty() {
            self.groups.retain(|group| !group.rows.is_empty());
        } else if let Some(kept) = &group.kept {
            let others: Vec<usize> = (0..=group.rows.len()).filter(|other| *other != place).collect();
            group.kept = Some(kept.of(&others));
        }
        Some(row)
    }

    /// Takes out the rows that are done, and brings those whose block is written to their next block.
    ///
    /// # Errors
    /// What the network reports.
    pub fn advance(&mut self) -> Result<Vec<Row<'a>>> {
        let mut done = Vec::new();
        for group in std::mem::take(&mut self.groups) {
            let Group { first, rows, kept } = group;
            let of = |places: &[usize]| kept.as_ref().map(|kept| kept.of(places));
            let (mut going, mut written) = (Vec::new(), Vec::new());
            for (place, row) in rows.into_iter().enumerate() {
                match (row.is_done(), row.awaits_next_block()) {
                    (true, _) => done.push(row),
                    (false, true) => written.push((place, row)),
                    (false, false) => going.push((place, row)),
                }
            }
            let (places, rows): (Vec<usize>, Vec<Row>) = going.into_iter().unzip();
            self.place(Group { first, rows, kept: of(&places) });
            let (places, rows): (Vec<usize>, Vec<Row>) = written.into_iter().unzip();
            self.write_next(Group { first, rows, kept: of(&places) })?;
        }
        Ok(done)
    }

    /// Brings rows whose block is written to their next block.
    fn write_next(&mut self, group: Group<'a>) -> Result<()> {
        let Group { first, rows, kept } = group;
        let slides = first + self.spec.block_len >= self.spec.max_seq_len();
        let rereads = |row: &Row| slides && row.recipe.window == Window::Recomputed;
        let (rereading, others): (Vec<_>, Vec<_>) =
            rows.into_iter().enumerate().partition(|(_, row)| rereads(row));
        for (_, mut row) in rereading {
            row.begin_next_block();
            let mut read = self.unread(&row);
            while !read.is_done() {
                self.read_pass(&mut read, &row)?;
            }
            row.clean_passes += read.passes;
            self.place(Group { first: read.first, rows: vec![row], kept: read.kept });
        }
        let (places, mut rows): (Vec<usize>, Vec<Row>) = others.into_iter().unzip();
        if rows.is_empty() {
            return Ok(());
        }
        let mut kept = kept.map(|kept| kept.of(&places));
        if self.most_kept() > 0 {
            let written: Vec<u32> =
                rows.iter().flat_map(|row| row.digits(row.block.clone()).to_vec()).collect();
            kept = Some(self.slid(self.network.keep(&written, rows.len(), kept.as_ref())?));
            rows.iter_mut().for_each(|row| row.clean_passes += 1);
        }
        let first = kept.as_ref().map_or(0, Kept::tokens);
        rows.iter_mut().for_each(Row::begin_next_block);
        let mut rows: Vec<(usize, Row)> = rows.into_iter().enumerate().collect();
        // The last block of a sequence may be shorter than that of another.
        while let Some(length) = rows.first().map(|(_, row)| row.block.len()) {
            let (equal, rest) = rows.into_iter().partition(|(_, row)| row.block.len() == length);
            let (places, equal): (Vec<usize>, Vec<Row>) = Vec::into_iter(equal).unzip();
            self.place(Group { first, rows: equal, kept: kept.as_ref().map(|kept| kept.of(&places)) });
            rows = rest;
        }
        Ok(())
    }

    /// The most tokens that are kept before a block: as many as leave room for it.
    fn most_kept(&self) -> usize {
        self.spec.max_seq_len().saturating_sub(self.spec.block_len)
    }

    /// What is kept, without the first tokens where it is too much.
    fn slid(&self, kept: Kept) -> Kept {
        match kept.tokens().saturating_sub(self.most_kept()) {
            0 => kept,
            surplus => kept.without_first(surplus),
        }
    }

    /// What stands before the block of a row, of which nothing is read yet.
    fn unread(&self, row: &Row) -> Read {
        let (start, most) = (row.block.start, self.most_kept());
        let first = start.min(most);
        let begin = if row.recipe.window == Window::Recomputed { start - first } else { 0 };
        let next = if first == 0 { start } else { begin };
        Read { first, kept: None, next, start, passes: 0 }
    }

    /// One pass over what stands before the block of a row, as if it had been written by it: as much as fits, then block by block.
    fn read_pass(&self, read: &mut Read, row: &Row) -> Result<()> {
        if read.is_done() {
            return Ok(());
        }
        let end = read.next + if read.kept.is_none() { read.first } else { self.spec.block_len };
        let kept = self.network.keep(row.digits(read.next..end), 1, read.kept.as_ref())?;
        read.kept = Some(self.slid(kept));
        read.next = end;
        read.passes += 1;
        Ok(())
    }

    /// Puts rows among those that they can be evaluated with.
    fn place(&mut self, group: Group<'a>) {
        if group.rows.is_empty() {
            return;
        }
        let fits = |other: &&mut Group| {
            (other.first, other.length()) == (group.first, group.length())
                && other.rows.len() + group.rows.len() <= self.batch
        };
        match self.groups.iter_mut().find(fits) {
            None => self.groups.push(group),
            Some(other) => {
                let parts: Vec<Kept> = other.kept.take().into_iter().chain(group.kept).collect();
                other.kept = Kept::joined(&parts);
                other.rows.extend(group.rows);
            }
        }
    }
}

/// What stands before a block, as far as it is read.
struct Read {
    first: usize,
    kept: Option<Kept>,
    /// The next token to read, and the first that is not.
    next: usize,
    start: usize,
    /// Passes that it took.
    passes: u64,
}

impl Read {
    fn is_done(&self) -> bool {
        self.next >= self.start
    }
}

/// Checks that a network with blocks of `block_len` tokens can fill the holes of a prompt: what is given in a later block cannot
/// be read by a hole before it. Of every token it is told whether something of it is masked, and whether something is given.
///
/// # Errors
/// [`Error::Conflict`] naming the hole, the token that is given, and their blocks.
pub(crate) fn check_holes(tokens: impl Iterator<Item = (bool, bool)>, block_len: usize) -> Result<()> {
    let mut first_hole = None;
    for (token, (is_open, is_given)) in tokens.enumerate() {
        if is_open && first_hole.is_none() {
            first_hole = Some(token);
        }
        let Some(hole) = first_hole.filter(|hole| is_given && token / block_len > hole / block_len) else {
            continue;
        };
        let block = |token: usize| {
            let start = token / block_len * block_len;
            format!("tokens {start} to {}", start + block_len - 1)
        };
        let problem = format!(
            "has text that a hole before it cannot read: blocks of {block_len} tokens are written one after the other, and the \
             hole at token {hole} is in that of {}, before token {token}, which is given in that of {}",
            block(hole),
            block(token)
        );
        return Err(Error::Conflict { field: "prompt".to_owned(), problem });
    }
    Ok(())
}
