//! Text to evaluate on, cut into a model's sequences.

use std::path::{Path, PathBuf};

use submask::data::{
    BlockLayout, DATA_FILE, Fidelity, FidelityCount, PairLayout, PairSource, PreparedData, Source, Split,
    Tokenizer, ValidationBlock,
};
use submask::model::{Architecture, HeldOut, ModelConfig};
use submask::train::SETTINGS_FILE;
use submask::train::settings::TextData;

use crate::args::{EvalArgs, SplitArg};
use crate::failure::Failure;
use crate::format::pair_note;
use crate::locate;

/// Text, and how it becomes sequences.
#[derive(Clone, Debug)]
pub struct HeldOutText {
    text: Text,
    /// Whether sequences have end of text at both ends; `None` where no run says so.
    block_ends: Option<bool>,
}

/// Which text.
#[derive(Clone, Debug)]
enum Text {
    /// The validation part of a prepared folder.
    Prepared(PathBuf),
    /// Files and folders of text.
    Files { paths: Vec<PathBuf>, split: Chosen<Split>, field: Chosen<String> },
    /// Files and folders of pairs.
    Pairs { paths: Vec<PathBuf>, prompt: Chosen<String>, completion: Chosen<String>, truncate: bool },
}

/// A value, and who chose it.
#[derive(Clone, Debug)]
struct Chosen<T> {
    value: T,
    by: String,
}

impl<T> Chosen<T> {
    /// The value of the flag, or else the run's, or else the default.
    fn first(flag: (&str, Option<T>), run: Option<(&Path, T)>, default: T) -> Self {
        match (flag, run) {
            ((name, Some(value)), _) => Self { value, by: name.to_owned() },
            (_, Some((run, value))) => {
                Self { value, by: format!("as {}", run.join(SETTINGS_FILE).display()) }
            }
            _ => Self { value: default, by: "default: the model is in no run".to_owned() },
        }
    }
}

impl HeldOutText {
    /// The text given, or else the validation text of the run that the model folder is in.
    pub fn choose(args: &EvalArgs, model: &Path) -> Result<Self, Failure> {
        let is_of_pairs = ModelConfig::read(model)?.pairs();
        check_fields(args, is_of_pairs)?;
        if let Some(missing) = args.data.iter().find(|path| !path.exists()) {
            return Err(Failure::failed(format!("--data: {} does not exist", missing.display())));
        }
        let run = locate::run_of(model).map(|run| Ok::<_, Failure>((read_data(&run)?, run)));
        let run = run.transpose()?;
        let block_ends = run.as_ref().map(|(data, _)| data.block_ends);
        let text = match args.data.as_slice() {
            [] => Text::of_run(model, run.as_ref())?,
            [folder] if folder.join(DATA_FILE).is_file() => {
                let fields = [&args.field, &args.prompt_field, &args.completion_field];
                if args.split.is_some() || fields.into_iter().any(Option::is_some) {
                    let (flags, hint) = match is_of_pairs {
                        true => (
                            "--prompt-field and --completion-field",
                            "its pairs were chosen when it was prepared",
                        ),
                        false => ("--split and --field", "its documents were chosen when it was prepared"),
                    };
                    return Err(
                        Failure::usage(format!("{flags} have no meaning for prepared data")).hint(hint)
                    );
                }
                Text::Prepared(folder.clone())
            }
            paths if is_of_pairs => Text::pairs(paths, args, run.as_ref()),
            paths => Text::files(paths, args, run.as_ref()),
        };
        Ok(Self { text, block_ends })
    }

    /// In words.
    pub fn name(&self) -> String {
        match &self.text {
            Text::Prepared(folder) => format!("validation part of {}", folder.display()),
            Text::Files { paths, .. } | Text::Pairs { paths, .. } => {
                paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
            }
        }
    }

