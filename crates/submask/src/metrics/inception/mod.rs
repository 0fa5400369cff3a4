//! Inception-v3 as a feature network (Szegedy et al., *Rethinking the Inception architecture for computer vision*, arXiv
//! 1512.00567): 2048 features of an image after the last mean over places, and the class logits.
//!
//! The weights come from a file with torchvision's names (`Conv2d_1a_3x3.conv.weight`, …, `fc.bias`). There are two sets
//! in use, told apart by the number of classes of `fc`:
//!
//! | [`InceptionWeights`] | classes | weights | network |
//! |---|---|---|---|
//! | `Fid` | 1008 | `pt_inception-2015-12-05`, TensorFlow's Inception of 2015 as pytorch-fid and torch-fidelity publish it | borders do not count in mean pooling; the last block takes the maximum in its pooling branch |
//! | `Torchvision` | 1000 | torchvision's `Inception_V3_Weights.IMAGENET1K_V1` | as torchvision has it |
//!
//! Only the first give what is called FID. Images are resized to 299 × 299 as [`Preprocessing`] says.

mod layers;
mod network;
mod resize;
mod weights;

use std::path::Path;

use burn::tensor::Device;

use crate::compute::Compute;
use crate::data::image::ImageShape;
use crate::metrics::frechet::FeatureSpace;
use crate::{Error, Result};
use network::Network;
use weights::{RawWeights, classes_of, read};

pub use layers::parameters;

/// Numbers in a feature vector.
pub const DIMENSION: usize = 2048;

/// Which weights a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InceptionWeights {
    /// `pt_inception-2015-12-05`: those of FID.
    Fid,
    /// torchvision's `IMAGENET1K_V1`.
    Torchvision,
}

impl InceptionWeights {
    /// Outputs of `fc`.
    pub fn classes(self) -> usize {
        match self {
            Self::Fid => 1008,
            Self::Torchvision => 1000,
        }
    }
}

/// How images of tokens 0..=255 become the network's input. The two known programs differ, and so do their figures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Preprocessing {
    /// pytorch-fid: token/255, bilinear with pixel centres at halves, no smoothing when shrinking, then 2x − 1.
    #[default]
    PytorchFid,
    /// torch-fidelity: bilinear as TensorFlow 1 has it, place i of 299 being i·size/299, then (x − 128)/128.
    TorchFidelity,
}

/// The network with its weights, on a device.
#[derive(Clone, Debug)]
pub struct Inception {
    weights: InceptionWeights,
    preprocessing: Preprocessing,
    network: Network,
}

/// What the network says of N images.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct InceptionOutput {
    /// Pooled features, image by image, [N, 2048].
    pub features: Vec<f32>,
    /// [N, classes]. With the FID weights without `fc.bias`, as the original Inception Score and torch-fidelity have
    /// it; with torchvision's weights the classifier's logits.
    pub logits: Vec<f32>,
}

impl Inception {
    /// Reads the weights: safetensors, or a file of `torch.save` with a state dict. Those of the auxiliary classifier
    /// (`AuxLogits.…`) and `num_batches_tracked` are not needed and not read.
    ///
    /// # Errors
    /// [`Error::Io`] and [`Error::Format`] naming the file and the weights that are missing, of another shape, or of no
    /// layer; [`Error::Invalid`] for torch-fidelity's preprocessing with torchvision's weights, which nobody uses.
    pub fn load(path: &Path, preprocessing: Preprocessing, compute: &Compute) -> Result<Self> {
        Self::of(read(path)?, path, preprocessing, compute.device())
    }

    fn of(raw: RawWeights, source: &Path, preprocessing: Preprocessing, device: &Device) -> Result<Self> {
        let weights = classes_of(&raw, source)?;
        if (weights, preprocessing) == (InceptionWeights::Torchvision, Preprocessing::TorchFidelity) {
            let allowed = "PytorchFid with torchvision's weights (1000 classes)";
            return Err(Error::invalid("preprocessing", "TorchFidelity", allowed));
        }
        let network = Network::new(weights, raw, source, device)?;
        Ok(Self { weights, preprocessing, network })
    }

    /// Which weights these are.
    pub fn weights(&self) -> InceptionWeights {
        self.weights
    }

    /// What the features are.
    pub fn space(&self) -> FeatureSpace {
        match (self.weights, self.preprocessing) {
            (InceptionWeights::Torchvision, _) => FeatureSpace::InceptionTorchvision,
            (InceptionWeights::Fid, Preprocessing::PytorchFid) => FeatureSpace::InceptionFid,
            (InceptionWeights::Fid, Preprocessing::TorchFidelity) => FeatureSpace::InceptionFidTf1,
        }
    }

    /// The features and logits of images `tokens` [N, L] of one shape; grey ones are taken as three equal channels.
    /// `progress` is told the number of images done.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an image of other than 1 or 3 channels, or tokens that are no whole images.
    pub fn run(
        &self,
        tokens: &[u8],
        shape: ImageShape,
        progress: &mut dyn FnMut(usize),
    ) -> Result<InceptionOutput> {
        super::image::check(tokens, shape)?;
        let mut output = InceptionOutput::default();
        // One at a time: the tensor library's sums are in another order for other numbers of images, and what is said of an image
        // is not to depend on those beside it.
        for (done, image) in (1..).zip(tokens.chunks(shape.tokens())) {
            let (features, logits) =
                self.network.forward(resize::resize(image, shape, self.preprocessing), 1);
            output.features.extend(features);
            output.logits.extend(logits);
            progress(done);
        }
        Ok(output)
    }
}

#[cfg(test)]
mod tests;
