//! Pairs to shards, on all threads.

use rayon::prelude::*;

use super::info::{CorpusInfo, PairInfo, PartInfo, SplitInfo, Written};
use super::spelling::Spelling;
use super::split::{HeldOutBy, Share, Split};
use super::tokenize::BATCH_BYTES;
use super::watched::Watched;
use super::{Phase, PrepareSettings, Progress, Task};
use crate::data::corpus::Corpus;
use crate::data::pairs::{EncodedPair, Pair, PairLayout, PairWriter, WrittenPairs};
use crate::data::tokenizer::Tokenizer;
use crate::error::{Error, Result};

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
    let mut info = parts.write(watched, split)?;
    let mut valid = corpora.valid.as_ref().map(Corpus::pairs).transpose()?;
    if let Some(valid) = &mut valid {
        let held_out = parts.write(valid.by_ref().map(&mut noted), &Split::all())?;
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
    /// Writes pairs to the parts that they go to; returns how they were shared out. Records without a completion are counted
    /// with the pairs to train on, and are none of the split's documents.
    fn write(&mut self, pairs: impl Iterator<Item = Result<Pair>>, split: &Split) -> Result<SplitInfo> {
        let mut info = SplitInfo { by: split.by, ..SplitInfo::default() };
        let (mut waiting, mut bytes) = (Vec::new(), 0);
        for pair in pairs {
            let pair = pair?;
            let is_pair = !pair.completion.is_empty();
            let share = if is_pair { split.share(info.documents) } else { Share::Train };
            info.documents += u64::from(is_pair);
            info.whole_for_validation += u64::from(share == Share::Valid);
            bytes += pair.prompt.len() + pair.completion.len();
            waiting.push((pair, share));
            if bytes >= BATCH_BYTES {
                self.encode(&std::mem::take(&mut waiting))?;
                bytes = 0;
            }
        }
        self.encode(&waiting)?;
        Ok(info)
    }

    /// Tokenizes pairs on all threads and writes them in order.
    fn encode(&mut self, pairs: &[(Pair, Share)]) -> Result<()> {
        let encode = |(pair, _): &(Pair, Share)| self.layout.encode(self.tokenizer, pair);
        let encoded: Vec<Option<EncodedPair>> = pairs.par_iter().map(encode).collect::<Result<_>>()?;
        for ((_, share), encoded) in pairs.iter().zip(&encoded) {
            match (share, &mut self.valid) {
                (Share::Valid, Some(valid)) => valid.write(encoded.as_ref())?,
                _ => self.train.write(encoded.as_ref())?,
            }
        }
        Ok(())
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
