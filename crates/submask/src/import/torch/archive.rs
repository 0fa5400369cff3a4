//! The zip archive around a checkpoint: which files it stores, and where.

use std::ops::Range;
use std::sync::atomic::{AtomicU8, Ordering};

use rawzip::{CompressionMethod, ZipArchive, ZipFileHeaderRecord, ZipSliceArchive};

/// Length of an entry of the directory before its name.
const RECORD_BYTES: usize = 46;
/// How much of a name from the file a message shows.
const SHOWN_BYTES: usize = 80;

const UNCHECKED: u8 = 0;
const INTACT: u8 = 1;
const ALTERED: u8 = 2;

/// One archived file. Smaller than its entry in the directory, so that the table is smaller than the archive.
#[derive(Debug)]
struct Entry {
    /// Where its name stands.
    name_at: usize,
    name_len: u16,
    /// [`UNCHECKED`], [`INTACT`] or [`ALTERED`].
    state: AtomicU8,
    checksum: u32,
    data: Range<usize>,
}

const _: () = assert!(size_of::<Entry>() <= RECORD_BYTES);

impl Entry {
    fn name<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        &bytes[self.name_at..][..self.name_len.into()]
    }
}

/// The directory of a checkpoint's archive.
#[derive(Debug)]
pub(super) struct Archive {
    /// By name.
    entries: Vec<Entry>,
    pickle: usize,
    /// Length of the folder's name, with the slash, that all files of a checkpoint stand in.
    root_len: usize,
}

type Checked<T> = Result<T, String>;

impl Archive {
    /// Reads the directory and checks that the files lie in the archive, apart, uncompressed, under different
    /// names, one `data.pkl` among them.
    pub fn read(bytes: &[u8]) -> Checked<Self> {
        let zip = ZipArchive::from_slice(bytes)
            .map_err(|error| format!("its zip directory cannot be read: {error}; it may be truncated"))?;
        let mut entries = Vec::with_capacity(count(&zip)?);
        for record in zip.entries() {
            entries.push(entry(&zip, &record.map_err(directory)?)?);
        }
        entries.sort_unstable_by_key(|entry| (entry.data.start, entry.data.end));
        for pair in entries.windows(2) {
            if pair[0].data.end > pair[1].data.start {
                let names = [quote(pair[0].name(bytes)), quote(pair[1].name(bytes))];
                return Err(format!("its files {} and {} overlap", names[0], names[1]));
            }
        }
        entries.sort_unstable_by(|a, b| a.name(bytes).cmp(b.name(bytes)));
        for pair in entries.windows(2) {
            if pair[0].name(bytes) == pair[1].name(bytes) {
                return Err(format!("it has two files {}", quote(pair[0].name(bytes))));
            }
        }
        let (pickle, root_len) = find_pickle(&entries, bytes)?;
        Ok(Self { entries, pickle, root_len })
    }

    /// The pickle's number.
    pub fn pickle(&self) -> usize {
        self.pickle
    }

    /// The number of the file `name` in the checkpoint's folder.
    pub fn find(&self, bytes: &[u8], name: &str) -> Option<usize> {
        let root = &self.entries[self.pickle].name(bytes)[..self.root_len];
        let wanted = [root, name.as_bytes()].concat();
        self.entries.binary_search_by(|entry| entry.name(bytes).cmp(&wanted)).ok()
    }

    /// How many files it has.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Where the content of a file stands.
    pub fn range(&self, index: usize) -> Range<usize> {
        self.entries[index].data.clone()
    }

    /// The content of a file, whose checksum is checked the first time.
    pub fn content<'a>(&self, bytes: &'a [u8], index: usize) -> Checked<&'a [u8]> {
        let entry = &self.entries[index];
        let content = &bytes[entry.data.clone()];
        if entry.state.load(Ordering::Relaxed) == UNCHECKED {
            let intact = entry.checksum == 0 || crc32fast::hash(content) == entry.checksum;
            entry.state.store(if intact { INTACT } else { ALTERED }, Ordering::Relaxed);
        }
        if entry.state.load(Ordering::Relaxed) == ALTERED {
            return Err(format!("{} was altered: its checksum is wrong", quote(entry.name(bytes))));
        }
        Ok(content)
    }

    /// Bytes of memory that it holds.
    pub fn heap_bytes(&self) -> usize {
        self.entries.capacity() * size_of::<Entry>()
    }
}

fn directory(error: rawzip::Error) -> String {
    format!("its zip directory is malformed: {error}")
}

/// How many entries the directory has; it must be as many as the archive's end says.
fn count(zip: &ZipSliceArchive<&[u8]>) -> Checked<usize> {
    let mut count = 0;
    for record in zip.entries() {
        record.map_err(directory)?;
        count += 1;
    }
    let promised = zip.entries_hint();
    if count as u64 != promised {
        return Err(format!("its zip directory lists {count} files, but promises {promised}"));
    }
    Ok(count)
}

/// Where a file stands, if it is one that can be read.
fn entry(zip: &ZipSliceArchive<&[u8]>, record: &ZipFileHeaderRecord<'_>) -> Checked<Entry> {
    let name = record.file_path();
    let fault = |problem: String| format!("{} {problem}", quote(name.as_bytes()));
    if record.flags().is_encrypted() {
        return Err(fault("is encrypted".to_owned()));
    }
    if record.compression_method() != CompressionMethod::STORE {
        let method = record.compression_method();
        return Err(fault(format!("is compressed ({method}); torch.save stores its files as they are")));
    }
    let (stored, size) = (record.compressed_size_hint(), record.uncompressed_size_hint());
    if stored != size {
        return Err(fault(format!("is stored in {stored} bytes, but is said to have {size}")));
    }
    let file = zip
        .get_entry(record.wayfinder())
        .map_err(|error| fault(format!("does not lie in the archive: {error}; it may be truncated")))?;
    if file.local_header().file_path().as_bytes() != name.as_bytes() {
        return Err(fault("has another name where it stands than in the directory".to_owned()));
    }
    let (start, end) = file.compressed_data_range();
    if end > zip.directory_offset() {
        return Err(fault("overlaps the directory".to_owned()));
    }
    Ok(Entry {
        name_at: record.central_directory_offset() as usize + RECORD_BYTES,
        name_len: name.as_bytes().len() as u16,
        state: AtomicU8::new(UNCHECKED),
        checksum: record.crc32(),
        data: start as usize..end as usize,
    })
}

/// The only file `FOLDER/data.pkl`, and the length of `FOLDER/`.
fn find_pickle(entries: &[Entry], bytes: &[u8]) -> Checked<(usize, usize)> {
    let root = |entry: &Entry| {
        let folder = entry.name(bytes).strip_suffix(b"/data.pkl")?;
        (!folder.contains(&b'/')).then_some(folder.len() + 1)
    };
    let mut found = entries.iter().enumerate().filter_map(|(i, entry)| Some((i, root(entry)?)));
    let Some(first) = found.next() else {
        return Err("it is a zip archive without a data.pkl, hence not a checkpoint of torch.save".to_owned());
    };
    if let Some((second, _)) = found.next() {
        let names = [first.0, second].map(|i| quote(entries[i].name(bytes)));
        return Err(format!("it holds two checkpoints, {} and {}", names[0], names[1]));
    }
    Ok(first)
}

/// Bytes from the file as they can stand in a message.
pub(super) fn quote(bytes: &[u8]) -> String {
    let shown = bytes.len().min(SHOWN_BYTES);
    let dots = if shown < bytes.len() { "…" } else { "" };
    format!("\"{}\"{dots}", bytes[..shown].escape_ascii())
}