    /// What was chosen without being asked for, and so has to be said.
    pub fn notes(&self, tokenizer: &Tokenizer) -> Vec<String> {
        let mut notes = Vec::new();
        if let Text::Pairs { prompt, completion, .. } = &self.text {
            let shown = |key, Chosen { value, by }: &Chosen<String>| format!("{key} = {value} ({by})");
            return vec![format!(
                "{}, {}",
                shown("prompt_field", prompt),
                shown("completion_field", completion)
            )];
        }
        if let Text::Files { split, field, .. } = &self.text {
            let (shown, Chosen { value, by }) = (split_name(split.value), field);
            notes.push(format!("split = {shown} ({}), field = {value} ({by})", split.by));
        }
        if self.block_ends.is_none() && tokenizer.end_of_text().is_some() {
            let cut = "sequences are cut without end of text at their ends";
            notes.push(format!("{cut}: the model is in no run whose data.block_ends could be read"));
        }
        notes
    }

    /// Sequences of the model's length, `count` of them spread evenly, or all; and what the tokenizer did to their text,
    /// where that is known.
    pub fn sequences(
        &self,
        architecture: &Architecture,
        count: Option<u64>,
    ) -> Result<(HeldOut, Option<Fidelity>), Failure> {
        let tokenizer =
            architecture.tokenizer().ok_or_else(|| Failure::failed("a model of text has a tokenizer"))?;
        let seq_len = architecture.config().seq_len();
        let layout = BlockLayout { seq_len, block_ends: self.block_ends.unwrap_or(false) };
        let (blocks, fidelity) = match &self.text {
            Text::Prepared(folder) if architecture.config().pairs() => {
                return prepared_pairs(folder, tokenizer, seq_len, count);
            }
            Text::Pairs { paths, prompt, completion, truncate } => {
                let source = PairSource {
                    paths: paths.clone(),
                    prompt_field: prompt.value.clone(),
                    completion_field: completion.value.clone(),
                };
                return pairs(&source, tokenizer, PairLayout { seq_len, truncate: *truncate }, count);
            }
            Text::Prepared(folder) => prepared(folder, tokenizer, layout, count)?,
            Text::Files { paths, split, field } => {
                let (paths, field) = (paths.clone(), field.value.clone());
                let source = Source::Files { paths, split: split.value, field };
                let (tokens, fidelity) = tokenize(&source, tokenizer)?;
                (cut(&tokens, tokenizer, layout, count, fidelity.is_lossless())?, Some(fidelity))
            }
        };
        Ok((HeldOut::of_text(&blocks), fidelity.filter(|_| !tokenizer.is_lossless())))
    }
}

/// Sequences of the validation part of a prepared folder.
fn prepared(
    folder: &Path,
    tokenizer: &Tokenizer,
    layout: BlockLayout,
    count: Option<u64>,
) -> Result<(Vec<ValidationBlock>, Option<Fidelity>), Failure> {
    let data = PreparedData::open(folder)?;
    if let Some(store) = &data.valid {
        store.check_tokenizer(tokenizer)?;
    }
    let blocks = data
        .validation(layout)?
        .ok_or_else(|| Failure::failed(format!("{} holds no validation part", folder.display())))?;
    if data.fidelity().is_none() && !tokenizer.is_lossless() {
        eprintln!(
            "data  {} was prepared before it was asked whether documents decode to themselves; `data prepare --rebuild` tells",
            folder.display()
        );
    }
    let chosen = spread(blocks.blocks().len(), count).map(|i| Ok(blocks.block(i)?));
    Ok((chosen.collect::<Result<_, Failure>>()?, data.info.valid.as_ref().and_then(|part| part.fidelity)))
}

/// Pairs of files.
fn pairs(
    source: &PairSource,
    tokenizer: &Tokenizer,
    layout: PairLayout,
    count: Option<u64>,
) -> Result<(HeldOut, Option<Fidelity>), Failure> {
    let (pairs, counts, fidelity) = source.sequences(tokenizer, layout)?;
    eprintln!("data  {}", pair_note(counts, layout.seq_len));
    let chosen = spread(pairs.len() as u64, count).map(|i| pairs[i as usize].clone());
    let held_out = HeldOut::of_pairs(&chosen.collect::<Vec<_>>());
    Ok((held_out, Some(fidelity).filter(|_| !tokenizer.is_lossless())))
}

