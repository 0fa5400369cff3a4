//! Checkpoints of other programs: read, checked, and never executed.
//!
//! [`Foreign::open`] recognises a file, [`inspect`] says what it holds without reading the numbers, and [`import`]
//! makes a model of it with a report of everything that was taken and left.
//!
//! | module | what it reads |
//! |---|---|
//! | [`torch`] | files that PyTorch's `torch.save` wrote: a pickle and the tensors beside it |
//! | `checkpoint` | which dict in such a file holds the weights, which their average, which a configuration |
//! | `module` | modules pickled whole |
//! | `folder` | files by their kind; folders as MDLM stands on the Hub |
//! | `shards` | checkpoints in several files with an index |
//! | `naming` | names of weights, without what wrappers put around them |
//! | `text`, `visual` | which network the weights are of |
//! | `own_mask` | vocabularies with the mask among their tokens |
//! | `block_diffusion` | what the configurations of BD3-LM say of blocks |
//! | `contents` | what is there, whether or not it can be imported |
//! | [`hub`] | what is published on the Hub: downloads, kept in its standard cache |
//!
//! Such a file is hostile input. Nothing in it is called; every length is checked against the bytes that are
//! there; memory and time are bounded by the size of the file; and what is wrong is said with the file's name.

mod assemble;
mod block_diffusion;
mod checkpoint;
mod contents;
mod decide;
mod facts;
mod folder;
mod foreign;
pub mod hub;
mod module;
mod naming;
mod options;
mod own_mask;
mod report;
mod safetensors;
mod shapes;
mod shards;
mod text;
pub mod torch;
mod torch_values;
mod visual;

use std::path::Path;

use serde::Serialize;

pub use contents::{Contents, contents};
pub use decide::{Origin, Setting};
pub use facts::{Fact, Facts};
pub use folder::is_checkpoint;
pub use foreign::{Foreign, ForeignTensor, Format, Skipped, WeightSet};
pub use options::{ImportOptions, ImportTokenizer};
pub use report::{Applied, Report};

use crate::backbone::weights::Parameter;
use crate::data::{Tokenizer, TokenizerKind};
use crate::durable::{check_free, create_folder};
use crate::model::{
    self, Architecture, CONFIG_FILE, FORMAT_VERSION, ModelConfig, Sampling, Subject, TextSubject,
};
use crate::subtoken::SubTokenizer;
use crate::{Error, Result};
use decide::Decisions;
use own_mask::Rows;

/// The longest sequence that a file may ask for, in tokens.
const MAX_SEQ_LEN: usize = 1 << 20;
/// Tokens of GPT-2.
const GPT2_TOKENS: usize = 50_257;
/// Digits of all tokens together that a file of any size may ask for: twenty for each of GPT-2's tokens.
const FEW_DIGITS: usize = 1 << 20;

/// Weights of no known network that an error names.
const MAX_KEYS: usize = 12;

/// Which network the weights of a file belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// The diffusion transformer; ℓ = 1 is MDLM's.
    Diffusion,
    /// The autoregressive baseline.
    Autoregressive,
    /// MDM-Prime-v2's encoder.
    Encoder,
    /// The image network.
    Unet,
    /// The toy network.
    Toy,
}

/// What a file holds.
#[derive(Clone, Debug, Serialize)]
pub struct Inspection {
    /// What kind of file it is.
    pub format: Format,
    /// Which network.
    pub network: Family,
    /// The sets of weights inside.
    pub weights: Vec<WeightSet>,
    /// Number of weights of one set.
    pub parameters: u64,
    /// Base of the digits b.
    pub base: u32,
    /// The settings of the network, and where they come from.
    pub settings: Vec<Setting>,
    /// Settings of [`ImportOptions`] that the file does not say.
    pub needed: Vec<&'static str>,
    /// What helps to find them.
    pub hints: Vec<String>,
    /// What wrappers had put before the network's names or between their parts.
    pub stripped: Vec<String>,
}

/// A foreign model, read.
#[derive(Debug)]
pub struct Imported {
    /// What it is besides its weights.
    pub architecture: Architecture,
    /// The weights.
    pub values: Vec<Vec<f32>>,
    /// What was taken and what was not.
    pub report: Report,
}

