//! JPEG: segments, and between them scans of Huffman codes, which are followed block by block without computing a
//! pixel (ITU-T T.81, annexes B, F and G).

mod bits;
mod scan;

use self::bits::Table;
use self::scan::Scan;
use super::{array, truncated};

/// More scans are refused, as the decoder refuses them.
const MAX_SCANS: usize = 100;
/// Coefficients of a block.
const COEFFICIENTS: usize = 64;
/// Of a coefficient that no scan has begun.
const NOT_BEGUN: u8 = u8::MAX;

/// Checks that every block of every scan is there, and the marker of the end. What the decoder refuses anyway passes.
pub(super) fn check(bytes: &[u8]) -> Result<(), String> {
    let mut file = File { bytes, at: 2, ..File::default() };
    loop {
        let marker = file.next_marker().ok_or("it has no end-of-image marker: it is truncated")?;
        match marker {
            0xd9 => return file.finish(),
            0x01 | 0xd0..=0xd8 => continue,
            _ => {}
        }
        let segment = file.segment(marker)?;
        match marker {
            0xc4 => file.huffman_tables(segment)?,
            0xc0..=0xc2 => match file.frame(segment, marker == 0xc2)? {
                Some(frame) => file.frame = Some(frame),
                None => return Ok(()),
            },
            // Lossless, hierarchical or arithmetic: not decoded.
            0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf => return Ok(()),
            0xdd => {
                let interval = array(segment, 0).ok_or("its restart interval has no number")?;
                file.restart = u16::from_be_bytes(interval).into();
            }
            0xda => file.scan(segment)?,
            _ => {}
        }
    }
}

#[derive(Default)]
struct File<'a> {
    bytes: &'a [u8],
    /// Offset of what is read next.
    at: usize,
    /// Huffman tables of the first and of the other coefficients, by their number.
    tables: [[Option<Table>; 4]; 2],
    frame: Option<Frame>,
    /// Units between two restart markers; 0: there are none.
    restart: usize,
    scans: usize,
}

/// The size of the picture, and its components.
struct Frame {
    progressive: bool,
    /// Pixels across and down.
    size: [usize; 2],
    components: Vec<Component>,
    /// The largest sampling factors across and down.
    most: [usize; 2],
}

/// Luminance or a colour difference.
struct Component {
    id: u8,
    /// Sampling factors across and down.
    sampling: [usize; 2],
    /// Blocks in a row, those that fill up the last unit included.
    stride: usize,
    /// By coefficient: the lowest bit that was sent, or [`NOT_BEGUN`].
    lowest: [u8; COEFFICIENTS],
    /// By block of a progressive picture: which coefficients are not 0.
    nonzero: Vec<u64>,
}

impl<'a> File<'a> {
    /// The marker after what is skipped up to it.
    fn next_marker(&mut self) -> Option<u8> {
        loop {
            let [first, second] = array(self.bytes, self.at)?;
            match (first, second) {
                (0xff, 0 | 0xff) => self.at += if second == 0 { 2 } else { 1 },
                (0xff, marker) => {
                    self.at += 2;
                    return Some(marker);
                }
                _ => self.at += 1,
            }
        }
    }

