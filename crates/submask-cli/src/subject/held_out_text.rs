//! Text to evaluate on: cut into a model's sequences, or document by document.

use std::ops::Range;
use std::path::{Path, PathBuf};

use submask::data::{
    BlockLayout, DATA_FILE, DataInfo, Dataset, Fidelity, FileFormat, PairLayout, PairSequence, PairSource,
    Pairs, PreparedData, Reading, STANDARD_INPUT, Source, Split, Tokenizer,
};
use submask::model::{Architecture, HeldOut, HeldOutShare, ModelConfig, TextLayout};
use submask::shard::Shard;
use submask::train::SETTINGS_FILE;
use submask::train::settings::TextData;

use super::text_stream::Stream;
use super::{Part, Parts, Whole};
use crate::args::{EvalArgs, FileFormatArg, ReadingArgs, SplitArg};
use crate::data_notes::{corpus_notes, pair_note};
use crate::failure::Failure;
use crate::format::tokenizer_note;
use crate::{flags, locate, notes};

/// Why a default holds.
const IN_NO_RUN: &str = "the model is in no run";

/// Text, and how it becomes sequences.
#[derive(Clone, Debug)]
pub struct HeldOutText {
    text: Text,
    /// Whether sequences have end of text at both ends; `None` where no run says so.
    block_ends: Option<bool>,
    /// How documents stand, each in sequences of its own; `None`: one behind the other in sequences of the model's length.
    alone: Option<TextLayout>,
    /// How many sequences or documents are evaluated; `None`: all.
    count: Option<u64>,
}

/// Which text.
#[derive(Clone, Debug)]
enum Text {
    /// The validation part of a prepared folder.
    Prepared(PathBuf),
    /// Files and folders of text.
    Files { paths: Vec<PathBuf>, split: Chosen<Split>, field: Chosen<String>, reading: Reading },
    /// Files and folders of pairs.
    Pairs {
        paths: Vec<PathBuf>,
        prompt: Chosen<String>,
        completion: Chosen<String>,
        truncate: bool,
        reading: Reading,
    },
}

/// A value, and who chose it.
#[derive(Clone, Debug)]
struct Chosen<T> {
    value: T,
    by: String,
}

impl<T> Chosen<T> {
    /// The value of the flag, or else that of the file that says it of the run, or else the default.
    fn first(flag: (&str, Option<T>), run: Option<(&Path, T)>, default: (T, &str)) -> Self {
        match (flag, run) {
            ((name, Some(value)), _) => Self { value, by: name.to_owned() },
            (_, Some((file, value))) => Self { value, by: format!("as {}", file.display()) },
            (_, None) => Self { value: default.0, by: format!("default: {}", default.1) },
        }
    }
}

/// The data of a run.
struct RunData {
    /// Where a run on prepared data is silent, as they were prepared.
    data: TextData,
    run: PathBuf,
    /// The file that says how the data were read.
    origin: PathBuf,
}

impl RunData {
    fn read(run: PathBuf) -> Result<Self, Failure> {
        let settings = crate::settings::check_file(&run.join(SETTINGS_FILE))?;
        let data = settings.data.text().cloned();
        let data = data.ok_or_else(|| Failure::failed(format!("{} is no run on text", run.display())))?;
        let origin = run.join(SETTINGS_FILE);
        match data.prepared() {
            None => Ok(Self { data, run, origin }),
            Some(folder) => {
                let prepared = DataInfo::read(folder)?.settings;
                let origin = if prepared.reading().is_some() { folder.join(DATA_FILE) } else { origin };
                Ok(Self { data: data.as_prepared(&prepared), run, origin })
            }
        }
    }

    /// Where it keeps its tokens.
    fn folder(&self) -> PathBuf {
        match self.data.prepared() {
            Some(folder) => folder.to_path_buf(),
            None if self.data.cache.as_os_str().is_empty() => self.run.join("data"),
            None => self.data.cache.clone(),
        }
    }
}

