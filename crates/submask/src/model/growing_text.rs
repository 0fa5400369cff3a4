//! A text that is shown while it is written.

use std::ops::Range;

use super::architecture::Architecture;
use crate::data::Tokenizer;
use crate::sampler::{Ending, Event, Observer, first_end};
use crate::subtoken::SubTokenizer;
use crate::{Error, Result};

/// What stands for bytes that are no whole character, at the end of a text perhaps not yet.
const INCOMPLETE: char = char::REPLACEMENT_CHARACTER;

/// A text that is shown while it is written, as far as later tokens cannot change it: it is told of the events of its sequence. What
/// it hands over in all is the text in the end, but where an [`EntropyRule`](crate::sampler::EntropyRule) leaves out tokens that
/// were shown.
///
/// Of a text that is written block by block, tokens are shown when their block is written; of others when all before them are;
/// with a corrector in the end.
pub struct GrowingText<'a> {
    tokenizer: &'a Tokenizer,
    codes: &'a SubTokenizer,
    /// The tokens whose text is shown; `None`: all, and the text ends where [`Session::generate`](super::Session::generate) ends it.
    range: Option<Range<usize>>,
    y: Vec<u32>,
    /// Tokens up to and with the last that is given.
    given: usize,
    /// All its tokens, once it is finished.
    tokens: Option<Vec<u32>>,
    /// Tokens that nothing changes any more.
    settled: usize,
    ending: Ending,
    has_ended: bool,
    /// Tokens that have been looked at, without those with which the text begins and those after its end.
    seen: Vec<u32>,
    /// Where in these decoding begins, so that what follows decodes as it does in the whole.
    anchor: usize,
    /// What they decoded to when the text last grew.
    last: String,
    /// Bytes of what is decoded that have been handed over, or are not to be.
    shown: usize,
}

impl<'a> GrowingText<'a> {
    fn new(tokenizer: &'a Tokenizer, codes: &'a SubTokenizer, range: Option<Range<usize>>) -> Self {
        Self {
            tokenizer,
            codes,
            range,
            y: Vec::new(),
            given: 0,
            tokens: None,
            settled: 0,
            ending: Ending::default(),
            has_ended: false,
            seen: Vec::new(),
            anchor: 0,
            last: String::new(),
            shown: 0,
        }
    }

    /// Takes note of an event of its sequence. Returns what is new of the text, which may be nothing.
    ///
    /// # Errors
    /// What the tokenizer reports.
    pub fn notify(&mut self, event: &Event) -> Result<String> {
        self.note(event);
        self.grow()
    }

    /// Whether nothing follows.
    pub fn is_whole(&self) -> bool {
        self.has_ended
            || self.tokens.is_some()
            || self.range.as_ref().is_some_and(|range| self.settled >= range.end)
    }

    fn note(&mut self, event: &Event) {
        let (len, mask_id) = (self.codes.subtoken_len(), self.codes.mask_id());
        match *event {
            Event::Started { y, .. } => {
                self.y = y.to_vec();
                let last = y.iter().rposition(|digit| *digit != mask_id);
                self.given = match &self.range {
                    Some(range) => range.start,
                    None => last.map_or(0, |last| last / len + 1),
                };
            }
            Event::Revealed { digits, settled, .. } => {
                digits.iter().for_each(|&(digit, value)| self.y[digit] = value);
                self.settled = settled;
            }
            Event::Finished { tokens, .. } => self.tokens = Some(tokens.to_vec()),
            Event::Progress(_) => {}
        }
    }

    /// What is new of the text.
    fn grow(&mut self) -> Result<String> {
        let from = self.ending.seen();
        let until = self.range.as_ref().map_or(usize::MAX, |range| range.end);
        let settled = self.tokens.as_ref().map_or(self.settled, Vec::len).min(until);
        if settled <= from && !self.is_whole() {
            return Ok(String::new());
        }
        let new = match &self.tokens {
            Some(tokens) => tokens.get(from..settled).unwrap_or_default().to_vec(),
            None => {
                let len = self.codes.subtoken_len();
                self.codes.decode(self.y.get(from * len..settled * len).unwrap_or_default())?
            }
        };
        for token in new {
            self.look(token)?;
        }
        self.new_text()
    }

