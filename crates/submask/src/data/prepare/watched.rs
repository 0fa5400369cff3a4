//! How far reading has come.

use super::{Phase, Progress};
use crate::data::document::Document;
use crate::data::pairs::Pair;
use crate::error::Result;

/// Documents that report how far they have been read, about every MiB.
pub(super) struct Watched<'a, I> {
    inner: I,
    state: Progress,
    reported: u64,
    report: &'a mut dyn FnMut(Progress),
}

/// Bytes between two reports.
const REPORT_BYTES: u64 = 1 << 20;

impl<'a, I> Watched<'a, I> {
    pub(super) fn new(
        inner: I,
        phase: Phase,
        total_bytes: Option<u64>,
        report: &'a mut dyn FnMut(Progress),
    ) -> Self {
        let state = Progress { phase, documents: 0, bytes: 0, total_bytes };
        report(state);
        Self { inner, state, reported: 0, report }
    }
}

/// What is counted while it is read.
pub(super) trait Counted {
    /// Documents that it ends, and bytes of text.
    fn size(&self) -> (u64, u64);
}

impl Counted for Document {
    fn size(&self) -> (u64, u64) {
        (u64::from(!self.continues), self.text.len() as u64)
    }
}

impl Counted for Pair {
    fn size(&self) -> (u64, u64) {
        (1, (self.prompt.len() + self.completion.len()) as u64)
    }
}

impl<T: Counted, I: Iterator<Item = Result<T>>> Iterator for Watched<'_, I> {
    type Item = Result<T>;

    fn next(&mut self) -> Option<Self::Item> {
        let item = self.inner.next();
        if let Some(Ok(counted)) = &item {
            let (documents, bytes) = counted.size();
            self.state.documents += documents;
            self.state.bytes += bytes;
        }
        if item.is_none() || self.state.bytes - self.reported >= REPORT_BYTES {
            self.reported = self.state.bytes;
            (self.report)(self.state);
        }
        item
    }
}
