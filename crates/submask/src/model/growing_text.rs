//! A text that is shown while it is written.

use super::architecture::Architecture;
use crate::data::Tokenizer;
use crate::sampler::{Ending, Event, Observer};
use crate::subtoken::SubTokenizer;
use crate::{Error, Result};

/// What stands for bytes that are no whole character, at the end of a text perhaps not yet.
const INCOMPLETE: char = char::REPLACEMENT_CHARACTER;

/// Texts that are shown while they are written, block by block: each from its beginning on as far as it is settled, one after the
/// other in the order of their numbers. What is shown of a text in all is what [`Session::generate`](super::Session::generate)
/// gives of it, but where an [`EntropyRule`](crate::sampler::EntropyRule) leaves out tokens that were shown.
pub struct GrowingTexts<'a, F> {
    tokenizer: &'a Tokenizer,
    codes: &'a SubTokenizer,
    /// The texts under way, by their numbers from that of the present one on.
    texts: Vec<Text>,
    /// The number of the one that is shown.
    present: usize,
    show: F,
}

/// A text on its way.
#[derive(Default)]
struct Text {
    y: Vec<u32>,
    /// Tokens up to and with the last that is given.
    given: usize,
    /// All its tokens, once it is finished.
    tokens: Option<Vec<u32>>,
    /// Tokens whose blocks are written.
    settled: usize,
    ending: Ending,
    has_ended: bool,
    /// Tokens that have been looked at, without those with which the text begins and those after its end.
    seen: Vec<u32>,
    /// Where in these decoding begins, so that what follows decodes as it does in the whole.
    anchor: usize,
    /// What they decoded to when the last block was written.
    last: String,
    /// Bytes of what is decoded that have been handed over, and whether anything has.
    shown: usize,
    is_shown: bool,
}

impl Text {
    /// Looks at the next tokens.
    fn look(&mut self, tokens: impl Iterator<Item = u32>, end: Option<u32>) {
        for token in tokens {
            let is_end = Some(token) == end;
            let begins = is_end && !self.ending.has_begun();
            self.has_ended = self.has_ended || self.ending.ends(is_end, self.given);
            if !self.has_ended && !begins {
                self.seen.push(token);
            }
        }
    }

    /// What is new of the text: all of it, or what later tokens cannot change.
    fn new_text(&mut self, tokenizer: &Tokenizer, is_whole: bool) -> Result<String> {
        let text = tokenizer.decode(&self.seen[self.anchor..], "")?;
        let mut settled = match (is_whole, tokenizer.decodes_token_by_token()) {
            (true, _) => return Ok(text.get(self.shown..).unwrap_or_default().to_owned()),
            (false, true) => text.len(),
            // What one more block leaves as it was.
            (false, false) => common_start(&self.last, &text),
        };
        settled = text[..settled].trim_end_matches(INCOMPLETE).len().max(self.shown);
        let new = text.get(self.shown..settled).unwrap_or_default().to_owned();
        self.shown = settled;
        if settled == text.len() && tokenizer.decodes_token_by_token() {
            (self.anchor, self.shown) = (self.seen.len(), 0);
        }
        self.last = text;
        Ok(new)
    }
}

/// Bytes with which both texts begin, up to the end of a character.
fn common_start(a: &str, b: &str) -> usize {
    let pairs = a.chars().zip(b.chars());
    pairs.take_while(|(a, b)| a == b).map(|(a, _)| a.len_utf8()).sum()
}

/// What is new of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Growth<'t> {
    /// The number of the text in the call.
    pub number: usize,
    /// What follows what was shown of it before; it may be empty.
    pub text: &'t str,
    /// Whether nothing of it was handed over before.
    pub is_first: bool,
    /// Whether that was all of it.
    pub is_whole: bool,
}

impl Architecture {
    /// An observer that hands over texts as they grow, to `show`, whose error ends the call. The tokens of a block are handed over
    /// when all of the block is written.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a model that does not write texts block by block.
    pub fn growing_texts<F: FnMut(Growth) -> Result<()>>(&self, show: F) -> Result<GrowingTexts<'_, F>> {
        let block_len = self.config().network.block_len();
        match self.tokenizer() {
            Some(tokenizer) if block_len > 0 => {
                let codes = self.predictive().codes();
                Ok(GrowingTexts { tokenizer, codes, texts: Vec::new(), present: 0, show })
            }
            _ => Err(Error::invalid("model.block_len", block_len, "at least 1, of a model of text")),
        }
    }
}

