//! Text to tokens and back.

mod alphabet;
mod end_of_text;
mod files;
#[cfg(feature = "gpt2")]
mod gpt2;
mod hugging_face;
mod kind;
mod numbers;
mod spec;
mod table;
mod train_bpe;

use std::fmt;
use std::path::Path;

pub use kind::TokenizerKind;
pub use spec::TokenizerSpec;

use super::hash::Fingerprint;
use crate::durable::write_atomically;
use crate::error::{Error, Result};
use alphabet::Alphabet;
use end_of_text::EndOfText;
use hugging_face::HuggingFace;
use table::TokenTable;

/// Name of the end-of-text token of the tokenizers made here.
pub const END_OF_TEXT: &str = "<|endoftext|>";

/// File in a model or data folder that holds a tokenizer which is not described by its kind alone.
pub const TOKENIZER_FILE: &str = "tokenizer.json";

/// Tokens before a part of a stream that are decoded with it.
pub(super) const DECODED_BEFORE: usize = 32;

/// A bijection, or nearly, between texts and sequences of token ids in `0..vocab_size`.
///
/// Text never gives the end-of-text id, not even text that spells its name: documents are kept apart
/// by whoever joins them.
///
/// `decode(encode(text)) == text` for bytes, characters, text8, GPT-2 and the byte-level BPE trained
/// here. A foreign `tokenizer.json` may normalise its text or not know all of it: see [`Self::is_lossless`].
#[derive(Clone)]
pub struct Tokenizer {
    kind: TokenizerKind,
    codec: Codec,
    /// The bytes that tokens stand for, where a text is just its tokens' bytes in a row.
    table: Option<TokenTable>,
    vocab_size: usize,
    end_of_text: Option<u32>,
    fingerprint: u64,
}

#[derive(Clone)]
enum Codec {
    Bytes,
    Alphabet(Alphabet),
    HuggingFace(Box<HuggingFace>),
    Numbers,
    #[cfg(feature = "gpt2")]
    Gpt2,
}

impl Tokenizer {
    /// The 256 bytes, and 256 for end of text: a vocabulary of 257.
    pub fn bytes() -> Self {
        let table = TokenTable::new((0..=256u32).map(|id| u8::try_from(id).into_iter().collect()));
        let fingerprint = Fingerprint::new().part(b"bytes").value();
        Self::tabled(TokenizerKind::Bytes, Codec::Bytes, table, Some(256), fingerprint)
    }

    /// The characters of `alphabet`, sorted, and then end of text.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an empty alphabet.
    pub fn characters(alphabet: &str) -> Result<Self> {
        let alphabet = Alphabet::sorted(alphabet.chars());
        if alphabet.is_empty() {
            return Err(Error::invalid("alphabet", "\"\"", "at least one character"));
        }
        let text: String = alphabet.characters().iter().collect();
        let fingerprint = Fingerprint::new().part(b"characters").part(text.as_bytes()).value();
        let table = alphabet.table(true);
        let end_of_text = Some(alphabet.characters().len() as u32);
        let kind = TokenizerKind::Characters { alphabet: text };
        Ok(Self::tabled(kind, Codec::Alphabet(alphabet), table, end_of_text, fingerprint))
    }

    /// The 27 letters of text8: 0 is the space, 1 to 26 are a to z; there is no end of text.
    pub fn text8() -> Self {
        let alphabet = Alphabet::sorted(std::iter::once(' ').chain('a'..='z'));
        let fingerprint = Fingerprint::new().part(b"text8").value();
        let table = alphabet.table(false);
        Self::tabled(TokenizerKind::Text8, Codec::Alphabet(alphabet), table, None, fingerprint)
    }

    /// Token ids written as decimal numbers with white space between them, for tokens of any other kind
    /// (molecules, codes of a vector quantiser); there is no end of text.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a vocabulary of less than 2 or more than 2²⁴ tokens.
    pub fn numbers(vocab_size: usize) -> Result<Self> {
        let table = numbers::table(vocab_size)?;
        let fingerprint =
            Fingerprint::new().part(b"numbers").part(&(vocab_size as u64).to_le_bytes()).value();
        Ok(Self::tabled(TokenizerKind::Numbers { vocab_size }, Codec::Numbers, table, None, fingerprint))
    }

