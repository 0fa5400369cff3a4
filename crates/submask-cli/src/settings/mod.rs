//! From what the user typed to validated settings: preset ← file ← flags ← `--set`.

mod assignment;
mod keys;
mod layer;
mod merge;
mod preset;
mod run_folder;

use std::path::{Path, PathBuf};

use serde::Serialize;
use submask::data::DATA_FILE;
use submask::model::visual::{VisualConfig, VisualSettings};
use submask::model::{CONFIG_FILE, ModelConfig, ModelSettings, SampleDefaults, ScheduleSettings};
use submask::sampler::ImageSampling;
use submask::train::SETTINGS_FILE;
use submask::train::settings::{RunSettings, Settings, TokenizerChoice, TokenizerSettings};
use submask::train::visual_settings::{ImageSetChoice, VisualData};
use toml::{Table, Value};

use crate::args::{SettingsArgs, TrainArgs};
use crate::failure::Failure;
use crate::locate;
use layer::{Layer, Origin};
pub use merge::check_file;
use merge::merge;
pub use preset::PRESETS;
use preset::{Preset, Subject};

/// Tokens of the smallest BPE.
const SMALLEST_BPE: usize = 257;

/// What `submask train` does: settings, and the run folder they are for.
#[derive(Clone, Debug)]
pub struct TrainPlan {
    /// Validated settings.
    pub settings: RunSettings,
    /// Run folder; it exists if and only if `resume`.
    pub out: PathBuf,
    /// Whether the run goes on from its newest checkpoint.
    pub resume: bool,
    /// Weights to begin with.
    pub init: Option<PathBuf>,
}

/// Settings and run folder of `submask train`. Nothing is written.
pub fn for_training(args: &TrainArgs) -> Result<TrainPlan, Failure> {
    let asked = Preset::of(&args.settings)?;
    let init = args.init.as_deref().map(locate::model).transpose()?;
    let model = init.as_deref().map(of_model).transpose()?;
    let config = args.settings.config.as_deref().map(Layer::read).transpose()?;
    let subject = |layer: &Option<Layer>| layer.as_ref().and_then(|layer| Subject::of(&layer.table));
    let known = subject(&config).or(subject(&model));
    let preset = asked.or(known.map(Preset::first_of));
    let name = run_folder::default_name(&args.settings, preset.unwrap_or(&PRESETS[0]));
    let out = match &args.out {
        Some(out) => run_folder::given(out, args.resume)?,
        None => run_folder::default_in(Path::new("runs"), &name, args.resume)?,
    };
    let begin = match model {
        Some(model) => Begin::Model(model),
        None if args.resume => Begin::Run(Layer::read(&out.join(SETTINGS_FILE))?),
        None => Begin::Preset,
    };
    let preset = match &begin {
        Begin::Run(run) => asked.or(Subject::of(&run.table).map(Preset::first_of)).or(preset),
        Begin::Preset | Begin::Model(_) => preset,
    };
    let preset = preset.unwrap_or(&PRESETS[0]);
    let flags = named_flags(args, preset.subject)?;
    let settings = resolve(preset, begin, config, &args.settings, flags)?;
    if args.resume {
        check_progress(&out, settings.train().steps)?;
    }
    Ok(TrainPlan { settings, out, resume: args.resume, init })
}

/// What a run that begins with a model's weights takes over from the model.
#[derive(Serialize)]
struct Inherited {
    tokenizer: TokenizerSettings,
    model: ModelSettings,
    schedule: ScheduleSettings,
    sample: SampleDefaults,
}

/// The same of a model of images or points.
#[derive(Serialize)]
struct VisualInherited {
    model: VisualSettings,
    schedule: ScheduleSettings,
    sample: ImageSampling,
}

fn of_model(folder: &Path) -> Result<Layer, Failure> {
    let table = match VisualConfig::is_in(folder) {
        true => of_visual_model(folder)?,
        false => of_text_model(folder)?,
    };
    Ok(Layer { origin: Origin::File(folder.join(CONFIG_FILE)), table })
}

fn of_visual_model(folder: &Path) -> Result<Table, Failure> {
    let VisualConfig { model, schedule, sample, .. } = VisualConfig::read(folder)?;
    inherited(folder, &VisualInherited { model, schedule, sample })
}

fn inherited(folder: &Path, settings: &impl Serialize) -> Result<Table, Failure> {
    Table::try_from(settings).map_err(|error| Failure::failed(format!("{}: {error}", folder.display())))
}

