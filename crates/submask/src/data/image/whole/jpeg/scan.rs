//! One scan: which blocks of which components it has, in which order.

use super::bits::{Bits, Table};
use super::{COEFFICIENTS, Component, Frame};

/// The last coefficient of a block.
const LAST: usize = COEFFICIENTS - 1;

/// What a scan says of itself.
pub(super) struct Scan<'a> {
    /// Number of a component, and its tables of the first and of the other coefficients.
    components: Vec<(usize, [Option<&'a Table>; 2])>,
    /// The first and the last coefficient.
    range: [usize; 2],
    /// Whether bits are added to coefficients that an earlier scan began.
    refines: bool,
    /// The lowest bit of the coefficients after this scan.
    lowest: u8,
}

impl<'a> Scan<'a> {
    pub fn read(segment: &[u8], frame: &Frame, tables: &'a [[Option<Table>; 4]; 2]) -> Result<Self, String> {
        let short = "a scan header is too short";
        let (&count, rest) = segment.split_first().ok_or(short)?;
        let (chosen, rest) = rest.split_at_checked(2 * usize::from(count)).ok_or(short)?;
        let mut components = Vec::new();
        for pair in chosen.chunks(2) {
            let place = frame.components.iter().position(|component| component.id == pair[0]);
            let place = place.ok_or("a scan is of a component that there is not")?;
            let numbers = [pair[1] >> 4, pair[1] & 15].map(usize::from);
            let table = |class: usize| tables[class].get(numbers[class]).and_then(Option::as_ref);
            components.push((place, [table(0), table(1)]));
        }
        let &[first, last, bits, ..] = rest else { return Err(short.to_owned()) };
        let (range, high, lowest) = match frame.progressive {
            true => ([first, last].map(usize::from), bits >> 4, bits & 15),
            false => ([0, LAST], 0, 0),
        };
        let is_proper = range[0] <= range[1] && range[1] <= LAST;
        let is_alone = range[0] == 0 || components.len() == 1;
        if components.is_empty()
            || !is_proper
            || !is_alone
            || (frame.progressive && range[0] == 0 && range[1] > 0)
        {
            return Err("a scan header is malformed".to_owned());
        }
        Ok(Self { components, range, refines: high > 0, lowest })
    }

    /// Follows the blocks from `at` on, and gives where they end; or where they go wrong.
    pub fn follow(
        &self,
        frame: &mut Frame,
        bytes: &[u8],
        at: usize,
        restart: usize,
    ) -> Result<usize, (usize, &'static str)> {
        let mut bits = Bits::new(bytes, at);
        self.units(frame, &mut bits, restart).map_err(|problem| (bits.at, problem))?;
        for (place, _) in &self.components {
            frame.components[*place].lowest[self.range[0]..=self.range[1]].fill(self.lowest);
        }
        Ok(bits.at)
    }

    fn units(&self, frame: &mut Frame, bits: &mut Bits, restart: usize) -> Result<(), &'static str> {
        let is_alone = self.components.len() == 1;
        let [across, down] = match is_alone {
            true => frame.blocks(&frame.components[self.components[0].0]),
            false => frame.units(),
        };
        let mut blocks_to_skip = 0;
        for unit in 0..across * down {
            if restart > 0 && unit > 0 && unit.is_multiple_of(restart) {
                bits.restart(unit / restart - 1)?;
                blocks_to_skip = 0;
            }
            let (row, column) = (unit / across, unit % across);
            for (place, tables) in &self.components {
                let component = &mut frame.components[*place];
                let [wide, high] = if is_alone { [1, 1] } else { component.sampling };
                for block in 0..wide * high {
                    let at = (row * high + block / wide) * component.stride + column * wide + block % wide;
                    match frame.progressive {
                        true => self.progressive(component, at, *tables, bits, &mut blocks_to_skip)?,
                        false => whole_block(*tables, bits)?,
                    }
                }
            }
        }
        Ok(())
    }

    /// A block of a scan that has some coefficients, or some bits of them.
    fn progressive(
        &self,
        component: &mut Component,
        block: usize,
        [dc, ac]: [Option<&Table>; 2],
        bits: &mut Bits,
        blocks_to_skip: &mut u32,
    ) -> Result<(), &'static str> {
        if self.range[0] == 0 {
            return match self.refines {
                true => bits.take(1).map(drop),
                false => first_coefficient(dc, bits),
            };
        }
        let nonzero = component.nonzero.get_mut(block).ok_or("it has more blocks than its size says")?;
        match self.refines {
            true => self.refine(nonzero, ac, bits, blocks_to_skip),
            false => self.begin(nonzero, ac, bits, blocks_to_skip),
        }
    }

    /// The highest bits of coefficients.
    fn begin(
        &self,
        nonzero: &mut u64,
        table: Option<&Table>,
        bits: &mut Bits,
        blocks_to_skip: &mut u32,
    ) -> Result<(), &'static str> {
        if *blocks_to_skip > 0 {
            *blocks_to_skip -= 1;
            return Ok(());
        }
        let mut k = self.range[0];
        while k <= self.range[1] {
            let (run, size) = run_and_size(table, bits)?;
            if size == 0 && run < 15 {
                *blocks_to_skip = (1 << run) - 1 + bits.take(run)?;
                break;
            }
            k += run as usize;
            if size > 0 {
                if k > self.range[1] {
                    return Err(BEYOND);
                }
                bits.take(size)?;
                *nonzero |= 1 << k;
            }
            k += 1;
        }
        Ok(())
    }

    /// The next lower bit of coefficients.
    fn refine(
        &self,
        nonzero: &mut u64,
        table: Option<&Table>,
        bits: &mut Bits,
        blocks_to_skip: &mut u32,
    ) -> Result<(), &'static str> {
        let mut k = self.range[0];
        while *blocks_to_skip == 0 && k <= self.range[1] {
            let (mut run, size) = run_and_size(table, bits)?;
            if size == 0 && run < 15 {
                *blocks_to_skip = (1 << run) + bits.take(run)?;
                break;
            }
            bits.take(size.min(1))?;
            // Zeros are counted; what is not zero has a bit of its own.
            while k <= self.range[1] {
                if *nonzero >> k & 1 == 1 {
                    bits.take(1)?;
                } else if run == 0 {
                    break;
                } else {
                    run -= 1;
                }
                k += 1;
            }
            if size > 0 {
                if k > self.range[1] {
                    return Err(BEYOND);
                }
                *nonzero |= 1 << k;
            }
            k += 1;
        }
        if *blocks_to_skip > 0 {
            let rest = (k..=self.range[1]).filter(|k| *nonzero >> k & 1 == 1).count();
            (0..rest).try_for_each(|_| bits.take(1).map(drop))?;
            *blocks_to_skip -= 1;
        }
        Ok(())
    }
}

