//! Preparing a corpus in several processes: each tokenizes a share of it, and one writes the shards.

use std::ops::Range;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::corpora::Corpora;
use super::info::{CorpusInfo, DataInfo, SplitInfo, Written};
use super::pairs::{self, EncodedRecord};
use super::partial::PartialFolder;
use super::reuse::{may_reuse, may_reuse_with};
use super::split::{HeldOutBy, Split};
use super::survey::Survey;
use super::tokenize::{self, EncodedJob, Streams};
use super::{Outdated, PrepareSettings, PreparedData, Progress, Task};
use crate::data::document::Document;
use crate::data::source::Source;
use crate::data::tokenizer::Tokenizer;
use crate::error::{Error, Result};
use crate::parts::{self, Description, PartSet, Records};
use crate::shard::Shard;

/// What was done.
const VERB: &str = "data prepare";

/// What the parts of a corpus say alike.
#[derive(Debug, Serialize, Deserialize)]
struct PreparedFacts {
    settings: PrepareSettings,
    settings_fingerprint: String,
    tokenizer_fingerprint: String,
    /// How documents are shared out. Of pairs it is known when all are there.
    split: Option<SplitInfo>,
    corpus: CorpusInfo,
    /// What the caller says of the work.
    more: Value,
}

/// Tokenizes a share of a corpus and writes it as the part at `path`; [`merge_prepared`] makes of all parts the folder that
/// [`prepare`](super::prepare) makes, byte for byte. `more` is handed to whoever merges them.
///
/// Items are pieces of documents (a long document comes in pieces of 1 MiB), or records of pairs. Every process reads the whole
/// corpus, once to survey it and once to tokenize its share, so that all come to the same documents for validation.
///
/// # Errors
/// As [`prepare`](super::prepare), also for a `folder` that may not be written; [`Error::Invalid`] for a tokenizer that would
/// have to be made of the corpus.
pub fn prepare_share(
    settings: &PrepareSettings,
    shard: Shard,
    path: &Path,
    (folder, outdated): (&Path, Outdated),
    more: Value,
    progress: &mut dyn FnMut(Progress),
) -> Result<()> {
    settings.check()?;
    let tokenizer = existing_tokenizer(settings)?;
    let mut corpora = Corpora::find(settings)?;
    let copies = corpora.has_streams().then(|| PartialFolder::create(path)).transpose()?;
    if let Some(copies) = &copies {
        corpora.copy_streams(&copies.path)?;
    }
    may_reuse(folder, settings, &corpora, outdated)?;
    let survey = Survey::of(corpora.train.documents()?, progress)?;
    let of_pairs = matches!(settings.source, Source::Pairs(_));
    let split = match of_pairs {
        true => Split::none(HeldOutBy::default()),
        false => settings.split(&survey, || {
            tokenize::bytes_per_token(corpora.train.documents_for(&tokenizer)?, &tokenizer)
        })?,
    };
    let ranges = [open_range(shard, survey.pieces), open_range(shard, valid_pieces(&corpora)?)];
    let (corpora, bytes) = (&corpora, survey.bytes);
    let task = Task { settings, corpora, tokenizer: &tokenizer, split, bytes, folder };
    parts::write(path, |records| {
        let (split, corpus) = match of_pairs {
            true => (None, write_pairs(&task, ranges, progress, records)?),
            false => {
                let (split, corpus) = write_documents(&task, ranges, progress, records)?;
                (Some(split), corpus)
            }
        };
        let facts = PreparedFacts {
            settings: settings.clone(),
            settings_fingerprint: settings.fingerprints(corpora)?.now,
            tokenizer_fingerprint: shown(&tokenizer),
            split,
            corpus,
            more,
        };
        let unit = if of_pairs { "records" } else { "pieces of documents" };
        Description::new(VERB, shard, survey.pieces, unit, &facts)
    })
}

fn write_documents(
    task: &Task,
    ranges: [Range<u64>; 2],
    progress: &mut dyn FnMut(Progress),
    records: &mut Records,
) -> Result<(SplitInfo, CorpusInfo)> {
    tokenize::encode_documents(task, ranges, progress, &mut |job| records.push(&job.to_bytes()))
}

fn write_pairs(
    task: &Task,
    ranges: [Range<u64>; 2],
    progress: &mut dyn FnMut(Progress),
    records: &mut Records,
) -> Result<CorpusInfo> {
    pairs::encode_pairs(task, ranges, progress, &mut |record| records.push(&record.to_bytes()))
}

