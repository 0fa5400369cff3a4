//! `submask data`.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use submask::data::{Content, DATA_FILE, DataInfo, Outdated, PartInfo, PreparedData, Shard, Source};
use submask::parts::PartSet;
use submask::train::event::Event;
use submask::train::settings::TextData;

use crate::args::{DataInfoArgs, PrepareArgs};
use crate::data_notes::{NO_END_OF_TEXT, corpus_notes, held_out_notes, pair_note};
use crate::failure::Failure;
use crate::format::tokenizer_note;
use crate::{output, progress, settings, shares};

/// As parts call it.
pub const PREPARE: &str = "data prepare";

/// Prepares a corpus, or a share of it.
pub fn prepare(args: &PrepareArgs) -> Result<(), Failure> {
    let settings = settings::for_data(&args.settings, Vec::new())?;
    let (Some(text), Some(tokenizer)) = (settings.data.text(), &settings.tokenizer) else {
        return Err(Failure::usage("data.kind: only text is prepared"));
    };
    let seq_len = settings.network.seq_len().unwrap_or(0);
    let wanted = text.prepare(tokenizer, settings.train.seed, seq_len);
    let about = About { out: args.out.clone(), rebuild: args.rebuild, text: text.clone(), seq_len };
    let mut observer = progress::training_observer();
    let is_quiet = args.shard.is_quiet();
    let mut watch = |progress| {
        if !is_quiet {
            observer.notify(&Event::Preparing(progress));
        }
    };
    let Some(shard) = args.shard.shard else {
        let data = submask::data::prepare(&wanted, &args.out, about.outdated(), &mut watch);
        let data = data.map_err(|error| about.explain(error))?;
        drop(observer);
        return about.show(&data);
    };
    let path = shares::path(&args.shard, shard, PREPARE);
    let more = serde_json::to_value(&about).map_err(|error| Failure::failed(error.to_string()))?;
    submask::data::prepare_share(&wanted, shard, &path, (&args.out, about.outdated()), more, &mut watch)
        .map_err(|error| about.explain(error))?;
    drop(observer);
    shares::say_written(&args.shard, &path)
}

/// Where data are prepared, and how they are described.
#[derive(Serialize, Deserialize)]
struct About {
    out: PathBuf,
    rebuild: bool,
    text: TextData,
    seq_len: usize,
}

impl About {
    fn outdated(&self) -> Outdated {
        if self.rebuild { Outdated::Rebuild } else { Outdated::Refuse }
    }

    /// What went wrong, with what helps.
    fn explain(&self, error: submask::Error) -> Failure {
        match error {
            // What is wrong is the folder that is there.
            submask::Error::Format { ref path, .. }
                if path.starts_with(&self.out) && self.out.join(DATA_FILE).is_file() =>
            {
                Failure::from(error).hint("--rebuild replaces a prepared folder")
            }
            error => error.into(),
        }
    }

    fn show(&self, data: &PreparedData) -> Result<(), Failure> {
        if data.reused {
            eprintln!("data  {} was prepared already", self.out.display());
        }
        for note in notes_of(data, &self.text, self.seq_len) {
            eprintln!("data  {note}");
        }
        output::write(&output::value_table(&describe_prepared(&self.out, &data.info)))
    }
}

/// Writes the folder that all parts are of.
pub fn merge(set: &PartSet) -> Result<(), Failure> {
    /// What this program said of its parts, among what the library says.
    #[derive(Deserialize)]
    struct Facts {
        more: About,
    }
    let Facts { more: about } = set.facts()?;
    let data = submask::data::merge_prepared(set, &about.out, about.outdated());
    about.show(&data.map_err(|error| about.explain(error))?)
}

/// What there is to say of data that were prepared, for sequences of `seq_len` tokens.
pub fn notes_of(data: &PreparedData, text: &TextData, seq_len: usize) -> Vec<String> {
    let mut notes = Vec::new();
    if data.runs_together() {
        notes.push(NO_END_OF_TEXT.to_owned());
    }
    notes.extend(corpus_notes(&data.info.corpus, data.has_pairs()));
    notes.extend(data.fidelity().map(tokenizer_note));
    notes.extend(data.info.pairs().map(|counts| pair_note(counts, seq_len)));
    notes.extend(data.held_out(text.layout(seq_len)).iter().flat_map(held_out_notes));
    notes
}

/// Describes corpora.
pub fn info(args: &DataInfoArgs) -> Result<(), Failure> {
    let described = match args.paths.as_slice() {
        [] => vec![describe_corpus("dictionary", &Source::Dictionary)?],
        paths => paths.iter().map(|path| describe(path, args.verify)).collect::<Result<_, _>>()?,
    };
    if args.json {
        return output::write_json(&described);
    }
    let tables: Vec<String> = described.iter().map(output::value_table).collect();
    output::write(&tables.join("\n"))
}

