//! The computation.

use std::collections::HashMap;
use std::path::Path;

use burn::tensor::activation::relu;
use burn::tensor::module::{avg_pool2d, conv2d, max_pool2d};
use burn::tensor::ops::{AvgPoolOptions, ConvOptions, MaxPoolOptions};
use burn::tensor::{Device, Tensor, TensorData};

use super::layers::layers;
use super::resize::SIDE;
use super::weights::{RawWeights, check, folded};
use super::{DIMENSION, InceptionWeights};
use crate::Result;

/// A convolution with its norm folded in.
#[derive(Clone, Debug)]
struct Convolution {
    kernel: Tensor<4>,
    bias: Tensor<1>,
    options: ConvOptions<2>,
}

/// The layers on a device.
#[derive(Clone, Debug)]
pub(super) struct Network {
    weights: InceptionWeights,
    convolutions: HashMap<String, Convolution>,
    /// Weight of the classifier, [2048, classes].
    classifier: Tensor<2>,
    /// [1, classes]; none with the FID weights.
    bias: Option<Tensor<2>>,
    device: Device,
}

/// How the pooling branch of a block pools.
#[derive(Clone, Copy, PartialEq)]
enum Pooling {
    Mean,
    Maximum,
}

impl Network {
    pub fn new(
        weights: InceptionWeights,
        mut raw: RawWeights,
        source: &Path,
        device: &Device,
    ) -> Result<Self> {
        check(&raw, weights, source)?;
        let tensor = |values: Vec<f32>| {
            let count = values.len();
            Tensor::<1>::from_data(TensorData::new(values, [count]), device)
        };
        let mut convolutions = HashMap::new();
        for layer in layers() {
            let (kernel, bias) = folded(&mut raw, &layer);
            let [height, width] = layer.kernel;
            let padding = if layer.padded { [height / 2, width / 2] } else { [0, 0] };
            let convolution = Convolution {
                kernel: tensor(kernel).reshape([layer.outer, layer.inner, height, width]),
                bias: tensor(bias),
                options: ConvOptions::new([layer.stride; 2], padding, [1, 1], 1),
            };
            convolutions.insert(layer.name, convolution);
        }
        let classes = weights.classes();
        let mut take = |name: &str| raw.remove(name).map(|(_, values)| values).unwrap_or_default();
        let classifier = tensor(take("fc.weight")).reshape([classes, DIMENSION]).transpose();
        let bias = match weights {
            InceptionWeights::Fid => None,
            InceptionWeights::Torchvision => Some(tensor(take("fc.bias")).reshape([1, classes])),
        };
        Ok(Self { weights, convolutions, classifier, bias, device: device.clone() })
    }

    /// Features [N, 2048] and logits [N, classes] of `input` [N, 3, 299, 299].
    pub fn forward(&self, input: Vec<f32>, count: usize) -> (Vec<f32>, Vec<f32>) {
        let shape = [count, 3, SIDE, SIDE];
        let x = Tensor::<4>::from_data(TensorData::new(input, shape), &self.device);
        let x = self.stem(x);
        let x = ["Mixed_5b", "Mixed_5c", "Mixed_5d"].iter().fold(x, |x, name| self.block_a(name, x));
        let x = self.block_b("Mixed_6a", x);
        let x =
            ["Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"].iter().fold(x, |x, name| self.block_c(name, x));
        let x = self.block_d("Mixed_7a", x);
        let x = self.block_e("Mixed_7b", Pooling::Mean, x);
        let last = match self.weights {
            InceptionWeights::Fid => Pooling::Maximum,
            InceptionWeights::Torchvision => Pooling::Mean,
        };
        let x = self.block_e("Mixed_7c", last, x);
        let [_, _, height, width] = x.dims();
        let features = x.reshape([count, DIMENSION, height * width]).mean_dim(2).reshape([count, DIMENSION]);
        let mut logits = features.clone().matmul(self.classifier.clone());
        if let Some(bias) = &self.bias {
            logits = logits + bias.clone();
        }
        let numbers = |tensor: Tensor<2>| tensor.into_data().iter::<f32>().collect();
        (numbers(features), numbers(logits))
    }

