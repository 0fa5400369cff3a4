//! Formats whose files are a sequence of pieces with lengths.

use super::{array, truncated};

/// PNG: chunks up to `IEND`. Checksums are left to the decoder.
pub(super) fn png(bytes: &[u8]) -> Result<(), String> {
    /// Length, type and checksum.
    const AROUND: usize = 12;
    let mut at = 8;
    loop {
        let cut = || truncated("its chunks, before IEND");
        let length = u32::from_be_bytes(array(bytes, at).ok_or_else(cut)?);
        let kind: [u8; 4] = array(bytes, at + 4).ok_or_else(cut)?;
        at = usize::try_from(length)
            .ok()
            .and_then(|length| at.checked_add(length + AROUND))
            .ok_or_else(cut)?;
        if at > bytes.len() {
            return Err(cut());
        }
        if &kind == b"IEND" {
            return Ok(());
        }
    }
}

/// GIF: blocks up to the trailer.
pub(super) fn gif(bytes: &[u8]) -> Result<(), String> {
    let cut = || truncated("its blocks, before the trailer");
    /// Bytes of a colour table whose size stands in `flags`.
    fn table(flags: u8) -> usize {
        if flags & 0x80 == 0 { 0 } else { 3 << ((flags & 7) + 1) }
    }
    let [flags] = array(bytes, 10).ok_or_else(cut)?;
    let mut at = 13 + table(flags);
    loop {
        let [block] = array(bytes, at).ok_or_else(cut)?;
        at = match block {
            0x3b => return Ok(()),
            0x21 => sub_blocks(bytes, at + 2).ok_or_else(cut)?,
            0x2c => {
                let [flags] = array(bytes, at + 9).ok_or_else(cut)?;
                sub_blocks(bytes, at + 11 + table(flags)).ok_or_else(cut)?
            }
            other => return Err(format!("byte {at}: no block of a GIF begins with {other:#04x}")),
        };
    }
}

/// Where the sub-blocks that begin at `at` end.
fn sub_blocks(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        let [length] = array(bytes, at)?;
        at += 1 + usize::from(length);
        if length == 0 {
            return Some(at);
        }
    }
}

/// WebP: a RIFF container of chunks, as long as it says.
pub(super) fn webp(bytes: &[u8]) -> Result<(), String> {
    let cut = || truncated("its chunks");
    let size = |at| array(bytes, at).and_then(|size| usize::try_from(u32::from_le_bytes(size)).ok());
    let end =
        size(4).and_then(|size| size.checked_add(8)).filter(|end| *end <= bytes.len()).ok_or_else(cut)?;
    let mut at = 12;
    while at + 8 <= end {
        let length = size(at + 4).ok_or_else(cut)?;
        at = at.checked_add(length + 8).filter(|at| *at <= end).ok_or_else(cut)?;
        // A chunk of odd length has a byte more.
        at += length % 2;
    }
    Ok(())
}

/// BMP: rows of pixels, or runs up to the end of the picture.
pub(super) fn bmp(bytes: &[u8]) -> Result<(), String> {
    let header = || truncated("its header");
    let number = |at| array(bytes, at).map(u32::from_le_bytes).ok_or_else(header);
    let short = |at| array(bytes, at).map(u16::from_le_bytes).ok_or_else(header);
    let (offset, info) = (number(10)? as usize, number(14)?);
    let (width, height, bits, compression) = match info {
        12 => (short(18)?.into(), short(20)?.into(), short(24)?, 0),
        _ => (number(18)?, (number(22)? as i32).unsigned_abs(), short(28)?, number(30)?),
    };
    match compression {
        1 => runs(bytes, offset, height, 8),
        2 => runs(bytes, offset, height, 4),
        _ => {
            let row = (u64::from(width) * u64::from(bits)).div_ceil(32).saturating_mul(4);
            let end = row.saturating_mul(height.into()).saturating_add(offset as u64);
            match end <= bytes.len() as u64 {
                true => Ok(()),
                false => Err(truncated(&format!("its {height} rows of {width} pixels"))),
            }
        }
    }
}

/// Runs of pixels of `bits`: up to the mark of the end, or of the end of the last row.
fn runs(bytes: &[u8], offset: usize, height: u32, bits: usize) -> Result<(), String> {
    let (mut at, mut row) = (offset, 0u32);
    let cut = || truncated("its runs of pixels, before their end");
    loop {
        let [count, value] = array(bytes, at).ok_or_else(cut)?;
        at += 2;
        match (count, value) {
            (0, 0) => row = row.saturating_add(1),
            (0, 1) => return Ok(()),
            (0, 2) => {
                let [_, down] = array(bytes, at).ok_or_else(cut)?;
                row = row.saturating_add(down.into());
                at += 2;
            }
            // Pixels by themselves, padded to an even number of bytes.
            (0, count) => at += (usize::from(count) * bits).div_ceil(16) * 2,
            _ => {}
        }
        if at > bytes.len() {
            return Err(cut());
        }
        if row >= height {
            return Ok(());
        }
    }
}