/// What stands at a path: a prepared folder, a token shard, or texts.
fn describe(path: &Path, verify: bool) -> Result<Value, Failure> {
    if path.join(DATA_FILE).is_file() {
        let data = PreparedData::open(path)?;
        if verify {
            data.train.verify()?;
            data.valid.as_ref().map_or(Ok(()), |store| store.verify())?;
            if data.has_pairs() {
                let seq_len = data.info.settings.seq_len;
                data.training_pairs(seq_len)?.verify()?;
                data.validation_pairs(seq_len)?.map_or(Ok(()), |pairs| pairs.verify())?;
            }
        }
        return Ok(describe_prepared(path, &data.info));
    }
    if path.extension() == Some(OsStr::new("tokens")) {
        let shard = Shard::open(path)?;
        if verify {
            shard.verify()?;
        }
        return Ok(describe_shard(&shard));
    }
    if verify {
        return Err(Failure::usage(format!("--verify: {} holds no token shards", path.display())));
    }
    describe_corpus(&path.display().to_string(), &Source::files([path]))
}

/// A prepared folder.
pub fn describe_prepared(path: &Path, info: &DataInfo) -> Value {
    let part = |part: &PartInfo| {
        json!({
            "tokens": part.tokens,
            "characters": part.characters,
            "documents": part.documents,
            "shards": part.shards.len(),
        })
    };
    let mut described = json!({
        "kind": "prepared data",
        "path": path.display().to_string(),
        "vocab_size": info.vocab_size,
        "tokenizer_fingerprint": info.tokenizer_fingerprint,
        "train": part(&info.train),
        "valid": info.valid.as_ref().map(part),
        "held_out": info.valid.as_ref().map(|_| json!(info.split)),
    });
    if let Some(left_out) = &info.corpus.left_out {
        described["files_not_read"] = json!(left_out.files);
        described["first_file_not_read"] = json!(left_out.first);
    }
    if let Some(skipped) = &info.corpus.skipped {
        described["records_skipped"] = json!(skipped.records);
        described["first_record_skipped"] = json!(skipped.first);
    }
    if let Some(spelt) = &info.corpus.spelt {
        described["documents_that_spell_end_of_text"] = json!(spelt.documents);
    }
    if let Some(counts) = info.pairs() {
        described["pairs"] = json!(counts);
        described["seq_len"] = json!(info.settings.seq_len);
    }
    if let Some(fidelity) = info.fidelity() {
        described["documents_changed_by_tokenizer"] = json!(fidelity.changed);
        described["unknown_tokens"] = json!(fidelity.unknown);
        described["unknown_share"] = json!(fidelity.unknown_share());
    }
    described
}

/// A token shard.
pub fn describe_shard(shard: &Shard) -> Value {
    let header = shard.header();
    json!({
        "kind": "token shard",
        "path": shard.path().display().to_string(),
        "vocab_size": header.vocab_size,
        "tokenizer_fingerprint": format!("{:016x}", header.fingerprint),
        "token_bytes": header.token_bytes,
        "tokens": header.tokens,
        "characters": header.characters,
        "documents": header.documents,
    })
}

/// Texts or token numbers: every document is read and counted.
fn describe_corpus(path: &str, source: &Source) -> Result<Value, Failure> {
    let (mut documents, mut bytes, mut characters, mut tokens) = (0u64, 0u64, 0u64, 0u64);
    let (mut has_text, mut has_numbers) = (false, false);
    let corpus = source.corpus()?;
    for document in corpus.documents()? {
        let document = document?;
        // A long document comes in pieces.
        documents += u64::from(!document.continues);
        match document.content {
            Content::Text | Content::WrittenNumbers => {
                has_text = true;
                bytes += document.text.len() as u64;
                characters += document.text.chars().count() as u64;
            }
            Content::TokenNumbers => {
                has_numbers = true;
                tokens += document.text.split_ascii_whitespace().count() as u64;
            }
        }
    }
    let kind = if has_numbers && !has_text { "token numbers" } else { "texts" };
    let mut described = json!({ "kind": kind, "path": path, "documents": documents });
    if has_numbers {
        described["tokens"] = json!(tokens);
    }
    if has_text {
        described["bytes"] = json!(bytes);
        described["characters"] = json!(characters);
    }
    if let Some(left_out) = corpus.left_out() {
        described["files_not_read"] = json!(left_out.files);
        described["first_file_not_read"] = json!(left_out.first);
    }
    Ok(described)
}
