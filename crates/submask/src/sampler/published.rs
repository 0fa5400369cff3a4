//! The published settings of the method's image samplers (arXiv 2505.18495 and its published tables).

use serde::Deserialize;

use super::draw::Draw;
use super::sampling::{Sampling, Temperature};
use crate::schedule::{Schedule, TemperatureSchedule, TimeWarp};
use crate::{Error, Result};

const TABLE: &str = include_str!("published.toml");

/// How the colours of a pixel become tokens and sub-tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PixelTokens {
    /// A colour channel is a token of C = 256 classes, written as ℓ sub-tokens.
    Channels {
        /// Sub-tokens per token ℓ.
        subtoken_len: usize,
    },
    /// Two tokens of C = 4096 classes per pixel, ℓ = 1: "ℓ = 2/3" sub-tokens per channel
    /// ([`super_tokens`](crate::data::image::super_tokens)).
    SuperTokens,
}

/// A published setting of an image sampler, with the quality that it is published with.
#[derive(Clone, Debug, PartialEq)]
pub struct PublishedSampler {
    /// `DATA-MODEL-lL-nfeN`, for instance `cifar10-prime-l2-nfe512`; super-tokens are `l2-3`.
    pub name: String,
    /// `cifar10` or `imagenet32`.
    pub data: String,
    /// `prime`, or `mdm`: the ordinary masked model, ℓ = 1.
    pub model: String,
    /// Tokens and sub-tokens.
    pub tokens: PixelTokens,
    /// Passes over the training images of the published network.
    pub epochs: u32,
    /// Published FID of 50,000 samples of that network.
    pub fid: f64,
    /// The sampler's settings; its `steps` are the published number of evaluations. A published corrector of zeros is
    /// taken as it stands: κ = 0, with the jumps that remain.
    pub sampling: Sampling,
}

impl PublishedSampler {
    /// The noise schedule of the published network: α = (1 − t)³, with super-tokens (1 − t)².
    pub fn schedule(&self) -> Schedule {
        match self.tokens {
            PixelTokens::Channels { .. } => Schedule::Polynomial { exponent: 3.0 },
            PixelTokens::SuperTokens => Schedule::Polynomial { exponent: 2.0 },
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    network: Vec<Network>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Network {
    data: String,
    model: String,
    subtokens: String,
    epochs: u32,
    draw: Draw,
    samplers: Vec<Row>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    nfe: usize,
    fid: f64,
    temperature: TemperatureSchedule,
    corrector: [f64; 3],
    warp: TimeWarp,
}

impl Network {
    fn samplers(&self) -> Result<Vec<PublishedSampler>> {
        let tokens = match (self.subtokens.as_str(), self.subtokens.parse()) {
            ("2/3", _) => PixelTokens::SuperTokens,
            (_, Ok(subtoken_len)) => PixelTokens::Channels { subtoken_len },
            _ => return Err(Error::invalid("subtokens", &self.subtokens, "a whole number or 2/3")),
        };
        let sampler = |row: &Row| PublishedSampler {
            name: format!(
                "{}-{}-l{}-nfe{}",
                self.data,
                self.model,
                self.subtokens.replace('/', "-"),
                row.nfe
            ),
            data: self.data.clone(),
            model: self.model.clone(),
            tokens,
            epochs: self.epochs,
            fid: row.fid,
            sampling: Sampling {
                steps: row.nfe,
                draw: self.draw,
                temperature: Temperature::Schedule(row.temperature),
                warp: row.warp,
                corrector: Some(row.corrector.into()),
                ..Sampling::default()
            },
        };
        Ok(self.samplers.iter().map(sampler).collect())
    }
}

/// All published settings.
///
/// # Errors
/// [`Error::Invalid`] where the built-in table is broken, which a test excludes.
pub fn published_samplers() -> Result<Vec<PublishedSampler>> {
    let table: Table = toml::from_str(TABLE)
        .map_err(|error| Error::invalid("published samplers", error.message(), "the built-in table"))?;
    let of_networks: Vec<Vec<PublishedSampler>> =
        table.network.iter().map(Network::samplers).collect::<Result<_>>()?;
    Ok(of_networks.into_iter().flatten().collect())
}

/// The published setting of a name.
///
/// # Errors
/// [`Error::Invalid`] for a name that none has, with all names.
pub fn published_sampler(name: &str) -> Result<PublishedSampler> {
    let all = published_samplers()?;
    let names = all.iter().map(|sampler| sampler.name.as_str()).collect::<Vec<_>>().join(", ");
    let found = all.iter().find(|sampler| sampler.name == name).cloned();
    found.ok_or_else(|| Error::invalid("sampler", name, names))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sampler_has_a_name_of_its_own_and_valid_settings() {
        let all = published_samplers().unwrap();
        let mut names: Vec<&str> = all.iter().map(|sampler| sampler.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!((names.len(), all.len()), (38, 38));
        for sampler in &all {
            sampler.sampling.validate().unwrap();
            sampler.sampling.settings(sampler.schedule()).unwrap();
        }
    }

    #[test]
    fn samplers_are_found_by_name() {
        let best = published_sampler("cifar10-prime-l2-nfe512").unwrap();
        assert_eq!((best.fid, best.epochs, best.sampling.draw), (3.26, 4250, Draw::Marginal));
        assert_eq!(best.tokens, PixelTokens::Channels { subtoken_len: 2 });
        assert_eq!(best.sampling.warp, TimeWarp::from([1.0, 1.7, 0.0]));
        let super_tokens = published_sampler("imagenet32-prime-l2-3-nfe128").unwrap();
        assert_eq!(super_tokens.tokens, PixelTokens::SuperTokens);
        assert_eq!(super_tokens.schedule(), Schedule::Polynomial { exponent: 2.0 });
        let error = published_sampler("cifar10-prime-l5-nfe512").unwrap_err().to_string();
        assert!(error.contains("cifar10-mdm-l1-nfe256"), "{error}");
    }
}
