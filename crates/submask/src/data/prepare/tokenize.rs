//! Documents to shards, on all threads.

use std::ops::Range;
use std::path::Path;

use rayon::prelude::*;

use super::info::{CorpusInfo, PartInfo, SplitInfo, Written};
use super::spelling::Spelling;
use super::split::{Share, Split};
use super::watched::Watched;
use super::{Phase, PrepareSettings, Progress, Task};
use crate::data::document::{Content, Document};
use crate::data::fidelity::{Fidelity, FidelityCount};
use crate::data::store::StoreWriter;
use crate::data::tokenizer::Tokenizer;
use crate::error::{Error, Result};
use crate::parts::{Bytes, Fields};

/// Bytes of text that are tokenized at once on all threads.
pub(super) const BATCH_BYTES: usize = 8 << 20;

/// Bytes of text by which the bytes of a token are estimated.
const SAMPLE_BYTES: usize = 1 << 20;

/// Bytes of text per token, of the first MiB of `documents`.
pub(super) fn bytes_per_token(
    documents: impl Iterator<Item = Result<Document>>,
    tokenizer: &Tokenizer,
) -> Result<f64> {
    let (mut bytes, mut tokens) = (0, 0);
    for piece in documents {
        let piece = piece?;
        bytes += piece.text.len();
        tokens += piece.content.encode_piece(tokenizer, &piece.text)?.0.len();
        if bytes >= SAMPLE_BYTES {
            break;
        }
    }
    Ok(bytes as f64 / tokens.max(1) as f64)
}

/// Writes the shards of both parts; tells what was not read, and what stands out.
pub(super) fn write_shards(task: &Task, progress: &mut dyn FnMut(Progress)) -> Result<(Written, CorpusInfo)> {
    let Task { settings, tokenizer, folder, .. } = task;
    let mut streams = Streams::create(settings, tokenizer, folder)?;
    let pieces = [0..u64::MAX, 0..u64::MAX];
    let (info, read) = encode_documents(task, pieces, progress, &mut |job| streams.write(&job))?;
    Ok((streams.finish(settings, info)?, read))
}

/// Tokenizes pieces of the documents, those of the corpus and those of the files for validation that have numbers in
/// `pieces`, and gives them on in order. Tells how all documents are shared out to the two parts, what was not read, and what
/// stands out.
pub(super) fn encode_documents(
    task: &Task,
    [of_train, of_valid]: [Range<u64>; 2],
    progress: &mut dyn FnMut(Progress),
    take: &mut dyn FnMut(EncodedJob) -> Result<()>,
) -> Result<(SplitInfo, CorpusInfo)> {
    let Task { corpora, tokenizer, split, bytes, .. } = task;
    let mut spelling = Spelling::new(tokenizer)?;
    let mut noted = |document: Result<Document>| {
        let document = document?;
        spelling.note(&document);
        Ok(Document { content: document.content.for_tokenizer(tokenizer), ..document })
    };
    let mut train = corpora.train.documents_for(tokenizer)?;
    let watched = Watched::new(train.by_ref().map(&mut noted), Phase::Tokenize, Some(*bytes), progress);
    let mut info = encode_shared(watched, split, tokenizer, of_train, take)?;
    let valid = corpora.valid.as_ref().map(|corpus| corpus.documents_for(tokenizer));
    let mut valid = valid.transpose()?;
    if let Some(valid) = &mut valid {
        let documents = valid.by_ref().map(&mut noted);
        let held_out = encode_shared(documents, &Split::all(), tokenizer, of_valid, take)?;
        info.whole_for_validation = held_out.whole_for_validation;
    }
    let read = corpora.unread(&train, valid.as_ref());
    Ok((info, CorpusInfo { spelt: spelling.spelt(), ..read }))
}

/// Tokenizes documents for the parts that they go to; returns how they were shared out.
fn encode_shared(
    documents: impl Iterator<Item = Result<Document>>,
    split: &Split,
    tokenizer: &Tokenizer,
    pieces: Range<u64>,
    take: &mut dyn FnMut(EncodedJob) -> Result<()>,
) -> Result<SplitInfo> {
    let mut sharing = Sharing::new(split);
    let mut jobs = Vec::new();
    let mut bytes = 0;
    for (number, piece) in (0..).zip(documents) {
        let piece = piece?;
        let (len, before) = (piece.text.len(), jobs.len());
        sharing.share_out(piece, &mut jobs);
        // Where a piece goes follows from those before it, whoever tokenizes them.
        match pieces.contains(&number) {
            true => bytes += len,
            false => jobs.truncate(before),
        }
        if bytes >= BATCH_BYTES {
            encode_jobs(&jobs, tokenizer, take)?;
            jobs.clear();
            bytes = 0;
        }
    }
    encode_jobs(&jobs, tokenizer, take)?;
    Ok(sharing.info)
}

