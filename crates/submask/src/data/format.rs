//! How a file is read.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::input::Compression;

/// How files are read, as settings say it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileFormat {
    /// As the names of files say; what has no name, such as standard input, as its beginning says.
    #[default]
    Auto,
    /// UTF-8 text.
    Text,
    /// JSON: one object per line, or one array of objects.
    Json,
    /// A table with commas between columns, or what the first row shows in their place.
    Csv,
    /// A table with tabs between columns.
    Tsv,
    /// Parquet.
    Parquet,
    /// Token numbers of two bytes, little-endian, as nanoGPT writes them.
    Uint16,
    /// Token numbers of four bytes, little-endian.
    Uint32,
}

/// How one file is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Text,
    Json,
    /// With this byte between columns.
    Table(u8),
    Parquet,
    /// Token numbers of so many bytes.
    Tokens(usize),
}

/// Endings of names, how such files are read, and whether folders are searched for them.
const ENDINGS: [(&str, Format, bool); 11] = [
    ("txt", Format::Text, true),
    ("text", Format::Text, true),
    ("md", Format::Text, true),
    ("jsonl", Format::Json, true),
    ("ndjson", Format::Json, true),
    ("json", Format::Json, true),
    ("csv", Format::Table(b','), true),
    ("tsv", Format::Table(b'\t'), true),
    ("parquet", Format::Parquet, true),
    ("pq", Format::Parquet, true),
    // Other programs have other files of this name.
    ("bin", Format::Tokens(2), false),
];

impl FileFormat {
    /// The format that is asked for, unless names say it.
    pub(super) fn given(self) -> Option<Format> {
        match self {
            Self::Auto => None,
            Self::Text => Some(Format::Text),
            Self::Json => Some(Format::Json),
            Self::Csv => Some(Format::Table(b',')),
            Self::Tsv => Some(Format::Table(b'\t')),
            Self::Parquet => Some(Format::Parquet),
            Self::Uint16 => Some(Format::Tokens(2)),
            Self::Uint32 => Some(Format::Tokens(4)),
        }
    }
}

impl Format {
    /// What the name of a file says, but for its compression.
    pub(super) fn of_name(path: &Path) -> Option<Self> {
        Self::ending(path).map(|(_, format, _)| format)
    }

    /// Whether folders are searched for files of this name.
    pub(super) fn is_searched_for(path: &Path) -> bool {
        Self::ending(path).is_some_and(|(.., searched)| searched)
    }

    /// The endings that folders are searched for, of the formats that are wanted.
    pub(super) fn endings(wanted: impl Fn(Self) -> bool) -> String {
        let searched = ENDINGS.iter().filter(|(_, format, searched)| *searched && wanted(*format));
        searched.map(|(ending, ..)| format!(".{ending}")).collect::<Vec<_>>().join(", ")
    }

    fn ending(path: &Path) -> Option<(&'static str, Self, bool)> {
        let named = Compression::of_name(path).map(|(_, inner)| inner);
        let ending = named.as_deref().unwrap_or(path).extension()?.to_str()?.to_ascii_lowercase();
        ENDINGS.iter().find(|(known, ..)| *known == ending).copied()
    }

    /// What the beginning of a stream without a name says: JSON, if it is that of an object with a field or of an array of
    /// objects, parquet, or else text.
    pub(super) fn of_beginning(head: &[u8]) -> Self {
        if head.starts_with(b"PAR1") {
            return Self::Parquet;
        }
        let text = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start();
        let is_json = match text.first() {
            Some(b'[') => text[1..].trim_ascii_start().first() == Some(&b'{'),
            Some(b'{') => text[1..].trim_ascii_start().first() == Some(&b'"'),
            _ => false,
        };
        if is_json { Self::Json } else { Self::Text }
    }

    /// Whether it is JSON of a name that other things than records have, too.
    pub(super) fn may_be_other_json(path: &Path) -> bool {
        Self::ending(path).is_some_and(|(ending, ..)| ending == "json")
    }

    /// What a corpus's stamp covers besides name, size and time: how the file is read, if earlier versions read files of
    /// this name as text.
    pub(super) fn revision(path: &Path) -> Option<&'static str> {
        let compression = Compression::of_name(path).map(|(compression, _)| compression.name());
        let ending = Self::ending(path).map(|(ending, ..)| ending);
        compression.or(ending.filter(|ending| ["json", "csv", "tsv", "bin"].contains(ending)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_how_files_are_read() {
        for (name, format) in [
            ("a.TXT", Some(Format::Text)),
            ("a.jsonl.zst", Some(Format::Json)),
            ("a.b.csv.gz", Some(Format::Table(b','))),
            ("a.tsv", Some(Format::Table(b'\t'))),
            ("train.bin", Some(Format::Tokens(2))),
            ("a.gz", None),
            ("a", None),
            ("a.rs", None),
        ] {
            assert_eq!(Format::of_name(Path::new(name)), format, "{name}");
        }
        assert!(
            Format::is_searched_for(Path::new("a.json.xz")) && !Format::is_searched_for(Path::new("a.bin"))
        );
    }

    #[test]
    fn beginnings_say_what_streams_are() {
        for (head, format) in [
            (&b"{\"text\": \"a\"}\n{"[..], Format::Json),
            (b"\xef\xbb\xbf\n{\"text\": \"a", Format::Json),
            (b"[\n  {\"text\"", Format::Json),
            (b"{ curly }\nbraces", Format::Text),
            (b"{ an open brace\nand prose", Format::Text),
            (b"[1] a footnote", Format::Text),
            (b"PAR1\x15", Format::Parquet),
            (b"id,text\n", Format::Text),
            (b"", Format::Text),
        ] {
            assert_eq!(Format::of_beginning(head), format, "{:?}", String::from_utf8_lossy(head));
        }
    }
}
