//! The way down, the middle and the way up: which blocks there are, and what the way down hands over.

use burn::tensor::Tensor;

use super::Pass;
use super::attention::AttentionBlock;
use super::config::UnetConfig;
use super::layers::{double, halve};
use super::residual::ResidualBlock;
use crate::backbone::weights::Parameter;

/// A residual block, then attention where the level has it.
#[derive(Clone, Debug)]
struct Stage {
    residual: ResidualBlock,
    attention: Option<AttentionBlock>,
}

/// A step of the way down.
#[derive(Clone, Debug)]
enum Down {
    Stage(Stage),
    /// To half the resolution.
    Halve,
}

/// A step of the way up.
#[derive(Clone, Debug)]
struct Up {
    stage: Stage,
    /// Whether the resolution doubles afterwards.
    doubles: bool,
}

/// Everything between the embedding and the output.
#[derive(Clone, Debug)]
pub(super) struct Paths {
    down: Vec<Down>,
    /// A stage with attention, then a residual block.
    middle: (Stage, ResidualBlock),
    up: Vec<Up>,
}

/// Declares blocks one after the other.
struct Builder<'a> {
    config: &'a UnetConfig,
    /// Residual blocks declared so far.
    count: usize,
}

impl Builder<'_> {
    fn residual(&mut self, prefix: String, inner: usize, outer: usize) -> ResidualBlock {
        self.count += 1;
        ResidualBlock {
            prefix,
            inner,
            outer,
            cond_dim: self.config.cond_dim(),
            labelled: self.config.classes.is_some(),
            dropout_layer: self.count - 1,
        }
    }

    fn attention(&self, prefix: String, channels: usize, level: usize) -> AttentionBlock {
        AttentionBlock::new(prefix, channels, self.config.head_channels, self.config.pixels() >> (2 * level))
    }

    fn stage(&mut self, prefix: &str, inner: usize, outer: usize, level: usize) -> Stage {
        let attended = self.config.attention_resolutions.contains(&(1 << level));
        Stage {
            residual: self.residual(format!("{prefix}.0"), inner, outer),
            attention: attended.then(|| self.attention(format!("{prefix}.1"), outer, level)),
        }
    }
}

impl Paths {
    /// The blocks of a valid `config`.
    pub fn new(config: &UnetConfig) -> Self {
        let mut builder = Builder { config, count: 0 };
        let widths = config.widths();
        let last = widths.len() - 1;
        // Channels of every skip: of the embedding (`input_blocks.0`), then of each step down.
        let mut skips = vec![widths[0]];
        let mut channels = widths[0];
        let mut down = Vec::new();
        for (level, &width) in widths.iter().enumerate() {
            for _ in 0..config.res_blocks {
                let prefix = format!("unet.input_blocks.{}", skips.len());
                down.push(Down::Stage(builder.stage(&prefix, channels, width, level)));
                channels = width;
                skips.push(channels);
            }
            if level < last {
                down.push(Down::Halve);
                skips.push(channels);
            }
        }
        let prefix = |index: usize| format!("unet.middle_block.{index}");
        let residual = builder.residual(prefix(0), channels, channels);
        let attention = Some(builder.attention(prefix(1), channels, last));
        let middle = (Stage { residual, attention }, builder.residual(prefix(2), channels, channels));
        let mut up = Vec::new();
        for (level, &width) in widths.iter().enumerate().rev() {
            for i in 0..=config.res_blocks {
                let prefix = format!("unet.output_blocks.{}", up.len());
                let skip = skips.pop().expect("as many skips as stages up");
                let stage = builder.stage(&prefix, channels + skip, width, level);
                up.push(Up { stage, doubles: i == config.res_blocks && level > 0 });
                channels = width;
            }
        }
        Self { down, middle, up }
    }

    /// The weights in definition order.
    pub fn parameters(&self) -> Vec<Parameter> {
        let mut all = Vec::new();
        for step in &self.down {
            if let Down::Stage(stage) = step {
                all.extend(stage.parameters());
            }
        }
        all.extend(self.middle.0.parameters());
        all.extend(self.middle.1.parameters());
        all.extend(self.up.iter().flat_map(|up| up.stage.parameters()));
        all
    }

    /// Down, through the middle and up again, where every stage also sees the latest skip not yet used.
    ///
    /// # Shapes
    /// - `x` and the result: [B, channels of the first level, H, W]
    pub fn forward(&self, pass: &Pass, mut x: Tensor<4>) -> Tensor<4> {
        let mut skips = vec![x.clone()];
        for step in &self.down {
            x = match step {
                Down::Stage(stage) => stage.forward(pass, x),
                Down::Halve => halve(x),
            };
            skips.push(x.clone());
        }
        x = self.middle.1.forward(pass, self.middle.0.forward(pass, x));
        for (up, skip) in self.up.iter().zip(skips.into_iter().rev()) {
            x = up.stage.forward(pass, Tensor::cat(vec![x, skip], 1));
            if up.doubles {
                x = double(x);
            }
        }
        x
    }
}

impl Stage {
    fn parameters(&self) -> Vec<Parameter> {
        let mut all = self.residual.parameters();
        all.extend(self.attention.iter().flat_map(AttentionBlock::parameters));
        all
    }

    fn forward(&self, pass: &Pass, x: Tensor<4>) -> Tensor<4> {
        let x = self.residual.forward(pass, x);
        match &self.attention {
            Some(attention) => attention.forward(pass, x),
            None => x,
        }
    }
}