impl HeldOutText {
    /// The text given, or else the validation text of the run that the model folder is in.
    pub fn choose(args: &EvalArgs, model: &Path, config: &ModelConfig) -> Result<Self, Failure> {
        let is_of_pairs = config.pairs();
        check_flags(args, is_of_pairs)?;
        let is_missing = |path: &&PathBuf| path.as_path() != Path::new(STANDARD_INPUT) && !path.exists();
        if let Some(missing) = args.data.iter().find(is_missing) {
            return Err(Failure::failed(format!("--data: {} does not exist", missing.display())));
        }
        let run = locate::run_of(model).map(RunData::read).transpose()?;
        let block_ends = run.as_ref().map(|run| run.data.block_ends);
        let text = match args.data.as_slice() {
            [] => Text::of_run(model, run.as_ref())?,
            [folder] if folder.join(DATA_FILE).is_file() => {
                if let Some(flag) = flag_of_files(args) {
                    let hint = match is_of_pairs {
                        true => "its pairs were chosen when it was prepared",
                        false => "its documents were chosen when it was prepared",
                    };
                    let message = format!("{flag} has no meaning for prepared data");
                    return Err(Failure::usage(message).hint(hint));
                }
                Text::Prepared(folder.clone())
            }
            paths if is_of_pairs => Text::pairs(paths, args, run.as_ref()),
            _ if args.split.is_some()
                && args.reading.separator.as_deref().is_some_and(|text| !text.is_empty()) =>
            {
                let message = "--split has no meaning beside --separator, which says what a document is";
                return Err(Failure::usage(message).hint("leave out one of them"));
            }
            paths => Text::files(paths, args, run.as_ref()),
        };
        let stride = args.layout.stride.map(Into::into);
        let alone = match is_of_pairs {
            true => TextLayout::Filled,
            false => TextLayout::Alone { end: args.layout.end, stride },
        };
        let alone = args.by_document.then_some(alone);
        Ok(Self { text, block_ends, alone, count: args.sequences.map(Into::into) })
    }

    /// In words.
    fn name(&self) -> String {
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
        if let Text::Pairs { prompt, completion, reading, .. } = &self.text {
            let shown = |key, Chosen { value, by }: &Chosen<String>| format!("{key} = {value} ({by})");
            let (prompt, completion) = (shown("prompt_field", prompt), shown("completion_field", completion));
            return vec![format!("{prompt}, {completion}{}", reading_note(reading))];
        }
        if let Text::Files { split, field, reading, .. } = &self.text {
            let (shown, Chosen { value, by }) = (split_name(split.value), field);
            let split = match reading.separator.as_str() {
                "" => format!("split = {shown} ({}), ", split.by),
                _ => String::new(),
            };
            notes.push(format!("{split}field = {value} ({by}){}", reading_note(reading)));
        }
        if self.alone.is_none() && self.block_ends.is_none() && tokenizer.end_of_text().is_some() {
            let cut = "sequences are cut without end of text at their ends";
            notes.push(format!("{cut}: the model is in no run whose data.block_ends could be read"));
        }
        notes
    }

    /// What is evaluated: all, or a share of it, which alone is read of prepared data. Says what the tokenizer did to the text,
    /// where that is known.
    pub fn part(&self, architecture: &Architecture, shard: Option<Shard>) -> Result<Part, Failure> {
        let tokenizer =
            architecture.tokenizer().ok_or_else(|| Failure::failed("a model of text has a tokenizer"))?;
        if architecture.config().pairs() {
            return self.part_of_pairs(architecture, tokenizer, shard);
        }
        let block_ends = self.alone.is_none() && self.block_ends.unwrap_or(false);
        let layout = BlockLayout { seq_len: architecture.config().seq_len(), block_ends };
        let stream = self.stream(tokenizer, layout)?;
        let (parts, count, documents) = match self.alone {
            Some(alone) => self.documents(&stream, alone, architecture, shard)?,
            None => self.sequences(&stream, shard)?,
        };
        say_fidelity(stream.fidelity(), stream.is_lossless(), tokenizer);
        let whole = shard.map(|_| Whole { count, fingerprint: stream.fingerprint() });
        Ok(Part { parts, name: self.name(), documents, whole })
    }