/// Tokenizes jobs on all threads and gives them on in order.
fn encode_jobs(
    jobs: &[Job],
    tokenizer: &Tokenizer,
    take: &mut dyn FnMut(EncodedJob) -> Result<()>,
) -> Result<()> {
    let encode = |job: &Job| {
        let (tokens, fidelity) = job.content.encode_part(tokenizer, &job.text, job.is_whole)?;
        Ok(EncodedJob { part: job.part, begins: job.begins, ends: job.ends, tokens, fidelity })
    };
    let encoded: Vec<EncodedJob> = jobs.par_iter().map(encode).collect::<Result<_>>()?;
    encoded.into_iter().try_for_each(take)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Train,
    Valid,
}

/// The tokens of a job.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct EncodedJob {
    part: Part,
    begins: bool,
    ends: bool,
    tokens: Vec<u32>,
    fidelity: Fidelity,
}

impl EncodedJob {
    /// As a record of a part.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let Self { part, begins, ends, tokens, fidelity } = self;
        let flags = [*part == Part::Valid, *begins, *ends].map(u64::from);
        let bytes = flags.into_iter().fold(Bytes::default(), Bytes::u64);
        fidelity.add_to(bytes).tokens(tokens).into_vec()
    }

    /// Of a record of a part.
    ///
    /// # Errors
    /// As [`Fields::u64`].
    pub(super) fn read(fields: &mut Fields) -> Result<Self> {
        let part = if fields.u64()? == 0 { Part::Train } else { Part::Valid };
        let (begins, ends) = (fields.u64()? != 0, fields.u64()? != 0);
        let fidelity = Fidelity::read(fields)?;
        Ok(Self { part, begins, ends, tokens: fields.tokens()?, fidelity })
    }
}

/// A piece of text for one of the parts.
#[derive(Debug, PartialEq, Eq)]
struct Job {
    text: String,
    content: Content,
    part: Part,
    begins: bool,
    ends: bool,
    /// Whether it is a whole document.
    is_whole: bool,
}

/// Turns pieces of documents into jobs.
struct Sharing<'a> {
    split: &'a Split,
    info: SplitInfo,
    share: Share,
    /// Bytes of the present document before the next piece.
    before: u64,
    /// The part that the present document has a beginning in, without its end.
    open: Option<Part>,
    /// What the present document is.
    content: Content,
}

impl<'a> Sharing<'a> {
    fn new(split: &'a Split) -> Self {
        let info = SplitInfo { by: split.by, ..SplitInfo::default() };
        Self { split, info, share: split.share(0), before: 0, open: None, content: Content::default() }
    }

    fn share_out(&mut self, piece: Document, jobs: &mut Vec<Job>) {
        let length = piece.text.len() as u64;
        self.content = piece.content;
        match self.share {
            Share::Train => self.job(piece.text, Part::Train, !piece.continues, jobs),
            Share::Valid => self.job(piece.text, Part::Valid, !piece.continues, jobs),
            Share::ByPosition(position) => {
                let cut = usize::try_from(position.saturating_sub(self.before)).unwrap_or(usize::MAX);
                let cut = piece.content.cut(&piece.text, cut.min(piece.text.len()));
                let (train, valid) = piece.text.split_at(cut);
                let train_ends = self.before + length >= position || !piece.continues;
                if !train.is_empty() {
                    self.job(train.to_owned(), Part::Train, train_ends, jobs);
                }
                let closes_valid = !piece.continues && self.open == Some(Part::Valid);
                if !valid.is_empty() || closes_valid {
                    self.job(valid.to_owned(), Part::Valid, !piece.continues, jobs);
                }
            }
        }
        self.before += length;
        if !piece.continues {
            self.next_document();
        }
    }

    fn job(&mut self, text: String, part: Part, ends: bool, jobs: &mut Vec<Job>) {
        let begins = self.open != Some(part);
        let is_whole = begins && ends && !matches!(self.share, Share::ByPosition(_));
        jobs.push(Job { text, content: self.content, part, begins, ends, is_whole });
        self.open = (!ends).then_some(part);
    }

    fn next_document(&mut self) {
        self.info.documents += 1;
        self.info.whole_for_validation += u64::from(self.share == Share::Valid);
        self.info.split_by_position += u64::from(matches!(self.share, Share::ByPosition(_)));
        self.share = self.split.share(self.info.documents);
        self.before = 0;
        self.open = None;
    }
}

/// The two streams of tokens.
pub(super) struct Streams<'a> {
    tokenizer: &'a Tokenizer,
    train: Stream<'a>,
    valid: Option<Stream<'a>>,
}

