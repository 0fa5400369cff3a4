//! Text to evaluate on, cut into a model's sequences.

use std::path::{Path, PathBuf};

use submask::data::{
    BlockLayout, DATA_FILE, Fidelity, FidelityCount, FileFormat, PreparedData, Reading, STANDARD_INPUT,
    Source, Split, Tokenizer, ValidationBlock,
};
use submask::model::{Architecture, HeldOut};
use submask::train::SETTINGS_FILE;
use submask::train::settings::TextData;

use crate::args::{EvalArgs, FileFormatArg, ReadingArgs, SplitArg};
use crate::failure::Failure;
use crate::format::{left_out_note, skipped_note};
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
    Files { paths: Vec<PathBuf>, split: Chosen<Split>, field: Chosen<String>, reading: Reading },
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
        let is_missing = |path: &&PathBuf| path.as_path() != Path::new(STANDARD_INPUT) && !path.exists();
        if let Some(missing) = args.data.iter().find(is_missing) {
            return Err(Failure::failed(format!("--data: {} does not exist", missing.display())));
        }
        let run = locate::run_of(model).map(|run| Ok::<_, Failure>((read_data(&run)?, run)));
        let run = run.transpose()?;
        let block_ends = run.as_ref().map(|(data, _)| data.block_ends);
        let text = match args.data.as_slice() {
            [] => Text::of_run(model, run.as_ref())?,
            [folder] if folder.join(DATA_FILE).is_file() => {
                if let Some(flag) = flag_of_files(args) {
                    let message = format!("{flag} has no meaning for prepared data");
                    return Err(
                        Failure::usage(message).hint("its documents were chosen when it was prepared")
                    );
                }
                Text::Prepared(folder.clone())
            }
            _ if args.split.is_some()
                && args.reading.separator.as_deref().is_some_and(|text| !text.is_empty()) =>
            {
                let message = "--split has no meaning beside --separator, which says what a document is";
                return Err(Failure::usage(message).hint("leave out one of them"));
            }
            paths => Text::files(paths, args, run.as_ref()),
        };
        Ok(Self { text, block_ends })
    }

    /// In words.
    pub fn name(&self) -> String {
        match &self.text {
            Text::Prepared(folder) => format!("validation part of {}", folder.display()),
            Text::Files { paths, .. } => {
                paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
            }
        }
    }

    /// What was chosen without being asked for, and so has to be said.
    pub fn notes(&self, tokenizer: &Tokenizer) -> Vec<String> {
        let mut notes = Vec::new();
        if let Text::Files { split, field, reading, .. } = &self.text {
            let (shown, Chosen { value, by }) = (split_name(split.value), field);
            let split = match reading.separator.as_str() {
                "" => format!("split = {shown} ({}), ", split.by),
                _ => String::new(),
            };
            notes.push(format!("{split}field = {value} ({by}){}", reading_note(reading)));
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
            Text::Prepared(folder) => prepared(folder, tokenizer, layout, count)?,
            Text::Files { paths, split, field, reading } => {
                let (paths, field, reading) = (paths.clone(), field.value.clone(), reading.clone());
                let source = Source::Files { paths, split: split.value, field, reading };
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

    /// Files, whose documents are found as the flags say, or as the run found its own.
    fn files(paths: &[PathBuf], args: &EvalArgs, run: Option<&(TextData, PathBuf)>) -> Self {
        let split = run.map(|(data, run)| (run.as_path(), data.split));
        let field = run.map(|(data, run)| (run.as_path(), data.field.clone()));
        Self::Files {
            paths: paths.to_vec(),
            split: Chosen::first(("--split", args.split.map(Split::from)), split, Split::File),
            field: Chosen::first(("--field", args.field.clone()), field, "text".to_owned()),
            reading: reading(args, run.map(|(data, _)| data.reading()).unwrap_or_default()),
        }
    }
}

/// A flag that was given and says how files are read.
fn flag_of_files(args: &EvalArgs) -> Option<&'static str> {
    let ReadingArgs { format, join, separator, skip_bad } = &args.reading;
    let flags = [
        ("--split", args.split.is_some()),
        ("--field", args.field.is_some()),
        ("--format", format.is_some()),
        ("--join", join.is_some()),
        ("--separator", separator.is_some()),
        ("--skip-bad", skip_bad.is_some()),
    ];
    flags.into_iter().find(|(_, given)| *given).map(|(flag, _)| flag)
}

/// How files are read: as the flags say, or else as the run does. `--split` takes the place of the run's separator.
fn reading(args: &EvalArgs, run: Reading) -> Reading {
    let run_separator = if args.split.is_some() { String::new() } else { run.separator };
    let args = &args.reading;
    Reading {
        format: args.format.map_or(run.format, FileFormat::from),
        join: args.join.clone().unwrap_or(run.join),
        separator: args.separator.clone().unwrap_or(run_separator),
        skip_bad: args.skip_bad.unwrap_or(run.skip_bad),
    }
}

/// What of it is not the default.
fn reading_note(reading: &Reading) -> String {
    let usual = Reading::default();
    let Reading { format, join, separator, skip_bad } = reading;
    [
        (*format != usual.format).then(|| format!(", format = {}", format_name(*format))),
        (*join != usual.join).then(|| format!(", join = {join:?}")),
        (*separator != usual.separator).then(|| format!(", separator = {separator:?}")),
        (*skip_bad).then(|| ", bad records are skipped".to_owned()),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn format_name(format: FileFormat) -> String {
    serde_json::to_value(format).ok().and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default()
}

impl From<FileFormatArg> for FileFormat {
    fn from(format: FileFormatArg) -> Self {
        match format {
            FileFormatArg::Auto => Self::Auto,
            FileFormatArg::Text => Self::Text,
            FileFormatArg::Json => Self::Json,
            FileFormatArg::Csv => Self::Csv,
            FileFormatArg::Tsv => Self::Tsv,
            FileFormatArg::Parquet => Self::Parquet,
            FileFormatArg::Uint16 => Self::Uint16,
            FileFormatArg::Uint32 => Self::Uint32,
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
    let corpus = source.corpus()?;
    let mut documents = corpus.documents_for(tokenizer)?;
    // A long document comes in pieces, which are encoded one by one, as when data are prepared.
    for piece in documents.by_ref() {
        let piece = piece?;
        let (encoded, of_piece) = piece.content.encode(tokenizer, &piece.text)?;
        fidelity.add(of_piece, !piece.continues);
        tokens.extend(encoded);
        if !piece.continues {
            tokens.extend(&separator);
        }
    }
    if tokenizer.end_of_text().is_none() {
        tokens.truncate(tokens.len() - separator.len());
    }
    let left_out = corpus.left_out().map(left_out_note);
    for note in left_out.into_iter().chain(documents.skipped().map(skipped_note)) {
        eprintln!("data  {note}");
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