    /// What is evaluated with a model of pairs: one of them per sequence, whether they are evaluated one by one or not.
    fn part_of_pairs(
        &self,
        architecture: &Architecture,
        tokenizer: &Tokenizer,
        shard: Option<Shard>,
    ) -> Result<Part, Failure> {
        let seq_len = architecture.config().seq_len();
        let range = |count: usize| shard.unwrap_or(Shard::WHOLE).range(count);
        let (chosen, whole, fidelity) = match &self.text {
            Text::Prepared(folder) => {
                let (pairs, fidelity) = prepared_pairs(folder, tokenizer, seq_len)?;
                let all: Vec<u64> = spread(pairs.len(), self.count).collect();
                let whole = Whole { count: all.len() as u64, fingerprint: pairs.fingerprint() };
                let chosen = all[range(all.len())].iter().map(|index| pairs.sequence(*index));
                (chosen.collect::<Result<Vec<_>, _>>()?, whole, fidelity)
            }
            Text::Pairs { paths, prompt, completion, truncate, reading } => {
                let (prompt_field, completion_field) = (prompt.value.clone(), completion.value.clone());
                let (paths, reading) = (paths.clone(), reading.clone());
                let source = PairSource { paths, prompt_field, completion_field, reading };
                let read = source.sequences(tokenizer, PairLayout { seq_len, truncate: *truncate })?;
                notes::say("data  ", pair_note(read.counts, seq_len));
                corpus_notes(&read.corpus, true).into_iter().for_each(|note| notes::say("data  ", note));
                let all = read.sequences;
                let chosen: Vec<PairSequence> =
                    spread(all.len() as u64, self.count).map(|index| all[index as usize].clone()).collect();
                let fingerprint = HeldOut::of_pairs(&chosen).fingerprint();
                let whole = Whole { count: chosen.len() as u64, fingerprint };
                (chosen[range(chosen.len())].to_vec(), whole, Some(read.fidelity))
            }
            Text::Files { .. } => return Err(Failure::failed("a model of pairs is evaluated on pairs")),
        };
        say_fidelity(fidelity, chosen.iter().all(|pair| pair.characters.is_some()), tokenizer);
        let first = range(whole.count as usize).start as u64;
        let parts = match self.alone {
            Some(_) => {
                let passages = chosen.into_iter().map(|pair| architecture.passage_of_pair(pair));
                Parts::Documents { first, passages: passages.collect::<Result<_, _>>()? }
            }
            None => Parts::Sequences(HeldOutShare::from_number(first, HeldOut::of_pairs(&chosen))),
        };
        Ok(Part { parts, name: self.name(), documents: Some(whole.count), whole: shard.map(|_| whole) })
    }

    fn stream<'a>(&self, tokenizer: &'a Tokenizer, layout: BlockLayout) -> Result<Stream<'a>, Failure> {
        match &self.text {
            Text::Prepared(folder) => Stream::prepared(folder, tokenizer, layout),
            Text::Files { paths, split, field, reading } => {
                let (paths, field, reading) = (paths.clone(), field.value.clone(), reading.clone());
                let source = Source::Files { paths, split: split.value, field, reading };
                Stream::read(&source, tokenizer, layout)
            }
            Text::Pairs { .. } => Err(Failure::failed("pairs are no text in one piece")),
        }
    }

    /// A share of the sequences of the model's length and what is left of the text after them; how many all are, and of how many
    /// documents.
    fn sequences(&self, stream: &Stream, shard: Option<Shard>) -> Result<(Parts, u64, Option<u64>), Failure> {
        let all = stream.whole() + u64::from(stream.has_tail());
        let chosen: Vec<u64> = chosen(stream.whole(), all, self.count).collect();
        let range = shard.unwrap_or(Shard::WHOLE).range(chosen.len());
        let first = range.start as u64;
        let blocks =
            chosen[range].iter().map(|index| stream.block(*index)).collect::<Result<Vec<_>, Failure>>()?;
        let documents = match stream.documents()? {
            Some(documents) => Some(touched(&documents, chosen.iter().map(|index| stream.range(*index)))),
            // All of them, whichever they are.
            None => stream.document_count().filter(|_| chosen.len() as u64 == all),
        };
        let share = HeldOutShare::from_number(first, HeldOut::of_text(&blocks));
        Ok((Parts::Sequences(share), chosen.len() as u64, documents))
    }

    /// A share of the documents, which stand alone; and how many all are.
    fn documents(
        &self,
        stream: &Stream,
        alone: TextLayout,
        architecture: &Architecture,
        shard: Option<Shard>,
    ) -> Result<(Parts, u64, Option<u64>), Failure> {
        let documents = stream.documents()?.ok_or_else(|| {
            let message = "--by-document has no meaning here: the tokenizer has no end of text, so that prepared data \
                           do not tell documents apart";
            Failure::usage(message).hint("give the text by --data PATH")
        })?;
        let passage = |index: u64| {
            let tokens = stream.tokens(documents[index as usize].clone())?;
            let passage = architecture.passage_of_tokens(alone, &[], &tokens, stream.is_lossless());
            Ok(passage.map_err(|error| flags::EVAL.name_in(error))?)
        };
        let chosen: Vec<u64> = spread(documents.len() as u64, self.count).collect();
        let (range, count) = (shard.unwrap_or(Shard::WHOLE).range(chosen.len()), chosen.len() as u64);
        let first = range.start as u64;
        let passages = chosen[range].iter().map(|index| passage(*index)).collect::<Result<_, Failure>>()?;
        Ok((Parts::Documents { first, passages }, count, Some(count)))
    }
}