    /// The byte-level BPE of GPT-2: 50,257 ids, 50,256 is end of text.
    ///
    /// # Errors
    /// [`Error::Invalid`] when built without the feature `gpt2`.
    #[cfg(feature = "gpt2")]
    pub fn gpt2() -> Result<Self> {
        let fingerprint = Fingerprint::new().part(b"gpt2").value();
        let end_of_text = Some(gpt2::END_OF_TEXT_ID);
        Ok(Self::tabled(TokenizerKind::Gpt2, Codec::Gpt2, gpt2::table(), end_of_text, fingerprint))
    }

    /// The byte-level BPE of GPT-2: this build lacks it.
    ///
    /// # Errors
    /// Always [`Error::Invalid`], naming the feature `gpt2`.
    #[cfg(not(feature = "gpt2"))]
    pub fn gpt2() -> Result<Self> {
        let allowed =
            "this build lacks the GPT-2 vocabulary; build with the feature `gpt2`, or give a tokenizer.json";
        Err(Error::invalid("tokenizer", "gpt2", allowed))
    }

    /// A Hugging Face `tokenizer.json`, or the folder that it stands in.
    ///
    /// `end_of_text` names its end-of-text token. Without one, what the files beside it say is taken, of a tokenizer
    /// that is kept with data or a model what these say; or else the token that the file itself puts at the end of a
    /// text, or the first of the usual names that it has, beginning with `<|endoftext|>`, `</s>`, `[SEP]` and `<eos>`;
    /// or none. Truncation, padding and added start or end tokens that the file asks for are left out: a text gives its
    /// own tokens only.
    ///
    /// # Errors
    /// [`Error::Io`] and [`Error::Format`] for the file, for a folder without it, and for what stands beside it;
    /// [`Error::Invalid`] for a token that it lacks.
    pub fn from_file(path: impl AsRef<Path>, end_of_text: Option<&str>) -> Result<Self> {
        Self::read(
            &files::tokenizer_file(path.as_ref())?,
            end_of_text.map_or(EndOfText::Found, EndOfText::Named),
        )
    }

    fn read(path: &Path, end_of_text: EndOfText<'_>) -> Result<Self> {
        let json = std::fs::read_to_string(path).map_err(Error::io(path))?;
        Self::from_json(json, path, end_of_text)
    }

    /// The name of the end of text, if earlier versions would have found another one or none: what they prepared with
    /// this tokenizer is not what would be prepared now.
    pub(super) fn newly_found_end(&self) -> Option<&str> {
        match &self.codec {
            Codec::HuggingFace(inner) => inner.newly_found(),
            _ => None,
        }
    }

    fn from_json(json: String, path: &Path, end_of_text: EndOfText<'_>) -> Result<Self> {
        let fingerprint = Fingerprint::new().part(b"tokenizer.json").part(json.as_bytes());
        let inner = HuggingFace::new(json, path, end_of_text)?;
        let name = inner.end_of_text_name().map(str::to_owned);
        let fingerprint = fingerprint.part(name.as_deref().unwrap_or_default().as_bytes()).value();
        Ok(Self {
            kind: TokenizerKind::TokenizerJson { end_of_text: name },
            table: inner.table(),
            vocab_size: inner.vocab_size(),
            end_of_text: inner.end_of_text(),
            codec: Codec::HuggingFace(Box::new(inner)),
            fingerprint,
        })
    }

    fn tabled(
        kind: TokenizerKind,
        codec: Codec,
        table: TokenTable,
        end_of_text: Option<u32>,
        fingerprint: u64,
    ) -> Self {
        Self { kind, codec, vocab_size: table.len(), table: Some(table), end_of_text, fingerprint }
    }

