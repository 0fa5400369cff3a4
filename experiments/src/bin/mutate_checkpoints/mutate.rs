//! Ways to break a checkpoint, or a file of texts.

use std::path::Path;

use crate::several::Several;
use crate::stored_zip::StoredZip;

/// Values that are often boundaries.
const INTERESTING: [u64; 12] = [
    0,
    1,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x7fff_ffff_ffff_ffff,
    u64::MAX,
];
/// Opcodes of a pickle, for bytes that mean something.
const OPCODES: &[u8] =
    b"().0129NJKMGXcbadeqrhjlstuQRUTBC]}\x80\x81\x85\x86\x87\x88\x89\x8a\x8b\x8c\x8f\x90\x91\x93\x94\x95";
/// Length of the record that ends an archive, and of a directory entry and a file's header before the name.
const END: usize = 22;
const ENTRY: usize = 46;
const HEADER: usize = 30;
/// How names of safetensors files end.
pub const SAFETENSORS: &str = "safetensors";
/// How names of mutated batches of images end.
pub const BATCH: &str = "batch";
/// The opcode that begins a pickle of protocol 2 or later.
const PROTOCOL: u8 = 0x80;
/// Bytes at either end of a batch that are mutated most: what stands between is mostly pixels.
const ENDS: usize = 1024;
/// Bytes of the length before a safetensors header.
const LENGTH: usize = 8;

/// A generator of random numbers: SplitMix64.
pub struct Random(u64);

impl Random {
    /// One stream for each `n`.
    pub fn new(seed: u64, n: u64) -> Self {
        let mut random = Self(seed ^ n.wrapping_mul(0xd6e8_feb8_6659_fd93));
        random.next();
        random
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `end`, which is not 0.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

/// A file of a checkpoint's archive.
struct Part {
    name: String,
    /// Where its header and its content begin.
    header: usize,
    at: usize,
    len: usize,
    checksum: u32,
}

/// A checkpoint as it was, and where its parts stand.
pub enum Original {
    /// A file of `torch.save`.
    Torch(Archive),
    /// A safetensors file: the length of a header, the header, the numbers.
    Safetensors {
        /// The file.
        bytes: Vec<u8>,
        /// Length of the header.
        header: usize,
    },
    /// A pickled batch of images, as CIFAR-10 and ImageNet-32 are published.
    Batch(Vec<u8>),
    /// Several files with an index.
    Several(Several),
    /// A file of a corpus.
    Texts {
        /// The file.
        bytes: Vec<u8>,
        /// How its name ends, which says how it is read.
        ending: String,
    },
}

/// How names of files of texts end; `.gz`, `.zst`, `.bz2` or `.xz` may follow.
const TEXTS: [&str; 6] = ["txt", "jsonl", "json", "csv", "tsv", "bin"];

/// The ending of a name of a file of texts.
fn ending_of_texts(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    let start = TEXTS.iter().filter_map(|ending| name.rfind(&format!(".{ending}"))).max()?;
    Some(name[start + 1..].to_owned())
}

impl Original {
    /// Reads a proper file.
    pub fn open(path: &Path) -> Result<Self, String> {
        if Several::is_index(path) {
            return Several::open(path).map(Self::Several);
        }
        let bytes = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
        // A checkpoint may be called .bin, and is an archive.
        if let Some(ending) = ending_of_texts(path).filter(|_| !bytes.starts_with(b"PK")) {
            return Ok(Self::Texts { bytes, ending });
        }
        let original = match path.extension().is_some_and(|extension| extension == SAFETENSORS) {
            true => number(&bytes, 0, 8)
                .filter(|header| bytes.len().checked_sub(LENGTH).is_some_and(|left| *header <= left))
                .map(|header| Self::Safetensors { bytes, header }),
            false if bytes.first() == Some(&PROTOCOL) => Some(Self::Batch(bytes)),
            false => Archive::parse(bytes).map(Self::Torch),
        };
        original.ok_or_else(|| format!("{}: not a checkpoint that can be mutated", path.display()))
    }

    /// The file, or the first of several.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Torch(archive) => &archive.bytes,
            Self::Safetensors { bytes, .. } | Self::Batch(bytes) => bytes,
            Self::Texts { bytes, .. } => bytes,
            Self::Several(_) => &[],
        }
    }

    /// Whether it is a file of texts.
    pub fn is_of_texts(&self) -> bool {
        matches!(self, Self::Texts { .. })
    }

    /// The checkpoint broken in one way or a few, and which: names and contents of its files, the one to open first.
    pub fn mutated(&self, random: &mut Random) -> (Vec<(String, Vec<u8>)>, String) {
        let extension = match self {
            Self::Several(several) => return several.mutated(random),
            Self::Torch(_) => "ckpt",
            Self::Safetensors { .. } => SAFETENSORS,
            Self::Batch(_) => BATCH,
            Self::Texts { ending, .. } => ending,
        };
        let (bytes, what) = self.mutated_alone(random);
        (vec![(format!("mutated.{extension}"), bytes)], what)
    }

