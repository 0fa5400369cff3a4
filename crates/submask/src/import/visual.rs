//! Which image or toy network a file's weights belong to.

use super::ImportOptions;
use super::decide::{Decisions, Sources};
use super::foreign::Foreign;
use super::shapes::{length, matrix};
use crate::data::image::super_tokens;
use crate::model::{
    CodeSettings, FORMAT_VERSION, ImageSubject, ModelConfig, NetworkConfig, PointSubject, Sampling, Subject,
    ToySettings, UnetSettings,
};
use crate::sampler::Temperature;
use crate::schedule::{Schedule, TemperatureSchedule};
use crate::subtoken::SubTokenizer;
use crate::{Error, Result};

/// The table of labels: classes and one more row, of 4m columns.
const LABELS: &str = "unet.label_emb.weight";
/// Tokens of a point.
const POINT: usize = 2;
/// Most tokens of a pixel that are tried: grey, super-tokens, colours.
const MAX_CHANNELS: usize = 4;
/// Channels of the levels of the published size, its heads and its height and width (networks.md).
const PUBLISHED: (&[usize], usize, usize) = (&[288, 384, 384], 64, 32);
/// Data sets of the published experiments, all of 32×32 pixels.
const PUBLISHED_SETS: [&str; 2] = ["cifar10", "imagenet32"];

/// Decides everything about an image network.
///
/// # Errors
/// [`Error::Format`] for shapes of no such network, [`Error::Invalid`] for flags that contradict them.
pub(super) fn describe_unet(
    foreign: &Foreign,
    options: &ImportOptions,
    decisions: &mut Decisions,
) -> Result<ModelConfig> {
    let (channels, subtokens, vocab_size) = digits(foreign, options, decisions)?;
    let super_tokens = vocab_size == super_tokens::VOCAB_SIZE && channels == 2;
    let levels = Levels::find(foreign)?;
    let by_shapes = |value: usize| Sources { shapes: Some(value), ..Sources::default() };
    let (classes, unit) = match foreign.shape(LABELS) {
        Some(_) => {
            let [rows, width] = matrix(foreign, LABELS)?;
            (rows.saturating_sub(1), width / 4)
        }
        None => (0, levels.unit()),
    };
    if unit == 0 || levels.widths.iter().any(|width| width % unit != 0) {
        let problem = format!("its levels have {:?} channels, no multiples of {unit}", levels.widths);
        return Err(foreign.error(problem));
    }
    if classes > 0 {
        decisions.decide("classes", by_shapes(classes), 0)?;
    }
    decisions.decide("model.res_blocks", by_shapes(levels.res_blocks), 1)?;
    let model_channels = decisions.decide("model.model_channels", by_shapes(unit), 1)?;
    let is_published = levels.widths == PUBLISHED.0;
    let head_channels = Sources {
        flag: options.head_channels,
        default: is_published.then_some(PUBLISHED.1),
        ..Sources::default()
    };
    let head_channels = decisions.decide("model.head_channels", head_channels, 2)?;
    let known_set = foreign.facts.text(&["dataset"]).is_some_and(|name| PUBLISHED_SETS.contains(&name));
    let size = |flag| Sources {
        flag,
        config: known_set.then_some(PUBLISHED.2),
        default: is_published.then_some(PUBLISHED.2),
        ..Sources::default()
    };
    let height = decisions.decide("height", size(options.height), PUBLISHED.2)?;
    let width = decisions.decide("width", size(options.width), PUBLISHED.2)?;
    let subject = Subject::Image(ImageSubject {
        channels: if super_tokens { 3 } else { channels },
        height,
        width,
        levels: if super_tokens { 256 } else { vocab_size },
        super_tokens,
        class_names: (0..classes).map(|class| class.to_string()).collect(),
    });
    let codes = CodeSettings::plain(subtokens, carry_over(foreign, options, decisions)?);
    let network = NetworkConfig::Unet(UnetSettings {
        class_conditional: classes > 0,
        model_channels,
        channel_mult: levels.widths.iter().map(|width| width / model_channels).collect(),
        res_blocks: levels.res_blocks,
        attention_resolutions: levels.attended,
        head_channels,
        dropout: 0.0,
    });
    let exponent = Sources {
        config: foreign.facts.number(&["schedule_n"]),
        default: Some(if super_tokens { 2.0 } else { 3.0 }),
        ..Sources::default()
    };
    let exponent = decisions.decide("schedule.exponent", exponent, 3.0)?;
    let schedule = Schedule::Polynomial { exponent };
    let sample = image_sampling();
    Ok(ModelConfig { format_version: FORMAT_VERSION, subject, network, codes, schedule, sample })
}

/// Decides everything about a toy network: of two tokens, its points' coordinates.
///
/// # Errors
/// As [`describe_unet`].
pub(super) fn describe_toy(
    foreign: &Foreign,
    options: &ImportOptions,
    decisions: &mut Decisions,
) -> Result<ModelConfig> {
    let [rows, hidden] = matrix(foreign, "token_embedding.weight")?;
    let input = length(foreign, "main.0.beta")?;
    let [outputs, _] = matrix(foreign, "main.11.weight")?;
    let (cells, subtokens) = (outputs / POINT, input.saturating_sub(1) / (POINT * hidden.max(1)));
    let fits = input == POINT * subtokens * hidden + 1
        && outputs == POINT * cells
        && SubTokenizer::base_for(cells, subtokens).is_ok_and(|base| base as usize + 1 == rows);
    if !fits {
        return Err(foreign.error(format!(
            "a table [{rows}, {hidden}], {input} inputs and {outputs} outputs belong to no network of two tokens"
        )));
    }
    let by_shapes = |value: usize| Sources { shapes: Some(value), ..Sources::default() };
    let subtokens = Sources { shapes: Some(subtokens), flag: options.subtokens, ..Sources::default() };
    let subtokens = decisions.decide("codes.subtokens", subtokens, 1)?;
    let cells = Sources { shapes: Some(cells), flag: options.vocab_size, ..Sources::default() };
    let cells = decisions.decide("vocab_size", cells, 2)?;
    let hidden = decisions.decide("model.hidden", by_shapes(hidden), 1)?;
    let carry_over = carry_over(foreign, options, decisions)?;
    let codes = CodeSettings::plain(subtokens, carry_over);
    let network = NetworkConfig::Toy(ToySettings { hidden, dropout: 0.0 });
    let schedule = Schedule::Linear;
    let subject = Subject::Point(PointSubject { cells });
    let sample = image_sampling();
    Ok(ModelConfig { format_version: FORMAT_VERSION, subject, network, codes, schedule, sample })
}

