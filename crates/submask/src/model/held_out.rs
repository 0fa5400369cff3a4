//! What a model is evaluated on.

use super::config::ModelConfig;
use crate::data::image::ImageSet;
use crate::data::{Density, PairSequence, ValidationBlock};
use crate::random::{Draws, Purpose};
use crate::{Error, Result};

/// Sequences that are evaluated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeldOut {
    /// Tokens [n, L], row by row.
    pub x_0: Vec<u32>,
    /// Tokens per sequence L.
    pub seq_len: usize,
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
    /// Blocks of text, which all have the same length.
    pub fn of_text(blocks: &[ValidationBlock]) -> Self {
        Self {
            x_0: blocks.iter().flat_map(|block| block.tokens.iter().copied()).collect(),
            seq_len: blocks.first().map_or(0, |block| block.tokens.len()),
            labels: Vec::new(),
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
            labels: Vec::new(),
            characters: characters.unwrap_or_default(),
            given: pairs.iter().map(|pair| pair.given).collect(),
            counted: pairs.iter().map(|pair| pair.counted).collect(),
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
        check_classes(set, config)?;
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
        self.x_0.len() / self.seq_len.max(1)
    }

    /// Whether there is nothing to evaluate.
    pub fn is_empty(&self) -> bool {
        self.x_0.is_empty()
    }

    /// At most `count` of the sequences, spread evenly over them; 0: all.
    pub(crate) fn spread(&self, count: u64) -> Self {
        let (all, len) = (self.len(), self.seq_len);
        let count = if count == 0 { all } else { (count as usize).min(all) };
        let places: Vec<usize> = (0..count).map(|i| i * all / count).collect();
        Self {
            x_0: places.iter().flat_map(|&s| self.x_0[s * len..(s + 1) * len].iter().copied()).collect(),
            seq_len: len,
            labels: places.iter().filter_map(|&s| self.labels.get(s).copied()).collect(),
            characters: places.iter().filter_map(|&s| self.characters.get(s).copied()).collect(),
            given: places.iter().filter_map(|&s| self.given.get(s).copied()).collect(),
            counted: places.iter().filter_map(|&s| self.counted.get(s).copied()).collect(),
        }
    }

    /// Which sub-tokens are given, [n, L·ℓ]; `None` where none is.
    ///
    /// # Errors
    /// [`Error::Invalid`] where there is not one number of given tokens, and of counted ones, per sequence.
    pub(crate) fn given_digits(&self, subtoken_len: usize) -> Result<Option<Vec<bool>>> {
        let lists = [("given", self.given.len()), ("counted", self.counted.len())];
        if let Some((field, given)) = lists.into_iter().find(|(_, len)| *len != 0 && *len != self.len()) {
            return Err(Error::invalid(field, given, format!("one for each of {} sequences", self.len())));
        }
        let own = |given: &usize| {
            let given = given.saturating_mul(subtoken_len);
            (0..self.seq_len * subtoken_len).map(move |digit| digit < given)
        };
        Ok((!self.given.is_empty()).then(|| self.given.iter().flat_map(own).collect()))
    }

    /// The same sequences class by class, those of classes from `classes` on left out, and where each stood.
    pub(super) fn by_class(&self, classes: usize) -> (Self, Vec<usize>) {
        let (mut sorted, mut places) = (Self { seq_len: self.seq_len, ..Self::default() }, Vec::new());
        for class in 0..classes {
            let all = self.x_0.chunks(self.seq_len.max(1)).zip(&self.labels).enumerate();
            for (place, (own, label)) in all.filter(|(_, (_, label))| **label == class) {
                sorted.x_0.extend_from_slice(own);
                sorted.labels.push(*label);
                places.push(place);
            }
        }
        (sorted, places)
    }
}

/// A network that reads classes is told those of the images, which must be its own. Where one side has numbers for
/// names, as IDX files and imported models do, there must be no more classes than the network knows.
fn check_classes(set: &ImageSet, config: &ModelConfig) -> Result<()> {
    let (Some(_), ours, theirs) = (config.classes(), config.subject.class_names(), set.class_names()) else {
        return Ok(());
    };
    let numbered = |names: &[String]| names.iter().enumerate().all(|(i, name)| *name == i.to_string());
    let by_number = !theirs.is_empty() && theirs.len() <= ours.len() && (numbered(ours) || numbered(theirs));
    if theirs == ours || by_number {
        return Ok(());
    }
    let given = if theirs.is_empty() { "none".to_owned() } else { theirs.join(", ") };
    Err(Error::invalid("labels", given, format!("the classes that the model reads: {}", ours.join(", "))))
}
