//! Pairs to shards, on all threads.

use rayon::prelude::*;

use super::info::{CorpusInfo, PairInfo, PartInfo, SplitInfo, Written};
use super::spelling::Spelling;
use super::split::{HeldOutBy, Share, Split};
use super::survey::Survey;
use super::tokenize::BATCH_BYTES;
use super::watched::Watched;
use super::{Phase, PrepareSettings, Progress, Task};
use crate::data::corpus::Corpus;
use crate::data::pairs::{EncodedPair, Pair, PairLayout, PairWriter, WrittenPairs};
use crate::data::tokenizer::Tokenizer;
use crate::error::{Error, Result};

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
        if encoded.is_some_and(|encoded| encoded.tokens.is_some()) {
            survey.add((pair.prompt.len() + pair.completion.len()) as u64);
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
    mut take: impl FnMut(&Pair, Option<&EncodedPair>) -> Result<()>,
) -> Result<()> {
    let mut give = |pairs: &[Pair]| {
        let encode = |pair: &Pair| layout.encode(tokenizer, pair);
        let encoded: Vec<Option<EncodedPair>> = pairs.par_iter().map(encode).collect::<Result<_>>()?;
        pairs.iter().zip(&encoded).try_for_each(|(pair, encoded)| take(pair, encoded.as_ref()))
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
    let Task { settings, corpora, tokenizer, split, bytes, folder } = task;
    let layout = settings.pair_layout();
    layout.end_of_text(tokenizer)?;
    let lengths = layout.lengths_tokenizer()?;
    let writer = |name| PairWriter::create(folder, name, tokenizer, &lengths, settings.shard_tokens);
    let holds_out = corpora.valid.is_some() || settings.valid_fraction > 0.0;
    let mut parts = Parts {
        layout,
        tokenizer,
        train: writer("train")?,
        valid: holds_out.then(|| writer("valid")).transpose()?,
    };
    let mut spelling = Spelling::new(tokenizer)?;
    let mut noted = |pair: Result<Pair>| pair.inspect(|pair| spelling.note_pair(pair));
    let mut train = corpora.train.pairs()?;
    let watched = Watched::new(train.by_ref().map(&mut noted), Phase::Tokenize, Some(*bytes), progress);
    let mut info = parts.write(watched, split, Share::Train)?;
    let mut valid = corpora.valid.as_ref().map(Corpus::pairs).transpose()?;
    if let Some(valid) = &mut valid {
        let held_out = parts.write(valid.by_ref().map(&mut noted), &Split::all(), Share::Valid)?;
        info.whole_for_validation = held_out.whole_for_validation;
    }
    let read = corpora.unread(&train, valid.as_ref());
    let finish = |writer: PairWriter, what| part(writer.finish()?, what, settings, tokenizer, info.by);
    let train = finish(parts.train, "training")?;
    let valid = parts.valid.map(|writer| finish(writer, "validation")).transpose()?;
    Ok((Written { split: info, train, valid }, CorpusInfo { spelt: spelling.spelt(), ..read }))
}

/// The two parts.
struct Parts<'a> {
    layout: PairLayout,
    tokenizer: &'a Tokenizer,
    train: PairWriter<'a>,
    valid: Option<PairWriter<'a>>,
}

impl Parts<'_> {
    /// Writes pairs to the parts that they go to; returns how they were shared out. Pairs that do not fit and records
    /// without a completion are none of the split's documents, and are counted with the part `left_out`.
    fn write(
        &mut self,
        pairs: impl Iterator<Item = Result<Pair>>,
        split: &Split,
        left_out: Share,
    ) -> Result<SplitInfo> {
        let mut info = SplitInfo { by: split.by, ..SplitInfo::default() };
        let Self { layout, tokenizer, train, valid } = self;
        for_encoded(pairs, tokenizer, *layout, |_, encoded| {
            let fits = encoded.is_some_and(|encoded| encoded.tokens.is_some());
            let share = if fits { split.share(info.documents) } else { left_out };
            info.documents += u64::from(fits);
            info.whole_for_validation += u64::from(fits && share == Share::Valid);
            match (share, &mut *valid) {
                (Share::Valid, Some(valid)) => valid.write(encoded),
                _ => train.write(encoded),
            }
        })?;
        Ok(info)
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
