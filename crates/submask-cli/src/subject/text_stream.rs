//! The tokens of a text to evaluate on: of prepared data or of files.

use std::ops::Range;
use std::path::Path;

use submask::data::{
    BlockLayout, Dataset, Fidelity, FidelityCount, Fingerprint, PreparedData, Source, Tokenizer,
    ValidationBlock, ValidationBlocks,
};

use crate::data_notes::{left_out_note, skipped_note};
use crate::failure::Failure;
use crate::notes;

/// The tokens of a text, one document behind the other.
pub enum Stream<'a> {
    /// The validation part of a prepared folder, and what the tokenizer did to it, if that is known.
    Prepared(ValidationBlocks, Option<Fidelity>),
    /// Files.
    Read(ReadText<'a>),
}

impl<'a> Stream<'a> {
    /// The validation part of a prepared folder.
    pub fn prepared(folder: &Path, tokenizer: &'a Tokenizer, layout: BlockLayout) -> Result<Self, Failure> {
        let data = PreparedData::open(folder)?;
        if let Some(store) = &data.valid {
            store.check_tokenizer(tokenizer)?;
        }
        let blocks = data
            .evaluation(layout)?
            .ok_or_else(|| Failure::failed(format!("{} holds no validation part", folder.display())))?;
        if data.fidelity().is_none() && !tokenizer.is_lossless() {
            let unknown = "was prepared before it was asked whether documents decode to themselves";
            notes::say("data  ", format!("{} {unknown}; `data prepare --rebuild` tells", folder.display()));
        }
        Ok(Self::Prepared(blocks, data.info.valid.as_ref().and_then(|part| part.fidelity)))
    }

    /// The tokens of files.
    pub fn read(source: &Source, tokenizer: &'a Tokenizer, layout: BlockLayout) -> Result<Self, Failure> {
        Ok(Self::Read(tokenize(source, tokenizer, layout)?))
    }

    /// How many sequences of the model's length there are.
    pub fn whole(&self) -> u64 {
        match self {
            Self::Prepared(blocks, _) => blocks.blocks().len(),
            Self::Read(text) => (text.tokens.len() / text.stride()) as u64,
        }
    }

    /// Whether anything is left after them.
    pub fn has_tail(&self) -> bool {
        !self.range(self.whole()).is_empty()
    }

    /// Where the tokens of a sequence stand; what is left after the whole ones has the next number.
    pub fn range(&self, index: u64) -> Range<u64> {
        match self {
            Self::Prepared(blocks, _) => blocks.blocks().range(index),
            Self::Read(text) => {
                let at = |index: u64| (index * text.stride() as u64).min(text.tokens.len() as u64);
                at(index)..at(index + 1)
            }
        }
    }

    pub fn block(&self, index: u64) -> Result<ValidationBlock, Failure> {
        match self {
            Self::Prepared(blocks, _) if index < self.whole() => Ok(blocks.block(index)?),
            Self::Prepared(blocks, _) => {
                blocks.tail()?.ok_or_else(|| Failure::failed("the validation part has no tokens"))
            }
            Self::Read(text) => text.block(self.range(index)),
        }
    }

    pub fn tokens(&self, range: Range<u64>) -> Result<Vec<u32>, Failure> {
        match self {
            Self::Prepared(blocks, _) => Ok(blocks.blocks().store().tokens_of(range)?),
            Self::Read(text) => Ok(text.tokens[range.start as usize..range.end as usize].to_vec()),
        }
    }

    /// Where the documents stand that have any token, if that is known.
    pub fn documents(&self) -> Result<Option<Vec<Range<u64>>>, Failure> {
        match self {
            Self::Prepared(blocks, _) => Ok(blocks.documents()?),
            Self::Read(text) => Ok(Some(text.documents.clone())),
        }
    }

    /// How many documents there are.
    pub fn document_count(&self) -> Option<u64> {
        match self {
            Self::Prepared(blocks, _) => Some(blocks.blocks().store().documents()),
            Self::Read(text) => Some(text.documents.len() as u64),
        }
    }

    /// What the tokenizer did to the text, where it is known.
    pub fn fidelity(&self) -> Option<Fidelity> {
        match self {
            Self::Prepared(_, fidelity) => *fidelity,
            Self::Read(text) => Some(text.fidelity),
        }
    }

    /// A hash of the tokens and of how they are cut; of prepared data as their headers say it.
    pub fn fingerprint(&self) -> u64 {
        match self {
            Self::Prepared(blocks, _) => blocks.blocks().fingerprint(),
            Self::Read(text) => {
                let BlockLayout { seq_len, block_ends } = text.layout;
                let facts = [seq_len as u64, block_ends.into(), text.fidelity.is_lossless().into()];
                let tokens: Vec<u8> = text.tokens.iter().flat_map(|token| token.to_le_bytes()).collect();
                let documents = text.documents.iter().flat_map(|document| [document.start, document.end]);
                let documents: Vec<u8> = documents.flat_map(u64::to_le_bytes).collect();
                let print = Fingerprint::new().part(facts.map(u64::to_le_bytes).as_flattened());
                print.part(&tokens).part(&documents).value()
            }
        }
    }