    /// [N, 3, 299, 299] to [N, 192, 35, 35].
    fn stem(&self, x: Tensor<4>) -> Tensor<4> {
        let x = self.chain("", &["Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3"], x);
        let x = self.chain("", &["Conv2d_3b_1x1", "Conv2d_4a_3x3"], halve(x));
        halve(x)
    }

    /// To [N, 224 + pool, 35, 35].
    fn block_a(&self, name: &str, x: Tensor<4>) -> Tensor<4> {
        Tensor::cat(
            vec![
                self.chain(name, &["branch1x1"], x.clone()),
                self.chain(name, &["branch5x5_1", "branch5x5_2"], x.clone()),
                self.chain(name, &["branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3"], x.clone()),
                self.chain(name, &["branch_pool"], self.pool(Pooling::Mean, x)),
            ],
            1,
        )
    }

    /// To [N, 768, 17, 17].
    fn block_b(&self, name: &str, x: Tensor<4>) -> Tensor<4> {
        Tensor::cat(
            vec![
                self.chain(name, &["branch3x3"], x.clone()),
                self.chain(name, &["branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3"], x.clone()),
                halve(x),
            ],
            1,
        )
    }

    /// [N, 768, 17, 17] to the same.
    fn block_c(&self, name: &str, x: Tensor<4>) -> Tensor<4> {
        let double =
            ["branch7x7dbl_1", "branch7x7dbl_2", "branch7x7dbl_3", "branch7x7dbl_4", "branch7x7dbl_5"];
        Tensor::cat(
            vec![
                self.chain(name, &["branch1x1"], x.clone()),
                self.chain(name, &["branch7x7_1", "branch7x7_2", "branch7x7_3"], x.clone()),
                self.chain(name, &double, x.clone()),
                self.chain(name, &["branch_pool"], self.pool(Pooling::Mean, x)),
            ],
            1,
        )
    }

    /// To [N, 1280, 8, 8].
    fn block_d(&self, name: &str, x: Tensor<4>) -> Tensor<4> {
        let long = ["branch7x7x3_1", "branch7x7x3_2", "branch7x7x3_3", "branch7x7x3_4"];
        Tensor::cat(
            vec![
                self.chain(name, &["branch3x3_1", "branch3x3_2"], x.clone()),
                self.chain(name, &long, x.clone()),
                halve(x),
            ],
            1,
        )
    }

    /// To [N, 2048, 8, 8].
    fn block_e(&self, name: &str, pooling: Pooling, x: Tensor<4>) -> Tensor<4> {
        let single = self.chain(name, &["branch3x3_1"], x.clone());
        let double = self.chain(name, &["branch3x3dbl_1", "branch3x3dbl_2"], x.clone());
        Tensor::cat(
            vec![
                self.chain(name, &["branch1x1"], x.clone()),
                self.chain(name, &["branch3x3_2a"], single.clone()),
                self.chain(name, &["branch3x3_2b"], single),
                self.chain(name, &["branch3x3dbl_3a"], double.clone()),
                self.chain(name, &["branch3x3dbl_3b"], double),
                self.chain(name, &["branch_pool"], self.pool(pooling, x)),
            ],
            1,
        )
    }

    /// Convolutions of one block, each followed by max(0, x).
    fn chain(&self, block: &str, names: &[&str], x: Tensor<4>) -> Tensor<4> {
        names.iter().fold(x, |x, name| {
            let name = if block.is_empty() { (*name).to_owned() } else { format!("{block}.{name}") };
            let Convolution { kernel, bias, options } = &self.convolutions[&name];
            relu(conv2d(x, kernel.clone(), Some(bias.clone()), options.clone()))
        })
    }

    /// Over 3 × 3 places, the size kept.
    fn pool(&self, pooling: Pooling, x: Tensor<4>) -> Tensor<4> {
        if pooling == Pooling::Maximum {
            return max_pool2d(x, MaxPoolOptions::new([3, 3]).with_stride([1, 1]).with_padding([1, 1]));
        }
        let with_border = self.weights == InceptionWeights::Torchvision;
        let options = AvgPoolOptions::new([3, 3]).with_stride([1, 1]).with_padding([1, 1]);
        avg_pool2d(x, options.with_count_include_pad(with_border))
    }
}

/// The maximum over 3 × 3 places at every other place.
fn halve(x: Tensor<4>) -> Tensor<4> {
    max_pool2d(x, MaxPoolOptions::new([3, 3]).with_stride([2, 2]))
}
