//! Pairs to shards, on all threads.

use std::ops::Range;
use std::path::Path;

use rayon::prelude::*;

use super::info::{CorpusInfo, PairInfo, PartInfo, SplitInfo, Written};
use super::spelling::Spelling;
use super::split::{HeldOutBy, Share, Split};
use super::survey::Survey;
use super::tokenize::BATCH_BYTES;
use super::watched::Watched;
use super::{Phase, PrepareSettings, Progress, Task};
use crate::data::corpus::Corpus;
use crate::data::fidelity::Fidelity;
use crate::data::pairs::{EncodedPair, Pair, PairLayout, PairTokens, PairWriter, WrittenPairs};
use crate::data::tokenizer::Tokenizer;
use crate::error::{Error, Result};
use crate::parts::{Bytes, Fields};

/// Counts the pairs that fit, among which those to hold out are chosen.
pub(super) fn survey(
    corpus: &Corpus,
    tokenizer: &Tokenizer,
    layout: PairLayout,
    progress: &mut dyn FnMut(Progress),
) -> Result<Survey> {
    layout.end_of_text(tokenizer)?;
    let mut survey = Survey::default();
    let pairs = Watched::new(corpus.pairs()?, Phase::Survey, None, progress);
    for_encoded(pairs, tokenizer, layout, |pair, encoded| {
        if fits(encoded.as_ref()) {
            survey.add(bytes_of(pair));
        }
        Ok(())
    })?;
    Ok(survey)
}

/// Tokenizes pairs on all threads and gives them on in order; `None` is a record without a completion.
fn for_encoded(
    pairs: impl Iterator<Item = Result<Pair>>,
    tokenizer: &Tokenizer,
    layout: PairLayout,
    mut take: impl FnMut(&Pair, Option<EncodedPair>) -> Result<()>,
) -> Result<()> {
    let mut give = |pairs: &[Pair]| {
        let encode = |pair: &Pair| layout.encode(tokenizer, pair);
        let encoded: Vec<Option<EncodedPair>> = pairs.par_iter().map(encode).collect::<Result<_>>()?;
        pairs.iter().zip(encoded).try_for_each(|(pair, encoded)| take(pair, encoded))
    };
    let (mut waiting, mut bytes) = (Vec::new(), 0);
    for pair in pairs {
        let pair = pair?;
        bytes += pair.prompt.len() + pair.completion.len();
        waiting.push(pair);
        if bytes >= BATCH_BYTES {
            give(&std::mem::take(&mut waiting))?;
            bytes = 0;
        }
    }
    give(&waiting)
}

/// Writes the shards of both parts; tells what was not read, and what stands out.
pub(super) fn write_shards(task: &Task, progress: &mut dyn FnMut(Progress)) -> Result<(Written, CorpusInfo)> {
    let Task { settings, tokenizer, split, folder, .. } = task;
    let lengths = settings.pair_layout().lengths_tokenizer()?;
    let mut parts = Parts::create(settings, tokenizer, &lengths, split, folder)?;
    let pairs = [0..u64::MAX, 0..u64::MAX];
    let read = encode_pairs(task, pairs, progress, &mut |record| parts.write(record))?;
    Ok((parts.finish()?, read))
}

/// A record of a corpus, tokenized.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct EncodedRecord {
    /// Whether it stands in files for validation.
    of_valid: bool,
    /// Bytes of its texts.
    pub(super) bytes: u64,
    /// `None`: it has no completion.
    encoded: Option<EncodedPair>,
}

impl EncodedRecord {
    /// Whether it is one of the pairs among which those to hold out are chosen.
    pub(super) fn may_be_held_out(&self) -> bool {
        !self.of_valid && fits(self.encoded.as_ref())
    }

    /// As a record of a part.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let Self { of_valid, bytes, encoded } = self;
        let bytes = Bytes::default().u64(u64::from(*of_valid)).u64(*bytes);
        let Some(EncodedPair { tokens, is_cut, fidelity }) = encoded else { return bytes.u64(0).into_vec() };
        let bytes = bytes.u64(if tokens.is_some() { 2 } else { 1 }).u64(u64::from(*is_cut));
        let bytes = fidelity.add_to(bytes);
        let PairTokens { prompt, completion } = match tokens {
            Some(tokens) => tokens,
            None => return bytes.into_vec(),
        };
        bytes.tokens(prompt).tokens(completion).into_vec()
    }

    /// Of a record of a part.
    ///
    /// # Errors
    /// As [`Fields::u64`].
    pub(super) fn read(fields: &mut Fields) -> Result<Self> {
        let (of_valid, bytes, kind) = (fields.u64()? != 0, fields.u64()?, fields.u64()?);
        if kind == 0 {
            return Ok(Self { of_valid, bytes, encoded: None });
        }
        let (is_cut, fidelity) = (fields.u64()? != 0, Fidelity::read(fields)?);
        let pair = |fields: &mut Fields| {
            Ok::<_, Error>(PairTokens { prompt: fields.tokens()?, completion: fields.tokens()? })
        };
        let tokens = (kind == 2).then(|| pair(fields)).transpose()?;
        Ok(Self { of_valid, bytes, encoded: Some(EncodedPair { tokens, is_cut, fidelity }) })
    }
}

/// Whether a record is a pair that fits into a sequence.
fn fits(encoded: Option<&EncodedPair>) -> bool {
    encoded.is_some_and(|encoded| encoded.tokens.is_some())
}

