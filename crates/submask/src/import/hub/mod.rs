//! Checkpoints on the Hub, by names such as `hub://kuleshov-group/mdlm-owt`.
//!
//! [`Hub::fetch`] downloads what a name stands for into the standard cache of the Hub's tools, where it is found
//! again, also offline, and gives the path. A download that breaks off goes on where it stopped, at once or at the
//! next call. It needs the feature `hub`; without it, [`Hub::fetch`] fails and says so.

#[cfg(feature = "hub")]
mod fetch;
mod name;

use std::path::PathBuf;

pub use name::HubName;

use crate::Result;

/// The Hub itself.
const ENDPOINT: &str = "https://huggingface.co";

/// A hub, and where its files are kept.
#[derive(Clone)]
pub struct Hub {
    /// Where it is reached, such as `https://huggingface.co`.
    pub endpoint: String,
    /// The folder of the cache; it is made when it is needed.
    pub cache: PathBuf,
    /// What private and gated repositories ask for; `None`: the one that stands in the file `token` beside the cache.
    pub token: Option<String>,
    /// Whether only the cache is used.
    pub offline: bool,
}

/// What happens while files are fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HubEvent<'a> {
    /// So many bytes of a file are there.
    Progress {
        /// The file's path in its repository.
        file: &'a str,
        /// Bytes that are there, those of earlier calls included.
        done: u64,
        /// Bytes of the file.
        total: u64,
    },
    /// The hub cannot be reached, and the copy in the cache is taken, which may be older than the hub's.
    Cached {
        /// The file's path in its repository.
        file: &'a str,
        /// Why the hub cannot be reached.
        problem: &'a str,
    },
}

impl Hub {
    /// As the environment says, with the variables of the Hub's own tools: `HF_ENDPOINT`, `HF_HUB_CACHE`, or else
    /// `HF_HOME` (the cache is its folder `hub`), `HF_TOKEN`, and `HF_HUB_OFFLINE`. Without them: the Hub, and
    /// `~/.cache/huggingface/hub`.
    pub fn from_env() -> Self {
        let text = |name| std::env::var(name).ok().filter(|text| !text.is_empty());
        let home = || {
            let default = || std::env::home_dir().unwrap_or_default().join(".cache/huggingface");
            text("HF_HOME").map_or_else(default, PathBuf::from)
        };
        let is_set = |text: String| ["1", "on", "yes", "true"].contains(&text.to_lowercase().as_str());
        Self {
            endpoint: text("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.to_owned()),
            cache: text("HF_HUB_CACHE").map_or_else(|| home().join("hub"), PathBuf::from),
            token: text("HF_TOKEN"),
            offline: text("HF_HUB_OFFLINE").is_some_and(is_set),
        }
    }

    /// Downloads what `name` stands for, unless the cache has it, and gives its path: of a checkpoint file the file's,
    /// of a repository or folder that of a folder with `config.json`, `model.safetensors`, and what else a model of
    /// this program consists of.
    ///
    /// A branch or tag is looked up at the hub each time; where the hub cannot be reached, what the cache has is
    /// taken. A commit that is in the cache is not looked up.
    ///
    /// # Errors
    /// [`Error::Download`](crate::Error::Download) naming the file and what is wrong: no such repository or file, a
    /// hub that cannot be reached while the cache has no copy (then it also says how to bring one), a connection that
    /// breaks again and again. [`Error::Invalid`](crate::Error::Invalid) in a build without the feature `hub`.
    pub fn fetch(&self, name: &HubName, observer: &mut dyn FnMut(HubEvent<'_>)) -> Result<PathBuf> {
        #[cfg(feature = "hub")]
        return fetch::fetch(self, name, observer);
        #[cfg(not(feature = "hub"))]
        {
            let _ = observer;
            let allowed = "this build is without the feature `hub`, which downloads files: build with \
                           `--features hub`, or download the file and give its path";
            Err(crate::Error::invalid("the file", name, allowed))
        }
    }
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { endpoint, cache, token, offline } = self;
        let token = token.as_ref().map(|_| "…");
        f.debug_struct("Hub")
            .field("endpoint", endpoint)
            .field("cache", cache)
            .field("token", &token)
            .field("offline", offline)
            .finish()
    }
}