/// Pairs of the validation part of a prepared folder.
fn prepared_pairs(
    folder: &Path,
    tokenizer: &Tokenizer,
    seq_len: usize,
    count: Option<u64>,
) -> Result<(HeldOut, Option<Fidelity>), Failure> {
    let data = PreparedData::open(folder)?;
    data.train.check_tokenizer(tokenizer)?;
    let pairs = data
        .validation_pairs(seq_len)?
        .ok_or_else(|| Failure::failed(format!("{} holds no validation part", folder.display())))?;
    let chosen = spread(pairs.len(), count).map(|i| Ok(pairs.sequence(i)?));
    let held_out = HeldOut::of_pairs(&chosen.collect::<Result<Vec<_>, Failure>>()?);
    Ok((held_out, data.info.valid.as_ref().and_then(|part| part.fidelity)))
}

/// Flags of fields are those of what the model was trained on.
fn check_fields(args: &EvalArgs, is_of_pairs: bool) -> Result<(), Failure> {
    let text = args.split.is_some() || args.field.is_some();
    let pairs = args.prompt_field.is_some() || args.completion_field.is_some();
    match is_of_pairs {
        true if text => Err(Failure::usage("--split and --field have no meaning for a model of pairs")
            .hint("--prompt-field and --completion-field name its fields")),
        false if pairs => {
            let flags = "--prompt-field and --completion-field";
            Err(Failure::usage(format!("{flags} have no meaning for a model that was not trained on pairs"))
                .hint("leave them out"))
        }
        _ => Ok(()),
    }
}

impl Text {
    /// The validation text of a run.
    fn of_run(model: &Path, run: Option<&(TextData, PathBuf)>) -> Result<Self, Failure> {
        let give = |message: String| Failure::failed(message).hint("give the text by --data PATH");
        let (data, run) =
            run.ok_or_else(|| give(format!("{} is in no run that has validation text", model.display())))?;
        let folder = data_folder(data, run);
        match folder.join(DATA_FILE).is_file() {
            true => Ok(Self::Prepared(folder)),
            false => Err(give(format!("the data of the run is not in {} any more", folder.display()))),
        }
    }

    /// Files of pairs, whose fields are those of the flags, or of the run.
    fn pairs(paths: &[PathBuf], args: &EvalArgs, run: Option<&(TextData, PathBuf)>) -> Self {
        // A run on prepared pairs names no fields.
        let run = run.filter(|(data, _)| data.has_pairs());
        let chosen = |flag, given: &Option<String>, of_run: fn(&TextData) -> &String, default: &str| {
            let of_run = run.map(|(data, run)| (run.as_path(), of_run(data).clone()));
            Chosen::first((flag, given.clone()), of_run, default.to_owned())
        };
        let (prompt, completion) = (&args.prompt_field, &args.completion_field);
        Self::Pairs {
            paths: paths.to_vec(),
            prompt: chosen("--prompt-field", prompt, |data| &data.prompt_field, "prompt"),
            completion: chosen("--completion-field", completion, |data| &data.completion_field, "completion"),
            truncate: run.is_some_and(|(data, _)| data.truncate),
        }
    }

    /// Files, whose documents are found as the flags say, or as the run found its own.
    fn files(paths: &[PathBuf], args: &EvalArgs, run: Option<&(TextData, PathBuf)>) -> Self {
        let split = run.map(|(data, run)| (run.as_path(), data.split));
        let field = run.map(|(data, run)| (run.as_path(), data.field.clone()));
        Self::Files {
            paths: paths.to_vec(),
            split: Chosen::first(("--split", args.split.map(Split::from)), split, Split::File),
            field: Chosen::first(("--field", args.field.clone()), field, "text".to_owned()),
        }
    }
}

impl From<SplitArg> for Split {
    fn from(split: SplitArg) -> Self {
        match split {
            SplitArg::File => Self::File,
            SplitArg::Line => Self::Line,
            SplitArg::Paragraph => Self::Paragraph,
        }
    }
}

fn split_name(split: Split) -> &'static str {
    match split {
        Split::File => "file",
        Split::Line => "line",
        Split::Paragraph => "paragraph",
    }
}

/// Where a run keeps its tokens.
fn data_folder(data: &TextData, run: &Path) -> PathBuf {
    match data.paths.as_slice() {
        [path] if path.join(DATA_FILE).is_file() => path.clone(),
        _ if data.cache.as_os_str().is_empty() => run.join("data"),
        _ => data.cache.clone(),
    }
}