impl Imported {
    /// Writes the model folder `folder`, which must not exist yet.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the folder exists, [`Error::Io`] naming the file.
    pub fn save(&self, folder: &Path) -> Result<()> {
        check_free("to", folder)?;
        create_folder(folder, |folder| self.architecture.save(&self.values, folder))
    }
}

/// The network whose weights the file holds.
///
/// # Errors
/// [`Error::Format`] when they are of none that is known.
pub fn family(foreign: &Foreign) -> Result<Family> {
    let has = |name: &str| foreign.shape(name).is_some();
    let begins = |prefix: &str| foreign.raw().iter().any(|tensor| tensor.name.starts_with(prefix));
    if has("transformer.wte.weight") {
        return Ok(Family::Encoder);
    }
    if has("vocab_embed.embedding") || has("vocab_embed.weight.weight") {
        return Ok(if begins("sigma_map.") { Family::Diffusion } else { Family::Autoregressive });
    }
    if begins("pixel_embedding.") {
        return Ok(Family::Unet);
    }
    if has("token_embedding.weight") && begins("main.") {
        return Ok(Family::Toy);
    }
    let names: Vec<String> = foreign
        .raw()
        .iter()
        .take(MAX_KEYS)
        .map(|tensor| format!("{} {:?}", tensor.path, tensor.shape))
        .collect();
    let more = match foreign.raw().len().saturating_sub(MAX_KEYS) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Err(foreign.error(format!("weights of no known network: {}{more}", names.join(", "))))
}

/// Describes a file without reading the weights.
///
/// # Errors
/// [`Error::Format`] for weights of no known network, or of shapes that do not go together.
pub fn inspect(foreign: &Foreign, options: &ImportOptions) -> Result<Inspection> {
    let network = family(foreign)?;
    let mut decisions = Decisions::default();
    let sizes_of_tokens = vocabulary(foreign, network, options, &mut decisions);
    let (vocab_size, subtokens) = sizes_of_tokens.map_err(|error| with_file(foreign, options, error))?;
    let buffers = |tensor: &&ForeignTensor| !assemble::is_buffer(&tensor.name);
    let sizes = foreign.raw().iter().filter(buffers).map(|tensor| tensor.elements() as u64);
    Ok(Inspection {
        format: foreign.format,
        network,
        weights: foreign.sets(),
        parameters: sizes.fold(0, u64::saturating_add),
        base: SubTokenizer::base_for(vocab_size, subtokens)?,
        settings: decisions.settings,
        needed: decisions.unknown,
        hints: decisions.hints,
        stripped: foreign.stripped.clone(),
    })
}

/// C and ℓ, and on the way everything else that can be decided.
fn vocabulary(
    foreign: &Foreign,
    network: Family,
    options: &ImportOptions,
    decisions: &mut Decisions,
) -> Result<(usize, usize)> {
    match network {
        Family::Unet | Family::Toy => {
            let config = visual_config(foreign, network, options, decisions)?;
            Ok((config.vocab_size(), config.codes.subtokens))
        }
        Family::Diffusion | Family::Encoder | Family::Autoregressive => {
            let text = text::describe(foreign, network, options, decisions)?;
            Ok((text.vocab_size, text.codes.subtokens))
        }
    }
}

/// What a model is made of besides its weights, and where that comes from.
struct Plan {
    architecture: Architecture,
    settings: Vec<Setting>,
    tokenizer_note: Option<String>,
    /// How the rows of the vocabulary's tables become the network's.
    rows: Rows,
}

/// Reads a model: an opened file, and what the caller says where the file does not.
///
/// # Errors
/// [`Error::Format`] naming the file and every weight that is missing or of another shape; [`Error::Invalid`] for
/// options that contradict the shapes; [`Error::Needed`] naming the settings that the file does not say. Never a part of
/// a model.
pub fn import(foreign: &Foreign, options: &ImportOptions) -> Result<Imported> {
    import_as_said(foreign, options).map_err(|error| with_file(foreign, options, error))
}

/// The file's name before an error about a value that the file gave, and not the caller.
fn with_file(foreign: &Foreign, options: &ImportOptions, error: Error) -> Error {
    match &error {
        Error::Invalid { field, .. } if field != "weights" && options.says_nothing_of_the_network() => {
            foreign.error(error.to_string())
        }
        _ => error,
    }
}

