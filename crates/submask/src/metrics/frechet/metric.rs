//! What the Fréchet distance of some features may be called.

use std::fmt::{self, Display};

/// What features are, exactly: features of two different spaces do not compare, even with equally many numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeatureSpace {
    /// Means over cells, see [`crate::metrics::pixels`].
    Pixels,
    /// Inception-v3 with the FID weights, images resized as pytorch-fid does.
    InceptionFid,
    /// Inception-v3 with the FID weights, images resized as torch-fidelity does.
    InceptionFidTf1,
    /// Inception-v3 with torchvision's weights.
    InceptionTorchvision,
}

impl FeatureSpace {
    /// All of them.
    pub const ALL: [Self; 4] =
        [Self::Pixels, Self::InceptionFid, Self::InceptionFidTf1, Self::InceptionTorchvision];

    /// Its name in statistics files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pixels => "pixels",
            Self::InceptionFid => "inception_fid",
            Self::InceptionFidTf1 => "inception_fid_tf1",
            Self::InceptionTorchvision => "inception_torchvision",
        }
    }

    /// The space of that name.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|space| space.name() == name)
    }

    /// d, numbers a vector.
    pub fn dimension(self) -> usize {
        match self {
            Self::Pixels => 192,
            _ => 2048,
        }
    }

    /// What the Fréchet distance is called.
    pub fn frechet_metric(self) -> FrechetMetric {
        match self {
            Self::Pixels => FrechetMetric::Pixels,
            Self::InceptionFid | Self::InceptionFidTf1 => FrechetMetric::Fid,
            Self::InceptionTorchvision => FrechetMetric::InceptionTorchvision,
        }
    }
}

impl Display for FeatureSpace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Which Fréchet distance it is. Only the one of the FID Inception weights is FID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrechetMetric {
    /// FID, as published figures are.
    Fid,
    /// With torchvision's Inception weights: compares with itself only.
    InceptionTorchvision,
    /// With the pixel features: compares with itself only.
    Pixels,
}

impl FrechetMetric {
    /// The name to print.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fid => "fid",
            Self::InceptionTorchvision => "frechet_inception_torchvision",
            Self::Pixels => "frechet_pixels",
        }
    }
}

impl Display for FrechetMetric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_fid_weights_give_fid() {
        for space in FeatureSpace::ALL {
            assert_eq!(space.frechet_metric().name() == "fid", space.name().starts_with("inception_fid"));
            assert_eq!(FeatureSpace::of_name(space.name()), Some(space));
        }
        assert_eq!(FeatureSpace::of_name("vgg"), None);
    }
}