    /// What stands in the segment of a marker.
    fn segment(&mut self, marker: u8) -> Result<&'a [u8], String> {
        let cut = || truncated(&format!("the segment of marker {marker:#04x}"));
        let length = usize::from(u16::from_be_bytes(array(self.bytes, self.at).ok_or_else(cut)?));
        let content = self.bytes.get(self.at + 2..self.at + length).ok_or_else(cut)?;
        self.at += length;
        Ok(content)
    }

    fn huffman_tables(&mut self, mut segment: &[u8]) -> Result<(), String> {
        while let Some((&which, rest)) = segment.split_first() {
            let (class, number) = (usize::from(which >> 4), usize::from(which & 15));
            let (table, rest) = Table::read(rest).ok_or("a Huffman table is malformed")?;
            let place = self.tables.get_mut(class).and_then(|tables| tables.get_mut(number));
            *place.ok_or("a Huffman table has a number that there is not")? = Some(table);
            segment = rest;
        }
        Ok(())
    }

    /// The picture's size; `None` for a picture that is not decoded.
    fn frame(&self, segment: &[u8], progressive: bool) -> Result<Option<Frame>, String> {
        if self.frame.is_some() {
            return Err("it has two pictures in one".to_owned());
        }
        let [precision, h1, h0, w1, w0, count] = array(segment, 0).ok_or("its frame header is too short")?;
        let size = [[w1, w0], [h1, h0]].map(|side| usize::from(u16::from_be_bytes(side)));
        if precision != 8 || size.contains(&0) {
            return Ok(None);
        }
        let mut components = Vec::new();
        for i in 0..usize::from(count) {
            let [id, sampling, _] = array(segment, 6 + 3 * i).ok_or("its frame header is too short")?;
            let sampling = [sampling >> 4, sampling & 15].map(usize::from);
            if sampling.iter().any(|factor| !(1..=4).contains(factor)) {
                return Err(format!("component {i} has a sampling factor that is not 1 to 4"));
            }
            let lowest = [NOT_BEGUN; COEFFICIENTS];
            components.push(Component { id, sampling, stride: 0, lowest, nonzero: Vec::new() });
        }
        let most = [0, 1].map(|axis| components.iter().map(|c| c.sampling[axis]).max().unwrap_or(1));
        let mut frame = Frame { progressive, size, components, most };
        frame.make_blocks(self.bytes.len())?;
        Ok(Some(frame))
    }

    fn scan(&mut self, segment: &[u8]) -> Result<(), String> {
        self.scans += 1;
        if self.scans > MAX_SCANS {
            return Err(format!("it has more than {MAX_SCANS} scans"));
        }
        let frame = self.frame.as_mut().ok_or("a scan comes before the frame header")?;
        let scan = Scan::read(segment, frame, &self.tables)?;
        self.at = scan
            .follow(frame, self.bytes, self.at, self.restart)
            .map_err(|(at, problem)| format!("scan {}, byte {at}: {problem}", self.scans))?;
        Ok(())
    }

    /// Whether everything that was begun is complete.
    fn finish(&self) -> Result<(), String> {
        let frame = self.frame.as_ref().ok_or("it holds no picture")?;
        for (i, component) in frame.components.iter().enumerate() {
            let unfinished = component.lowest.iter().any(|bit| *bit != NOT_BEGUN && *bit > 0);
            if component.lowest[0] == NOT_BEGUN || unfinished {
                return Err(format!("scans of component {i} are missing: it is truncated"));
            }
        }
        Ok(())
    }
}

impl Frame {
    /// Units of a scan of several components, across and down.
    fn units(&self) -> [usize; 2] {
        [0, 1].map(|axis| self.size[axis].div_ceil(8 * self.most[axis]))
    }

    /// Blocks of a component that belong to the picture, across and down.
    fn blocks(&self, component: &Component) -> [usize; 2] {
        [0, 1].map(|axis| (self.size[axis] * component.sampling[axis]).div_ceil(self.most[axis]).div_ceil(8))
    }

    /// Room for what is known of every block. A block takes at least a bit of the file.
    fn make_blocks(&mut self, bytes: usize) -> Result<(), String> {
        let (units, progressive) = (self.units(), self.progressive);
        for component in &mut self.components {
            component.stride = units[0] * component.sampling[0];
            let blocks = component.stride * units[1] * component.sampling[1];
            if blocks > 8 * bytes {
                return Err(truncated(&format!("its {blocks} blocks of pixels")));
            }
            if progressive {
                component.nonzero = vec![0; blocks];
            }
        }
        Ok(())
    }
}
