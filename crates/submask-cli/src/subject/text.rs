//! Models of text.

use std::path::{Path, PathBuf};

use serde_json::value::RawValue;
use submask::data::{DATA_FILE, STANDARD_INPUT};
use submask::model::{Generated, ModelConfig, Session, TextPrompt};
use submask::train::settings::{RunSettings, TextData, TokenizerChoice};

use super::held_out_text::HeldOutText;
use super::{Chosen, Door};
use crate::args::{EvalArgs, SampleArgs};
use crate::commands::sample::Shown;
use crate::failure::Failure;
use crate::output::{self, SampleCost, SampleResult, SampleText};
use crate::present::text;
use crate::{flags, notes};

/// Tokens of the smallest BPE.
const SMALLEST_BPE: usize = 257;

/// Text.
pub struct Texts;

impl Door for Texts {
    fn prompt(
        &self,
        args: &SampleArgs,
        prompt: Option<&TextPrompt>,
        session: &Session,
    ) -> Result<Vec<Option<u32>>, Failure> {
        let length: Option<usize> = args.length.map(Into::into);
        let config = session.architecture().config();
        if config.pairs() && prompt.is_none() && args.prompts.is_none() {
            eprintln!("note: the model was trained to answer prompts, and none is given: see --prompt");
        }
        if config.pairs() && length.is_some_and(|length| length < config.seq_len()) {
            let trained = config.seq_len();
            eprintln!(
                "note: the model was trained on sequences of {trained} tokens, filled behind the answer"
            );
        }
        match prompt {
            None if length.is_none() => Ok(session.request().prompt),
            prompt => {
                let given = session.prompt(prompt.unwrap_or(&TextPrompt::default()), length);
                let writes_on = length.is_none() && config.network.block_len() > 0;
                given.map_err(|error| {
                    let is_conflict = matches!(error, submask::Error::Conflict { .. });
                    let failure = Failure::from(flags::SAMPLE.name_in(error));
                    match is_conflict && writes_on {
                        true => failure
                            .hint("--length N writes texts of N tokens, also beyond the model's length"),
                        false => failure,
                    }
                })
            }
        }
    }

    fn held_out<'a>(
        &self,
        args: &'a EvalArgs,
        folder: &'a Path,
        config: &ModelConfig,
    ) -> Result<Chosen<'a>, Failure> {
        let text = HeldOutText::choose(args, folder, config)?;
        Ok(Box::new(move |architecture, shard| {
            // What was chosen without being asked for is said.
            for note in architecture.tokenizer().map(|tokenizer| text.notes(tokenizer)).unwrap_or_default() {
                notes::say("data  ", note);
            }
            text.part(architecture, shard)
        }))
    }

    fn show(&self, shown: &Shown, generated: Generated) -> Result<(), Failure> {
        let about = shown.about;
        if about.json {
            let cost = SampleCost::from(&generated.report);
            let texts = generated.texts.into_iter().zip(generated.tokens).enumerate();
            let sample = |(n, (text, tokens)): (usize, (String, Vec<u32>))| {
                let line = n / about.num as usize;
                let id = about.ids.as_ref().and_then(|ids| ids.get(line)?.clone());
                let id = id.and_then(|id| RawValue::from_string(id).ok());
                let line = about.ids.is_some().then_some(line as u64);
                SampleText { index: about.first_sequence + n as u64, line, id, text, tokens }
            };
            return output::write_json(&SampleResult {
                model: about.folder.clone(),
                seed: about.seed,
                window: about.window,
                samples: texts.map(sample).collect(),
                cost,
            });
        }
        if about.trace {
            text::show_traces(&*(shown.architecture)()?, &generated)?;
        }
        output::write(&(generated.texts.join("\n---\n") + "\n"))
    }

    fn check_data(&self, settings: &RunSettings, named: bool, preset: (&str, bool)) -> Result<(), Failure> {
        let Some(text) = settings.data.text() else { return Ok(()) };
        check_tokenizer(text, settings)?;
        text.check_unread()?;
        check_corpus(&text.paths, named, preset)?;
        check_paths("data.valid_paths", &text.valid_paths)
    }

    fn keeps_its_data(&self) -> bool {
        true
    }
}

