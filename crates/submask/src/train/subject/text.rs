//! Runs on text.

use std::path::{Path, PathBuf};

use super::text_settings::{TextData, TokenizerSettings};
use super::{HeldOutData, Learnt, Opened};
use crate::data::{
    Batcher, BlockLayout, DATA_FILE, Outdated, PairSequence, Pairs, PreparedData, Tokenizer,
    ValidationBlocks, prepare,
};
use crate::model::{Architecture, Generated, HeldOut, ModelConfig, Subject, TextSubject};
use crate::train::event::{DataNote, Event, Observer};
use crate::train::run::RunRequest;
use crate::train::settings::{RunSettings, in_open_unit};
use crate::{Error, Result};

impl Learnt for TextData {
    fn check(&self, settings: &RunSettings) -> Result<Option<Subject>> {
        match self.valid_paths.as_slice() {
            [] => in_open_unit("data.valid_fraction", self.valid_fraction)?,
            [path, ..] if self.prepared().is_some() => {
                let allowed = "[] with prepared data, which have their own validation text";
                return Err(Error::invalid("data.valid_paths", path.display(), allowed));
            }
            _ => {}
        }
        self.check_pairs()?;
        if !(1..=3).contains(&self.edition) {
            return Err(Error::invalid(
                "data.edition",
                self.edition,
                "1 to 3, the editions of the built-in dictionary",
            ));
        }
        // Widths do not depend on the vocabulary; two classes stand for an unknown one.
        tokenizer(settings)?.check()?;
        let vocab_size = tokenizer(settings)?.vocab_size().unwrap_or(2);
        Ok(Some(Subject::Text(TextSubject { vocab_size, ..TextSubject::of(&Tokenizer::bytes()) })))
    }

    fn open(&self, request: &RunRequest, joins: bool, observer: &mut dyn Observer) -> Result<Opened> {
        let settings = &request.settings;
        if !request.resume && !joins {
            self.check_unread()?;
        }
        let data = match joins {
            true => join_data(self, request)?,
            false => open_data(self, settings, request, observer)?,
        };
        if self.has_pairs() && !data.has_pairs() {
            let allowed = format!("\"\": the prepared data in {} are texts", data.folder.display());
            return Err(Error::invalid("data.prompt_field", format!("{:?}", self.prompt_field), allowed));
        }
        if self.block_ends && data.has_pairs() {
            return Err(Error::invalid("data.block_ends", true, "false with pairs, which are not packed"));
        }
        if data.runs_together() {
            observer.notify(&Event::Data(DataNote::NoEndOfText));
        }
        if !data.has_pairs() {
            data.train.verify()?;
            data.valid.as_ref().map_or(Ok(()), |store| store.verify())?;
        }
        if !data.info.corpus.is_empty() {
            observer.notify(&Event::Data(DataNote::Corpus {
                info: data.info.corpus.clone(),
                pairs: data.has_pairs(),
            }));
        }
        let (fidelity, pairs) = (data.fidelity(), data.has_pairs());
        let subject = Subject::Text(TextSubject { fidelity, pairs, ..TextSubject::of(&data.tokenizer) });
        let architecture = Architecture::new(settings.config(subject), Some(data.tokenizer.clone()))?;
        let layout = self.layout(architecture.config().seq_len());
        let seed = settings.train.seed;
        let (batcher, held_out): (_, Box<dyn HeldOutData>) = match pairs {
            true => {
                let (train, valid) = open_pairs(&data, layout.seq_len)?;
                (Batcher::new(train, seed)?, Box::new(HeldOutPairs(valid)))
            }
            false => {
                (Batcher::new(data.training(layout)?, seed)?, Box::new(HeldOutText::new(&data, layout)?))
            }
        };
        if let Some(counts) = data.info.pairs() {
            observer.notify(&Event::Data(DataNote::Pairs { counts, seq_len: layout.seq_len }));
        }
        if let Some(report) = data.held_out(layout) {
            observer.notify(&Event::Data(DataNote::HeldOut(report)));
        }
        Ok(Opened {
            train_tokens: Some(data.train.tokens()),
            valid_tokens: Some(data.valid.as_ref().map_or(0, |store| store.tokens())),
            batcher,
            held_out,
            fidelity,
            architecture,
        })
    }
}

/// Text that is held out.
struct HeldOutText(ValidationBlocks);

impl HeldOutText {
    fn new(data: &PreparedData, layout: BlockLayout) -> Result<Self> {
        data.validation(layout)?.map(Self).ok_or_else(nothing_held_out)
    }
}