    /// Looks at the next token.
    fn look(&mut self, token: u32) -> Result<()> {
        if self.range.as_ref().is_some_and(|range| range.start == self.ending.seen()) {
            self.shown = self.tokenizer.decode(&self.seen, "")?.trim_end_matches(INCOMPLETE).len();
        }
        let is_end = Some(token) == self.tokenizer.end_of_text();
        let begins = is_end && !self.ending.has_begun();
        self.has_ended = self.has_ended || self.ending.ends(is_end, self.given);
        if !self.has_ended && !begins {
            self.seen.push(token);
        }
        Ok(())
    }

    /// What is new of the text: all of it, or what later tokens cannot change. Nothing before the tokens that are shown are reached.
    fn new_text(&mut self) -> Result<String> {
        if self.range.as_ref().is_some_and(|range| self.ending.seen() <= range.start) {
            return Ok(String::new());
        }
        let text = self.tokenizer.decode(&self.seen[self.anchor..], "")?;
        let by_token = self.tokenizer.decodes_token_by_token();
        let mut settled = match (self.is_whole(), by_token) {
            (true, _) => text.len(),
            (false, true) => text.trim_end_matches(INCOMPLETE).len(),
            // What more tokens left as it was.
            (false, false) => text[..common_start(&self.last, &text)].trim_end_matches(INCOMPLETE).len(),
        };
        settled = settled.max(self.shown);
        let new = text.get(self.shown..settled).unwrap_or_default().to_owned();
        self.shown = settled;
        if settled == text.len() && by_token {
            (self.anchor, self.shown) = (self.seen.len(), 0);
        }
        self.last = text;
        Ok(new)
    }
}

/// Texts that are shown while they are written, one after the other in the order of their numbers.
pub struct GrowingTexts<'a, F> {
    tokenizer: &'a Tokenizer,
    codes: &'a SubTokenizer,
    /// The texts under way, by their numbers from that of the present one on, each with whether anything of it was shown.
    texts: Vec<(GrowingText<'a>, bool)>,
    /// The number of the one that is shown.
    present: usize,
    show: F,
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
    /// The text of the tokens `range` of a sequence, as it stands in the whole text, up to the first end of text among them; and the
    /// place of that. What stands before them is not repeated where the tokenizer joins it with them.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a model of anything but text, and a range beyond the sequence.
    pub fn text_between(&self, tokens: &[u32], range: Range<usize>) -> Result<(String, Option<usize>)> {
        let tokenizer = self.text_tokenizer()?;
        if range.start > range.end || range.end > tokens.len() {
            let given = format!("{} to {}", range.start, range.end);
            return Err(Error::invalid("range", given, format!("places in {} tokens", tokens.len())));
        }
        let end = tokenizer.end_of_text();
        let is_end = |token: &u32| Some(*token) == end;
        let begin = tokens.iter().take_while(|token| is_end(token)).count().min(range.end);
        let place = first_end(tokens[..range.end].iter().map(is_end), range.start);
        let whole = tokenizer.decode(&tokens[begin..place.unwrap_or(range.end)], "")?;
        let before = tokenizer.decode(&tokens[begin..range.start.max(begin)], "")?;
        let start = before.trim_end_matches(INCOMPLETE).len().min(whole.len());
        Ok((whole.get(start..).unwrap_or_default().to_owned(), place))
    }

    /// The text of the tokens `range` of a sequence, as [`Self::text_between`] gives it in the end, while it grows.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a model of anything but text.
    pub fn growing_text(&self, range: Range<usize>) -> Result<GrowingText<'_>> {
        Ok(GrowingText::new(self.text_tokenizer()?, self.predictive().codes(), Some(range)))
    }

    /// An observer that hands over texts as they grow, to `show`, whose error ends the call.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a model of anything but text.
    pub fn growing_texts<F: FnMut(Growth) -> Result<()>>(&self, show: F) -> Result<GrowingTexts<'_, F>> {
        let (tokenizer, codes) = (self.text_tokenizer()?, self.predictive().codes());
        Ok(GrowingTexts { tokenizer, codes, texts: Vec::new(), present: 0, show })
    }

    fn text_tokenizer(&self) -> Result<&Tokenizer> {
        let name = self.config().subject.name();
        self.tokenizer().ok_or_else(|| Error::invalid("model", format!("one of {name}"), "a model of text"))
    }
}