    /// Whether every document decodes to itself.
    pub fn is_lossless(&self) -> bool {
        match self {
            Self::Prepared(blocks, _) => blocks.is_lossless(),
            Self::Read(text) => text.fidelity.is_lossless(),
        }
    }
}

/// The tokens of files.
pub struct ReadText<'a> {
    tokenizer: &'a Tokenizer,
    layout: BlockLayout,
    tokens: Vec<u32>,
    /// Where the documents stand that have any token.
    documents: Vec<Range<u64>>,
    fidelity: Fidelity,
}

impl ReadText<'_> {
    /// End of text, where sequences have it at both ends.
    fn end(&self) -> Option<u32> {
        self.tokenizer.end_of_text().filter(|_| self.layout.block_ends)
    }

    /// Tokens of the text in a sequence.
    fn stride(&self) -> usize {
        self.layout.seq_len.saturating_sub(2 * usize::from(self.end().is_some())).max(1)
    }

    fn block(&self, range: Range<u64>) -> Result<ValidationBlock, Failure> {
        let inner = &self.tokens[range.start as usize..range.end as usize];
        let tokens = self.end().into_iter().chain(inner.iter().copied()).chain(self.end()).collect();
        let count = || self.tokenizer.count_characters_after(&self.tokens[..range.start as usize], inner);
        let characters = self.fidelity.is_lossless().then(count).transpose()?;
        Ok(ValidationBlock { tokens, characters })
    }
}

/// The stream of tokens that the library would prepare: separators around documents, or between them.
fn tokenize<'a>(
    source: &Source,
    tokenizer: &'a Tokenizer,
    layout: BlockLayout,
) -> Result<ReadText<'a>, Failure> {
    let separator = tokenizer.separator();
    let mut fidelity = FidelityCount::default();
    let mut tokens = tokenizer.end_of_text().into_iter().collect::<Vec<_>>();
    let mut documents = Vec::new();
    let mut start = tokens.len() as u64;
    // A long document comes in pieces, which are encoded one by one, as when data are prepared.
    let corpus = source.corpus()?;
    let mut pieces = corpus.documents_for(tokenizer)?;
    for piece in pieces.by_ref() {
        let piece = piece?;
        let is_whole = !piece.continues && tokens.len() as u64 == start;
        let (encoded, of_piece) = match is_whole {
            true => piece.content.encode(tokenizer, &piece.text)?,
            false => piece.content.encode_piece(tokenizer, &piece.text)?,
        };
        fidelity.add(of_piece, !piece.continues);
        tokens.extend(encoded);
        if !piece.continues {
            documents.extend(Some(start..tokens.len() as u64).filter(|document| !document.is_empty()));
            tokens.extend(&separator);
            start = tokens.len() as u64;
        }
    }
    if tokenizer.end_of_text().is_none() {
        tokens.truncate(tokens.len() - separator.len());
    }
    let left_out = corpus.left_out().map(left_out_note);
    for note in left_out.into_iter().chain(pieces.skipped().map(skipped_note)) {
        notes::say("data  ", note);
    }
    Ok(ReadText { tokenizer, layout, tokens, documents, fidelity: fidelity.total() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_as_prepared_data_is() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.txt"), "abé").unwrap();
        std::fs::write(folder.path().join("b.txt"), "cd").unwrap();
        let tokenizer = Tokenizer::bytes();
        let read = |layout| {
            let text = tokenize(&Source::files([folder.path()]), &tokenizer, layout).unwrap();
            assert_eq!(text.tokens, [256, 97, 98, 0xc3, 0xa9, 256, 99, 100, 256]);
            assert_eq!(text.documents, [1..5, 6..8]);
            Stream::Read(text)
        };
        let plain = read(BlockLayout { seq_len: 4, block_ends: false });
        assert_eq!((plain.whole(), plain.has_tail()), (2, true));
        let blocks: Vec<_> = (0..3).map(|index| plain.block(index).unwrap()).collect();
        assert_eq!(
            blocks.iter().map(|block| block.characters).collect::<Vec<_>>(),
            [Some(3), Some(2), Some(0)]
        );
        assert_eq!(blocks[2].tokens, [256]);
        let ends = read(BlockLayout { seq_len: 4, block_ends: true });
        assert_eq!((ends.whole(), ends.has_tail()), (4, true));
        assert_eq!(ends.block(0).unwrap().tokens, [256, 256, 97, 256]);
        assert_eq!(ends.block(4).unwrap().tokens, [256, 256, 256]);
        let long = read(BlockLayout { seq_len: 100, block_ends: false });
        assert_eq!((long.whole(), long.has_tail(), long.range(0)), (0, true, 0..9));
        let text8 = Tokenizer::text8();
        let layout = BlockLayout { seq_len: 4, block_ends: false };
        let text = tokenize(&Source::files([folder.path().join("b.txt")]), &text8, layout).unwrap();
        assert_eq!((text.tokens, text.documents.len(), &text.documents[0]), (vec![3, 4], 1, &(0..2)));
    }
}