    /// The tokenizer of a model or data folder whose configuration says `kind`.
    ///
    /// # Errors
    /// As the constructor of that kind.
    pub fn load(kind: &TokenizerKind, folder: impl AsRef<Path>) -> Result<Self> {
        match kind {
            TokenizerKind::Bytes => Ok(Self::bytes()),
            TokenizerKind::Characters { alphabet } => Self::characters(alphabet),
            TokenizerKind::Text8 => Ok(Self::text8()),
            TokenizerKind::Gpt2 => Self::gpt2(),
            TokenizerKind::Numbers { vocab_size } => Self::numbers(*vocab_size),
            TokenizerKind::TokenizerJson { end_of_text } => {
                let end_of_text = end_of_text.as_deref().map_or(EndOfText::Kept, EndOfText::Named);
                Self::read(&folder.as_ref().join(TOKENIZER_FILE), end_of_text)
            }
        }
    }

    /// Writes what [`Tokenizer::load`] needs besides the kind into a folder: [`TOKENIZER_FILE`], or
    /// nothing.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn save(&self, folder: impl AsRef<Path>) -> Result<()> {
        let Codec::HuggingFace(inner) = &self.codec else { return Ok(()) };
        let path = folder.as_ref().join(TOKENIZER_FILE);
        write_atomically(&path, inner.json().as_bytes())
    }

    /// What goes into a configuration file.
    pub fn kind(&self) -> &TokenizerKind {
        &self.kind
    }

    /// Whether every text decodes to itself by construction. Of other tokenizers it has to be asked text by text
    /// ([`Fidelity`](super::Fidelity)). Numbers are no text.
    pub fn is_lossless(&self) -> bool {
        match &self.codec {
            Codec::HuggingFace(inner) => inner.is_lossless(),
            Codec::Numbers => false,
            _ => true,
        }
    }

    /// Whether tokens are numbers that stand for no text.
    pub(super) fn is_of_numbers(&self) -> bool {
        matches!(self.codec, Codec::Numbers)
    }

    /// The token that stands for what the tokenizer does not know, if there is one.
    pub fn unknown_token(&self) -> Option<u32> {
        match &self.codec {
            Codec::HuggingFace(inner) => inner.unknown_token(),
            _ => None,
        }
    }

    /// The token `[MASK]` or `<mask>` of a `tokenizer.json`, which tokenizers for masked models have among their own.
    pub fn mask_token(&self) -> Option<u32> {
        match &self.codec {
            Codec::HuggingFace(inner) => inner.mask_token(),
            _ => None,
        }
    }

    /// How many token ids there are (C).
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// The id that stands between documents, if there is one.
    pub fn end_of_text(&self) -> Option<u32> {
        self.end_of_text
    }

    /// A hash of the definition; tokens made under another fingerprint mean something else.
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// The tokens of a text.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a character outside the alphabet of characters or text8, and for what is no
    /// token's number.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        match &self.codec {
            Codec::Bytes => Ok(text.bytes().map(u32::from).collect()),
            Codec::Alphabet(alphabet) => alphabet.encode(text),
            Codec::HuggingFace(inner) => inner.encode(text),
            Codec::Numbers => numbers::encode(text, self.vocab_size),
            #[cfg(feature = "gpt2")]
            Codec::Gpt2 => Ok(gpt2::encode(text)),
        }
    }

    /// The tokens whose numbers a text gives, decimal and with white space between them, as others have made them.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming what is no token's number.
    pub fn read_numbers(&self, text: &str) -> Result<Vec<u32>> {
        numbers::encode(text, self.vocab_size)
    }

    /// The text of tokens, with `end_of_text` in place of every end-of-text token. Bytes that are not
    /// UTF-8, as at the ends of a cut sequence, become U+FFFD.
    ///
    /// # Errors
    /// [`Error::InvalidCode`] for an id outside the vocabulary.
    pub fn decode(&self, tokens: &[u32], end_of_text: &str) -> Result<String> {
        self.check(tokens)?;
        match (&self.table, &self.codec) {
            (Some(table), _) => {
                let mut bytes = Vec::with_capacity(tokens.len() * 4);
                for &token in tokens {
                    let is_end = Some(token) == self.end_of_text;
                    bytes.extend_from_slice(if is_end { end_of_text.as_bytes() } else { table.bytes(token) });
                }
                Ok(String::from_utf8_lossy(&bytes).into_owned())
            }
            (None, Codec::HuggingFace(inner)) => {
                let documents = tokens.split(|&token| Some(token) == self.end_of_text);
                let texts: Result<Vec<_>> = documents.map(|tokens| inner.decode(tokens)).collect();
                Ok(texts?.join(end_of_text))
            }
            (None, _) => Ok(String::new()),
        }
    }

    /// Whether the bytes of tokens are those of each, one after the other.
    pub(crate) fn decodes_token_by_token(&self) -> bool {
        self.table.is_some()
    }

    /// Whether tokens decode to text: whether the bytes between ends of text are UTF-8. At the ends of what is not
    /// `whole`, a character may be cut.
    ///
    /// # Errors
    /// [`Error::InvalidCode`] for an id outside the vocabulary.
    pub(super) fn gives_text(&self, tokens: &[u32], is_whole: bool) -> Result<bool> {
        self.check(tokens)?;
        let Some(table) = &self.table else {
            let text = self.decode(tokens, "")?;
            let inner = if is_whole { &text } else { text.trim_matches(char::REPLACEMENT_CHARACTER) };
            return Ok(!inner.contains(char::REPLACEMENT_CHARACTER));
        };
        let documents: Vec<&[u32]> = tokens.split(|&token| Some(token) == self.end_of_text).collect();
        let last = documents.len() - 1;
        Ok(documents.into_iter().enumerate().all(|(n, document)| {
            let bytes: Vec<u8> = document.iter().flat_map(|&token| table.bytes(token)).copied().collect();
            let follows = !is_whole && n == 0;
            let cut = bytes.iter().take(3).take_while(|byte| follows && **byte & 0xc0 == 0x80).count();
            match std::str::from_utf8(&bytes[cut..]) {
                Ok(_) => true,
                Err(error) => !is_whole && n == last && error.error_len().is_none(),
            }
        }))
    }

    /// One token as text, for display: bytes that are not UTF-8 become U+FFFD, end of text is its name.
    ///
    /// # Errors
    /// [`Error::InvalidCode`] for an id outside the vocabulary.
    pub fn token_text(&self, token: u32) -> Result<String> {
        let name = match &self.kind {
            TokenizerKind::TokenizerJson { end_of_text } => end_of_text.as_deref().unwrap_or_default(),
            _ => END_OF_TEXT,
        };
        self.decode(&[token], name)
    }

    /// How many characters (Unicode scalar values) of text a run of tokens stands for, end of text
    /// counting none.
    ///
    /// Where a text is its tokens' bytes in a row, a character counts for the token with its first
    /// byte, so that the counts of the runs of a cut text add up to the characters of the whole.
    ///
    /// # Errors
    /// [`Error::InvalidCode`] for an id outside the vocabulary.
    pub fn count_characters(&self, tokens: &[u32]) -> Result<u64> {
        self.check(tokens)?;
        match &self.table {
            Some(table) => Ok(tokens.iter().map(|&token| u64::from(table.characters(token))).sum()),
            None => Ok(self.decode(tokens, "")?.chars().count() as u64),
        }
    }

    /// The same of `tokens` that follow others in a stream: what a decoder puts between two tokens, as a space between
    /// words, counts for the second, so that the counts of all parts of a stream add up to its characters.
    ///
    /// # Errors
    /// As [`Self::count_characters`].
    pub fn count_characters_after(&self, before: &[u32], tokens: &[u32]) -> Result<u64> {
        if self.table.is_some() {
            return self.count_characters(tokens);
        }
        // Of the same document, and no more than a decoder looks back.
        let last = &before[before.len().saturating_sub(DECODED_BEFORE)..];
        let document =
            last.iter().rposition(|token| Some(*token) == self.end_of_text).map_or(0, |end| end + 1);
        let before = &last[document..];
        let both = self.count_characters(&[before, tokens].concat())?;
        Ok(both.saturating_sub(self.count_characters(before)?))
    }

    /// What stands between documents in a stream of tokens: end of text, or else a space (text8) or a
    /// new line, or nothing where the tokenizer has neither.
    pub fn separator(&self) -> Vec<u32> {
        match (self.end_of_text, &self.kind) {
            (Some(end_of_text), _) => vec![end_of_text],
            (None, TokenizerKind::Text8) => vec![0],
            (None, _) => self.encode("\n").unwrap_or_default(),
        }
    }

    fn check(&self, tokens: &[u32]) -> Result<()> {
        match tokens.iter().find(|&&token| token as usize >= self.vocab_size) {
            Some(&token) => Err(outside(token, self.vocab_size as u64)),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Tokenizer")
            .field("kind", &self.kind)
            .field("vocab_size", &self.vocab_size)
            .field("end_of_text", &self.end_of_text)
            .finish_non_exhaustive()
    }
}

