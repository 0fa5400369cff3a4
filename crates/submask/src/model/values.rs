//! The value of every sequence, and what figures are made of them: by one process of all, or by several of their shares.

use super::estimator::Estimated;
use super::evaluate::{Evaluation, SequenceValue};
use super::subject::{Subject, Unit};
use crate::likelihood::{Estimate, Exact, Figure, Kind, Likelihood, Meaning, Surrogate, UpperBound};
use crate::parts::{Bytes, Fields};
use crate::{Error, Result};

/// Values of sequences, in the order in which figures add them. Those of several shares, one after the other
/// ([`Self::append`]), are those of one evaluation, to the last bit.
#[derive(Clone, Debug, PartialEq)]
pub struct EvaluationValues {
    /// The name of figures.
    pub name: String,
    /// What the values are.
    pub kind: Kind,
    /// Whether they are of documents, each evaluated alone.
    pub by_document: bool,
    /// One per sequence or document.
    pub values: Vec<ItemValue>,
    /// Network evaluations (states) that all of them took.
    pub evaluations: u64,
}

/// The value of a sequence, or of a document with all its windows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ItemValue {
    /// Its place among all that were given, from 0.
    pub index: u64,
    /// −log p in nats, a bound of it, or a surrogate.
    pub nats: f64,
    /// Its standard error over draws; not a number where it is not known.
    pub draw_error: f64,
    /// Tokens that are charged.
    pub tokens: u64,
    /// Characters of text that they stand for, where they do.
    pub characters: Option<u64>,
    /// Sequences that the network read for it.
    pub sequences: u64,
}

impl ItemValue {
    /// As a record of a part.
    pub fn to_bytes(&self) -> Vec<u8> {
        let Self { index, nats, draw_error, tokens, characters, sequences } = *self;
        let bytes = Bytes::default().u64(index).f64(nats).f64(draw_error).u64(tokens).u64(sequences);
        let characters = characters.into_iter().fold(bytes.u64(u64::from(characters.is_some())), Bytes::u64);
        characters.into_vec()
    }

    /// Of a record of a part.
    ///
    /// # Errors
    /// As [`Fields::u64`].
    pub fn read(fields: &mut Fields) -> Result<Self> {
        let (index, nats, draw_error) = (fields.u64()?, fields.f64()?, fields.f64()?);
        let (tokens, sequences, has_characters) = (fields.u64()?, fields.u64()?, fields.u64()? != 0);
        let characters = has_characters.then(|| fields.u64()).transpose()?;
        Ok(Self { index, nats, draw_error, tokens, characters, sequences })
    }
}

/// What is known of the sequences that an estimate is of.
pub(super) struct Estimation<'a> {
    /// The name of the figures.
    pub(super) name: String,
    pub(super) by_document: bool,
    /// Where every sequence stood among those that were given, \[n\].
    pub(super) places: &'a [usize],
    /// Characters of every sequence, \[n\]; empty where they stand for none in particular.
    pub(super) characters: &'a [Option<u64>],
    /// Sequences of every document, \[n\]; empty where each is one.
    pub(super) sequences: &'a [usize],
}

impl Estimation<'_> {
    /// The values of an estimate.
    pub(super) fn values(self, estimated: &Estimated) -> EvaluationValues {
        match estimated {
            Estimated::Exact(estimate) => self.of(estimate),
            Estimated::UpperBound(estimate) => self.of(estimate),
            Estimated::Surrogate(estimate) => self.of(estimate),
        }
    }

    fn of<K: Meaning>(self, estimate: &Estimate<K>) -> EvaluationValues {
        let value = |(s, index): (usize, &usize)| ItemValue {
            index: *index as u64,
            nats: estimate.nats()[s],
            draw_error: estimate.draw_errors()[s],
            tokens: estimate.tokens()[s],
            characters: self.characters.get(s).copied().flatten(),
            sequences: self.sequences.get(s).map_or(1, |count| *count as u64),
        };
        let values = self.places.iter().enumerate().map(value).collect();
        let (kind, evaluations) = (K::KIND, estimate.evaluations());
        EvaluationValues { name: self.name, kind, by_document: self.by_document, values, evaluations }
    }
}

impl EvaluationValues {
    /// Adds the values of the next share.
    pub fn append(&mut self, next: Self) {
        self.values.extend(next.values);
        self.evaluations += next.evaluations;
    }

    /// Sequences that the network read.
    pub fn sequences(&self) -> u64 {
        self.values.iter().map(|value| value.sequences).sum()
    }

