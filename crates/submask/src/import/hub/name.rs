//! Names of files, folders and repositories on the Hub.

use std::fmt::{self, Display};
use std::path::Path;

#[cfg(feature = "hub")]
use crate::model::WEIGHTS_FILE;
use crate::{Error, Result};

const SCHEME: &str = "hub://";
const FORM: &str = "hub://owner/repo[@revision][/path], with letters, digits and . _ - + = in each part";

/// Endings of files that hold a checkpoint.
const CHECKPOINTS: [&str; 5] = ["ckpt", "pth", "pt", "bin", "safetensors"];

/// What a name stands for: `hub://owner/repo[@revision][/path]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubName {
    /// `owner/repo`.
    pub repo: String,
    /// A branch, tag or commit.
    pub revision: String,
    /// The path in the repository; empty for the repository itself.
    pub path: String,
}

impl HubName {
    /// The branch that is meant where none is named.
    pub const MAIN: &str = "main";

    /// Whether a text is meant as such a name.
    pub fn is_one(text: &str) -> bool {
        text.starts_with(SCHEME)
    }

    /// Takes a name apart. Every part must be one that can stand in a URL and in a path as it is.
    ///
    /// # Errors
    /// [`Error::Invalid`] for any other text.
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = || Error::invalid("the name", text, FORM);
        let rest = text.strip_prefix(SCHEME).ok_or_else(wrong)?;
        let mut parts = rest.trim_end_matches('/').split('/');
        let (owner, repo) = (parts.next().ok_or_else(wrong)?, parts.next().ok_or_else(wrong)?);
        let (repo, revision) = repo.split_once('@').unwrap_or((repo, Self::MAIN));
        let path: Vec<&str> = parts.collect();
        if ![owner, repo, revision].iter().chain(&path).all(|part| is_plain(part)) {
            return Err(wrong());
        }
        Ok(Self { repo: format!("{owner}/{repo}"), revision: revision.to_owned(), path: path.join("/") })
    }

    /// Whether it names a checkpoint file, by its ending; any other name is that of a folder.
    pub fn is_file(&self) -> bool {
        let ending = Path::new(&self.path).extension().and_then(|ending| ending.to_str());
        ending.is_some_and(|ending| CHECKPOINTS.contains(&ending))
    }
}

/// What a download needs to know.
#[cfg(feature = "hub")]
impl HubName {
    /// Whether it names the weights of a folder, beside which a configuration may stand.
    pub(super) fn is_weights(&self) -> bool {
        Path::new(&self.path).file_name().is_some_and(|file| file == WEIGHTS_FILE)
    }

    /// The path of `file` in the folder that is named, or that the named file stands in.
    pub(super) fn beside(&self, file: &str) -> String {
        let folder = match self.is_file() {
            true => self.path.rsplit_once('/').map_or("", |(folder, _)| folder),
            false => &self.path,
        };
        if folder.is_empty() { file.to_owned() } else { format!("{folder}/{file}") }
    }

    /// Whether the revision is a commit, which never changes.
    pub(super) fn is_commit(&self) -> bool {
        self.revision.len() == 40 && self.revision.bytes().all(|byte| byte.is_ascii_hexdigit())
    }
}

impl Display for HubName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { repo, revision, path } = self;
        write!(f, "{SCHEME}{repo}")?;
        if revision != Self::MAIN {
            write!(f, "@{revision}")?;
        }
        if path.is_empty() { Ok(()) } else { write!(f, "/{path}") }
    }
}

/// Whether a text is a name of a file or folder, the same in a URL as on disk, and leads nowhere else.
pub(super) fn is_plain(part: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-+=".contains(&byte);
    !part.is_empty() && part.bytes().all(allowed) && part.bytes().any(|byte| byte != b'.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_repository_revision_and_path() {
        let parts = |text| {
            let HubName { repo, revision, path } = HubName::parse(text).unwrap();
            (repo, revision, path)
        };
        let of = |repo: &str, revision: &str, path: &str| (repo.into(), revision.into(), path.into());
        assert_eq!(parts("hub://a/b"), of("a/b", "main", ""));
        assert_eq!(parts("hub://a/b/"), of("a/b", "main", ""));
        assert_eq!(parts("hub://a/b/c/d.ckpt"), of("a/b", "main", "c/d.ckpt"));
        assert_eq!(parts("hub://a.x/b_y-z@v1.0/c"), of("a.x/b_y-z", "v1.0", "c"));
        for text in ["hub://a/b", "hub://a/b/c/d.ckpt", "hub://a/b@v1.0", "hub://a/b@v1.0/c"] {
            assert_eq!(HubName::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for text in [
            "hub://",
            "hub://a",
            "hub://a/",
            "hub:///b",
            "hub://a/b@/c",
            "hub://a/b//c",
            "hub://a/../c",
            "hub://a/b/../../c",
            "hub://a/b@../c",
            "hub://a/b/c?d",
            "hub://a/b/c#d",
            "hub://a/b/c%2Fd",
            "hub://a/b/c d",
            "hub://a/b@c@d",
            "hub://a/b/\n",
            "http://a/b",
        ] {
            let error = HubName::parse(text).unwrap_err().to_string();
            assert!(error.contains("hub://owner/repo"), "{text}: {error}");
        }
    }

    #[cfg(feature = "hub")]
    #[test]
    fn what_is_beside_a_file_or_in_a_folder() {
        let beside = |text| HubName::parse(text).unwrap().beside("config.json");
        assert_eq!(beside("hub://a/b"), "config.json");
        assert_eq!(beside("hub://a/b/c/v1.0"), "c/v1.0/config.json");
        assert_eq!(beside("hub://a/b/model.safetensors"), "config.json");
        assert_eq!(beside("hub://a/b/c/model.safetensors"), "c/config.json");
    }
}