fn of_text_model(folder: &Path) -> Result<Table, Failure> {
    let ModelConfig { tokenizer, model, schedule, sample, .. } = ModelConfig::read(folder)?;
    let tokenizer = TokenizerSettings::of(&tokenizer, folder);
    inherited(folder, &Inherited { tokenizer, model, schedule, sample })
}

/// A run goes on from a checkpoint, and not beyond its last step.
fn check_progress(run: &Path, steps: u64) -> Result<(), Failure> {
    let shown = run.display();
    match locate::checkpoints(run)?.first() {
        None => Err(Failure::usage(format!("{shown} has no checkpoint to go on from"))
            .hint("its checkpoints were removed: remove the rest and start again, or choose another --out")),
        Some(&done) if done > steps => Err(Failure::usage(format!(
            "train.steps = {steps} is not allowed: {shown} has done {done} already"
        ))
        .hint("--steps gives the number of all steps, those done included")),
        Some(_) => Ok(()),
    }
}

/// Settings of `submask data prepare`.
pub fn for_data(args: &SettingsArgs) -> Result<Settings, Failure> {
    let preset = Preset::of(args)?.unwrap_or(&PRESETS[0]);
    let config = args.config.as_deref().map(Layer::read).transpose()?;
    match resolve(preset, Begin::Preset, config, args, data_flag(args)?)? {
        RunSettings::Text(settings) => Ok(*settings),
        RunSettings::Visual(_) => Err(Failure::usage(format!("--preset {} is not of text", preset.name))
            .hint("images are read when training starts: nothing is prepared")),
    }
}

/// Settings of `submask bench`, which reads no corpus.
pub fn for_bench(args: &SettingsArgs) -> Result<Settings, Failure> {
    let preset = Preset::of(args)?.unwrap_or(&PRESETS[0]);
    let config = args.config.as_deref().map(Layer::read).transpose()?;
    let layers = config.into_iter().chain(data_flag(args)?).collect();
    match merged(preset, layers, args)?.1 {
        RunSettings::Text(settings) => Ok(*settings),
        RunSettings::Visual(_) => Err(Failure::usage(format!(
            "--preset {} is not of text, and bench measures text networks",
            preset.name
        ))),
    }
}

/// What stands between the preset and what the user asked for.
enum Begin {
    /// Nothing.
    Preset,
    /// The settings saved in a run that goes on.
    Run(Layer),
    /// Those of the model that a run begins with.
    Model(Layer),
}

impl Begin {
    fn layers(self) -> Vec<Layer> {
        match self {
            Self::Preset => Vec::new(),
            Self::Run(layer) | Self::Model(layer) => vec![layer],
        }
    }
}

fn resolve(
    preset: &Preset,
    begin: Begin,
    config: Option<Layer>,
    args: &SettingsArgs,
    flags: Vec<Layer>,
) -> Result<RunSettings, Failure> {
    let has_tokens = matches!(begin, Begin::Run(_));
    let mut layers = begin.layers();
    layers.extend(config);
    layers.extend(flags);
    let (layers, settings) = merged(preset, layers, args)?;
    match &settings {
        // A run on text that goes on has its tokens already.
        RunSettings::Text(_) if has_tokens => {}
        RunSettings::Text(settings) => {
            check_tokenizer(settings)?;
            let named = layers.iter().any(|layer| keys::get(&layer.table, "data.paths").is_some());
            check_corpus(settings, preset, named)?;
        }
        RunSettings::Visual(settings) => check_pictures(&settings.data, preset)?,
    }
    Ok(settings)
}

/// Layers with those of `--set` behind them, and what they make of the preset.
fn merged(
    preset: &Preset,
    mut layers: Vec<Layer>,
    args: &SettingsArgs,
) -> Result<(Vec<Layer>, RunSettings), Failure> {
    let base = preset.table()?;
    for text in &args.set {
        layers.push(assignment::parse(text, &base)?);
    }
    let settings = merge(&base, &layers)?;
    Ok((layers, settings))
}