fn import_as_said(foreign: &Foreign, options: &ImportOptions) -> Result<Imported> {
    let plan = match foreign.format {
        Format::Submask => plan_of_folder(foreign, options)?,
        _ => plan_of_file(foreign, options)?,
    };
    let parameters = plan.architecture.parameters();
    let assembly = assemble::assemble(foreign, parameters, options.weights, plan.rows)?;
    let read = |(tensor, parameter): (&&ForeignTensor, &Parameter)| {
        Ok(plan.rows.values(foreign.read(tensor)?, parameter))
    };
    let values = assembly.sources.iter().zip(parameters).map(read).collect::<Result<Vec<_>>>()?;
    let report = Report {
        path: foreign.path.clone(),
        format: foreign.format,
        weights: assembly.weights,
        settings: plan.settings,
        tokenizer: plan.tokenizer_note,
        stripped: foreign.stripped.clone(),
        applied: assembly.applied,
        skipped: assembly.skipped,
        unused: assembly.unused,
    };
    Ok(Imported { architecture: plan.architecture, values, report })
}

/// Decides everything about an image or toy network.
fn visual_config(
    foreign: &Foreign,
    network: Family,
    options: &ImportOptions,
    decisions: &mut Decisions,
) -> Result<ModelConfig> {
    match network {
        Family::Toy => visual::describe_toy(foreign, options, decisions),
        _ => visual::describe_unet(foreign, options, decisions),
    }
}

/// Refuses to go on where the file does not say everything.
fn all_known(foreign: &Foreign, decisions: &Decisions) -> Result<()> {
    if decisions.unknown.is_empty() {
        return Ok(());
    }
    let hints = decisions.hints.iter().map(|hint| format!("; {hint}")).collect::<String>();
    let what = if decisions.unknown.len() == 1 { "it" } else { "them" };
    let reason = format!("{} does not say {what}{hints}", foreign.path.display());
    Err(Error::Needed { field: decisions.unknown.join(", "), reason })
}

/// The plan of a file of another program.
fn plan_of_file(foreign: &Foreign, options: &ImportOptions) -> Result<Plan> {
    let network = family(foreign)?;
    let mut decisions = Decisions::default();
    options.refuse_what_is_not_read(network)?;
    if matches!(network, Family::Unet | Family::Toy) {
        let config = visual_config(foreign, network, options, &mut decisions)?;
        all_known(foreign, &decisions)?;
        check_digits(foreign, config.vocab_size(), config.codes.subtokens)?;
        config.validate()?;
        let architecture = Architecture::new(config, None)?;
        return Ok(Plan {
            architecture,
            settings: decisions.settings,
            tokenizer_note: None,
            rows: Rows::Same,
        });
    }
    let text = text::describe(foreign, network, options, &mut decisions)?;
    all_known(foreign, &decisions)?;
    let seq_len = text.network.seq_len().unwrap_or(0);
    if !(1..=MAX_SEQ_LEN).contains(&seq_len) {
        return Err(Error::invalid("model.seq_len", seq_len, format!("1 to {MAX_SEQ_LEN} tokens")));
    }
    check_digits(foreign, text.vocab_size, text.codes.subtokens)?;
    let mut codes = SubTokenizer::new(text.vocab_size, text.codes.subtokens)?;
    if let Some(permutation) = &options.permutation {
        codes = codes.with_permutation(permutation)?;
    }
    let (tokenizer, mut tokenizer_note) = tokenizer(foreign, text.vocab_size, options)?;
    if let Rows::OwnMask(mask) = text.rows {
        tokenizer_note.push_str(&format!("; its token {mask} is the mask, which is never predicted"));
    }
    let subject = Subject::Text(TextSubject { vocab_size: text.vocab_size, ..TextSubject::of(&tokenizer) });
    let config = ModelConfig {
        format_version: FORMAT_VERSION,
        subject,
        network: text.network,
        codes: text.codes,
        schedule: text.schedule,
        sample: Sampling::default(),
    };
    let architecture = Architecture::with_codes(config, Some(tokenizer), codes)?;
    let (settings, rows) = (decisions.settings, text.rows);
    Ok(Plan { architecture, settings, tokenizer_note: Some(tokenizer_note), rows })
}