    /// A file of several, broken; an index within an index is none.
    pub fn mutated_alone(&self, random: &mut Random) -> (Vec<u8>, String) {
        match self {
            Self::Torch(archive) => archive.mutated(random),
            Self::Safetensors { bytes, header } => safetensors(bytes, *header, random),
            Self::Batch(bytes) => batch(bytes, random),
            Self::Texts { bytes, .. } => texts(bytes, random),
            Self::Several(_) => (Vec::new(), "nothing".to_owned()),
        }
    }
}

/// A file of texts, broken anywhere, its beginning more often than the rest.
fn texts(whole: &[u8], random: &mut Random) -> (Vec<u8>, String) {
    let mut bytes = whole.to_vec();
    let mut what = Vec::new();
    for _ in 0..1 + random.below(3) {
        let end = if random.below(3) == 0 { 64 } else { bytes.len() };
        let place = random.below(end.min(bytes.len()).max(1));
        what.push(if random.below(6) == 0 {
            sign(&mut bytes, place, random)
        } else {
            mutate(&mut bytes, place, random)
        });
    }
    (bytes, what.join(", then "))
}

/// Puts a byte that means something in JSON or a table in the place of another.
fn sign(bytes: &mut [u8], place: usize, random: &mut Random) -> String {
    let Some(byte) = bytes.get_mut(place) else { return "nothing".to_owned() };
    *byte = random.pick(b"\"\\{}[],:\n\r\t ;|\0\xff");
    format!("{:?} at {place}", char::from(*byte))
}

/// A safetensors file, broken mostly in its header, whose length is then put right.
fn safetensors(whole: &[u8], header: usize, random: &mut Random) -> (Vec<u8>, String) {
    let mut bytes = whole.to_vec();
    match random.below(20) {
        0..14 => {
            let mut text = whole[LENGTH..][..header].to_vec();
            let what = any_text(&mut text, random);
            let length = (text.len() as u64).to_le_bytes();
            (
                [&length, text.as_slice(), &whole[LENGTH + header..]].concat(),
                format!("header, resealed: {what}"),
            )
        }
        14..17 => {
            let what = mutate(&mut bytes, random.below(LENGTH), random);
            (bytes, format!("length: {what}"))
        }
        _ => {
            let place = random.below(bytes.len());
            let what = mutate(&mut bytes, place, random);
            (bytes, format!("anywhere: {what}"))
        }
    }
}

/// A pickled batch, broken mostly near its ends, where everything but pixels stands.
fn batch(whole: &[u8], random: &mut Random) -> (Vec<u8>, String) {
    let mut bytes = whole.to_vec();
    let mut what = Vec::new();
    for _ in 0..1 + random.below(3) {
        let length = bytes.len().max(1);
        let place = match random.below(20) {
            0..9 => random.below(length.min(ENDS)),
            9..18 => length - 1 - random.below(length.min(ENDS)),
            _ => random.below(length),
        };
        what.push(mutate(&mut bytes, place, random));
    }
    (bytes, format!("batch: {}", what.join(", then ")))
}

/// Breaks a text with numbers in up to three places.
pub fn any_text(text: &mut Vec<u8>, random: &mut Random) -> String {
    let mut what = Vec::new();
    for _ in 0..1 + random.below(3) {
        let place = random.below(text.len().max(1));
        let number = random.below(2) == 0;
        what.push(if number { digit(text, place, random) } else { mutate(text, place, random) });
    }
    what.join(", then ")
}

/// Puts another number in the place of the next one at or after `place`.
fn digit(bytes: &mut Vec<u8>, place: usize, random: &mut Random) -> String {
    let Some(start) = (place..bytes.len()).find(|at| bytes[*at].is_ascii_digit()) else {
        return "nothing".to_owned();
    };
    let end = (start..bytes.len()).find(|at| !bytes[*at].is_ascii_digit()).unwrap_or(bytes.len());
    let value = random.pick(&INTERESTING).to_string();
    bytes.splice(start..end, value.bytes());
    format!("the number {value} at {start}")
}

/// A file of `torch.save`, and where its parts stand.
pub struct Archive {
    bytes: Vec<u8>,
    parts: Vec<Part>,
    pickle: usize,
    directory: usize,
}

fn number(bytes: &[u8], at: usize, len: usize) -> Option<usize> {
    Some(bytes.get(at..at + len)?.iter().rev().fold(0, |sum, byte| sum << 8 | usize::from(*byte)))
}