fn named_flags(args: &TrainArgs, subject: Subject) -> Result<Vec<Layer>, Failure> {
    let mut layers = data_flag(&args.settings)?;
    if let Some(image) = &args.image {
        if subject != Subject::Points {
            return Err(Failure::usage("--image has a meaning for --preset toy only")
                .hint("the pictures to train on are given by --data"));
        }
        let path = utf8("--image", image)?;
        let origin = Origin::Flag(format!("--image {path}"));
        layers.push(Layer::one(origin, "data.image", Value::String(path)));
    }
    let numbers = [
        ("--steps", "train.steps", args.steps),
        ("--seed", "train.seed", args.seed),
        ("--subtokens", "model.subtokens", args.subtokens),
    ];
    for (flag, key, number) in numbers {
        let Some(number) = number else { continue };
        let value = i64::try_from(number)
            .map_err(|_| Failure::usage(format!("{flag} {number} is too large: at most {}", i64::MAX)))?;
        layers.push(Layer::one(Origin::Flag(format!("{flag} {number}")), key, Value::Integer(value)));
    }
    if let Some(objective) = args.objective {
        let name = objective.as_setting();
        let value = Value::String(name.to_owned());
        layers.push(Layer::one(Origin::Flag(format!("--objective {name}")), "train.objective", value));
    }
    Ok(layers)
}

fn data_flag(args: &SettingsArgs) -> Result<Vec<Layer>, Failure> {
    if args.data.is_empty() {
        return Ok(Vec::new());
    }
    let paths = args.data.iter().map(|path| utf8("--data", path).map(Value::String));
    let value = Value::Array(paths.collect::<Result<_, _>>()?);
    Ok(vec![Layer::one(Origin::Flag("--data".to_owned()), "data.paths", value)])
}

/// A path as it can stand in a settings file.
fn utf8(flag: &str, path: &Path) -> Result<String, Failure> {
    let text = path.to_str().map(str::to_owned);
    text.ok_or_else(|| Failure::usage(format!("{flag} {}: the path is not valid UTF-8", path.display())))
}

/// Every file of the images must be there, and a set that is not built in needs some.
fn check_pictures(data: &VisualData, preset: &Preset) -> Result<(), Failure> {
    let (images, named): (Vec<&PathBuf>, bool) = match data {
        VisualData::Images(images) => {
            let single = [&images.labels, &images.valid_labels];
            let single = single.into_iter().filter(|path| !path.as_os_str().is_empty());
            let all = images.paths.iter().chain(&images.valid_paths).chain(single).collect();
            (all, images.set == ImageSetChoice::Emoji || !images.paths.is_empty())
        }
        VisualData::Density(density) => {
            let is_given = !density.image.as_os_str().is_empty();
            (Some(&density.image).filter(|_| is_given).into_iter().collect(), is_given)
        }
    };
    if let Some(missing) = images.into_iter().find(|path| !path.exists()) {
        return Err(Failure::usage(format!("[data] names {}, which does not exist", missing.display())));
    }
    if !named {
        let flag = if preset.subject == Subject::Points { "--image FILE" } else { "--data PATH" };
        let message = format!("the preset {} needs pictures: only the emoji are built in", preset.name);
        return Err(Failure::usage(message).hint(format!("give them by {flag}")));
    }
    Ok(())
}

/// What would otherwise be found out only after the corpus has been read. Prepared data have their tokenizer.
fn check_tokenizer(settings: &Settings) -> Result<(), Failure> {
    let tokenizer = &settings.tokenizer;
    let prepared = matches!(settings.data.paths.as_slice(), [path] if path.join(DATA_FILE).is_file());
    match tokenizer.kind {
        _ if prepared => Ok(()),
        TokenizerChoice::TokenizerJson if tokenizer.path.as_os_str().is_empty() => {
            let allowed = "the file that tokenizer.kind = \"tokenizer-json\" reads";
            Err(submask::Error::invalid("tokenizer.path", "\"\"", allowed).into())
        }
        TokenizerChoice::Bpe if tokenizer.vocab_size < SMALLEST_BPE => {
            let allowed = format!("at least {SMALLEST_BPE}: the 256 bytes and end of text");
            Err(submask::Error::invalid("tokenizer.vocab_size", tokenizer.vocab_size, allowed).into())
        }
        _ => Ok(()),
    }
}

/// Every path of the corpus must be there, and a preset for a corpus that is not built in needs one. `named`:
/// whether the user named a corpus, be it the one that is built in.
fn check_corpus(settings: &Settings, preset: &Preset, named: bool) -> Result<(), Failure> {
    let paths = &settings.data.paths;
    if let Some(missing) = paths.iter().find(|path| !path.exists()) {
        return Err(Failure::usage(format!("data.paths: {} does not exist", missing.display())));
    }
    if paths.is_empty() && preset.needs_corpus && !named {
        let message = format!("the preset {} needs a corpus: only the dictionary is built in", preset.name);
        return Err(Failure::usage(message).hint("give text, JSON lines or parquet files by --data PATH"));
    }
    Ok(())
}