/// What is said of a coefficient after the last one.
const BEYOND: &str = "a coefficient that a block does not have: it is damaged";

/// A block with all coefficients.
fn whole_block([dc, ac]: [Option<&Table>; 2], bits: &mut Bits) -> Result<(), &'static str> {
    first_coefficient(dc, bits)?;
    let mut k = 1;
    while k <= LAST {
        let (run, size) = run_and_size(ac, bits)?;
        if size == 0 && run < 15 {
            break;
        }
        k += run as usize;
        if size > 0 && k > LAST {
            return Err(BEYOND);
        }
        bits.take(size)?;
        k += 1;
    }
    Ok(())
}

fn first_coefficient(table: Option<&Table>, bits: &mut Bits) -> Result<(), &'static str> {
    let size = bits.symbol(table.ok_or(NO_TABLE)?)?;
    bits.take(u32::from(size).min(16)).map(drop)
}

/// How many zeros come before a coefficient, and how many bits it has.
fn run_and_size(table: Option<&Table>, bits: &mut Bits) -> Result<(u32, u32), &'static str> {
    let symbol = u32::from(bits.symbol(table.ok_or(NO_TABLE)?)?);
    Ok((symbol >> 4, symbol & 15))
}

/// What is said of a scan whose Huffman table was not given.
const NO_TABLE: &str = "a Huffman table is missing";
