//! Ways to break a checkpoint in several files.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use crate::mutate::{Original, Random, any_text};

/// How names of indices end.
const INDEX: &str = ".index.json";

/// A checkpoint in several files as it was.
pub struct Several {
    /// Name and content of the index.
    index: (String, Vec<u8>),
    /// The files that it names.
    files: Vec<(String, Original)>,
}

impl Several {
    /// Whether a path is that of an index.
    pub fn is_index(path: &Path) -> bool {
        path.to_string_lossy().ends_with(INDEX)
    }

    /// Reads a proper index, and the files that it names.
    pub fn open(path: &Path) -> Result<Self, String> {
        let problem = |problem: &dyn std::fmt::Display| format!("{}: {problem}", path.display());
        let bytes = std::fs::read(path).map_err(|error| problem(&error))?;
        let json: Value = serde_json::from_slice(&bytes).map_err(|error| problem(&error))?;
        let map = json["weight_map"].as_object().ok_or_else(|| problem(&"it has no weight_map"))?;
        let names: BTreeSet<&str> = map.values().filter_map(Value::as_str).collect();
        let file = |name: &str| Ok((name.to_owned(), Original::open(&path.with_file_name(name))?));
        let files = names.into_iter().map(file).collect::<Result<_, String>>()?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self { index: (name, bytes), files })
    }

    /// Its files with one of them broken, mostly the index, which comes first; and how.
    pub fn mutated(&self, random: &mut Random) -> (Vec<(String, Vec<u8>)>, String) {
        let mut files = vec![self.index.clone()];
        files.extend(self.files.iter().map(|(name, file)| (name.clone(), file.bytes().to_vec())));
        let place = if random.below(4) == 0 { random.below(files.len()) } else { 0 };
        let what = match place {
            0 => any_text(&mut files[0].1, random),
            place => {
                let (broken, what) = self.files[place - 1].1.mutated_alone(random);
                files[place].1 = broken;
                what
            }
        };
        let what = format!("{}: {what}", files[place].0);
        // Now and then a file is not there.
        if random.below(20) == 0 {
            let (gone, _) = files.remove(1 + random.below(files.len() - 1));
            return (files, format!("{what}; without {gone}"));
        }
        (files, what)
    }
}
