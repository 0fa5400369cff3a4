//! Given texts under a model: what each of them costs, alone or given what stands before it.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::architecture::Architecture;
use super::estimator::{Estimated, Estimator, Parts};
use super::evaluate::{EvaluateRequest, Evaluation};
use super::session::Session;
use super::values::{Estimation, EvaluationValues};
use crate::data::hash::Fingerprint;
use crate::data::{Fidelity, PairSequence, Tokenizer};
use crate::denoiser::Wanted;
use crate::likelihood::{Estimate, Kind, Meaning, Sequences, TopTokens};
use crate::{Error, Result};

/// Draws per sequence of a score, unless others are asked for: a text is short, and there is one of it.
pub const SCORE_DRAWS: usize = 32;

/// Tokens of the sequences that are estimated at once: a limit of memory, on which no score depends.
const TOKENS_AT_ONCE: usize = 1 << 18;

/// How a text stands in the sequences of a model. Before it stands one end of text where the tokenizer has one, given and
/// not charged, and then what else is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextLayout {
    /// The network runs on the positions of the text and of what is given, and on no others. A text that is longer than the
    /// model's sequences is cut into several, its windows, whose values add up.
    Alone {
        /// Whether one end of text is charged after the text.
        end: bool,
        /// New tokens per window S, given as many of the tokens before them as fit. `None`: windows take as many new tokens
        /// as fit, given the last token before them.
        stride: Option<usize>,
    },
    /// As models of pairs are trained, one pair per sequence: behind the text stand its end and more ends of text up to
    /// the model's length, all of them generated and charged. Tokens are counted up to the first end of text, that one
    /// included. Since a text goes with any filling, the value is at most an upper bound of the text's.
    Filled,
}

impl Default for TextLayout {
    /// Alone, without its end, in windows that do not overlap but for the token that is given.
    fn default() -> Self {
        Self::Alone { end: false, stride: None }
    }
}

/// A text as sequences of a model, made by [`Architecture::passage`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passage {
    /// What is given, the text, and what stands behind it.
    tokens: Vec<u32>,
    windows: Vec<Window>,
    /// Charged tokens that count.
    counted: u64,
    characters: Option<u64>,
    is_filled: bool,
}

/// A sequence among the tokens of a passage.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Window {
    range: Range<usize>,
    /// How many of its tokens are given; the others are charged.
    given: usize,
}

/// What a text costs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Score {
    /// −log p of the text given what stands before it, a bound of it, or a surrogate, in nats: `kind` says which.
    pub nats: f64,
    /// What the value is.
    pub kind: Kind,
    /// What was computed, as figures are named.
    pub estimator: String,
    /// Standard error of the value over draws; 0 where nothing is drawn, absent where it is not known, as with a single
    /// draw.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub draw_error: Option<f64>,
    /// Tokens that are charged; of a filled sequence up to the first end of text.
    pub tokens: u64,
    /// Characters of the text, where it decodes to itself, and so does what is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub characters: Option<u64>,
    /// Sequences that the text took.
    pub windows: u64,
    /// What every charged token adds to the value, where it is a sum over tokens: of exact values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by_token: Option<Vec<TokenScore>>,
}

/// What a token costs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenScore {
    /// The token.
    pub token: u32,
    /// Its text, as [`Tokenizer::token_text`] shows it.
    pub text: String,
    /// −log p of the token given those that stand before it in the order, in nats.
    pub nats: f64,
    /// The most probable tokens in its place and their log p, the most probable first, where they were asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub top: TopTokens,
}

impl Passage {
    /// Sequences that it takes.
    pub fn windows(&self) -> usize {
        self.windows.len()
    }

    /// Charged tokens; of a filled sequence those up to the first end of text.
    pub fn tokens(&self) -> u64 {
        self.counted
    }

    /// Characters of the text, where it decodes to itself, and so does what is given.
    pub fn characters(&self) -> Option<u64> {
        self.characters
    }

