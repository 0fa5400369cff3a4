//! The files that data are prepared from.

use std::path::Path;

use super::PrepareSettings;
use super::info::CorpusInfo;
use crate::data::corpus::Corpus;
use crate::data::documents::Documents;
use crate::data::source::Source;
use crate::error::{Error, Result};

/// A corpus, and what is held out where that stands in files of its own.
pub(super) struct Corpora {
    pub(super) train: Corpus,
    pub(super) valid: Option<Corpus>,
}

impl Corpora {
    /// Finds their files.
    ///
    /// # Errors
    /// As [`Source::corpus`], and [`Error::Invalid`] for a stream that is in both.
    pub(super) fn find(settings: &PrepareSettings) -> Result<Self> {
        let train = settings.source.corpus()?;
        let valid = settings.valid_source.as_ref().map(Source::corpus).transpose()?;
        let mut streams = valid.iter().flat_map(Corpus::streams);
        match streams.find(|stream| train.streams().any(|own| own == *stream)) {
            Some(stream) => {
                let allowed = "another stream than the corpus: it can be read only once";
                Err(Error::invalid("valid_paths", stream.display(), allowed))
            }
            None => {
                drop(streams);
                Ok(Self { train, valid })
            }
        }
    }

    pub(super) fn has_streams(&self) -> bool {
        self.train.has_streams() || self.valid.as_ref().is_some_and(Corpus::has_streams)
    }

    /// As [`Corpus::copy_streams`].
    pub(super) fn copy_streams(&mut self, folder: &Path) -> Result<()> {
        self.train.copy_streams(folder)?;
        self.valid.as_mut().map_or(Ok(()), |valid| valid.copy_streams(folder))
    }

    /// As [`Corpus::remove_copies`].
    pub(super) fn remove_copies(&self) -> Result<()> {
        self.train.remove_copies()?;
        self.valid.as_ref().map_or(Ok(()), Corpus::remove_copies)
    }

    /// What was not read of both, all of which has been read.
    pub(super) fn unread<T>(&self, train: &Documents<T>, valid: Option<&Documents<T>>) -> CorpusInfo {
        let of = |corpus: &Corpus, documents: &Documents<T>| {
            CorpusInfo::new(corpus.left_out().cloned(), documents.skipped().cloned(), None)
        };
        let valid = self.valid.as_ref().zip(valid).map(|(corpus, documents)| of(corpus, documents));
        of(&self.train, train).and(valid.unwrap_or_default())
    }
}
