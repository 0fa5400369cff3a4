//! What a model is evaluated on.

use std::borrow::Cow;

use super::config::ModelConfig;
use crate::data::hash::Fingerprint;
use crate::data::image::ImageSet;
use crate::data::{Density, PairSequence, ValidationBlock};
use crate::likelihood::Sequences;
use crate::random::{Draws, Purpose};
use crate::shard::Shard;
use crate::{Error, Result};

/// Sequences that are evaluated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeldOut {
    /// Tokens of all sequences, one after the other: [n, L] where they have one length.
    pub x_0: Vec<u32>,
    /// Tokens per sequence L.
    pub seq_len: usize,
    /// Tokens of every sequence, \[n\], where they differ; empty where all have L.
    pub lengths: Vec<usize>,
    /// Classes \[n\]; empty where there are none.
    pub labels: Vec<usize>,
    /// Characters of text that every sequence stands for, \[n\]; empty where sequences are no text, or stand for none in
    /// particular, since a document does not decode to itself.
    pub characters: Vec<u64>,
    /// How many tokens at the beginning of every sequence are given and not charged, \[n\]; empty where nothing is given.
    pub given: Vec<usize>,
    /// By how many tokens the value of every sequence is divided, \[n\]; empty where by all that are charged. It is not empty
    /// for pairs, whose sequences are filled: values are then upper bounds for the completions.
    pub counted: Vec<u64>,
}

impl HeldOut {
    /// Blocks of text: of one length, but for a last one that may be shorter.
    pub fn of_text(blocks: &[ValidationBlock]) -> Self {
        let lengths: Vec<usize> = blocks.iter().map(|block| block.tokens.len()).collect();
        let is_one_length = lengths.windows(2).all(|pair| pair[0] == pair[1]);
        Self {
            x_0: blocks.iter().flat_map(|block| block.tokens.iter().copied()).collect(),
            seq_len: lengths.first().copied().unwrap_or(0),
            lengths: if is_one_length { Vec::new() } else { lengths },
            characters: blocks
                .iter()
                .map(|block| block.characters)
                .collect::<Option<_>>()
                .unwrap_or_default(),
            ..Self::default()
        }
    }

    /// Prompts with their completions, which all have the same length. Completions and what fills the sequences are charged;
    /// tokens are counted up to the first end of text.
    pub fn of_pairs(pairs: &[PairSequence]) -> Self {
        let characters = pairs.iter().map(|pair| pair.characters).collect::<Option<_>>();
        Self {
            x_0: pairs.iter().flat_map(|pair| pair.tokens.iter().copied()).collect(),
            seq_len: pairs.first().map_or(0, |pair| pair.tokens.len()),
            characters: characters.unwrap_or_default(),
            given: pairs.iter().map(|pair| pair.given).collect(),
            counted: pairs.iter().map(|pair| pair.counted).collect(),
            ..Self::default()
        }
    }

    /// `count` images of a set spread evenly over it, as the tokens of a model; 0: all.
    ///
    /// # Errors
    /// [`Error::Invalid`] for images that are not of the model's shape, or of other classes than a network that reads
    /// them knows.
    pub fn of_images(set: &ImageSet, config: &ModelConfig, count: u64) -> Result<Self> {
        let image = config.subject.image().filter(|image| image.shape() == set.shape()).ok_or_else(|| {
            let of_model = config.subject.image().map(|image| format!("{}, as the model", image.shape()));
            let allowed =
                of_model.unwrap_or_else(|| format!("none: the model is of {}", config.subject.name()));
            Error::invalid("images", set.shape(), allowed)
        })?;
        let set = &in_classes(set, config)?;
        let all = set.len();
        let count = if count == 0 { all } else { (count as usize).min(all) };
        let mut x_0 = Vec::with_capacity(count * set.shape().tokens());
        let mut labels = Vec::new();
        for index in (0..count).map(|i| i * all / count) {
            x_0.extend(set.tokens(index)?.iter().map(|byte| u32::from(*byte)));
            labels.extend(set.label(index));
        }
        Ok(Self { x_0: image.tokens_of(x_0)?, seq_len: config.seq_len(), labels, ..Self::default() })
    }