    /// A hash of passages, in order.
    pub fn fingerprint(passages: &[Self]) -> u64 {
        let part = |print: Fingerprint, passage: &Self| {
            let tokens: Vec<u8> = passage.tokens.iter().flat_map(|token| token.to_le_bytes()).collect();
            let places =
                passage.windows.iter().flat_map(|Window { range, given }| [range.start, range.end, *given]);
            let places: Vec<u8> = places.flat_map(|place| (place as u64).to_le_bytes()).collect();
            let Self { counted, characters, is_filled, .. } = *passage;
            let facts = [counted, characters.map_or(0, |count| count + 1), u64::from(is_filled)];
            print.part(&tokens).part(&places).part(facts.map(u64::to_le_bytes).as_flattened())
        };
        passages.iter().fold(Fingerprint::new(), part).value()
    }

    /// Of every sequence that it takes, how many tokens it has, and how many of them are not given.
    pub fn sequences(&self) -> impl Iterator<Item = (usize, usize)> {
        self.windows.iter().map(|Window { range, given }| (range.len(), range.len() - given))
    }
}

impl Architecture {
    /// A text to score after a prompt, which may be empty. Both are encoded by themselves, and joined.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a model of anything but text, a text without tokens (unless its end is charged), a prompt that
    /// leaves no room for the text, a stride that is not below the model's length, an end of text that the tokenizer does
    /// not have, and characters that it does not know.
    pub fn passage(&self, layout: TextLayout, prompt: &str, text: &str) -> Result<Passage> {
        let tokenizer = self.tokenizer_of_texts()?;
        let (given, tokens) = (tokenizer.encode(prompt)?, tokenizer.encode(text)?);
        let fidelity = Fidelity::of(tokenizer, prompt, &given)? + Fidelity::of(tokenizer, text, &tokens)?;
        self.passage_of_tokens(layout, &given, &tokens, fidelity.is_lossless())
    }

    /// The same of tokens. `is_lossless`: whether the texts that they were made of can be had again from them.
    ///
    /// # Errors
    /// As [`Self::passage`], and [`Error::InvalidCode`] for tokens outside the vocabulary.
    pub fn passage_of_tokens(
        &self,
        layout: TextLayout,
        prompt: &[u32],
        text: &[u32],
        is_lossless: bool,
    ) -> Result<Passage> {
        let tokenizer = self.tokenizer_of_texts()?;
        let (longest, end) = (self.config().seq_len(), tokenizer.end_of_text());
        let end_of_text = |field: &str, given: &str| {
            let allowed = "only with a tokenizer that has an end-of-text token";
            end.ok_or_else(|| Error::invalid(field, given, allowed))
        };
        let mut tokens: Vec<u32> = end.into_iter().chain(prompt.iter().copied()).collect();
        let given = tokens.len();
        tokens.extend_from_slice(text);
        let characters = is_lossless.then(|| tokenizer.count_characters(text)).transpose()?;
        let passage = |tokens: Vec<u32>, windows, counted: usize, is_filled| Passage {
            tokens,
            windows,
            counted: counted as u64,
            characters,
            is_filled,
        };
        match layout {
            TextLayout::Alone { end, stride } => {
                if end {
                    tokens.push(end_of_text("end", "true")?);
                }
                let (windows, counted) =
                    (windows(tokens.len(), given, longest, stride)?, tokens.len() - given);
                Ok(passage(tokens, windows, counted, false))
            }
            TextLayout::Filled => {
                tokens.push(end_of_text("layout", "filled")?);
                if tokens.len() > longest {
                    let taken = format!("{} tokens with what is given and its end", tokens.len());
                    return Err(Error::invalid(
                        "text",
                        taken,
                        format!("at most {longest}, the model's length"),
                    ));
                }
                let counted = text.iter().position(|token| Some(*token) == end).unwrap_or(text.len()) + 1;
                tokens.resize(longest, end_of_text("layout", "filled")?);
                Ok(passage(tokens, vec![Window { range: 0..longest, given }], counted, true))
            }
        }
    }