/// Makes a prepared folder of all parts: the one that [`prepare`](super::prepare) makes with the same settings of the same
/// files, byte for byte.
///
/// # Errors
/// [`Error::Format`] for parts of other work, a tokenizer that was changed since, and a folder that may not be replaced, as
/// [`prepare`](super::prepare); [`Error::Invalid`] where nothing is left for one of its parts; [`Error::Io`].
pub fn merge_prepared(set: &PartSet, folder: &Path, outdated: Outdated) -> Result<PreparedData> {
    let PreparedFacts { settings, settings_fingerprint, tokenizer_fingerprint, split, corpus, .. } =
        set.facts()?;
    settings.check()?;
    if may_reuse_with(folder, &settings_fingerprint, outdated)? {
        return PreparedData::open(folder);
    }
    let tokenizer = existing_tokenizer(&settings)?;
    let found = shown(&tokenizer);
    if found != tokenizer_fingerprint {
        let first = set.parts()[0].path();
        let problem =
            format!("made with a tokenizer of fingerprint {tokenizer_fingerprint}, and it is {found} now");
        return Err(Error::format(first, problem));
    }
    let partial = PartialFolder::create(folder)?;
    let written = match split {
        Some(split) => merged_documents(set, &settings, &tokenizer, split, &partial.path)?,
        None => merged_pairs(set, &settings, &tokenizer, &partial.path)?,
    };
    let info = DataInfo::new(&settings, settings_fingerprint, &tokenizer, written, corpus);
    super::finish(partial, &info, &tokenizer, folder)
}

fn merged_documents(
    set: &PartSet,
    settings: &PrepareSettings,
    tokenizer: &Tokenizer,
    split: SplitInfo,
    folder: &Path,
) -> Result<Written> {
    let mut streams = Streams::create(settings, tokenizer, folder)?;
    set.for_each(EncodedJob::read, |job| streams.write(&job))?;
    streams.finish(settings, split)
}

/// What is held out of pairs is chosen among those that fit, which are known now.
fn merged_pairs(
    set: &PartSet,
    settings: &PrepareSettings,
    tokenizer: &Tokenizer,
    folder: &Path,
) -> Result<Written> {
    let mut survey = Survey::default();
    set.for_each(EncodedRecord::read, |record| {
        if record.may_be_held_out() {
            survey.add(record.bytes);
        }
        Ok::<_, Error>(())
    })?;
    let split = settings.split(&survey, || Err(Error::internal("pairs are not cut")("they are")))?;
    let lengths = settings.pair_layout().lengths_tokenizer()?;
    let mut parts = pairs::Parts::create(settings, tokenizer, &lengths, &split, folder)?;
    set.for_each(EncodedRecord::read, |record| parts.write(record))?;
    parts.finish()
}

/// The tokenizer, which is not made of the corpus.
fn existing_tokenizer(settings: &PrepareSettings) -> Result<Tokenizer> {
    let spec = &settings.tokenizer;
    if spec.needs_training() {
        let name = serde_json::to_value(spec).ok().and_then(|spec| Some(spec["kind"].as_str()?.to_owned()));
        let allowed = "one that exists already, such as a tokenizer.json (kind `tokenizer-json` and its path): one that is made \
                       of the corpus is not there before the whole of it has been read";
        return Err(Error::invalid("tokenizer.kind", name.unwrap_or_default(), allowed));
    }
    spec.build(|| Ok(std::iter::empty::<Result<Document>>()))
}

fn shown(tokenizer: &Tokenizer) -> String {
    format!("{:016x}", tokenizer.fingerprint())
}

/// Pieces of the documents that stand in files for validation.
fn valid_pieces(corpora: &Corpora) -> Result<u64> {
    let Some(valid) = &corpora.valid else { return Ok(0) };
    valid.documents()?.try_fold(0, |count, piece| piece.map(|_| count + 1))
}

/// The share of so many items. The last one has no end, so that none is lost where a tokenizer divides texts otherwise than
/// the survey did.
fn open_range(shard: Shard, items: u64) -> Range<u64> {
    let Range { start, end } = shard.range(items as usize);
    let is_last = shard.index() + 1 == shard.count();
    start as u64..if is_last { u64::MAX } else { end as u64 }
}

#[cfg(test)]
mod tests;
