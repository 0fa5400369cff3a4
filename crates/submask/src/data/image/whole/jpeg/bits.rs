//! Bits of a scan, and Huffman codes in them.

/// Bits that are looked up at once.
const LOOKED_UP: u32 = 8;
/// The longest code.
const MAX_LENGTH: u32 = 16;

/// A Huffman table.
pub(super) struct Table {
    /// By the next [`LOOKED_UP`] bits: length and symbol of the code; length 0 for a longer one.
    short: Box<[(u8, u8); 1 << LOOKED_UP]>,
    /// By length: the largest code, and what added to a code gives the place of its symbol.
    long: [Option<(u32, i32)>; MAX_LENGTH as usize + 1],
    symbols: Vec<u8>,
}

impl Table {
    /// Reads a table, and gives what follows it; `None` for one that is malformed.
    pub fn read(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (counts, rest) = bytes.split_first_chunk::<{ MAX_LENGTH as usize }>()?;
        let total = counts.iter().map(|count| usize::from(*count)).sum::<usize>();
        let (symbols, rest) = rest.split_at_checked(total)?;
        let mut table =
            Self { short: Box::new([(0, 0); 1 << LOOKED_UP]), long: [None; 17], symbols: symbols.to_vec() };
        let (mut code, mut place) = (0u32, 0usize);
        for (length, count) in (1..=MAX_LENGTH).zip(counts) {
            let first = code;
            for _ in 0..*count {
                if code >= 1 << length {
                    return None;
                }
                if length <= LOOKED_UP {
                    let from = (code << (LOOKED_UP - length)) as usize;
                    table.short[from..from + (1 << (LOOKED_UP - length))]
                        .fill((length as u8, symbols[place]));
                }
                code += 1;
                place += 1;
            }
            if *count > 0 {
                let before = place - usize::from(*count);
                table.long[length as usize] = Some((code - 1, before as i32 - first as i32));
            }
            code <<= 1;
        }
        Some((table, rest))
    }
}

/// What ends a scan too early.
pub(super) const SHORT: &str = "the scan ends before its last block: it is truncated or damaged";

/// The bits from a place on up to the next marker.
pub(super) struct Bits<'a> {
    bytes: &'a [u8],
    /// Offset of the next byte.
    pub at: usize,
    /// The next bits, the first one highest.
    next: u64,
    /// How many of them are there.
    there: u32,
}

impl<'a> Bits<'a> {
    pub fn new(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at, next: 0, there: 0 }
    }

    fn fill(&mut self) {
        while self.there <= 56 {
            let byte = match (self.bytes.get(self.at), self.bytes.get(self.at + 1)) {
                // A marker, or the end.
                (None, _) | (Some(0xff), None) => return,
                (Some(0xff), Some(0)) => {
                    self.at += 2;
                    0xff
                }
                (Some(0xff), Some(_)) => return,
                (Some(byte), _) => {
                    self.at += 1;
                    *byte
                }
            };
            self.next |= u64::from(byte) << (56 - self.there);
            self.there += 8;
        }
    }

    /// The next `count` bits, at most 16.
    pub fn take(&mut self, count: u32) -> Result<u32, &'static str> {
        if count == 0 {
            return Ok(0);
        }
        if self.there < count {
            self.fill();
        }
        if self.there < count {
            return Err(SHORT);
        }
        let bits = (self.next >> (64 - count)) as u32;
        self.next <<= count;
        self.there -= count;
        Ok(bits)
    }

    /// The symbol of the next code.
    pub fn symbol(&mut self, table: &Table) -> Result<u8, &'static str> {
        if self.there < MAX_LENGTH {
            self.fill();
        }
        // Behind the last bit stand zeros, and `take` says that they are none.
        let (length, symbol) = table.short[(self.next >> (64 - LOOKED_UP)) as usize];
        if length > 0 {
            return self.take(length.into()).map(|_| symbol);
        }
        for length in LOOKED_UP + 1..=MAX_LENGTH {
            let code = (self.next >> (64 - length)) as u32;
            if let Some((largest, shift)) = table.long[length as usize]
                && code <= largest
            {
                self.take(length)?;
                let place = usize::try_from(code as i32 + shift).ok();
                return place.and_then(|place| table.symbols.get(place).copied()).ok_or(NO_CODE);
            }
        }
        Err(if self.there < MAX_LENGTH { SHORT } else { NO_CODE })
    }

    /// Skips to the next marker, which is expected to be restart marker `number`.
    pub fn restart(&mut self, number: usize) -> Result<(), &'static str> {
        (self.next, self.there) = (0, 0);
        loop {
            match (self.bytes.get(self.at), self.bytes.get(self.at + 1)) {
                (Some(0xff), Some(0xff)) => self.at += 1,
                (Some(0xff), Some(0)) => self.at += 2,
                (Some(0xff), Some(marker)) if *marker == 0xd0 + (number % 8) as u8 => {
                    self.at += 2;
                    return Ok(());
                }
                (Some(0xff), Some(_)) | (None, _) | (_, None) => {
                    return Err("a restart marker is missing: it is truncated or damaged");
                }
                _ => self.at += 1,
            }
        }
    }
}

/// What is said of bits that no code begins with.
const NO_CODE: &str = "bits that are no code: it is damaged";