    /// A pair as a [`TextLayout::Filled`] text. A completion that was cut has no end.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a model of anything but text, and a pair that is not of the model's length.
    pub fn passage_of_pair(&self, pair: PairSequence) -> Result<Passage> {
        self.tokenizer_of_texts()?;
        let (given, longest) = (pair.given, self.config().seq_len());
        if pair.tokens.len() != longest || given >= longest {
            let taken = format!("{given} tokens of {} given", pair.tokens.len());
            return Err(Error::invalid(
                "pair",
                taken,
                format!("{longest} tokens, the model's length, not all given"),
            ));
        }
        Ok(Passage {
            tokens: pair.tokens,
            windows: vec![Window { range: 0..longest, given }],
            counted: pair.counted,
            characters: pair.characters,
            is_filled: true,
        })
    }

    fn tokenizer_of_texts(&self) -> Result<&Tokenizer> {
        let name = self.config().subject.name();
        self.tokenizer().ok_or_else(|| {
            Error::invalid("model", format!("one of {name}"), "a model of text: scores are of texts")
        })
    }
}

/// Cuts `len` tokens, of which the first `given` are given, into sequences of at most `longest`.
fn windows(len: usize, given: usize, longest: usize, stride: Option<usize>) -> Result<Vec<Window>> {
    if let Some(stride) = stride.filter(|stride| !(1..longest).contains(stride)) {
        let allowed =
            format!("1 to {}: less than the model's length of {longest} tokens", longest.max(2) - 1);
        return Err(Error::invalid("stride", stride, allowed));
    }
    if len == given {
        return Err(Error::invalid("text", "of no tokens", "at least one token to score"));
    }
    if given >= longest && stride.is_none() {
        let given = format!("{given} tokens, its beginning included");
        let allowed = format!(
            "at most {}, one less than the model's length; with a stride, the last tokens before a window are given",
            longest - 1
        );
        return Err(Error::invalid("prompt", given, allowed));
    }
    let mut windows = Vec::new();
    // Tokens before this one are given or charged.
    let mut done = given;
    while done < len {
        let range = match stride {
            _ if done < longest && windows.is_empty() => 0..longest.min(len),
            Some(stride) => {
                let end = (done + stride).min(len);
                end.saturating_sub(longest)..end
            }
            None if longest == 1 => done..done + 1,
            None => done - 1..(done - 1 + longest).min(len),
        };
        windows.push(Window { given: done - range.start, range: range.clone() });
        done = range.end;
    }
    Ok(windows)
}

/// The windows of passages, estimated a part at a time and joined.
struct Windows<'a> {
    passages: &'a [Passage],
    /// Sub-tokens per token ℓ.
    subtoken_len: usize,
}

impl Parts for Windows<'_> {
    fn estimate<K: Meaning>(&self, part: impl Fn(&Sequences) -> Result<Estimate<K>>) -> Result<Estimate<K>> {
        let mut all: Option<Estimate<K>> = None;
        let mut waiting = Batch::default();
        let mut windows = self
            .passages
            .iter()
            .flat_map(|passage| passage.windows.iter().map(|window| (&passage.tokens, window)));
        loop {
            let next = windows.next();
            if waiting.x_0.len() >= TOKENS_AT_ONCE || (next.is_none() && !waiting.x_0.is_empty()) {
                let estimate = part(&waiting.sequences()?)?;
                match &mut all {
                    Some(all) => all.append(estimate),
                    None => all = Some(estimate),
                }
                waiting = Batch::default();
            }
            let Some((tokens, window)) = next else { break };
            waiting.push(tokens, window, self.subtoken_len);
        }
        let all = all.ok_or_else(no_texts)?;
        let joined = all.joined(self.passages.iter().map(Passage::windows));
        Ok(joined.with_tokens(self.passages.iter().map(Passage::tokens).collect()))
    }
}

