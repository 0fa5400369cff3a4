//! Downloads, by way of the crate `hf-hub`.
//!
//! It has the cache's layout, its locks and ranged requests. Around it stand here: what a name consists of, when the
//! cache is enough, going on after a cut, and checks of what the server says before it is used as a path.
//!
//! Version 0.5 of the crate, not 1.0: that begins a broken download anew, and needs 280 crates where this needs 70.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hf_hub::api::Progress;
use hf_hub::api::sync::{Api, ApiBuilder, ApiError, ApiRepo, Metadata};
use hf_hub::{Cache, Repo, RepoType};

use super::name::is_plain;
use super::{Hub, HubEvent, HubName};
use crate::data::TOKENIZER_FILE;
use crate::model::{CODES_FILE, CONFIG_FILE, ModelConfig, WEIGHTS_FILE};
use crate::{Error, Result};

/// How often in a row a download may break off without another byte.
const ATTEMPTS: u32 = 4;
/// The wait after the first of them; it doubles.
const WAIT: Duration = Duration::from_millis(250);
/// Files of a repository that an error names; of more, their number is given.
const SHOWN: usize = 12;

type Observer<'a> = &'a mut dyn FnMut(HubEvent<'_>);

/// Fetches what a name stands for: see [`Hub::fetch`].
pub(super) fn fetch(hub: &Hub, name: &HubName, observer: Observer<'_>) -> Result<PathBuf> {
    let hub = Fetcher::new(hub, name)?;
    let weights = if name.is_file() { name.path.clone() } else { name.beside(WEIGHTS_FILE) };
    if name.is_file() && !name.is_weights() {
        return hub.need(&weights, observer);
    }
    let config = name.beside(CONFIG_FILE);
    // Where the hub cannot be reached, a copy of the weights goes without what was not there beside them.
    let has_weights = hub.cached(&weights).is_some();
    let config = match name.is_file() {
        true => hub.take(&config, has_weights, observer)?,
        false => Some(hub.need(&config, observer)?),
    };
    let folder = config.as_deref().and_then(Path::parent);
    if folder.is_some_and(ModelConfig::is_in) {
        for file in [TOKENIZER_FILE, CODES_FILE] {
            hub.take(&name.beside(file), has_weights, observer)?;
        }
    }
    let weights = hub.need(&weights, observer)?;
    match (name.is_file(), weights.parent()) {
        (false, Some(folder)) => Ok(folder.to_path_buf()),
        _ => Ok(weights),
    }
}

/// Why a file is not there.
enum Fault {
    /// The hub says that it has no such file.
    Missing,
    /// The hub cannot be reached.
    Unreachable(String),
    /// Anything else.
    Failed(Error),
}

/// One repository at one revision.
struct Fetcher<'a> {
    hub: &'a Hub,
    name: &'a HubName,
    api: Api,
    repo: Repo,
    cache: Cache,
}

impl<'a> Fetcher<'a> {
    fn new(hub: &'a Hub, name: &'a HubName) -> Result<Self> {
        let cache = Cache::new(hub.cache.clone());
        let endpoint = hub.endpoint.trim_end_matches('/').to_owned();
        if !["http://", "https://"].iter().any(|scheme| endpoint.starts_with(scheme)) {
            return Err(Error::invalid("HF_ENDPOINT", &hub.endpoint, "an address with http:// or https://"));
        }
        let token = hub.token.clone().or_else(|| cache.token());
        let api = ApiBuilder::from_cache(cache.clone()).with_endpoint(endpoint).with_token(token).build();
        let api = api.map_err(|error| problem(name, error.to_string()))?;
        let repo = Repo::with_revision(name.repo.clone(), RepoType::Model, name.revision.clone());
        Ok(Self { hub, name, api, repo, cache })
    }

    fn remote(&self) -> ApiRepo {
        self.api.repo(self.repo.clone())
    }

    /// A file that must be there.
    fn need(&self, file: &str, observer: Observer<'_>) -> Result<PathBuf> {
        self.find(file, observer).map_err(|fault| match fault {
            Fault::Missing => self.missing(file),
            Fault::Unreachable(why) => self.unreachable(file, &why),
            Fault::Failed(error) => error,
        })
    }

