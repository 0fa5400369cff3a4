//! Pairs to shards, on all threads.

use std::path::Path;

use rayon::prelude::*;

use super::PrepareSettings;
use super::info::{PairInfo, PartInfo, SplitInfo, Written};
use super::split::{HeldOutBy, Share, Split};
use super::tokenize::BATCH_BYTES;
use crate::data::pairs::{EncodedPair, Pair, PairLayout, PairSource, PairWriter, WrittenPairs};
use crate::data::tokenizer::Tokenizer;
use crate::error::{Error, Result};

/// Writes the shards of both parts into `folder`.
pub(super) fn write_shards(
    pairs: impl Iterator<Item = Result<Pair>>,
    valid: Option<&PairSource>,
    settings: &PrepareSettings,
    tokenizer: &Tokenizer,
    split: &Split,
    folder: &Path,
) -> Result<Written> {
    let layout = settings.pair_layout();
    layout.end_of_text(tokenizer)?;
    let lengths = layout.lengths_tokenizer()?;
    let writer = |name| PairWriter::create(folder, name, tokenizer, &lengths, settings.shard_tokens);
    let holds_out = valid.is_some() || settings.valid_fraction > 0.0;
    let mut parts = Parts {
        layout,
        tokenizer,
        train: writer("train")?,
        valid: holds_out.then(|| writer("valid")).transpose()?,
    };
    let mut info = parts.write(pairs, split)?;
    if let Some(valid) = valid {
        info.whole_for_validation = parts.write(valid.pairs()?, &Split::all())?.whole_for_validation;
    }
    let finish = |writer: PairWriter, what| part(writer.finish()?, what, settings, tokenizer, info.by);
    let train = finish(parts.train, "training")?;
    let valid = parts.valid.map(|writer| finish(writer, "validation")).transpose()?;
    Ok(Written { split: info, train, valid })
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