/// A token id outside the vocabulary.
pub(super) fn outside(token: u32, vocab_size: u64) -> Error {
    let allowed = format!("the vocabulary has the ids 0 to {}", vocab_size.saturating_sub(1));
    Error::InvalidCode { what: "token", given: u64::from(token), allowed }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::LazyLock;

    static BPE: LazyLock<Tokenizer> = LazyLock::new(|| {
        let text = "the cat sat on the mat, the bat sat on the hat. that's naïve: 中文 中文 ";
        TokenizerSpec::Bpe { vocab_size: 272 }.build(|| Ok(vec![Ok(text.repeat(3).into())])).unwrap()
    });

    fn lossless() -> Vec<Tokenizer> {
        let mut all = vec![Tokenizer::bytes(), BPE.clone()];
        all.extend(Tokenizer::gpt2().ok());
        all
    }

    fn round_trip(tokenizer: &Tokenizer, text: &str) -> String {
        tokenizer.decode(&tokenizer.encode(text).unwrap(), "|END|").unwrap()
    }

    #[test]
    fn what_keeps_every_text_knows_it_by_construction() {
        for tokenizer in lossless() {
            assert!(tokenizer.is_lossless(), "{tokenizer:?}");
            assert_eq!(tokenizer.unknown_token(), None);
        }
    }

    #[test]
    fn bytes_are_their_own_ids_and_256_is_end_of_text() {
        let tokenizer = Tokenizer::bytes();
        assert_eq!((tokenizer.vocab_size(), tokenizer.end_of_text()), (257, Some(256)));
        assert_eq!(tokenizer.encode("aé").unwrap(), [97, 0xc3, 0xa9]);
        assert_eq!(tokenizer.decode(&[256, 97, 256], "\n---\n").unwrap(), "\n---\na\n---\n");
        assert_eq!(tokenizer.decode(&[256, 97, 256], "").unwrap(), "a");
        assert_eq!(tokenizer.token_text(256).unwrap(), END_OF_TEXT);
        assert_eq!(tokenizer.decode(&[0xc3], "").unwrap(), "\u{fffd}");
    }

    #[test]
    fn text8_has_27_letters_and_no_end_of_text() {
        let tokenizer = Tokenizer::text8();
        assert_eq!((tokenizer.vocab_size(), tokenizer.end_of_text()), (27, None));
        assert_eq!(tokenizer.encode(" az").unwrap(), [0, 1, 26]);
        assert_eq!(tokenizer.separator(), [0]);
        let error = tokenizer.encode("aZ").unwrap_err().to_string();
        assert!(error.contains("'Z'") && error.contains("27"), "{error}");
    }

    #[test]
    fn characters_are_sorted_and_an_unknown_one_is_named() {
        let tokenizer = Tokenizer::characters("cabé").unwrap();
        assert_eq!((tokenizer.vocab_size(), tokenizer.end_of_text()), (5, Some(4)));
        assert_eq!(tokenizer.encode("abcé").unwrap(), [0, 1, 2, 3]);
        assert!(tokenizer.encode("abd").unwrap_err().to_string().contains("'d'"));
        assert!(Tokenizer::characters("").is_err());
    }

    #[cfg(feature = "gpt2")]
    #[test]
    fn gpt2_gives_the_published_ids() {
        let tokenizer = Tokenizer::gpt2().unwrap();
        assert_eq!((tokenizer.vocab_size(), tokenizer.end_of_text()), (50257, Some(50256)));
        assert_eq!(tokenizer.encode("Hello world").unwrap(), [15496, 995]);
        assert_eq!(tokenizer.token_text(995).unwrap(), " world");
    }

    #[test]
    fn very_long_runs_are_encoded() {
        for text in [" ".repeat(2_000_000) + "a", "\n ".repeat(500_000), "a".repeat(300_000)] {
            for tokenizer in lossless() {
                assert!(round_trip(&tokenizer, &text) == text, "{tokenizer:?}");
            }
        }
    }

    #[cfg(not(feature = "gpt2"))]
    #[test]
    fn without_its_feature_gpt2_is_refused_by_the_features_name() {
        assert!(Tokenizer::gpt2().unwrap_err().to_string().contains("feature `gpt2`"));
    }

    #[test]
    fn text_that_spells_end_of_text_is_ordinary_text() {
        for tokenizer in lossless() {
            let tokens = tokenizer.encode("a <|endoftext|> b").unwrap();
            assert!(!tokens.contains(&tokenizer.end_of_text().unwrap()), "{tokenizer:?}");
            assert_eq!(tokenizer.decode(&tokens, "").unwrap(), "a <|endoftext|> b");
        }
    }

    #[test]
    fn an_id_outside_the_vocabulary_is_refused() {
        for tokenizer in lossless() {
            let size = tokenizer.vocab_size() as u32;
            assert!(matches!(tokenizer.decode(&[size], ""), Err(Error::InvalidCode { .. })));
            assert!(tokenizer.count_characters(&[size]).is_err());
            assert!((0..size).all(|id| tokenizer.token_text(id).is_ok()));
        }
    }

    #[test]
    fn a_saved_tokenizer_loads_as_the_same_one() {
        let folder = tempfile::tempdir().unwrap();
        let mut all = lossless();
        all.extend([Tokenizer::text8(), Tokenizer::characters("xyz").unwrap()]);
        for tokenizer in all {
            tokenizer.save(folder.path()).unwrap();
            let kind = serde_json::to_string(tokenizer.kind()).unwrap();
            let loaded = Tokenizer::load(&serde_json::from_str(&kind).unwrap(), folder.path()).unwrap();
            assert_eq!(loaded.kind(), tokenizer.kind());
            assert_eq!(loaded.fingerprint(), tokenizer.fingerprint());
            assert_eq!(loaded.vocab_size(), tokenizer.vocab_size());
        }
    }

    #[test]
    fn fingerprints_of_different_tokenizers_differ() {
        let mut all = lossless();
        all.extend([Tokenizer::text8(), Tokenizer::characters(" abcdefghijklmnopqrstuvwxyz").unwrap()]);
        let mut prints: Vec<_> = all.iter().map(Tokenizer::fingerprint).collect();
        prints.sort_unstable();
        prints.dedup();
        assert_eq!(prints.len(), all.len());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn decoding_gives_back_what_was_encoded(text in any::<String>(), words in "[ a-z'\n\t中é0-9]{0,80}") {
            for tokenizer in lossless() {
                prop_assert_eq!(round_trip(&tokenizer, &text), text.clone());
                prop_assert_eq!(round_trip(&tokenizer, &words), words.clone());
            }
        }

        #[test]
        fn characters_of_the_runs_of_a_cut_text_add_up(text in "[a中é\u{1f600} ]{0,30}", run in 1usize..5) {
            for tokenizer in lossless() {
                let tokens = tokenizer.encode(&text).unwrap();
                let counts = tokens.chunks(run).map(|run| tokenizer.count_characters(run).unwrap());
                prop_assert_eq!(counts.sum::<u64>(), text.chars().count() as u64);
            }
        }
    }
}