/// Without a flag or a word in the file: off, as these networks were trained.
fn carry_over(foreign: &Foreign, options: &ImportOptions, decisions: &mut Decisions) -> Result<bool> {
    let sources = Sources {
        flag: options.carry_over,
        config: foreign.facts.flag(&["carry_over"]),
        default: Some(false),
        ..Sources::default()
    };
    decisions.decide("codes.carry_over", sources, false)
}

/// Tokens of a pixel, ℓ and C: the pairs of the first two with which the first and the last layer go together.
fn digits(
    foreign: &Foreign,
    options: &ImportOptions,
    decisions: &mut Decisions,
) -> Result<(usize, usize, usize)> {
    let [rows, share] = matrix(foreign, "pixel_embedding.embedding_table.weight")?;
    let outputs = length(foreign, "unet.out.2.bias")?;
    let width = length(foreign, "unet.out.0.weight")?;
    let planes = width / share.max(1);
    let fits = |channels: usize| {
        let subtokens = planes / channels;
        let classes = outputs / channels - usize::from(subtokens == 1 && outputs >= channels);
        let whole =
            planes * share == width && subtokens * channels == planes && outputs.is_multiple_of(channels);
        let base = SubTokenizer::base_for(classes, subtokens).ok()?;
        (whole && base as usize + 1 == rows).then_some((channels, subtokens, classes))
    };
    let possible: Vec<_> = (1..=MAX_CHANNELS).filter_map(fits).collect();
    let Some(&first) = possible.first() else {
        return Err(foreign.error(format!(
            "a table [{rows}, {share}], a width {width} and {outputs} outputs belong to no number of sub-tokens"
        )));
    };
    let asked = Sources {
        shapes: (possible.len() == 1).then_some(first.1),
        flag: options.subtokens,
        config: foreign.facts.integer(&["target_length"]),
        default: None,
    };
    let subtokens = decisions.decide("codes.subtokens", asked, first.1)?;
    let Some(&(channels, _, vocab_size)) = possible.iter().find(|(_, len, _)| *len == subtokens) else {
        let known: Vec<usize> = possible.iter().map(|(_, len, _)| *len).collect();
        let allowed = format!("one of {known:?}, with which the shapes of the weights go together");
        return Err(Error::invalid("codes.subtokens", subtokens, allowed));
    };
    let by_shapes = Sources { shapes: Some(vocab_size), flag: options.vocab_size, ..Sources::default() };
    let vocab_size = decisions.decide("vocab_size", by_shapes, 2)?;
    Ok((channels, subtokens, vocab_size))
}

/// The levels of a U-Net, read off its way down.
struct Levels {
    /// Channels of every level.
    widths: Vec<usize>,
    /// Residual blocks per level.
    res_blocks: usize,
    /// Factors of the levels with attention.
    attended: Vec<usize>,
}

impl Levels {
    /// Blocks of the way down are numbered from 1; a number without weights is a halving.
    fn find(foreign: &Foreign) -> Result<Self> {
        let width = |index: usize| {
            let shape = foreign.shape(&format!("unet.input_blocks.{index}.0.in_layers.2.weight"))?;
            shape.first().copied()
        };
        let last = foreign.layers("unet.input_blocks").saturating_sub(1);
        let mut levels = Self { widths: Vec::new(), res_blocks: 0, attended: Vec::new() };
        let mut blocks = Vec::new();
        for index in 1..=last {
            let Some(channels) = width(index) else {
                levels.close(&mut blocks);
                continue;
            };
            let attended = foreign.shape(&format!("unet.input_blocks.{index}.1.qkv.weight")).is_some();
            blocks.push((channels, attended));
        }
        levels.close(&mut blocks);
        if levels.widths.is_empty() || levels.widths.contains(&0) {
            return Err(foreign.error("its way down has no residual blocks: unet.input_blocks is not whole"));
        }
        Ok(levels)
    }

    /// Ends a level. Blocks that differ within it are found out when the weights are looked for.
    fn close(&mut self, blocks: &mut Vec<(usize, bool)>) {
        if let Some(&(channels, attended)) = blocks.first() {
            if attended {
                self.attended.push(1 << self.widths.len().min(usize::BITS as usize - 2));
            }
            self.res_blocks = self.res_blocks.max(blocks.len());
            self.widths.push(channels);
        }
        blocks.clear();
    }

    /// m: the largest that divides all levels' channels. Which one it was does not matter to the network without
    /// labels, and is the published one at the published size.
    fn unit(&self) -> usize {
        self.widths.iter().copied().reduce(gcd).unwrap_or(1)
    }
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// 256 joint steps at temperature 1, as a model of images is sampled whose own settings are not known.
fn image_sampling() -> Sampling {
    let temperature = Temperature::Schedule(TemperatureSchedule::default());
    Sampling { steps: 256, temperature, ..Sampling::default() }
}