fn nothing_held_out() -> Error {
    Error::invalid("data.valid_fraction", 0, "a number in (0, 1): nothing is held out")
}

/// The pairs to train on and those held out, whole.
fn open_pairs(data: &PreparedData, seq_len: usize) -> Result<(Pairs, Pairs)> {
    let train = data.training_pairs(seq_len)?;
    let valid = data.validation_pairs(seq_len)?.ok_or_else(nothing_held_out)?;
    train.verify()?;
    valid.verify()?;
    Ok((train, valid))
}

/// Pairs that are held out.
struct HeldOutPairs(Pairs);

impl HeldOutPairs {
    /// `count` of them, spread evenly; 0: all.
    fn spread(&self, count: u64) -> Result<Vec<PairSequence>> {
        let all = self.0.len();
        let count = if count == 0 { all } else { count.min(all) };
        (0..count).map(|i| self.0.sequence(i * all / count)).collect()
    }
}

impl HeldOutData for HeldOutPairs {
    fn sequences(&self, _: &ModelConfig, count: u64) -> Result<HeldOut> {
        Ok(HeldOut::of_pairs(&self.spread(count)?))
    }

    fn prompts(&self, architecture: &Architecture, count: usize) -> Result<Vec<Vec<Option<u32>>>> {
        let prompt = |pair: PairSequence| {
            let given = |(i, token): (usize, &u32)| (i < pair.given).then_some(*token);
            architecture.digits_of(&pair.tokens.iter().enumerate().map(given).collect::<Vec<_>>())
        };
        Ok(self.spread(count.max(1) as u64)?.into_iter().map(prompt).collect())
    }

    fn show(&self, _: &ModelConfig, generated: Generated, _: &Path) -> Result<Vec<String>> {
        Ok(generated.texts)
    }
}

impl HeldOutData for HeldOutText {
    fn sequences(&self, _: &ModelConfig, count: u64) -> Result<HeldOut> {
        let all = self.0.blocks().len();
        let count = if count == 0 { all } else { count.min(all) };
        let blocks: Vec<_> = (0..count).map(|i| self.0.block(i * all / count)).collect::<Result<_>>()?;
        Ok(HeldOut::of_text(&blocks))
    }

    fn show(&self, _: &ModelConfig, generated: Generated, _: &Path) -> Result<Vec<String>> {
        Ok(generated.texts)
    }
}

/// The tokenizer of a run, which a run on text has.
fn tokenizer(settings: &RunSettings) -> Result<&TokenizerSettings> {
    let tokenizer = settings.tokenizer.as_ref();
    tokenizer.ok_or_else(|| Error::invalid("tokenizer", "nothing", "a section: text is made of tokens"))
}

/// Where the tokens of a corpus are put.
fn data_folder(text: &TextData, request: &RunRequest) -> PathBuf {
    match text.cache.as_os_str() {
        empty if empty.is_empty() => request.out.join("data"),
        cache => PathBuf::from(cache),
    }
}

/// Opens what another process has prepared.
fn join_data(text: &TextData, request: &RunRequest) -> Result<PreparedData> {
    let folder = text.prepared().map_or_else(|| data_folder(text, request), Path::to_path_buf);
    match folder.join(DATA_FILE).is_file() {
        true => PreparedData::open(folder),
        false => {
            let allowed = "a folder that all ranks see: rank 0 has the tokens there";
            let key = if text.prepared().is_some() { "data.prepared" } else { "data.cache" };
            Err(Error::invalid(key, folder.display(), allowed))
        }
    }
}

/// Opens a folder that is prepared already, or prepares the corpus.
fn open_data(
    text: &TextData,
    settings: &RunSettings,
    request: &RunRequest,
    observer: &mut dyn Observer,
) -> Result<PreparedData> {
    if let Some(path) = text.prepared() {
        return PreparedData::open(path);
    }
    let folder = data_folder(text, request);
    if request.resume && folder.join(DATA_FILE).is_file() {
        // The tokens of the run are there; the corpus may have moved.
        return PreparedData::open(folder);
    }
    // What a run left that was killed before it began is of no use to one with other settings.
    let outdated = if text.cache.as_os_str().is_empty() { Outdated::Rebuild } else { Outdated::Refuse };
    let seq_len = settings.network.seq_len().unwrap_or(0);
    let wanted = text.prepare(tokenizer(settings)?, settings.train.seed, seq_len);
    prepare(&wanted, &folder, outdated, &mut |progress| observer.notify(&Event::Preparing(progress)))
}