impl<F: FnMut(Growth) -> Result<()>> GrowingTexts<'_, F> {
    fn text(&mut self, number: usize) -> &mut Text {
        let place = number - self.present;
        if self.texts.len() <= place {
            self.texts.resize_with(place + 1, Text::default);
        }
        &mut self.texts[place]
    }

    /// Shows what is new of the present text, and of those after it that are finished.
    fn show(&mut self) -> Result<()> {
        let end = self.tokenizer.end_of_text();
        while let Some(text) = self.texts.first() {
            let (is_whole, from) = (text.tokens.is_some(), text.ending.seen());
            let settled = text.tokens.as_ref().map_or(text.settled, Vec::len);
            if !is_whole && settled <= from {
                return Ok(());
            }
            let new = match &text.tokens {
                Some(tokens) => tokens.get(from..).unwrap_or_default().to_vec(),
                None => {
                    let len = self.codes.subtoken_len();
                    self.codes.decode(&text.y[from * len..settled * len])?
                }
            };
            let text = &mut self.texts[0];
            text.look(new.into_iter(), end);
            let new = text.new_text(self.tokenizer, is_whole)?;
            if is_whole || !new.is_empty() {
                let is_first = !std::mem::replace(&mut text.is_shown, true);
                (self.show)(Growth { number: self.present, text: &new, is_first, is_whole })?;
            }
            if !is_whole {
                return Ok(());
            }
            self.texts.remove(0);
            self.present += 1;
        }
        Ok(())
    }
}

