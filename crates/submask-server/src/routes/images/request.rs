//! What `/v1/images` takes and answers.

use serde::{Deserialize, Serialize};
use submask::order::Order;
use submask::predictive::Nucleus;
use submask::sampler::{Draw, RevealUnit};
use utoipa::ToSchema;

use crate::common::Usage;
use crate::sampling::{CorrectorField, LabelField, SamplingFields, TemperatureField};

/// Images to be drawn, or filled in. Fields that are absent or null have their defaults; those of sampling are the model's own.
#[derive(Clone, Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ImagesRequest {
    /// Name of the model.
    pub model: String,
    /// How many images, 1 unless given.
    #[serde(default)]
    pub n: Option<usize>,
    /// Seed of all draws. Absent: one is drawn, and told.
    #[serde(default)]
    pub seed: Option<u64>,
    /// Number of the first image under the seed, 0 unless given.
    #[serde(default)]
    pub first_sequence: Option<u64>,
    /// Class: its name, its number, or `mixture`. Absent: equally many of all classes.
    #[serde(default)]
    pub label: Option<LabelField>,
    /// A published sampler by name, which the other fields change.
    #[serde(default)]
    pub sampler: Option<String>,
    /// Order in which masked units are revealed: `random`, `left-to-right`, `confidence`, `margin` or `entropy`.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub order: Option<Order>,
    /// What is revealed at once: `digits` or `tokens`.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub unit: Option<RevealUnit>,
    /// Steps of the time grid; 0 is first-hitting, without a grid.
    #[serde(default)]
    pub steps: Option<usize>,
    /// Units revealed per network evaluation, with an order other than `random`.
    #[serde(default)]
    pub per_step: Option<usize>,
    /// How the digits of a token are drawn: `joint` or `marginal`.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub draw: Option<Draw>,
    /// Temperature.
    #[serde(default)]
    pub temperature: Option<TemperatureField>,
    /// Mass of the most probable tokens that are kept, in (0, 1].
    #[serde(default)]
    pub top_p: Option<f64>,
    /// Most probable tokens that are kept; 0 keeps all.
    #[serde(default)]
    pub top_k: Option<usize>,
    /// Whether the token with which the sum crosses `top_p` is kept: `inclusive` or `exclusive`.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub nucleus: Option<Nucleus>,
    /// Warp [a, n, c] of the time grid.
    #[serde(default)]
    pub warp: Option<[f64; 3]>,
    /// Corrector.
    #[serde(default)]
    pub corrector: Option<CorrectorField>,
    /// Whether tokens that contradict a visible digit are excluded.
    #[serde(default)]
    pub carry_over: Option<bool>,
    /// A PNG of the model's size in base64, of which `mask` says what is kept.
    #[serde(default)]
    pub image: Option<String>,
    /// A PNG of the model's size in base64: what is white in it is drawn anew, the rest of `image` is kept.
    #[serde(default)]
    pub mask: Option<String>,
    /// How images are written: `png`.
    #[serde(default)]
    pub format: Option<ImageFormat>,
    /// Size of a pixel of the image in the picture, 1 unless given.
    #[serde(default)]
    pub scale: Option<u32>,
    /// Whether partial pictures are sent while images resolve.
    #[serde(default)]
    pub stream: Option<bool>,
}

/// How images are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ImageFormat {
    /// PNG.
    Png,
}

impl ImagesRequest {
    /// How they are sampled.
    pub fn sampling(&self) -> SamplingFields {
        SamplingFields {
            order: self.order,
            unit: self.unit,
            steps: self.steps,
            per_step: self.per_step,
            draw: self.draw,
            temperature: self.temperature,
            top_p: self.top_p,
            top_k: self.top_k,
            nucleus: self.nucleus,
            warp: self.warp,
            corrector: self.corrector,
            carry_over: self.carry_over,
            sampler: self.sampler.clone(),
            label: self.label.clone(),
            ..SamplingFields::default()
        }
    }
}

/// Images.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct ImagesAnswer {
    /// When the answer was begun, in seconds of Unix.
    pub created: u64,
    /// Name of the model.
    pub model: String,
    /// Seed of all draws.
    pub seed: u64,
    /// The images.
    pub data: Vec<ImageData>,
    /// What they cost.
    pub usage: Usage,
}

/// An image.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub struct ImageData {
    /// A PNG in base64.
    pub b64_json: String,
    /// Number of the image.
    pub index: usize,
}

/// How much is known of an image. Its values are the tokens of the model, usually one per pixel and channel. `given`, `masked`,
/// `partial` and `clean` add up to all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, ToSchema)]
pub struct Known {
    /// Share of the digits that are known, the given ones included, from 0 to 1.
    #[serde(rename = "known")]
    pub share: f64,
    /// Values that are given whole.
    pub given: usize,
    /// Values of which no digit is known.
    pub masked: usize,
    /// Values of which some digits are known.
    pub partial: usize,
    /// Values of which all digits are known and that are not given.
    pub clean: usize,
}

impl Known {
    /// Counts the digits `y` of an image, [L·ℓ], that has `given` whole values.
    pub fn of(y: &[u32], subtoken_len: usize, mask_id: u32, given: usize) -> Self {
        let (mut digits, mut known) = (0, Self { given, ..Self::default() });
        for value in y.chunks(subtoken_len) {
            let visible = value.iter().filter(|digit| **digit != mask_id).count();
            digits += visible;
            match visible {
                0 => known.masked += 1,
                _ if visible == value.len() => known.clean += 1,
                _ => known.partial += 1,
            }
        }
        // What is given never changes.
        known.clean -= given;
        known.share = digits as f64 / y.len().max(1) as f64;
        known
    }
}

/// An event of a stream.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum ImageEvent {
    /// An image begins.
    Started {
        /// Its number.
        choice: usize,
        /// Most network evaluations that it takes.
        evaluations_at_most: u64,
        /// What is given.
        #[serde(flatten)]
        known: Known,
        /// A PNG in base64 of what is given, all else being the mean colour.
        b64_json: String,
    },
    /// What is known of an image.
    Picture {
        /// Its number.
        choice: usize,
        /// Network evaluations so far.
        evaluation: u64,
        /// How much is known.
        #[serde(flatten)]
        known: Known,
        /// A PNG in base64, every colour being the mean of those that agree with what is known.
        b64_json: String,
    },
    /// An image is complete.
    Finished {
        /// Its number.
        choice: usize,
        /// A PNG in base64.
        b64_json: String,
        /// What it cost.
        usage: Usage,
    },
    /// All images are complete.
    Done {
        /// Seed of all draws.
        seed: u64,
        /// What they cost together.
        usage: Usage,
    },
}