/// Sequences that are estimated together.
#[derive(Default)]
struct Batch {
    x_0: Vec<u32>,
    lengths: Vec<usize>,
    given: Vec<bool>,
    keys: Vec<u64>,
}

impl Batch {
    /// Adds a window of a text of these tokens.
    fn push(&mut self, tokens: &[u32], window: &Window, subtoken_len: usize) {
        let (own, given) = (&tokens[window.range.clone()], window.given);
        self.x_0.extend_from_slice(own);
        self.lengths.push(own.len());
        self.given.extend((0..own.len() * subtoken_len).map(|digit| digit / subtoken_len < given));
        self.keys.push(key(own, given, window.range.start));
    }

    fn sequences(&self) -> Result<Sequences<'_>> {
        let sequences = Sequences::of_lengths(&self.x_0, &self.lengths)?;
        Ok(sequences.with_given(&self.given).with_keys(&self.keys))
    }
}

fn no_texts() -> Error {
    Error::invalid("texts", "none", "at least one")
}

/// What the draws of a window are keyed by: its tokens, how many of them are given, and where in its text it begins. So a
/// text has the same draws wherever it stands, two equal texts have the same value, and two equal windows of a text have
/// draws of their own.
fn key(tokens: &[u32], given: usize, start: usize) -> u64 {
    let tokens: Vec<u8> = tokens.iter().flat_map(|token| token.to_le_bytes()).collect();
    let place = [given, start].map(|number| (number as u64).to_le_bytes()).concat();
    Fingerprint::new().part(&tokens).part(&place).value()
}

impl Session {
    /// How texts are scored unless it is asked for otherwise: by [`Self::usual_estimator`], with [`SCORE_DRAWS`] draws.
    pub fn score_request(&self) -> EvaluateRequest {
        EvaluateRequest { draws: SCORE_DRAWS, ..EvaluateRequest::new(self.usual_estimator()) }
    }

    /// On how many tokens the network is run at most to score `sequences` ([`Passage::sequences`]), all evaluations together. What is
    /// given and what fills a sequence counts as the text does.
    pub fn tokens_to_evaluate(
        &self,
        request: &EvaluateRequest,
        sequences: impl IntoIterator<Item = (usize, usize)>,
    ) -> u64 {
        let of_sequence = |(tokens, charged)| self.evaluated_tokens(request, tokens, charged);
        sequences.into_iter().map(of_sequence).fold(0, u64::saturating_add)
    }

    /// What each of some texts costs. Draws are keyed by the seed, the tokens of a sequence and what is given of it: a score
    /// depends neither on the other texts nor on their order, on the batch or on the threads.
    ///
    /// ```no_run
    /// # fn of(session: &submask::Session) -> submask::Result<()> {
    /// use submask::model::TextLayout;
    ///
    /// let passage = session.architecture().passage(TextLayout::default(), "lantern: ", "A case for a light.")?;
    /// let scores = session.score(&session.score_request(), &[passage])?;
    /// println!("{:.2} nats for {} tokens ({:?})", scores[0].nats, scores[0].tokens, scores[0].kind);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Invalid`] for no text at all, sequences that the network cannot run on, and an estimator that it does not
    /// have.
    pub fn score(&self, request: &EvaluateRequest, passages: &[Passage]) -> Result<Vec<Score>> {
        self.score_while(request, passages, &|| Ok(()))
    }

    /// The same as long as it is `wanted`, which is asked before every evaluation of the network.
    ///
    /// # Errors
    /// As [`Self::score`], and what `wanted` says.
    pub fn score_while(
        &self,
        request: &EvaluateRequest,
        passages: &[Passage],
        wanted: Wanted,
    ) -> Result<Vec<Score>> {
        let name = request.estimator.name();
        match self.estimate_while(request, &self.windows(passages), wanted)? {
            Estimated::Exact(estimate) => self.scores(&name, &estimate, passages),
            Estimated::UpperBound(estimate) => self.scores(&name, &estimate, passages),
            Estimated::Surrogate(estimate) => self.scores(&name, &estimate, passages),
        }
    }