    /// A file that need not be there. Where the hub cannot be reached, one that is not in the cache counts as not there
    /// if `may_lack` it, or in a call that is offline.
    fn take(&self, file: &str, may_lack: bool, observer: Observer<'_>) -> Result<Option<PathBuf>> {
        match self.find(file, observer) {
            Ok(path) => Ok(Some(path)),
            Err(Fault::Unreachable(why)) if !may_lack && !self.hub.offline => {
                Err(self.unreachable(file, &why))
            }
            Err(Fault::Missing | Fault::Unreachable(_)) => Ok(None),
            Err(Fault::Failed(error)) => Err(error),
        }
    }

    fn find(&self, file: &str, observer: Observer<'_>) -> std::result::Result<PathBuf, Fault> {
        let cached = self.cached(file);
        if self.hub.offline {
            return cached.ok_or_else(|| Fault::Unreachable("HF_HUB_OFFLINE is set".to_owned()));
        }
        match (cached, self.name.is_commit()) {
            (Some(path), true) => Ok(path),
            (Some(path), false) => match self.update(file, observer) {
                Err(Fault::Unreachable(problem)) => {
                    observer(HubEvent::Cached { file, problem: &problem });
                    Ok(path)
                }
                updated => updated,
            },
            (None, _) => self.update(file, observer),
        }
    }

    /// The file in the cache, of the revision as it was last seen.
    fn cached(&self, file: &str) -> Option<PathBuf> {
        let cache = self.cache.repo(self.repo.clone());
        if self.name.is_commit() {
            // Other tools keep no reference from a commit to itself.
            return Some(cache.pointer_path(&self.name.revision).join(file)).filter(|path| path.is_file());
        }
        cache.get(file)
    }

    /// The file as the hub has it now: from the cache if it is the same, otherwise downloaded.
    fn update(&self, file: &str, observer: Observer<'_>) -> std::result::Result<PathBuf, Fault> {
        let metadata = self.api.metadata(&self.remote().url(file)).map_err(|error| self.fault(error))?;
        if ![metadata.etag(), metadata.commit_hash()].into_iter().all(is_plain) {
            return Err(self.failed(format!("the hub describes {file} by a tag that is none")));
        }
        let cache = self.cache.repo(self.repo.clone());
        let pointer = cache.pointer_path(metadata.commit_hash()).join(file);
        if size(&pointer) == Some(metadata.size() as u64) {
            cache
                .create_ref(metadata.commit_hash())
                .map_err(|error| Fault::Failed(Error::io(&self.hub.cache)(error)))?;
            return Ok(pointer);
        }
        let path = self.download(file, &metadata, observer)?;
        match size(&path) {
            Some(size) if size == metadata.size() as u64 => Ok(path),
            size => {
                // Neither the file nor the name that points to it may be found again.
                let _ = fs::remove_file(cache.blob_path(metadata.etag()));
                let _ = fs::remove_file(&path);
                let (found, expected) = (size.unwrap_or(0), metadata.size());
                Err(self.failed(format!("{file} came with {found} bytes, not {expected}; try again")))
            }
        }
    }

    /// Downloads a file, going on where it broke off as long as there is progress.
    fn download(
        &self,
        file: &str,
        metadata: &Metadata,
        observer: Observer<'_>,
    ) -> std::result::Result<PathBuf, Fault> {
        let part = self.cache.repo(self.repo.clone()).blob_path(metadata.etag()).with_extension("part");
        let mut fruitless = 0;
        loop {
            let before = size(&part);
            let watch = Watch { observer: &mut *observer, file, done: 0, total: 0 };
            let error = match self.remote().download_with_progress(file, watch) {
                Ok(path) => return Ok(path),
                Err(error) => error,
            };
            if is_beyond(&error) {
                // What is there is as long as the file, or longer: an earlier call was stopped before the last step.
                let _ = fs::remove_file(&part);
            }
            fruitless = if size(&part) > before { 0 } else { fruitless + 1 };
            match self.fault(error) {
                Fault::Unreachable(why) if fruitless >= ATTEMPTS => {
                    let kept = size(&part).unwrap_or(0);
                    let text = format!(
                        "the download of {file} broke off {ATTEMPTS} times ({why}); \
                                        {kept} bytes are kept, and the next call goes on from there"
                    );
                    return Err(self.failed(text));
                }
                Fault::Unreachable(_) => std::thread::sleep(WAIT * 2u32.pow(fruitless)),
                other => return Err(other),
            }
        }
    }