fn read_data(run: &Path) -> Result<TextData, Failure> {
    let settings = crate::settings::check_file(&run.join(SETTINGS_FILE))?;
    let text = settings.data.text().cloned();
    text.ok_or_else(|| Failure::failed(format!("{} is no run on text", run.display())))
}

/// The stream of tokens that the library would prepare: separators around documents, or between them.
fn tokenize(source: &Source, tokenizer: &Tokenizer) -> Result<(Vec<u32>, Fidelity), Failure> {
    let separator = tokenizer.separator();
    let mut fidelity = FidelityCount::default();
    let mut tokens = tokenizer.end_of_text().into_iter().collect::<Vec<_>>();
    // A long document comes in pieces, which are encoded one by one, as when data are prepared.
    for piece in source.documents()? {
        let piece = piece?;
        let encoded = tokenizer.encode(&piece.text)?;
        fidelity.add(Fidelity::of(tokenizer, &piece.text, &encoded)?, !piece.continues);
        tokens.extend(encoded);
        if !piece.continues {
            tokens.extend(&separator);
        }
    }
    if tokenizer.end_of_text().is_none() {
        tokens.truncate(tokens.len() - separator.len());
    }
    Ok((tokens, fidelity.total()))
}

/// Whole sequences of a stream.
fn cut(
    tokens_of_text: &[u32],
    tokenizer: &Tokenizer,
    layout: BlockLayout,
    count: Option<u64>,
    is_lossless: bool,
) -> Result<Vec<ValidationBlock>, Failure> {
    let BlockLayout { seq_len, block_ends } = layout;
    let end = tokenizer.end_of_text().filter(|_| block_ends);
    let stride = if end.is_some() { seq_len.saturating_sub(2) } else { seq_len };
    let all: Vec<&[u32]> = tokens_of_text.chunks_exact(stride.max(1)).collect();
    if all.is_empty() {
        let message =
            format!("the text has {} tokens, less than one sequence of {seq_len}", tokens_of_text.len());
        return Err(Failure::failed(message).hint("give more text"));
    }
    spread(all.len() as u64, count)
        .map(|i| {
            let inner = all[i as usize];
            let tokens: Vec<u32> = end.into_iter().chain(inner.iter().copied()).chain(end).collect();
            let before = &tokens_of_text[..i as usize * stride];
            let count = || tokenizer.count_characters_after(before, inner);
            let characters = is_lossless.then(count).transpose()?;
            Ok(ValidationBlock { tokens, characters })
        })
        .collect()
}

/// `count` of `all` indices, spread evenly; all of them if there are not more.
fn spread(all: u64, count: Option<u64>) -> impl Iterator<Item = u64> {
    let count = count.map_or(all, |count| count.min(all));
    (0..count).map(move |i| (u128::from(i) * u128::from(all) / u128::from(count)) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_are_spread_evenly() {
        assert_eq!(spread(10, Some(4)).collect::<Vec<_>>(), [0, 2, 5, 7]);
        assert_eq!(spread(3, Some(9)).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(spread(3, None).count(), 3);
    }

    #[test]
    fn texts_are_cut_as_prepared_data_is() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.txt"), "abé").unwrap();
        std::fs::write(folder.path().join("b.txt"), "cd").unwrap();
        let tokenizer = Tokenizer::bytes();
        let (tokens, _) = tokenize(&Source::files([folder.path()]), &tokenizer).unwrap();
        assert_eq!(tokens, [256, 97, 98, 0xc3, 0xa9, 256, 99, 100, 256]);
        let plain = BlockLayout { seq_len: 4, block_ends: false };
        let blocks = cut(&tokens, &tokenizer, plain, None, true).unwrap();
        assert_eq!(blocks.iter().map(|block| block.characters).collect::<Vec<_>>(), [Some(3), Some(2)]);
        let ends = BlockLayout { seq_len: 4, block_ends: true };
        let blocks = cut(&tokens, &tokenizer, ends, Some(1), true).unwrap();
        assert_eq!(blocks[0].tokens, [256, 256, 97, 256]);
        assert!(cut(&tokens[..2], &tokenizer, plain, None, true).is_err());
        let (text8, _) =
            tokenize(&Source::files([folder.path().join("b.txt")]), &Tokenizer::text8()).unwrap();
        assert_eq!(text8, [3, 4]);
    }
}