/// Refuses a table of digits that is out of all proportion to the file, before memory is taken for it.
fn check_digits(foreign: &Foreign, vocab_size: usize, subtokens: usize) -> Result<()> {
    let digits = vocab_size.saturating_mul(subtokens);
    let allowed = FEW_DIGITS.max(foreign.bytes() / size_of::<u32>());
    if digits > allowed {
        return Err(foreign.error(format!(
            "{vocab_size} tokens of {subtokens} digits are too many for weights of this size"
        )));
    }
    Ok(())
}

/// Refuses options for a model folder of this program, which says everything itself. Returns the folder.
fn folder_of<'a>(foreign: &'a Foreign, options: &ImportOptions) -> Result<&'a Path> {
    let folder = foreign.path.parent().unwrap_or(Path::new(""));
    if options.says_nothing_of_the_network() {
        return Ok(folder);
    }
    let allowed =
        format!("nothing but a choice of weights: {} says all of it", folder.join(CONFIG_FILE).display());
    Err(Error::invalid("the network", "given", allowed))
}

/// The plan of a model folder of this program.
fn plan_of_folder(foreign: &Foreign, options: &ImportOptions) -> Result<Plan> {
    let architecture = Architecture::read(folder_of(foreign, options)?)?;
    let tokenizer_note = architecture.tokenizer().map(|_| "that of the folder".to_owned());
    Ok(Plan { architecture, settings: Vec::new(), tokenizer_note, rows: Rows::Same })
}

/// The tokenizer, and why it is this one.
fn tokenizer(foreign: &Foreign, vocab_size: usize, options: &ImportOptions) -> Result<(Tokenizer, String)> {
    let numbers = |why: &str| {
        let why = format!("the numbers 0 to {}, {why}", vocab_size - 1);
        Ok((Tokenizer::numbers(vocab_size)?, why))
    };
    match &options.tokenizer {
        Some(ImportTokenizer::Given(given)) if given.vocab_size() != vocab_size => {
            let padding = match given.vocab_size() < vocab_size {
                true => "; where tables are padded, say how many tokens there are",
                false => "",
            };
            let given = format!("one of {} tokens", given.vocab_size());
            let path = foreign.path.display();
            let allowed = format!("one of {vocab_size} tokens, the vocabulary of {path}{padding}");
            Err(Error::invalid("tokenizer", given, allowed))
        }
        Some(ImportTokenizer::Given(given)) => Ok(((**given).clone(), note_of(given))),
        Some(ImportTokenizer::Numbers) => numbers("as asked"),
        // A build without GPT-2's tokens takes numbers.
        None => match (vocab_size == GPT2_TOKENS).then(Tokenizer::gpt2).and_then(Result::ok) {
            Some(gpt2) => Ok((gpt2, format!("GPT-2's, which has {vocab_size} tokens too"))),
            None => numbers("since the file names no tokenizer"),
        },
    }
}

/// What is said of a tokenizer that was given: of one in a file, with what it ends texts.
fn note_of(given: &Tokenizer) -> String {
    match given.kind() {
        TokenizerKind::TokenizerJson { end_of_text: Some(name) } => {
            format!("as given; texts end with {name:?}")
        }
        TokenizerKind::TokenizerJson { end_of_text: None } => {
            "as given; it has no end of text, and samples never end".to_owned()
        }
        _ => "as given".to_owned(),
    }
}

/// Reads a permutation of codes: a tensor saved by PyTorch, or safetensors with `permutation`.
///
/// # Errors
/// [`Error::Io`] and [`Error::Format`] naming the file and what is wrong with it.
pub fn read_permutation(path: &Path) -> Result<Vec<u32>> {
    if path.extension().is_some_and(|extension| extension == "safetensors") {
        return model::read_codes(path);
    }
    let file = torch::TorchFile::open(path)?;
    let tensor = file
        .tensor(file.root())
        .ok_or_else(|| file.error("not one tensor: a permutation of codes is one"))??;
    let code = |code: i64| u32::try_from(code).map_err(|_| file.error(format!("{code} is not a code")));
    file.read_i64(&tensor)?.into_iter().map(code).collect()
}