/// Pairs of the validation part of a prepared folder, and what the tokenizer did to all of them.
fn prepared_pairs(
    folder: &Path,
    tokenizer: &Tokenizer,
    seq_len: usize,
) -> Result<(Pairs, Option<Fidelity>), Failure> {
    let data = PreparedData::open(folder)?;
    data.train.check_tokenizer(tokenizer)?;
    let pairs = data
        .validation_pairs(seq_len)?
        .ok_or_else(|| Failure::failed(format!("{} holds no validation part", folder.display())))?;
    Ok((pairs, data.info.valid.as_ref().and_then(|part| part.fidelity)))
}

/// Says what the tokenizer did to a text, where that is known.
fn say_fidelity(fidelity: Option<Fidelity>, is_lossless: bool, tokenizer: &Tokenizer) {
    if let Some(fidelity) = fidelity.filter(|fidelity| !tokenizer.is_lossless() || !fidelity.is_lossless()) {
        let figures = match is_lossless {
            true => "",
            false => ": figures are per token of the tokenised text, not per character",
        };
        notes::say("data  ", format!("{}{figures}", tokenizer_note(fidelity)));
    }
}

/// Flags that do not belong to what the model was trained on.
fn check_flags(args: &EvalArgs, is_of_pairs: bool) -> Result<(), Failure> {
    let of_text = [
        ("--split", args.split.is_some(), "--prompt-field and --completion-field name its fields"),
        ("--field", args.field.is_some(), "--prompt-field and --completion-field name its fields"),
        ("--separator", args.reading.separator.is_some(), "a pair stands in each record"),
        ("--end", args.layout.end, "the end of a completion is always charged"),
        ("--stride", args.layout.stride.is_some(), "a pair is one sequence"),
    ];
    let of_pairs = [
        ("--prompt-field", args.prompt_field.is_some()),
        ("--completion-field", args.completion_field.is_some()),
    ];
    match is_of_pairs {
        true => match of_text.into_iter().find(|(_, given, _)| *given) {
            Some((flag, _, hint)) => {
                Err(Failure::usage(format!("{flag} has no meaning for a model of pairs")).hint(hint))
            }
            None => Ok(()),
        },
        false => match of_pairs.into_iter().find(|(_, given)| *given) {
            Some((flag, _)) => {
                let message = format!("{flag} has no meaning for a model that was not trained on pairs");
                Err(Failure::usage(message).hint("leave it out"))
            }
            None => Ok(()),
        },
    }
}

impl Text {
    /// The validation text of a run.
    fn of_run(model: &Path, run: Option<&RunData>) -> Result<Self, Failure> {
        let give = |message: String| Failure::failed(message).hint("give the text by --data PATH");
        let run =
            run.ok_or_else(|| give(format!("{} is in no run that has validation text", model.display())))?;
        let folder = run.folder();
        match folder.join(DATA_FILE).is_file() {
            true => Ok(Self::Prepared(folder)),
            false => Err(give(format!("the data of the run is not in {} any more", folder.display()))),
        }
    }

