//! The way down, the middle and the way up: which blocks there are, and what the way down hands over.

use burn::tensor::Tensor;

use super::Pass;
use super::attention::AttentionBlock;
use super::config::UnetConfig;
use super::layers::{double, halve};
use super::residual::ResidualBlock;
use crate::backbone::declaration::Declaration;

/// A residual block, then attention where the level has it.
#[derive(Clone, Debug)]
struct Stage {
    residual: ResidualBlock,
    attention: Option<AttentionBlock>,
}

/// A step of the way down.
#[derive(Clone, Debug)]
enum Down {
    Stage(Box<Stage>),
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
    fn residual(&mut self, mut block: Declaration, inner: usize, outer: usize) -> ResidualBlock {
        let (cond_dim, labelled) = (self.config.cond_dim(), self.config.classes.is_some());
        self.count += 1;
        ResidualBlock::declare(&mut block, [outer, inner], cond_dim, labelled, self.count - 1)
    }

    fn attention(&self, mut block: Declaration, channels: usize, level: usize) -> AttentionBlock {
        let pixels = self.config.pixels() >> (2 * level);
        AttentionBlock::declare(&mut block, channels, self.config.head_channels, pixels)
    }

    fn stage(&mut self, mut blocks: Declaration, inner: usize, outer: usize, level: usize) -> Stage {
        let attended = self.config.attention_resolutions.contains(&(1 << level));
        Stage {
            residual: self.residual(blocks.within(0), inner, outer),
            attention: attended.then(|| self.attention(blocks.within(1), outer, level)),
        }
    }
}

impl Paths {
    /// Declares the blocks of a valid `config`.
    pub fn declare(unet: &mut Declaration, config: &UnetConfig) -> Self {
        let mut builder = Builder { config, count: 0 };
        let widths = config.widths();
        let last = widths.len() - 1;
        // Channels of every skip: of the embedding (`input_blocks.0`), then of each step down.
        let mut skips = vec![widths[0]];
        let mut channels = widths[0];
        let mut down = Vec::new();
        for (level, &width) in widths.iter().enumerate() {
            for _ in 0..config.res_blocks {
                let blocks = unet.within(format!("input_blocks.{}", skips.len()));
                down.push(Down::Stage(Box::new(builder.stage(blocks, channels, width, level))));
                channels = width;
                skips.push(channels);
            }
            if level < last {
                down.push(Down::Halve);
                skips.push(channels);
            }
        }
        let mut blocks = unet.within("middle_block");
        let residual = builder.residual(blocks.within(0), channels, channels);
        let attention = Some(builder.attention(blocks.within(1), channels, last));
        let second = builder.residual(blocks.within(2), channels, channels);
        let middle = (Stage { residual, attention }, second);
        let mut up = Vec::new();
        for (level, &width) in widths.iter().enumerate().rev() {
            for i in 0..=config.res_blocks {
                let blocks = unet.within(format!("output_blocks.{}", up.len()));
                let skip = skips.pop().expect("as many skips as stages up");
                let stage = builder.stage(blocks, channels + skip, width, level);
                up.push(Up { stage, doubles: i == config.res_blocks && level > 0 });
                channels = width;
            }
        }
        Self { down, middle, up }
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
    fn forward(&self, pass: &Pass, x: Tensor<4>) -> Tensor<4> {
        let x = self.residual.forward(pass, x);
        match &self.attention {
            Some(attention) => attention.forward(pass, x),
            None => x,
        }
    }
}