    /// What an error of the crate means.
    fn fault(&self, error: ApiError) -> Fault {
        let text = error.to_string();
        match error {
            ApiError::InvalidResume | ApiError::IoError(_) => Fault::Unreachable(text),
            ApiError::RequestError(error) => match *error {
                ureq::Error::StatusCode(404) => Fault::Missing,
                ureq::Error::StatusCode(code @ (401 | 403)) => self.failed(format!(
                    "the hub answers {code}: there is no such repository, or it is private or gated; \
                     HF_TOKEN may give a token with access to it"
                )),
                ureq::Error::StatusCode(416 | 429 | 500..) => Fault::Unreachable(text),
                ureq::Error::StatusCode(code) => self.failed(format!("the hub answers {code}")),
                _ => Fault::Unreachable(text),
            },
            ApiError::LockAcquisition(path) => {
                self.failed(format!("another program is downloading it: it holds {}", path.display()))
            }
            _ => self.failed(format!("{} does not answer as a hub does: {text}", self.hub.endpoint)),
        }
    }

    fn failed(&self, text: String) -> Fault {
        Fault::Failed(problem(self.name, text))
    }

    /// A file that the hub does not have: which it has instead, if there is the repository.
    fn missing(&self, file: &str) -> Error {
        let HubName { repo, revision, .. } = self.name;
        let Ok(info) = self.remote().info() else {
            let text = format!("the hub has no repository {repo} with a revision {revision}");
            return problem(self.name, text);
        };
        let names: Vec<&str> = info.siblings.iter().map(|one| one.rfilename.as_str()).collect();
        let more = names.len().saturating_sub(SHOWN);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let shown = names[..names.len().min(SHOWN)].join(", ");
        problem(self.name, format!("{repo} at {revision} has no file {file}, but {shown}{more}"))
    }

    /// What to do where the hub cannot be reached.
    fn unreachable(&self, file: &str, why: &str) -> Error {
        let (cache, folder) = (self.hub.cache.display(), self.repo.folder_name());
        let url = self.remote().url(file);
        let text = format!(
            "{} cannot be reached ({why}), and there is no copy of {file} in {cache}. Where it can be reached, download \
             {url} and give the path of that file (of a folder, that of one with {CONFIG_FILE} and {WEIGHTS_FILE}), or \
             fetch this name and copy the folder {folder} of the cache there to {cache}/{folder}",
            self.hub.endpoint
        );
        problem(self.name, text)
    }
}

/// Tells the observer what is there.
struct Watch<'a> {
    observer: Observer<'a>,
    file: &'a str,
    done: u64,
    total: u64,
}

impl Progress for Watch<'_> {
    fn init(&mut self, size: usize, _: &str) {
        (self.done, self.total) = (0, size as u64);
    }

    fn update(&mut self, size: usize) {
        self.done += size as u64;
        (self.observer)(HubEvent::Progress { file: self.file, done: self.done, total: self.total });
    }

    fn finish(&mut self) {}
}

/// Whether an error says that nothing is left to download.
fn is_beyond(error: &ApiError) -> bool {
    match error {
        ApiError::InvalidResume => true,
        ApiError::RequestError(error) => matches!(**error, ureq::Error::StatusCode(416)),
        _ => false,
    }
}

fn size(path: &Path) -> Option<u64> {
    fs::metadata(path).ok().map(|file| file.len())
}

fn problem(name: &HubName, problem: String) -> Error {
    Error::Download { name: name.to_string(), problem }
}