impl<'a, F: FnMut(Growth) -> Result<()>> GrowingTexts<'a, F> {
    fn text(&mut self, number: usize) -> &mut GrowingText<'a> {
        let place = number - self.present;
        if self.texts.len() <= place {
            let (tokenizer, codes) = (self.tokenizer, self.codes);
            self.texts.resize_with(place + 1, || (GrowingText::new(tokenizer, codes, None), false));
        }
        &mut self.texts[place].0
    }

    /// Shows what is new of the present text, and of those after it that are finished.
    fn show(&mut self) -> Result<()> {
        while let Some((text, is_shown)) = self.texts.first_mut() {
            let (new, is_whole) = (text.grow()?, text.tokens.is_some());
            if is_whole || !new.is_empty() {
                let is_first = !std::mem::replace(is_shown, true);
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
    fn wants_digits(&self, _sequence: usize) -> bool {
        true
    }

    fn notify(&mut self, event: &Event) -> Result<()> {
        let (Event::Started { sequence, .. }
        | Event::Revealed { sequence, .. }
        | Event::Finished { sequence, .. }) = *event
        else {
            return Ok(());
        };
        self.text(sequence).note(event);
        if sequence == self.present { self.show() } else { Ok(()) }
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
        Temperature, TextSubject,
    };
    use crate::order::Order;
    use crate::sampler::{SampleReport, WithDigits};
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
    }

    /// A text that is written as a whole grows from its beginning, too, and so does the text of a hole alone.
    #[test]
    fn what_fills_a_hole_grows_as_it_stands_in_the_whole() {
        for block_len in [0, 4] {
            let session = session(block_len);
            let architecture = session.architecture();
            // Behind a hole nothing can be given in later blocks.
            let template = if block_len == 0 { "abc[[5]]xy[[1]]" } else { "abc[[5]]" };
            let prompt = session.prompt(&template.parse().unwrap(), None).unwrap();
            for (order, temperature) in
                [(Order::Random, 1.0), (Order::LeftToRight, 1.0), (Order::Random, 0.5)]
            {
                let sampling =
                    Sampling { temperature: Temperature::Constant(temperature), ..Sampling::default() };
                let request =
                    Request { order, sampling, num: 3, prompt: prompt.clone(), ..session.request() };
                let mut texts: Vec<_> =
                    (0..3).map(|_| (architecture.growing_text(4..9).unwrap(), String::new())).collect();
                let mut told = WithDigits(|event: &Event| {
                    if let Event::Started { sequence, .. }
                    | Event::Revealed { sequence, .. }
                    | Event::Finished { sequence, .. } = *event
                    {
                        let (text, all) = &mut texts[sequence];
                        let whole = text.is_whole();
                        let new = text.notify(event)?;
                        assert!(new.is_empty() || !whole);
                        *all += &new;
                    }
                    Ok(())
                });
                let generated = session.generate(&request, &mut told).unwrap();
                for ((text, all), tokens) in texts.iter().zip(&generated.tokens) {
                    assert!(text.is_whole());
                    assert_eq!(*all, architecture.text_between(tokens, 4..9).unwrap().0);
                }
            }
        }
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
            let known = |token: &u32| {
                (*token as usize) < tokenizer.vocab_size() && Some(*token) != tokenizer.end_of_text()
            };
            let tokens: Vec<u32> = tokens.iter().copied().filter(known).collect();
            let codes = SubTokenizer::new(tokenizer.vocab_size(), 1).unwrap();
            let all = tokenizer.decode(&tokens, "").unwrap();
            for (start, block_len) in (0..tokens.len()).flat_map(|s| (1..=tokens.len()).map(move |b| (s, b)))
            {
                let range = (start > 0).then_some(start..tokens.len());
                let mut text = GrowingText::new(tokenizer, &codes, range);
                let mut shown = String::new();
                for block in tokens.chunks(block_len) {
                    block.iter().for_each(|token| text.look(*token).unwrap());
                    shown += &text.new_text().unwrap();
                }
                let report = SampleReport::default();
                shown +=
                    &text.notify(&Event::Finished { sequence: 0, tokens: &tokens, report: &report }).unwrap();
                let before = tokenizer.decode(&tokens[..start], "").unwrap();
                let expected = &all[before.trim_end_matches(INCOMPLETE).len()..];
                assert_eq!(shown, expected, "{start} {block_len}");
            }
        }
    }
}
