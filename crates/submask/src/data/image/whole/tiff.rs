//! TIFF: directories of entries, which say where everything else stands.

use std::collections::HashSet;

/// Tags of where strips and tiles stand, and of how long they are.
const PLACES: [(u16, u16); 2] = [(273, 279), (324, 325)];

/// Checks that all directories, what their entries refer to, and all strips and tiles lie in the file.
pub(super) fn check(bytes: &[u8]) -> Result<(), String> {
    let file = File::of(bytes).ok_or("its header is no TIFF header")?;
    let mut seen = HashSet::new();
    let mut entries = 0;
    let mut next = file.first();
    loop {
        let at = next.ok_or("a directory leaves the file: it is truncated")?;
        if at == 0 {
            break;
        }
        if !seen.insert(at) {
            return Err("its directories follow each other in a circle".to_owned());
        }
        let (count, after) = file.directory(at).ok_or("a directory leaves the file: it is truncated")?;
        entries += count;
        if entries > bytes.len() {
            return Err("its directories overlap".to_owned());
        }
        file.check_places(at, count).ok_or("a part of its pixels leaves the file: it is truncated")?;
        next = file.word(after);
    }
    match seen.is_empty() {
        true => Err("it has no directory".to_owned()),
        false => Ok(()),
    }
}

struct File<'a> {
    bytes: &'a [u8],
    big_endian: bool,
    /// Whether it is a BigTIFF, with 8 bytes for places and counts.
    big: bool,
}

/// Numbers of an entry.
#[derive(Clone, Copy)]
struct Numbers {
    /// Bytes of each.
    size: usize,
    at: usize,
    count: usize,
}

impl<'a> File<'a> {
    fn of(bytes: &'a [u8]) -> Option<Self> {
        let big_endian = bytes.starts_with(b"MM");
        let file = Self { bytes, big_endian, big: false };
        Some(Self { big: file.number(2, 2)? == 43, ..file })
    }

    /// The number of `size` bytes at `at`.
    fn number(&self, at: usize, size: usize) -> Option<u64> {
        let field = self.bytes.get(at..at.checked_add(size)?)?;
        let push = |sum: u64, byte: &u8| sum << 8 | u64::from(*byte);
        Some(if self.big_endian { field.iter().fold(0, push) } else { field.iter().rev().fold(0, push) })
    }

    /// A place or a count.
    fn word(&self, at: usize) -> Option<usize> {
        self.number(at, if self.big { 8 } else { 4 })?.try_into().ok()
    }

    /// Where the first directory stands.
    fn first(&self) -> Option<usize> {
        self.word(if self.big { 8 } else { 4 })
    }

    /// Bytes of the number of entries, and of an entry.
    fn sizes(&self) -> (usize, usize) {
        if self.big { (8, 20) } else { (2, 12) }
    }

    /// How many entries the directory at `at` has, and where the place of the next one stands.
    fn directory(&self, at: usize) -> Option<(usize, usize)> {
        let (before, entry) = self.sizes();
        let count = usize::try_from(self.number(at, before)?).ok()?;
        let after = at.checked_add(before)?.checked_add(count.checked_mul(entry)?)?;
        (after <= self.bytes.len()).then_some((count, after))
    }

    /// Checks what the entries of a directory refer to; `None` where something leaves the file.
    fn check_places(&self, directory: usize, count: usize) -> Option<()> {
        let (before, size) = self.sizes();
        let mut places: [[Option<Numbers>; 2]; 2] = Default::default();
        for i in 0..count {
            let at = directory + before + i * size;
            let tag = self.number(at, 2)? as u16;
            let numbers = self.numbers(at)?;
            for (pair, (place, length)) in places.iter_mut().zip(PLACES) {
                if tag == place {
                    pair[0] = Some(numbers);
                } else if tag == length {
                    pair[1] = Some(numbers);
                }
            }
        }
        for pair in &places {
            if let [Some(places), Some(lengths)] = pair {
                for i in 0..places.count.min(lengths.count) {
                    let of = |numbers: &Numbers| self.number(numbers.at + i * numbers.size, numbers.size);
                    let end = of(places)?.checked_add(of(lengths)?)?;
                    (end <= self.bytes.len() as u64).then_some(())?;
                }
            }
        }
        Some(())
    }

    /// The numbers of the entry at `at`, in it or where it says.
    fn numbers(&self, at: usize) -> Option<Numbers> {
        let size = match self.number(at + 2, 2)? {
            3 | 8 => 2,
            4 | 9 | 11 | 13 => 4,
            5 | 10 | 12 | 16..=18 => 8,
            _ => 1,
        };
        let count = self.word(at + 4)?;
        let (inside, value) = if self.big { (8, at + 12) } else { (4, at + 8) };
        let bytes = count.checked_mul(size)?;
        let at = if bytes <= inside { value } else { self.word(value)? };
        (at.checked_add(bytes)? <= self.bytes.len()).then_some(Numbers { size, at, count })
    }
}
