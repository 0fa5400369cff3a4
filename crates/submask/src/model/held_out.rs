//! What a model is evaluated on.

use super::config::ModelConfig;
use crate::data::image::ImageSet;
use crate::data::{Density, ValidationBlock};
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
        Ok(Self { x_0: image.tokens_of(x_0)?, seq_len: config.seq_len(), labels, characters: Vec::new() })
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
        }
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