    /// The exact scores from left to right, token by token, with the `top` most probable tokens in the place of every charged one
    /// ([`TokenScore::top`]), as long as they are `wanted`. The scores are those of [`Estimator::LEFT_TO_RIGHT`].
    ///
    /// # Errors
    /// As [`Self::score_while`], and [`Error::Invalid`] for more than 0 most probable tokens of an autoregressive model of several
    /// sub-tokens per token.
    pub fn score_left_to_right(
        &self,
        passages: &[Passage],
        top: usize,
        wanted: Wanted,
    ) -> Result<Vec<Score>> {
        let request = EvaluateRequest::new(Estimator::LEFT_TO_RIGHT);
        let estimate = self.left_to_right(&request, &self.windows(passages), top, wanted)?;
        self.scores(&request.estimator.name(), &estimate, passages)
    }

    /// Figures of documents, each evaluated alone: [`Self::score`] of every one of them, and the sum of all, in order. It is
    /// another figure than that of the same documents one behind the other in sequences of the model's length, which
    /// [`Self::evaluation`] gives, and has another name.
    ///
    /// # Errors
    /// As [`Self::score`].
    pub fn evaluation_by_document(
        &self,
        request: &EvaluateRequest,
        documents: &[Passage],
    ) -> Result<Evaluation> {
        self.evaluation_by_document_while(request, documents, &|| Ok(()))
    }

    /// The same as long as it is `wanted`, which is asked before every evaluation of the network.
    ///
    /// # Errors
    /// As [`Self::score`], and what `wanted` says.
    pub fn evaluation_by_document_while(
        &self,
        request: &EvaluateRequest,
        documents: &[Passage],
        wanted: Wanted,
    ) -> Result<Evaluation> {
        if documents.is_empty() {
            return Err(no_texts());
        }
        let values = self.values_by_document_while(request, 0, documents, wanted)?;
        values.evaluation(&self.architecture().config().subject)
    }

    /// The values of a share of the documents, of which the first has the number `first` among all, and which may be none;
    /// figures are made of those of all.
    ///
    /// # Errors
    /// As [`Self::score`], and what `wanted` says.
    pub fn values_by_document_while(
        &self,
        request: &EvaluateRequest,
        first: u64,
        documents: &[Passage],
        wanted: Wanted,
    ) -> Result<EvaluationValues> {
        let name = format!("{}_by_document", request.estimator.name());
        if documents.is_empty() {
            return Ok(self.no_values(request, name, true));
        }
        let estimated = match self.estimate_while(request, &self.windows(documents), wanted)? {
            Estimated::Exact(estimate) if documents.iter().any(|document| document.is_filled) => {
                Estimated::UpperBound(estimate.into_bound())
            }
            estimated => estimated,
        };
        let first = first as usize;
        let estimation = Estimation {
            name,
            by_document: true,
            places: &(first..first + documents.len()).collect::<Vec<_>>(),
            characters: &documents.iter().map(Passage::characters).collect::<Vec<_>>(),
            sequences: &documents.iter().map(Passage::windows).collect::<Vec<_>>(),
        };
        Ok(estimation.values(&estimated))
    }

