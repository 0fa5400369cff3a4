//! `submask import`.

use std::path::Path;

use submask::data::Tokenizer;
use submask::import::{self, Foreign, ImportOptions, ImportTokenizer, Origin, Report, WeightSet};

use crate::args::{ImportArgs, NetworkArgs};
use crate::failure::Failure;
use crate::{flags, locate, output};

/// Tensors that are named in the report; of more, their number is given. With `--json` all are.
const SHOWN: usize = 8;

/// Makes a model folder of a foreign checkpoint.
pub fn run(args: &ImportArgs) -> Result<(), Failure> {
    let foreign = Foreign::open(&locate::source(&args.source)?)?;
    let imported = import::import(&foreign, &options(args)?).map_err(|error| {
        let hint = format!("`submask info {}` shows what is known of the file", args.source.display());
        Failure::from(flags::IMPORT.name_in(error)).hint(hint)
    })?;
    imported.save(&args.to).map_err(|error| flags::IMPORT.name_in(error))?;
    match args.json {
        true => output::write_json(&imported.report),
        false => output::write(&describe(&imported.report, &args.to.display().to_string())),
    }
}

/// What the caller says of the network.
pub fn network_options(args: &NetworkArgs) -> ImportOptions {
    ImportOptions {
        weights: args.weights.map(Into::into),
        vocab_size: args.vocab_size,
        subtokens: args.subtokens,
        heads: args.heads,
        seq_len: args.seq_len,
        block_len: args.block_len,
        height: args.height,
        width: args.width,
        head_channels: args.head_channels,
        carry_over: args.carry_over,
        time_conditioning: args.time_conditioning,
        permutation: None,
        tokenizer: None,
    }
}

fn options(args: &ImportArgs) -> Result<ImportOptions, Failure> {
    Ok(ImportOptions {
        permutation: args.permutation.as_deref().map(import::read_permutation).transpose()?,
        tokenizer: args
            .tokenizer
            .as_deref()
            .map(|name| tokenizer(name, args.end_of_text.as_deref()))
            .transpose()?,
        ..network_options(&args.network)
    })
}

fn tokenizer(name: &str, end_of_text: Option<&str>) -> Result<ImportTokenizer, Failure> {
    const OWN: [&str; 4] = ["numbers", "gpt2", "text8", "bytes"];
    if let Some(token) = end_of_text.filter(|_| OWN.contains(&name)) {
        let message = format!("--end-of-text {token} has no effect: --tokenizer {name} is no tokenizer.json");
        return Err(Failure::usage(message).hint("leave it out"));
    }
    let given = match name {
        "numbers" => return Ok(ImportTokenizer::Numbers),
        "gpt2" => Tokenizer::gpt2()?,
        "text8" => Tokenizer::text8(),
        "bytes" => Tokenizer::bytes(),
        file if Path::new(file).exists() => {
            Tokenizer::from_file(file, end_of_text).map_err(|error| flags::IMPORT.name_in(error))?
        }
        other => {
            let message = format!("--tokenizer {other}: there is no such file or folder");
            return Err(Failure::usage(message).hint(
                "give gpt2, text8, bytes, numbers, a tokenizer.json, or the folder that it stands in",
            ));
        }
    };
    Ok(ImportTokenizer::Given(Box::new(given)))
}

/// The report in words.
fn describe(report: &Report, folder: &str) -> String {
    let mut text = format!("{}: {}\n", report.path.display(), report.format);
    for setting in &report.settings {
        let origin = match setting.origin {
            Origin::Shapes => "by the shapes",
            Origin::Flag => "by a flag",
            Origin::Config => "by the file's configuration",
            Origin::Default => "by default",
        };
        text += &format!("  {} = {}  ({origin})\n", setting.key, setting.value);
    }
    if let Some(tokenizer) = &report.tokenizer {
        text += &format!("  tokenizer: {tokenizer}\n");
    }
    if !report.stripped.is_empty() {
        text += &format!("  taken off the names of weights: {}\n", report.stripped.join(", "));
    }
    let set = match report.weights {
        WeightSet::Raw => "raw",
        WeightSet::Ema => "averaged",
    };
    let shapes = |path: &str, shape: &[usize]| format!("{path} {shape:?}");
    let applied: Vec<_> = report.applied.iter().map(|one| shapes(&one.path, &one.shape)).collect();
    let skipped: Vec<_> = report.skipped.iter().map(|one| format!("{} ({})", one.path, one.reason)).collect();
    let unused: Vec<_> = report.unused.iter().map(|(path, shape)| shapes(path, shape)).collect();
    text += &list(&format!("applied, {set} weights"), &applied);
    text += &list("skipped", &skipped);
    text += &list("missing", &[]);
    text += &list("unused", &unused);
    text + &format!("wrote {folder}\n")
}

fn list(title: &str, entries: &[String]) -> String {
    let mut text = format!("{title}: {}\n", entries.len());
    entries.iter().take(SHOWN).for_each(|entry| text += &format!("  {entry}\n"));
    if entries.len() > SHOWN {
        text += &format!("  and {} more\n", entries.len() - SHOWN);
    }
    text
}
