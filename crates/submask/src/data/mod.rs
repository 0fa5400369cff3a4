//! Text, and in [`image`] images: from files to batches of tokens.
//!
//! In the order in which data flow:
//!
//! | what | is |
//! |---|---|
//! | [`Source`] | a corpus: the built-in [`dictionary`], or files: text, JSON, tables, parquet, token numbers |
//! | [`Corpus`] | its files, found |
//! | [`Documents`] | its texts, streamed |
//! | [`TokenizerSpec`] → [`Tokenizer`] | text to token ids in 0..C and back |
//! | [`prepare`] → [`PreparedData`] | a folder of shards for training and validation |
//! | [`Shard`], [`TokenStore`] | tokens in memory-mapped files, as one array of N |
//! | [`Blocks`] | the array cut into sequences of L tokens |
//! | [`Dataset`] | what can be trained on: [`Blocks`], [`image::TrainingImages`], [`Points`], or your own |
//! | [`Batcher`], [`Cursor`] | batches `[B, L]` of any dataset in random order, resumable |
//! | [`ValidationBlocks`] | all sequences in order, with their characters |
//! | [`PairSource`] → [`Pairs`] | prompts and completions: one pair per sequence, filled with ends of text |
//!
//! Nothing here holds a whole corpus in memory, and everything is the same every time: training of a
//! tokenizer, the choice of validation documents, the order of batches.
//!
//! Not here: sub-tokenising. Documents are packed, not padded; pairs are filled with ends of text, which are learnt.
//!
//! ```
//! use submask::data::{BlockLayout, Batcher, Blocks, Outdated, PrepareSettings, Source, TokenizerSpec, prepare};
//!
//! # fn main() -> submask::Result<()> {
//! # let folder = tempfile::tempdir().unwrap();
//! # let corpus = folder.path().join("corpus.txt");
//! # std::fs::write(&corpus, "some words of text, over and over. ".repeat(50)).unwrap();
//! let settings = PrepareSettings::new(Source::files([corpus]), TokenizerSpec::Bytes);
//! let data = prepare(&settings, folder.path().join("prepared"), Outdated::Refuse, &mut |_| ())?;
//! let layout = BlockLayout { seq_len: 32, block_ends: false };
//! let blocks = Blocks::new(data.train, &data.tokenizer, layout)?;
//! let mut batcher = Batcher::new(blocks, 0)?;
//! let batch = batcher.next_batch(4)?;
//! assert_eq!(batch.x_0.len(), 4 * 32);
//! # Ok(())
//! # }
//! ```

mod batcher;
mod blocks;
mod corpus;
mod csv_file;
mod dataset;
mod density;
mod dictionary;
mod document;
mod documents;
mod fidelity;
mod field;
mod folder;
mod format;
mod guard;
pub(crate) mod hash;
pub mod image;
mod input;
mod json_file;
mod json_records;
#[cfg(feature = "dictionary")]
mod line_breaks;
mod pairs;
#[cfg(feature = "parquet")]
mod parquet_columns;
#[cfg(feature = "parquet")]
mod parquet_file;
mod permutation;
mod prepare;
mod reader;
mod records;
mod separator;
mod shard;
mod shard_writer;
mod source;
mod store;
mod text_file;
mod token_file;
mod tokenizer;
mod validation;

pub use batcher::{Batcher, Cursor};
pub use blocks::{BlockLayout, Blocks};
pub use corpus::{Corpus, LeftOut, STANDARD_INPUT};
pub use dataset::{Batch, Dataset};
pub use density::{Density, Points};
pub use dictionary::{dictionary, dictionary_pages, first_dictionary};
pub use document::{Content, Document, PIECE_BYTES};
pub use documents::{Documents, Skipped};
pub use fidelity::{Fidelity, FidelityCount};
pub use format::FileFormat;
pub use guard::panics_are_errors;
pub use hash::Fingerprint;
pub use pairs::{Pair, PairCounts, PairLayout, PairSequence, PairSequences, PairSource, Pairs};
pub use permutation::Permutation;
pub use prepare::{
    CorpusInfo, DATA_FILE, DATA_VERSION, DataInfo, HeldOutBy, HeldOutReport, Outdated, PairInfo, PartInfo,
    Phase, PrepareSettings, PreparedData, Progress, Spelt, SplitInfo, ValidRule, merge_prepared, prepare,
    prepare_share,
};
pub use records::{TextRecord, TextRecords};
pub use shard::{SHARD_VERSION, Shard, ShardHeader};
pub use shard_writer::ShardWriter;
pub use source::{Reading, Source, Split};
pub use store::{StoreWriter, TokenStore, Totals};
pub use tokenizer::{END_OF_TEXT, TOKENIZER_FILE, Tokenizer, TokenizerKind, TokenizerSpec};
pub use validation::{ValidationBlock, ValidationBlocks};