impl<F: FnMut(Growth) -> Result<()>> Observer for GrowingTexts<'_, F> {
    fn wants_digits(&self) -> bool {
        true
    }

    fn notify(&mut self, event: &Event) -> Result<()> {
        let (len, mask_id) = (self.codes.subtoken_len(), self.codes.mask_id());
        let number = match *event {
            Event::Started { sequence, y } => {
                let text = self.text(sequence);
                text.y = y.to_vec();
                text.given = y.iter().rposition(|digit| *digit != mask_id).map_or(0, |last| last / len + 1);
                sequence
            }
            Event::Revealed { sequence, digits, settled, .. } => {
                let text = self.text(sequence);
                digits.iter().for_each(|&(digit, value)| text.y[digit] = value);
                text.settled = settled;
                sequence
            }
            Event::Finished { sequence, tokens, .. } => {
                self.text(sequence).tokens = Some(tokens.to_vec());
                sequence
            }
            Event::Progress(_) => return Ok(()),
        };
        if number == self.present { self.show() } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;
    use crate::backbone::dit::DitConfig;
    use crate::backbone::weights::{Init, Parameter};
    use crate::compute::Compute;
    use crate::model::{
        CodeSettings, FORMAT_VERSION, ModelConfig, NetworkConfig, Request, Sampling, Session, Subject,
        TextSubject,
    };
    use crate::schedule::Schedule;

    /// A model of bytes whose weights are drawn.
    fn session(block_len: usize) -> Session {
        let NetworkConfig::Diffusion(sizes) = NetworkConfig::named("diffusion").unwrap() else {
            panic!("the diffusion transformer is one")
        };
        let sizes =
            DitConfig { hidden: 16, heads: 2, blocks: 1, cond_dim: 8, seq_len: 12, block_len, ..sizes };
        let config = ModelConfig {
            format_version: FORMAT_VERSION,
            subject: Subject::Text(TextSubject::of(&Tokenizer::bytes())),
            network: NetworkConfig::Diffusion(sizes),
            codes: CodeSettings::plain(2, true),
            schedule: Schedule::Linear,
            sample: Sampling::default(),
        };
        let architecture = Arc::new(Architecture::new(config, Some(Tokenizer::bytes())).unwrap());
        let drawn = |(index, parameter): (usize, &Parameter)| {
            Parameter { init: Init::Normal(0.3), ..parameter.clone() }.initial(1, index)
        };
        let values: Vec<_> = architecture.parameters().iter().enumerate().map(drawn).collect();
        Session::new(architecture, &values, &Compute::cpu()).unwrap()
    }

    #[test]
    fn what_grows_is_what_is_generated() {
        let session = session(4);
        let prompt = |text: &str| session.prompt(&text.parse().unwrap(), Some(37)).unwrap();
        // The beginning of a character that the model would have to complete.
        let prompts = [prompt("abcdefgh"), prompt(""), prompt("äöü")];
        let grid = Sampling { steps: 5, ..Sampling::default() };
        let corrected = Sampling { corrector: Some([8.0, 0.5, 0.0].into()), ..grid.clone() };
        for (batch, sampling) in [1, 2, 8].into_iter().flat_map(|batch| {
            [Sampling::default(), grid.clone(), corrected.clone()].map(|sampling| (batch, sampling))
        }) {
            let request = Request { num: 2, batch, sampling, ..session.request() };
            let mut shown = vec![(String::new(), 0, false); 6];
            let mut last = 0;
            let mut texts = session
                .architecture()
                .growing_texts(|growth: Growth| {
                    let Growth { number, text, is_first, is_whole } = growth;
                    assert!(number == last || (number == last + 1 && shown[last].2), "one after the other");
                    last = number;
                    let (all, parts, done) = &mut shown[number];
                    assert_eq!((is_first, *done), (*parts == 0, false));
                    all.push_str(text);
                    (*parts, *done) = (*parts + 1, is_whole);
                    Ok(())
                })
                .unwrap();
            let generated = session.generate_each(&request, &prompts, &mut texts).unwrap();
            let whole: Vec<String> = generated.into_iter().flat_map(|one| one.texts).collect();
            for ((all, parts, done), whole) in shown.iter().zip(&whole) {
                assert!(*done && all == whole, "{all:?}, not {whole:?}");
                assert!(batch > 1 || *parts > 2, "{parts} parts of {whole:?}");
            }
            assert!(shown[0].0.starts_with("abcdefgh"));
        }
        assert!(self::session(0).architecture().growing_texts(|_| Ok(())).is_err());
    }

    /// A tokenizer of bytes and two words, whose bytes decode to characters where all of a run do.
    fn with_byte_fallback() -> Tokenizer {
        let mut vocab: serde_json::Map<String, Value> =
            (0..=255u32).map(|byte| (format!("<0x{byte:02X}>"), json!(byte))).collect();
        vocab.extend([("\u{2581}sea".to_owned(), json!(256)), ("wide".to_owned(), json!(257))]);
        let file = json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
            "pre_tokenizer": null, "post_processor": null,
            "decoder": {"type": "Sequence", "decoders": [
                {"type": "Replace", "pattern": {"String": "\u{2581}"}, "content": " "},
                {"type": "ByteFallback"}, {"type": "Fuse"},
                {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
            "model": {"type": "BPE", "vocab": vocab, "merges": [], "byte_fallback": true}
        });
        let path = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(path.path(), file.to_string()).unwrap();
        Tokenizer::from_file(path.path(), None).unwrap()
    }

    #[test]
    fn what_later_tokens_change_is_not_shown_before() {
        let bytes = |text: &str| text.bytes().map(u32::from).collect::<Vec<_>>();
        let broken =
            [bytes("\u{4e2d}"), vec![0xe4], vec![257], bytes("\u{e9}"), vec![256, 0xff, 256]].concat();
        let whole = [vec![256], bytes("\u{4e2d}\u{e9}"), vec![256, 257], bytes("ab")].concat();
        let tokenizers = [with_byte_fallback(), Tokenizer::bytes()];
        for (tokenizer, tokens) in tokenizers.iter().flat_map(|one| [(one, &broken), (one, &whole)]) {
            let tokens: Vec<u32> =
                tokens.iter().copied().filter(|token| (*token as usize) < tokenizer.vocab_size()).collect();
            for block_len in 1..=tokens.len() {
                let (mut text, mut shown) = (Text::default(), String::new());
                for block in tokens.chunks(block_len) {
                    text.look(block.iter().copied(), None);
                    shown += &text.new_text(tokenizer, false).unwrap();
                }
                shown += &text.new_text(tokenizer, true).unwrap();
                assert_eq!(shown, tokenizer.decode(&tokens, "").unwrap(), "{block_len}");
            }
        }
    }
}