impl Archive {
    /// Takes a proper checkpoint without a comment at its end apart.
    fn parse(bytes: Vec<u8>) -> Option<Self> {
        let end = bytes.len().checked_sub(END)?;
        let directory = number(&bytes, end + 16, 4)?;
        let mut parts = Vec::new();
        let mut at = directory;
        for _ in 0..number(&bytes, end + 10, 2)? {
            let len = number(&bytes, at + 28, 2)?;
            let header = number(&bytes, at + 42, 4)?;
            let name = String::from_utf8(bytes.get(at + ENTRY..at + ENTRY + len)?.to_vec()).ok()?;
            let before = HEADER + number(&bytes, header + 26, 2)? + number(&bytes, header + 28, 2)?;
            let checksum = number(&bytes, at + 16, 4)? as u32;
            parts.push(Part {
                name,
                header,
                at: header + before,
                len: number(&bytes, at + 24, 4)?,
                checksum,
            });
            at += ENTRY + len + number(&bytes, at + 30, 2)? + number(&bytes, at + 32, 2)?;
        }
        let pickle = parts.iter().position(|part| part.name.ends_with("/data.pkl"))?;
        Some(Self { bytes, parts, pickle, directory })
    }

    fn mutated(&self, random: &mut Random) -> (Vec<u8>, String) {
        match random.below(20) {
            0..10 => self.resealed(random),
            10..14 => {
                let mut bytes = self.bytes.clone();
                let place = self.directory + random.below(bytes.len() - self.directory);
                let what = mutate(&mut bytes, place, random);
                (bytes, format!("directory: {what}"))
            }
            14..16 => {
                let mut bytes = self.bytes.clone();
                let part = &self.parts[random.below(self.parts.len())];
                let place = part.header + random.below(part.at - part.header);
                let what = mutate(&mut bytes, place, random);
                (bytes, format!("header of {}: {what}", part.name))
            }
            16..18 => {
                let mut bytes = self.bytes.clone();
                let part = &self.parts[self.pickle];
                let place = part.at + random.below(part.len.max(1));
                let what = mutate(&mut bytes, place, random);
                (bytes, format!("pickle: {what}"))
            }
            _ => {
                let mut bytes = self.bytes.clone();
                let place = random.below(bytes.len());
                let what = mutate(&mut bytes, place, random);
                (bytes, format!("anywhere: {what}"))
            }
        }
    }

    /// An archive around a broken pickle in which every checksum and size is right.
    fn resealed(&self, random: &mut Random) -> (Vec<u8>, String) {
        let content = |part: &Part| &self.bytes[part.at..part.at + part.len];
        let mut pickle = content(&self.parts[self.pickle]).to_vec();
        let mut what = Vec::new();
        for _ in 0..1 + random.below(3) {
            let place = random.below(pickle.len().max(1));
            what.push(mutate(&mut pickle, place, random));
        }
        let mut zip = StoredZip::default();
        for (i, part) in self.parts.iter().enumerate() {
            if i == self.pickle {
                zip.file(&part.name, &pickle);
            } else if random.below(400) > 0 {
                zip.add(&part.name, content(part), part.checksum);
            }
        }
        (zip.finish(), format!("pickle, resealed: {}", what.join(", then ")))
    }
}

/// Breaks bytes at or after `place`, and says how.
fn mutate(bytes: &mut Vec<u8>, place: usize, random: &mut Random) -> String {
    if place >= bytes.len() {
        return "nothing".to_owned();
    }
    let left = bytes.len() - place;
    match random.below(10) {
        0 => {
            bytes.truncate(place);
            format!("truncated to {place}")
        }
        1..4 => {
            let bits = 1 + random.below(4);
            for _ in 0..bits {
                let at = place + random.below(left.min(16));
                bytes[at] ^= 1 << random.below(8);
            }
            format!("{bits} bits flipped near {place}")
        }
        4..6 => {
            let (value, len) = (random.pick(&INTERESTING), random.pick(&[1, 2, 4, 8]).min(left));
            bytes[place..place + len].copy_from_slice(&value.to_le_bytes()[..len]);
            format!("{len} bytes of {value:#x} at {place}")
        }
        6 => {
            bytes[place] = random.pick(OPCODES);
            format!("opcode {:#x} at {place}", bytes[place])
        }
        7 => {
            let from = random.below(bytes.len());
            let len = 1 + random.below(64.min(left).min(bytes.len() - from));
            bytes.copy_within(from..from + len, place);
            format!("{len} bytes from {from} over {place}")
        }
        8 => {
            let from = random.below(bytes.len());
            let len = 1 + random.below(4096.min(bytes.len() - from));
            let piece = bytes[from..from + len].to_vec();
            bytes.splice(place..place, piece);
            format!("{len} bytes from {from} inserted at {place}")
        }
        _ => {
            let len = 1 + random.below(256.min(left));
            bytes.drain(place..place + len);
            format!("{len} bytes removed at {place}")
        }
    }
}
