//! Whether a folder that is there is what settings ask for.

use std::fs;
use std::path::Path;

use super::corpora::Corpora;
use super::info::{DATA_FILE, DataInfo};
use super::split::{HeldOutBy, ValidRule};
use super::{Outdated, PrepareSettings, PreparedData};
use crate::data::hash::Fingerprint;
use crate::data::source::Source;
use crate::error::{Error, Result};

/// Of the settings, in their fingerprint.
const SETTINGS_VERSION: u32 = 1;

/// Fingerprints of data that are what settings ask for.
pub(super) struct Fingerprints {
    /// Of data prepared now.
    pub(super) now: String,
    /// Of data prepared before the end of text was found where it is found now: they keep what they had.
    pub(super) before: String,
}

/// How a folder was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Made {
    /// With the settings, from the files.
    So,
    /// By an earlier version, which did otherwise what the settings ask for: it keeps what it has.
    Before,
    /// With other settings, or from other files.
    Otherwise,
}

impl PrepareSettings {
    /// Numbers that change with the settings and with the files of the corpus.
    pub(super) fn fingerprints(&self, corpora: &Corpora) -> Result<Fingerprints> {
        let valid_source = self.valid_source.as_ref().map(Source::with_named_streams);
        let named = Self { source: self.source.with_named_streams(), valid_source, ..self.clone() };
        let settings = serde_json::to_string(&named)
            .map_err(|error| Error::invalid("settings", format!("{self:?}"), error.to_string()))?;
        let mut print = Fingerprint::new()
            .part(&SETTINGS_VERSION.to_le_bytes())
            .part(settings.as_bytes())
            .part(&corpora.train.stamp()?.to_le_bytes());
        if let Some(valid) = &corpora.valid {
            print = print.part(&valid.stamp()?.to_le_bytes());
        }
        if let Some(file) = self.tokenizer.file()? {
            print = print.part(&fs::read(&file).map_err(Error::io(&file))?);
        }
        let shown = |print: &Fingerprint| format!("{:016x}", print.value());
        let before = shown(&print);
        let found = self.tokenizer.newly_found_end()?;
        let now = found.map_or_else(|| before.clone(), |name| shown(&print.part(name.as_bytes())));
        Ok(Fingerprints { now, before })
    }

    /// Whether data that say this of themselves might be others for sequences of another length: pairs are made for one,
    /// and of several documents those are cut whose ends are long enough. A single document is always cut.
    fn depends_on_length(&self, info: &DataInfo) -> bool {
        let is_by_ends = [HeldOutBy::Position, HeldOutBy::OneDocument].contains(&info.split.by);
        matches!(self.source, Source::Pairs(_)) || (is_by_ends && info.split.documents > 1)
    }

    /// How a folder was made that says this of itself.
    fn made(&self, info: &DataInfo, corpora: &Corpora) -> Result<Made> {
        let seq_len = if self.depends_on_length(info) { self.seq_len } else { info.settings.seq_len };
        let Fingerprints { now, before } = Self { seq_len, ..self.clone() }.fingerprints(corpora)?;
        if info.settings_fingerprint == now {
            return Ok(Made::So);
        }
        if info.settings_fingerprint == before {
            return Ok(Made::Before);
        }
        if info.format_version == 1 {
            // There was no choice of rules.
            let earlier = Self { valid_rule: ValidRule::Share, seq_len: 0, ..self.clone() };
            let Fingerprints { now, before } = earlier.fingerprints(corpora)?;
            if [now, before].contains(&info.settings_fingerprint) {
                return Ok(Made::Before);
            }
        }
        Ok(Made::Otherwise)
    }
}

/// Whether `folder` is what is wanted; false if it is to be made.
pub(super) fn may_reuse(
    folder: &Path,
    settings: &PrepareSettings,
    corpora: &Corpora,
    outdated: Outdated,
) -> Result<bool> {
    may_reuse_if(folder, |info| settings.made(info, corpora), outdated)
}

/// The same where what is wanted has a fingerprint, and its files need not be there any more.
pub(super) fn may_reuse_with(folder: &Path, fingerprint: &str, outdated: Outdated) -> Result<bool> {
    let made = |info: &DataInfo| match info.settings_fingerprint == fingerprint {
        true => Ok(Made::So),
        false => Ok(Made::Otherwise),
    };
    may_reuse_if(folder, made, outdated)
}

fn may_reuse_if(
    folder: &Path,
    made: impl FnOnce(&DataInfo) -> Result<Made>,
    outdated: Outdated,
) -> Result<bool> {
    if !folder.exists() {
        return Ok(false);
    }
    if !folder.join(DATA_FILE).exists() {
        if fs::read_dir(folder).map_err(Error::io(folder))?.next().is_none() {
            return Ok(false);
        }
        let problem = format!("a folder with other files in it: it has no {DATA_FILE}; choose another");
        return Err(Error::format(folder, problem));
    }
    // A file that cannot be read any more is as outdated as one with other settings.
    let info = DataInfo::read(folder).ok();
    let made = info.map_or(Ok(Made::Otherwise), |info| made(&info))?;
    // Of a folder that was prepared before it was asked, only a new one says whether documents decode to themselves.
    let is_known = |data: PreparedData| data.tokenizer.is_lossless() || data.fidelity().is_some();
    match (outdated, made) {
        (Outdated::Refuse, Made::So | Made::Before) => Ok(true),
        (Outdated::Rebuild, Made::So) => Ok(PreparedData::open(folder).is_ok_and(is_known)),
        (Outdated::Rebuild, _) => Ok(false),
        (Outdated::Refuse, Made::Otherwise) => {
            let problem =
                "prepared with other settings or from other files; rebuild it, or choose another folder";
            Err(Error::format(folder, problem))
        }
    }
}