impl<'a> Streams<'a> {
    pub(super) fn create(
        settings: &PrepareSettings,
        tokenizer: &'a Tokenizer,
        folder: &Path,
    ) -> Result<Self> {
        let stream = |name| {
            let writer = StoreWriter::create(folder, name, tokenizer, settings.shard_tokens)?;
            Stream::new(writer, tokenizer)
        };
        let is_held_out = settings.valid_fraction > 0.0 || settings.valid_source.is_some();
        let valid = is_held_out.then(|| stream("valid")).transpose()?;
        Ok(Self { tokenizer, train: stream("train")?, valid })
    }

    /// Writes a job, behind those of its part before it.
    pub(super) fn write(&mut self, job: &EncodedJob) -> Result<()> {
        match (job.part, &mut self.valid) {
            (Part::Valid, Some(valid)) => valid.write(job),
            _ => self.train.write(job),
        }
    }

    pub(super) fn finish(self, settings: &PrepareSettings, split: SplitInfo) -> Result<Written> {
        let all = [Some(&self.train), self.valid.as_ref()].into_iter().flatten();
        let is_told = !all.map(|stream| stream.fidelity.total()).sum::<Fidelity>().is_lossless();
        let is_told = is_told || !self.tokenizer.is_lossless();
        let finish = |stream: Stream, what| {
            let fidelity = is_told.then_some(stream.fidelity.total());
            let part = PartInfo::new(stream.writer.finish()?, fidelity);
            if part.documents == 0 {
                let allowed = format!("it leaves no text for {what}, of {} documents", split.documents);
                return Err(Error::invalid("valid_fraction", settings.valid_fraction, allowed));
            }
            Ok(part)
        };
        let train = finish(self.train, "training")?;
        let valid = self.valid.map(|stream| finish(stream, "validation")).transpose()?;
        Ok(Written { split, train, valid })
    }
}

/// One stream of tokens: with an end-of-text token E it is E document E document … E, otherwise
/// documents with the separator between them.
struct Stream<'a> {
    writer: StoreWriter<'a>,
    separator: Vec<u32>,
    has_end: bool,
    empty: bool,
    fidelity: FidelityCount,
}

impl<'a> Stream<'a> {
    fn new(mut writer: StoreWriter<'a>, tokenizer: &Tokenizer) -> Result<Self> {
        let (separator, has_end) = (tokenizer.separator(), tokenizer.end_of_text().is_some());
        if has_end {
            writer.push(&separator)?;
        }
        Ok(Self { writer, separator, has_end, empty: true, fidelity: FidelityCount::default() })
    }

    fn write(&mut self, job: &EncodedJob) -> Result<()> {
        self.fidelity.add(job.fidelity, job.ends);
        if job.begins && !self.empty && !self.has_end {
            self.writer.push(&self.separator)?;
        }
        self.empty = false;
        self.writer.push(&job.tokens)?;
        if job.ends {
            if self.has_end {
                self.writer.push(&self.separator)?;
            }
            self.writer.end_document()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::prepare::{HeldOutBy, Survey};

    fn piece(text: &str, continues: bool) -> Document {
        Document::piece(text, continues)
    }

    /// Jobs as "part:text", with `<` where a document begins and `>` where it ends.
    fn shared(pieces: &[Document], valid_fraction: f64) -> Vec<String> {
        let survey = Survey::of(pieces.iter().cloned().map(Ok), &mut |_| ()).unwrap();
        let split = match valid_fraction {
            0.0 => Split::none(HeldOutBy::Share),
            share => Split::by_share(&survey, share, 0),
        };
        let (mut sharing, mut jobs) = (Sharing::new(&split), Vec::new());
        pieces.iter().for_each(|piece| sharing.share_out(piece.clone(), &mut jobs));
        let show = |job: &Job| {
            let (begin, end) = (if job.begins { "<" } else { "" }, if job.ends { ">" } else { "" });
            format!("{:?}:{begin}{}{end}", job.part, job.text)
        };
        jobs.iter().map(show).collect()
    }

    #[test]
    fn a_split_document_ends_and_begins_at_the_position() {
        assert_eq!(shared(&[piece("0123456789", false)], 0.3), ["Train:<0123456>", "Valid:<789>"]);
        let pieces = [piece("0123", true), piece("4567", true), piece("89", false)];
        assert_eq!(shared(&pieces, 0.3), ["Train:<0123", "Train:456>", "Valid:<7", "Valid:89>"]);
        assert_eq!(shared(&pieces, 0.2), ["Train:<0123", "Train:4567>", "Valid:<89>"]);
    }

    #[test]
    fn an_empty_last_piece_ends_its_document() {
        let pieces = [piece("01234567", true), piece("", false)];
        assert_eq!(shared(&pieces, 0.25), ["Train:<012345>", "Valid:<67", "Valid:>"]);
        assert_eq!(shared(&pieces, 0.0), ["Train:<01234567", "Train:>"]);
    }

    #[test]
    fn a_position_inside_a_character_moves_behind_it() {
        assert_eq!(shared(&[piece("a中b", false)], 0.4), ["Train:<a中>", "Valid:<b>"]);
    }
}
