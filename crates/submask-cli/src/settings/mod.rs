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
use submask::model::{CONFIG_FILE, ModelConfig, ModelSettings, SampleDefaults, ScheduleSettings};
use submask::train::SETTINGS_FILE;
use submask::train::settings::{Settings, TokenizerChoice, TokenizerSettings};
use toml::{Table, Value};

use crate::args::{SettingsArgs, TrainArgs};
use crate::failure::Failure;
use crate::locate;
use layer::{Layer, Origin};
pub use merge::check_file;
use merge::merge;
use preset::Preset;

/// Tokens of the smallest BPE.
const SMALLEST_BPE: usize = 257;

/// What `submask train` does: settings, and the run folder they are for.
#[derive(Clone, Debug)]
pub struct TrainPlan {
    /// Validated settings.
    pub settings: Settings,
    /// Run folder; it exists if and only if `resume`.
    pub out: PathBuf,
    /// Whether the run goes on from its newest checkpoint.
    pub resume: bool,
    /// Weights to begin with.
    pub init: Option<PathBuf>,
}

/// Settings and run folder of `submask train`. Nothing is written.
pub fn for_training(args: &TrainArgs) -> Result<TrainPlan, Failure> {
    let preset = Preset::of(&args.settings)?;
    let name = run_folder::default_name(&args.settings, preset);
    let out = match &args.out {
        Some(out) => run_folder::given(out, args.resume)?,
        None => run_folder::default_in(Path::new("runs"), &name, args.resume)?,
    };
    let init = args.init.as_deref().map(locate::model).transpose()?;
    let begin = match &init {
        Some(model) => Begin::Model(of_model(model)?),
        None if args.resume => Begin::Run(Layer::read(&out.join(SETTINGS_FILE))?),
        None => Begin::Preset,
    };
    let settings = resolve(preset, begin, &args.settings, named_flags(args)?)?;
    if args.resume {
        check_progress(&out, settings.train.steps)?;
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

fn of_model(folder: &Path) -> Result<Layer, Failure> {
    let ModelConfig { tokenizer, model, schedule, sample, .. } = ModelConfig::read(folder)?;
    let tokenizer = TokenizerSettings::of(&tokenizer, folder);
    let table = Table::try_from(Inherited { tokenizer, model, schedule, sample })
        .map_err(|error| Failure::failed(format!("{}: {error}", folder.display())))?;
    Ok(Layer { origin: Origin::File(folder.join(CONFIG_FILE)), table })
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
    resolve(Preset::of(args)?, Begin::Preset, args, data_flag(args)?)
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
    args: &SettingsArgs,
    flags: Vec<Layer>,
) -> Result<Settings, Failure> {
    let base = preset.table()?;
    let has_tokens = matches!(begin, Begin::Run(_));
    let mut layers = begin.layers();
    layers.extend(args.config.as_deref().map(Layer::read).transpose()?);
    layers.extend(flags);
    let sets = args.set.iter().map(|text| assignment::parse(text, &base)).collect::<Result<Vec<_>, _>>()?;
    layers.extend(sets);
    let settings = merge(&base, &layers)?;
    if !has_tokens {
        // A run that goes on has its tokens already.
        check_tokenizer(&settings)?;
        let named = layers.iter().any(|layer| keys::get(&layer.table, "data.paths").is_some());
        check_corpus(&settings, preset, named)?;
    }
    Ok(settings)
}

fn named_flags(args: &TrainArgs) -> Result<Vec<Layer>, Failure> {
    let mut layers = data_flag(&args.settings)?;
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
    let paths = args.data.iter().map(|path| match path.to_str() {
        Some(path) => Ok(Value::String(path.to_owned())),
        None => Err(Failure::usage(format!("--data {}: the path is not valid UTF-8", path.display()))),
    });
    let value = Value::Array(paths.collect::<Result<_, _>>()?);
    Ok(vec![Layer::one(Origin::Flag("--data".to_owned()), "data.paths", value)])
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