    /// Figures in the units of the subject, and the value of each.
    ///
    /// # Errors
    /// [`Error::Invalid`] for no values, text of no characters, and images without dimensions.
    pub fn evaluation(&self, subject: &Subject) -> Result<Evaluation> {
        if self.values.is_empty() {
            let what = if self.by_document { "documents" } else { "sequences" };
            return Err(Error::invalid(what, "none", "at least one to evaluate"));
        }
        match self.kind {
            Kind::Exact => self.of_likelihood::<Exact>(subject),
            Kind::UpperBound => self.of_likelihood::<UpperBound>(subject),
            Kind::Surrogate => Ok(self.of_surrogate(subject)),
        }
    }

    fn of_likelihood<K: Meaning>(&self, subject: &Subject) -> Result<Evaluation>
    where
        Estimate<K>: Likelihood,
    {
        let (estimate, characters) = (self.estimate::<K>(), self.characters());
        let mut units = subject.units(is_lossless(subject, &characters));
        units.extend(self.by_document.then_some(Unit::Nats));
        let figure = |unit: Unit| {
            let measured = match unit {
                Unit::BitsPerCharacter => estimate.bits_per_character(&characters)?,
                Unit::NatsPerToken | Unit::NatsPerTokenOfTokenised => estimate.nats_per_token(),
                Unit::Perplexity | Unit::PerplexityOfTokenised => estimate.perplexity(),
                Unit::BitsPerDimension(dimensions) => estimate.bits_per_dimension(dimensions)?,
                Unit::NatsPerSequence => estimate.nats_per_sequence(),
                Unit::Nats => estimate.total_nats(),
            };
            Ok(estimate.figure_of(&self.name, unit.name(), measured))
        };
        let figures = units.into_iter().map(figure).collect::<Result<_>>()?;
        Ok(Evaluation { figures, sequences: self.each(&characters) })
    }

    /// No likelihood: neither per character nor a perplexity.
    fn of_surrogate(&self, subject: &Subject) -> Evaluation {
        let (estimate, characters) = (self.estimate::<Surrogate>(), self.characters());
        let per_token = match is_lossless(subject, &characters) {
            true => Unit::NatsPerToken,
            false => Unit::NatsPerTokenOfTokenised,
        };
        let figure = |unit: Unit, measured| estimate.figure_of(&self.name, unit.name(), measured);
        let mut figures: Vec<Figure> = vec![figure(per_token, estimate.nats_per_token())];
        figures.extend(self.by_document.then(|| figure(Unit::Nats, estimate.total_nats())));
        Evaluation { figures, sequences: self.each(&characters) }
    }

    fn estimate<K: Meaning>(&self) -> Estimate<K> {
        let of = |number: fn(&ItemValue) -> f64| self.values.iter().map(number).collect();
        let tokens = self.values.iter().map(|value| value.tokens).collect();
        Estimate::new(of(|value| value.nats), of(|value| value.draw_error), tokens, self.evaluations)
    }

    /// Characters of each; none where one of them stands for none in particular.
    fn characters(&self) -> Vec<u64> {
        self.values.iter().map(|value| value.characters).collect::<Option<_>>().unwrap_or_default()
    }

    fn each(&self, characters: &[u64]) -> Vec<SequenceValue> {
        let value = |(s, value): (usize, &ItemValue)| SequenceValue {
            index: value.index as usize,
            nats: value.nats,
            draw_error: Some(value.draw_error).filter(|error| error.is_finite()),
            tokens: value.tokens,
            characters: characters.get(s).copied(),
        };
        self.values.iter().enumerate().map(value).collect()
    }
}

/// Whether the text can be had again from its tokens; what is no text always can.
fn is_lossless(subject: &Subject, characters: &[u64]) -> bool {
    subject.text().is_none() || !characters.is_empty()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_value_is_read_as_it_was_written() {
        let nan = f64::from_bits(0x7ff8_0000_0000_0123);
        for (nats, draw_error, characters) in
            [(0.1, nan, None), (f64::INFINITY, 0.0, Some(7)), (-0.0, f64::MIN_POSITIVE / 2.0, Some(0))]
        {
            let value = ItemValue { index: 5, nats, draw_error, tokens: 3, characters, sequences: 2 };
            let bytes = value.to_bytes();
            let mut fields = Fields::new(&bytes, Path::new("a.part"));
            let read = ItemValue::read(&mut fields).unwrap();
            fields.end().unwrap();
            assert_eq!(read.to_bytes(), bytes);
            assert_eq!(read.nats.to_bits(), nats.to_bits());
            assert_eq!(read.draw_error.to_bits(), draw_error.to_bits());
            assert_eq!((read.characters, read.sequences), (characters, 2));
        }
    }
}