    /// `count` points of a distribution, one in each of `count` equal parts of it, so that their mean varies less.
    pub fn of_density(density: &Density, count: u64, seed: u64) -> Self {
        let draws = Draws::new(seed, Purpose::Split);
        let uniform = |n: u64| (n as f64 + draws.uniform(n, 0, 0)) / count as f64;
        let x_0 = (0..count).flat_map(|n| density.draw(uniform(n))).collect();
        Self { x_0, seq_len: super::subject::POINT_TOKENS, ..Self::default() }
    }

    /// Number of sequences n.
    pub fn len(&self) -> usize {
        match self.lengths.is_empty() {
            true => self.x_0.len() / self.seq_len.max(1),
            false => self.lengths.len(),
        }
    }

    /// Whether there is nothing to evaluate.
    pub fn is_empty(&self) -> bool {
        self.x_0.is_empty()
    }

    /// The sequences, for likelihoods; without their labels.
    ///
    /// # Errors
    /// [`Error::Invalid`] when there is none, or another number of tokens than their lengths say.
    pub fn sequences(&self) -> Result<Sequences<'_>> {
        match self.lengths.is_empty() {
            true => Sequences::new(&self.x_0, self.seq_len),
            false => Sequences::of_lengths(&self.x_0, &self.lengths),
        }
    }

    /// At most `count` of the sequences, spread evenly over them; 0: all.
    pub(crate) fn spread(&self, count: u64) -> Self {
        let all = self.len();
        let count = if count == 0 { all } else { (count as usize).min(all) };
        self.at(&(0..count).map(|i| i * all / count).collect::<Vec<_>>())
    }

    /// Which sub-tokens are given, of all sequences; `None` where none is.
    ///
    /// # Errors
    /// [`Error::Invalid`] where there is not one number of given tokens, and of counted ones, per sequence.
    pub(crate) fn given_digits(&self, subtoken_len: usize) -> Result<Option<Vec<bool>>> {
        let lists = [("given", self.given.len()), ("counted", self.counted.len())];
        if let Some((field, given)) = lists.into_iter().find(|(_, len)| *len != 0 && *len != self.len()) {
            return Err(Error::invalid(field, given, format!("one for each of {} sequences", self.len())));
        }
        let own = |(place, given): (usize, &usize)| {
            let len = self.lengths.get(place).copied().unwrap_or(self.seq_len);
            let given = given.saturating_mul(subtoken_len);
            (0..len * subtoken_len).map(move |digit| digit < given)
        };
        Ok((!self.given.is_empty()).then(|| self.given.iter().enumerate().flat_map(own).collect()))
    }

    /// A share of the sequences. For a network that reads `classes` they are taken class by class, those of classes from
    /// `classes` on left out: that is the order in which they are numbered and figures add them.
    pub fn share(&self, shard: Shard, classes: Option<usize>) -> HeldOutShare<'_> {
        let places = self.places(classes);
        if shard.is_whole() && classes.is_none() {
            return HeldOutShare { sequences: Cow::Borrowed(self), first: 0, places };
        }
        let range = shard.range(places.len());
        let (first, places) = (range.start as u64, places[range].to_vec());
        let mut sequences = self.at(&places);
        if classes.is_some() {
            sequences.characters = Vec::new();
        }
        HeldOutShare { sequences: Cow::Owned(sequences), first, places }
    }

    /// The same of sequences that are not needed any more.
    pub fn into_share(self, shard: Shard, classes: Option<usize>) -> HeldOutShare<'static> {
        let HeldOutShare { sequences, first, places } = self.share(shard, classes);
        let sequences = match sequences {
            Cow::Owned(some) => some,
            Cow::Borrowed(_) => self,
        };
        HeldOutShare { sequences: Cow::Owned(sequences), first, places }
    }

    /// Where the sequences stand that all shares have together, in their order.
    pub fn places(&self, classes: Option<usize>) -> Vec<usize> {
        match classes {
            None => (0..self.len()).collect(),
            Some(classes) => self.by_class(classes),
        }
    }

    /// A hash of everything in it.
    pub fn fingerprint(&self) -> u64 {
        let bytes = |numbers: &[usize]| -> Vec<u8> {
            numbers.iter().flat_map(|number| (*number as u64).to_le_bytes()).collect()
        };
        let counts = |numbers: &[u64]| -> Vec<u8> { numbers.iter().flat_map(|n| n.to_le_bytes()).collect() };
        let Self { x_0, seq_len, lengths, labels, characters, given, counted } = self;
        Fingerprint::new()
            .part(&x_0.iter().flat_map(|token| token.to_le_bytes()).collect::<Vec<_>>())
            .part(&bytes(&[*seq_len]))
            .part(&bytes(lengths))
            .part(&bytes(labels))
            .part(&counts(characters))
            .part(&bytes(given))
            .part(&counts(counted))
            .value()
    }

    /// Where the sequences of classes below `classes` stand, class by class.
    fn by_class(&self, classes: usize) -> Vec<usize> {
        let count = self.len().min(self.labels.len());
        let of_class = |class: usize| (0..count).filter(move |&place| self.labels[place] == class);
        (0..classes).flat_map(of_class).collect()
    }

    /// The sequences at these places.
    fn at(&self, places: &[usize]) -> Self {
        let starts: Vec<usize> = match self.lengths.is_empty() {
            true => (0..self.len()).map(|place| place * self.seq_len).collect(),
            false => {
                let sums = self.lengths.iter().scan(0, |next, len| {
                    *next += len;
                    Some(*next - len)
                });
                sums.collect()
            }
        };
        let length = |place: usize| self.lengths.get(place).copied().unwrap_or(self.seq_len);
        let tokens = |place: usize| &self.x_0[starts[place]..starts[place] + length(place)];
        Self {
            x_0: places.iter().flat_map(|&place| tokens(place).iter().copied()).collect(),
            seq_len: self.seq_len,
            lengths: places.iter().filter_map(|&place| self.lengths.get(place).copied()).collect(),
            labels: places.iter().filter_map(|&place| self.labels.get(place).copied()).collect(),
            characters: places.iter().filter_map(|&place| self.characters.get(place).copied()).collect(),
            given: places.iter().filter_map(|&place| self.given.get(place).copied()).collect(),
            counted: places.iter().filter_map(|&place| self.counted.get(place).copied()).collect(),
        }
    }
}