    fn windows<'a>(&self, passages: &'a [Passage]) -> Windows<'a> {
        Windows { passages, subtoken_len: self.architecture().predictive().codes().subtoken_len() }
    }

    fn scores<K: Meaning>(
        &self,
        estimator: &str,
        estimate: &Estimate<K>,
        passages: &[Passage],
    ) -> Result<Vec<Score>> {
        let score = |(s, passage): (usize, &Passage)| {
            let token_nats = estimate.token_nats().get(s);
            let top_tokens = estimate.top_tokens().get(s).map_or(&[][..], Vec::as_slice);
            Ok(Score {
                nats: estimate.nats()[s],
                kind: match K::KIND {
                    Kind::Exact if passage.is_filled => Kind::UpperBound,
                    kind => kind,
                },
                estimator: estimator.to_owned(),
                draw_error: Some(estimate.draw_errors()[s]).filter(|error| error.is_finite()),
                tokens: passage.counted,
                characters: passage.characters,
                windows: passage.windows.len() as u64,
                by_token: token_nats.map(|nats| self.by_token(passage, nats, top_tokens)).transpose()?,
            })
        };
        passages.iter().enumerate().map(score).collect()
    }

    /// The charged tokens of a passage, of all of whose windows' tokens `nats` are the charges, and `top_tokens` the most probable
    /// ones, where there are any.
    fn by_token(&self, passage: &Passage, nats: &[f64], top_tokens: &[TopTokens]) -> Result<Vec<TokenScore>> {
        let tokenizer = self.architecture().tokenizer_of_texts()?;
        let mut nats = nats.iter().enumerate();
        let mut tokens = Vec::new();
        for Window { range, given } in &passage.windows {
            let own = passage.tokens[range.clone()].iter().zip(nats.by_ref()).skip(*given);
            for (&token, (place, &nats)) in own {
                let top = top_tokens.get(place).cloned().unwrap_or_default();
                tokens.push(TokenScore { token, text: tokenizer.token_text(token)?, nats, top });
            }
        }
        Ok(tokens)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(len: usize, given: usize, longest: usize, stride: Option<usize>) -> Vec<(Range<usize>, usize)> {
        let windows = windows(len, given, longest, stride).unwrap();
        windows.into_iter().map(|window| (window.range, window.given)).collect()
    }

    #[test]
    fn what_fits_is_one_window() {
        assert_eq!(cut(8, 3, 8, None), [(0..8, 3)]);
        assert_eq!(cut(8, 0, 8, Some(2)), [(0..8, 0)]);
        assert_eq!(cut(2, 1, 8, None), [(0..2, 1)]);
    }

    #[test]
    fn windows_give_the_last_token_or_as_many_as_fit() {
        assert_eq!(cut(17, 1, 8, None), [(0..8, 1), (7..15, 1), (14..17, 1)]);
        assert_eq!(cut(17, 1, 8, Some(3)), [(0..8, 1), (3..11, 5), (6..14, 5), (9..17, 5)]);
        assert_eq!(cut(10, 1, 8, Some(7)), [(0..8, 1), (2..10, 6)]);
        assert_eq!(cut(12, 9, 8, Some(2)), [(3..11, 6), (4..12, 7)]);
        assert_eq!(cut(3, 0, 1, None), [(0..1, 0), (1..2, 0), (2..3, 0)]);
    }

    #[test]
    fn every_charged_token_is_charged_once() {
        for (len, given, stride) in (1..40).flat_map(|len| {
            (0..9).flat_map(move |given| [None, Some(1), Some(4), Some(9)].map(|s| (len, given, s)))
        }) {
            if given >= len {
                continue;
            }
            let mut next = given;
            for (range, given) in cut(len, given, 10, stride) {
                assert!(range.len() <= 10 && range.start + given == next, "{len} {stride:?}");
                next = range.end;
            }
            assert_eq!(next, len);
        }
    }

    #[test]
    fn keys_follow_the_tokens_what_is_given_and_the_place_in_the_text() {
        assert_eq!(key(&[1, 2, 3], 1, 0), key(&[1, 2, 3], 1, 0));
        let others: [(&[u32], usize, usize); 5] = [
            (&[1, 2, 4], 1, 0),
            (&[1, 2, 3], 2, 0),
            (&[1, 2], 1, 0),
            (&[1, 2, 3, 0], 1, 0),
            (&[1, 2, 3], 1, 7),
        ];
        for (tokens, given, start) in others {
            assert_ne!(key(&[1, 2, 3], 1, 0), key(tokens, given, start));
        }
    }
}