    /// Files of pairs, whose fields are those of the flags, or of the run.
    fn pairs(paths: &[PathBuf], args: &EvalArgs, run: Option<&RunData>) -> Self {
        // A run whose prepared data are gone names no fields.
        let why = if run.is_some() { "the run does not say it" } else { IN_NO_RUN };
        let run = run.filter(|run| run.data.has_pairs());
        let chosen = |flag, given: &Option<String>, of_run: fn(&TextData) -> &String, default: &str| {
            let of_run = run.map(|run| (run.origin.as_path(), of_run(&run.data).clone()));
            Chosen::first((flag, given.clone()), of_run, (default.to_owned(), why))
        };
        let (prompt, completion) = (&args.prompt_field, &args.completion_field);
        Self::Pairs {
            paths: paths.to_vec(),
            prompt: chosen("--prompt-field", prompt, |data| &data.prompt_field, "prompt"),
            completion: chosen("--completion-field", completion, |data| &data.completion_field, "completion"),
            truncate: run.is_some_and(|run| run.data.truncate),
            reading: reading(args, run.map(|run| run.data.reading()).unwrap_or_default()),
        }
    }

    /// Files, whose documents are found as the flags say, or as the run found its own.
    fn files(paths: &[PathBuf], args: &EvalArgs, run: Option<&RunData>) -> Self {
        let split = run.map(|run| (run.origin.as_path(), run.data.split));
        let field = run.map(|run| (run.origin.as_path(), run.data.field.clone()));
        let (usual_split, usual_field) = ((Split::File, IN_NO_RUN), ("text".to_owned(), IN_NO_RUN));
        Self::Files {
            paths: paths.to_vec(),
            split: Chosen::first(("--split", args.split.map(Split::from)), split, usual_split),
            field: Chosen::first(("--field", args.field.clone()), field, usual_field),
            reading: reading(args, run.map(|run| run.data.reading()).unwrap_or_default()),
        }
    }
}

/// A flag that was given and says how files are read.
fn flag_of_files(args: &EvalArgs) -> Option<&'static str> {
    let ReadingArgs { format, join, separator, skip_bad } = &args.reading;
    let flags = [
        ("--split", args.split.is_some()),
        ("--field", args.field.is_some()),
        ("--prompt-field", args.prompt_field.is_some()),
        ("--completion-field", args.completion_field.is_some()),
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

/// Numbers of the sequences that are evaluated, of `all`, of which the first `whole` are whole: all, or `count` of the whole
/// ones, spread evenly, if there are so many.
fn chosen(whole: u64, all: u64, count: Option<u64>) -> impl Iterator<Item = u64> {
    let count = count.filter(|count| *count <= whole);
    spread(if count.is_some() { whole } else { all }, count)
}

/// How many of some documents have a part in some ranges; both stand in the order of the stream.
fn touched(documents: &[Range<u64>], ranges: impl Iterator<Item = Range<u64>>) -> u64 {
    let (mut count, mut next) = (0, 0);
    for range in ranges {
        next += documents[next..].partition_point(|document| document.end <= range.start);
        let within = documents[next..].partition_point(|document| document.start < range.end);
        count += within as u64;
        next += within;
    }
    count
}

/// `count` of `all` indices, spread evenly; all of them if there are not more.
pub fn spread(all: u64, count: Option<u64>) -> impl Iterator<Item = u64> {
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
    fn the_tail_is_evaluated_with_all_and_not_among_some() {
        assert_eq!(chosen(3, 4, None).collect::<Vec<_>>(), [0, 1, 2, 3]);
        assert_eq!(chosen(3, 3, None).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(chosen(4, 5, Some(2)).collect::<Vec<_>>(), [0, 2]);
        assert_eq!(chosen(3, 4, Some(3)).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(chosen(3, 4, Some(4)).collect::<Vec<_>>(), [0, 1, 2, 3]);
        assert_eq!(chosen(0, 1, Some(1)).collect::<Vec<_>>(), [0]);
    }

    #[test]
    fn documents_count_once_wherever_they_are_touched() {
        let documents = [1..4, 5..9, 10..30, 31..32];
        let touched = |ranges: &[Range<u64>]| super::touched(&documents, ranges.iter().cloned());
        assert_eq!(touched(&[0..7, 7..33]), 4);
        assert_eq!(touched(&[0..1, 4..5, 9..10]), 0, "ends of text are of no document");
        assert_eq!(touched(&[0..8, 8..16, 16..24]), 3);
        assert_eq!(touched(&[12..14, 20..22, 28..40]), 2);
        assert_eq!(touched(&[]), 0);
    }
}