/// Tokenizes records, those of the corpus and those of the files for validation that have numbers in `pairs`, and gives them on
/// in order. Tells what was not read, and what stands out.
pub(super) fn encode_pairs(
    task: &Task,
    [of_train, of_valid]: [Range<u64>; 2],
    progress: &mut dyn FnMut(Progress),
    take: &mut dyn FnMut(EncodedRecord) -> Result<()>,
) -> Result<CorpusInfo> {
    let Task { settings, corpora, tokenizer, bytes, .. } = task;
    let layout = settings.pair_layout();
    layout.end_of_text(tokenizer)?;
    let mut spelling = Spelling::new(tokenizer)?;
    let mut noted = |pair: Result<Pair>| pair.inspect(|pair| spelling.note_pair(pair));
    let mut train = corpora.train.pairs()?;
    let watched = Watched::new(train.by_ref().map(&mut noted), Phase::Tokenize, Some(*bytes), progress);
    for_encoded(in_range(watched, of_train), tokenizer, layout, |pair, encoded| {
        take(EncodedRecord { of_valid: false, bytes: bytes_of(pair), encoded })
    })?;
    let mut valid = corpora.valid.as_ref().map(Corpus::pairs).transpose()?;
    if let Some(valid) = &mut valid {
        for_encoded(
            in_range(valid.by_ref().map(&mut noted), of_valid),
            tokenizer,
            layout,
            |pair, encoded| take(EncodedRecord { of_valid: true, bytes: bytes_of(pair), encoded }),
        )?;
    }
    let read = corpora.unread(&train, valid.as_ref());
    Ok(CorpusInfo { spelt: spelling.spelt(), ..read })
}

/// The pairs with numbers in `range`, and all errors; the others are read, too.
fn in_range(
    pairs: impl Iterator<Item = Result<Pair>>,
    range: Range<u64>,
) -> impl Iterator<Item = Result<Pair>> {
    let is_wanted = move |(number, pair): &(u64, Result<Pair>)| range.contains(number) || pair.is_err();
    (0..).zip(pairs).filter(is_wanted).map(|(_, pair)| pair)
}

fn bytes_of(pair: &Pair) -> u64 {
    (pair.prompt.len() + pair.completion.len()) as u64
}

/// The two parts.
pub(super) struct Parts<'a> {
    settings: &'a PrepareSettings,
    tokenizer: &'a Tokenizer,
    split: &'a Split,
    info: SplitInfo,
    train: PairWriter<'a>,
    valid: Option<PairWriter<'a>>,
}

impl<'a> Parts<'a> {
    /// Starts both in `folder`; `lengths` is [`PairLayout::lengths_tokenizer`].
    pub(super) fn create(
        settings: &'a PrepareSettings,
        tokenizer: &'a Tokenizer,
        lengths: &'a Tokenizer,
        split: &'a Split,
        folder: &Path,
    ) -> Result<Self> {
        let writer = |name| PairWriter::create(folder, name, tokenizer, lengths, settings.shard_tokens);
        let holds_out = settings.valid_source.is_some() || settings.valid_fraction > 0.0;
        Ok(Self {
            settings,
            tokenizer,
            split,
            info: SplitInfo { by: split.by, ..SplitInfo::default() },
            train: writer("train")?,
            valid: holds_out.then(|| writer("valid")).transpose()?,
        })
    }

    /// Writes a record to the part that it goes to. Pairs that do not fit and records without a completion are none of the
    /// split's documents, and are counted with the files that they stand in.
    pub(super) fn write(&mut self, record: EncodedRecord) -> Result<()> {
        let encoded = record.encoded.as_ref();
        let held_out = match record.of_valid {
            true => {
                self.info.whole_for_validation += u64::from(fits(encoded));
                true
            }
            false if fits(encoded) => {
                let held_out = self.split.share(self.info.documents) == Share::Valid;
                self.info.documents += 1;
                self.info.whole_for_validation += u64::from(held_out);
                held_out
            }
            false => false,
        };
        match &mut self.valid {
            Some(valid) if held_out => valid.write(encoded),
            _ => self.train.write(encoded),
        }
    }

    pub(super) fn finish(self) -> Result<Written> {
        let Self { settings, tokenizer, info, train, valid, .. } = self;
        let finish = |writer: PairWriter, what| part(writer.finish()?, what, settings, tokenizer, info.by);
        let train = finish(train, "training")?;
        let valid = valid.map(|writer| finish(writer, "validation")).transpose()?;
        Ok(Written { split: info, train, valid })
    }
}

/// What `data.json` says of a part.
fn part(
    WrittenPairs { tokens, lengths, fidelity, counts }: WrittenPairs,
    what: &str,
    settings: &PrepareSettings,
    tokenizer: &Tokenizer,
    by: HeldOutBy,
) -> Result<PartInfo> {
    if counts.pairs == 0 {
        let layout = settings.pair_layout();
        let left_out = format!("no pair is left for {what}: {}", counts.reasons(layout));
        return Err(match by {
            _ if counts.too_long > 0 => Error::invalid("model.seq_len", layout.seq_len, left_out),
            HeldOutBy::Files => Error::invalid("data", "pairs", left_out),
            _ => Error::invalid("valid_fraction", settings.valid_fraction, left_out),
        });
    }
    let fidelity = (!tokenizer.is_lossless()).then_some(fidelity);
    Ok(PartInfo { pairs: Some(PairInfo { lengths, counts }), ..PartInfo::new(tokens, fidelity) })
}