/// A share of the sequences that are evaluated, those from a number on.
#[derive(Clone, Debug)]
pub struct HeldOutShare<'a> {
    sequences: Cow<'a, HeldOut>,
    first: u64,
    places: Vec<usize>,
}

impl HeldOutShare<'_> {
    /// Sequences that were chosen as a share, of which the first has this number among all. A network that reads classes has
    /// shares by [`HeldOut::share`] only.
    pub fn from_number(first: u64, sequences: HeldOut) -> Self {
        let places = (0..sequences.len()).map(|place| first as usize + place).collect();
        Self { sequences: Cow::Owned(sequences), first, places }
    }

    /// The sequences.
    pub fn sequences(&self) -> &HeldOut {
        &self.sequences
    }

    /// The number of the first of them, by which draws are keyed.
    pub fn first(&self) -> u64 {
        self.first
    }

    /// Where each stood among all that were given, \[n\].
    pub fn places(&self) -> &[usize] {
        &self.places
    }
}

/// A network that reads classes is told those of the images, which must be its own: the set with the labels that the
/// model's classes have. Where one side has numbers for names, as IDX files and imported models do, there must be no more
/// classes than the network knows.
fn in_classes(set: &ImageSet, config: &ModelConfig) -> Result<ImageSet> {
    let (Some(_), ours, theirs) = (config.classes(), config.subject.class_names(), set.class_names()) else {
        return Ok(set.clone());
    };
    let numbered = |names: &[String]| names.iter().enumerate().all(|(i, name)| *name == i.to_string());
    let by_number = !theirs.is_empty() && theirs.len() <= ours.len() && (numbered(ours) || numbered(theirs));
    if theirs == ours || by_number {
        return Ok(set.clone());
    }
    if let Some(set) = set.with_classes(ours) {
        return Ok(set);
    }
    let given = if theirs.is_empty() { "none".to_owned() } else { theirs.join(", ") };
    Err(Error::invalid("labels", given, format!("the classes that the model reads: {}", ours.join(", "))))
}