/// Prepared data have their tokenizer.
fn check_tokenizer(text: &TextData, settings: &RunSettings) -> Result<(), Failure> {
    let Some(tokenizer) = &settings.tokenizer else { return Ok(()) };
    let prepared = matches!(text.paths.as_slice(), [path] if path.join(DATA_FILE).is_file());
    match tokenizer.kind {
        _ if prepared => Ok(()),
        TokenizerChoice::TokenizerJson if tokenizer.path.as_os_str().is_empty() => {
            let allowed = "the file that tokenizer.kind = \"tokenizer-json\" reads";
            Err(submask::Error::invalid("tokenizer.path", "\"\"", allowed).into())
        }
        TokenizerChoice::TokenizerJson if !tokenizer.path.exists() => {
            let message = format!("tokenizer.path: {} does not exist", tokenizer.path.display());
            Err(Failure::usage(message).hint(
                "give a tokenizer.json, or the folder that it stands in; one on the Hub has to be downloaded first",
            ).about("tokenizer.path", tokenizer.path.display(), "a tokenizer.json, or the folder that it stands in"))
        }
        TokenizerChoice::Bpe if tokenizer.vocab_size < SMALLEST_BPE => {
            let allowed = format!("at least {SMALLEST_BPE}: the 256 bytes and end of text");
            Err(submask::Error::invalid("tokenizer.vocab_size", tokenizer.vocab_size, allowed).into())
        }
        _ => Ok(()),
    }
}

/// What is named must be there; standard input is.
fn check_paths(key: &str, paths: &[PathBuf]) -> Result<(), Failure> {
    let is_missing = |path: &&PathBuf| path.as_path() != Path::new(STANDARD_INPUT) && !path.exists();
    match paths.iter().find(is_missing) {
        Some(missing) => {
            let shown = missing.display();
            let allowed = "files and folders that there are";
            let hint = similar_name(missing)
                .map_or("paths count from the folder in which submask is called".to_owned(), |name| {
                    format!("did you mean `{name}`?")
                });
            Err(Failure::usage(format!("{key}: {shown} does not exist"))
                .hint(hint)
                .about(key, shown, allowed))
        }
        None => Ok(()),
    }
}

/// How alike two names are that one may be mistyped for the other, from 0 to 1.
const ALIKE: f64 = 0.85;

/// What stands where a path that is missing would, under the most similar name.
fn similar_name(missing: &Path) -> Option<String> {
    let name = missing.file_name()?.to_str()?;
    let folder = missing.parent().filter(|folder| !folder.as_os_str().is_empty());
    let entries = std::fs::read_dir(folder.unwrap_or(Path::new("."))).ok()?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let alike = names.map(|other| (strsim::jaro_winkler(name, &other), other));
    // Of names that are as alike, the first in the alphabet, whatever order the folder has.
    let best =
        alike.filter(|(alike, _)| *alike >= ALIKE).max_by(|(a, x), (b, y)| a.total_cmp(b).then(y.cmp(x)));
    best.map(|(_, other)| missing.with_file_name(other).display().to_string())
}

/// Every path of the corpus must be there, and a preset for a corpus that is not built in needs one, be it the one that
/// is built in.
fn check_corpus(paths: &[PathBuf], named: bool, (preset, needs_corpus): (&str, bool)) -> Result<(), Failure> {
    check_paths("data.paths", paths)?;
    if paths.is_empty() && needs_corpus && !named {
        let message = format!("the preset {preset} needs a corpus: only the dictionary is built in");
        return Err(
            Failure::usage(message).hint("give files of text, JSON, tables or parquet by --data PATH")
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_path_is_answered_with_the_one_that_is_there() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("novels.txt"), "").unwrap();
        let said =
            |name: &str| check_paths("data.paths", &[folder.path().join(name)]).unwrap_err().to_string();
        assert!(said("novel.txt").contains("novels.txt`?"), "{}", said("novel.txt"));
        assert!(said("poems.txt").contains("paths count from the folder"), "{}", said("poems.txt"));
        assert!(said("no/novels.txt").contains("paths count from the folder"));
    }
}
