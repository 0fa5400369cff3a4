//! Who owns which elements of the weights, and in which pieces they travel.

use std::ops::Range;

use crate::train::optimizer::CHUNK;

/// Most chunks of a piece: messages of 1 MiB.
const MOST_CHUNKS: usize = 16;
/// Pieces for each process, where there are enough elements: so many that waiting for the first piece, which passes all
/// processes before the last one has it, takes a sixteenth of the time that all pieces take.
const PIECES_PER_RANK: usize = 16;

/// The elements of the weights, cut into one range for each process and pieces of these.
#[derive(Debug, PartialEq)]
pub(super) struct Plan {
    /// How many weights there are.
    weights: usize,
    /// In the order of the weights.
    pieces: Vec<Piece>,
    /// Of every process, which pieces it owns.
    owned: Vec<Range<usize>>,
}

/// Elements that travel together.
#[derive(Debug, PartialEq)]
pub(super) struct Piece {
    /// Whose they are.
    pub owner: usize,
    /// How many.
    pub len: usize,
    /// In the order of the weights, one after the other.
    pub segments: Vec<Segment>,
}

/// A range of one weight.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Segment {
    /// Place of the weight in definition order.
    pub parameter: usize,
    /// Its elements.
    pub range: Range<usize>,
}

impl Plan {
    /// For weights of `lens` elements and `ranks` processes. Process r owns chunks from the first one on before which there
    /// is at least r/ranks of all elements.
    pub fn new(lens: &[usize], ranks: usize) -> Self {
        let total: usize = lens.iter().sum();
        let most = (total / (PIECES_PER_RANK * ranks) / CHUNK).clamp(1, MOST_CHUNKS) * CHUNK;
        let (mut pieces, mut before, mut owner) = (Vec::<Piece>::new(), 0, 0);
        for (parameter, &len) in lens.iter().enumerate() {
            for start in (0..len).step_by(CHUNK) {
                let chunk = start..len.min(start + CHUNK);
                // before ≥ total·(owner + 1)/ranks
                while owner + 1 < ranks
                    && before as u128 * ranks as u128 >= total as u128 * (owner as u128 + 1)
                {
                    owner += 1;
                }
                before += chunk.len();
                match pieces.last_mut().filter(|last| last.owner == owner && last.len + chunk.len() <= most) {
                    Some(last) => last.push(parameter, chunk),
                    None => {
                        let mut piece = Piece { owner, len: 0, segments: Vec::new() };
                        piece.push(parameter, chunk);
                        pieces.push(piece);
                    }
                }
            }
        }
        let first_of = |rank: usize| pieces.partition_point(|piece| piece.owner < rank);
        let owned = (0..ranks).map(|rank| first_of(rank)..first_of(rank + 1)).collect();
        Self { weights: lens.len(), pieces, owned }
    }

    /// All pieces.
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// The pieces of a process.
    pub fn owned(&self, rank: usize) -> Range<usize> {
        self.owned[rank].clone()
    }

    /// The elements of every weight that a process owns.
    pub fn ranges(&self, rank: usize) -> Vec<Range<usize>> {
        let mut ranges = vec![0..0; self.weights];
        let segments = self.pieces[self.owned(rank)].iter().flat_map(|piece| &piece.segments);
        for Segment { parameter, range } in segments {
            let own: &mut Range<usize> = &mut ranges[*parameter];
            *own = if Range::is_empty(own) { range.clone() } else { own.start..range.end };
        }
        ranges
    }

    /// Elements that a process owns.
    #[cfg(test)]
    pub fn own_len(&self, rank: usize) -> usize {
        self.pieces[self.owned(rank)].iter().map(|piece| piece.len).sum()
    }
}

impl Piece {
    fn push(&mut self, parameter: usize, range: Range<usize>) {
        self.len += range.len();
        match self.segments.last_mut().filter(|last| last.parameter == parameter) {
            Some(last) => last.range.end = range.end,
            None => self.segments.push(Segment { parameter, range }),
        }
    }

    /// Its elements of `values`, of which every weight's begin at `starts` (all at 0 where there are none).
    pub fn packed(&self, values: &[impl AsRef<[f32]>], starts: &[Range<usize>]) -> Vec<f32> {
        let mut packed = Vec::with_capacity(self.len);
        for Segment { parameter, range } in &self.segments {
            let start = starts.get(*parameter).map_or(0, |held| held.start);
            packed.extend_from_slice(&values[*parameter].as_ref()[range.start - start..range.end - start]);
        }
        packed
    }

    /// Puts its elements, one after the other in `packed`, where they stand in `values`, which begin as in [`Self::packed`].
    pub fn unpack(&self, packed: &[f32], values: &mut [Vec<f32>], starts: &[Range<usize>]) {
        self.each(packed.len(), |segment, range| {
            let start = starts.get(segment.parameter).map_or(0, |held| held.start);
            let place = segment.range.start - start..segment.range.end - start;
            values[segment.parameter][place].copy_from_slice(&packed[range]);
        });
    }

    /// Calls `visit` with every segment and where its elements are among `len`.
    pub fn each(&self, len: usize, mut visit: impl FnMut(&Segment, Range<usize>)) {
        debug_assert_eq!(len, self.len);
        let mut at = 0;
        for segment in &self.segments {
            visit(segment, at..at + segment.range.len());
            at += segment.range.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_element_is_in_one_piece_and_pieces_follow_each_other() {
        let lens = [3, 40 * CHUNK + 5, 1, 2 * CHUNK, 0, 7];
        for ranks in [1, 2, 3, 5, 64] {
            let plan = Plan::new(&lens, ranks);
            let mut next = (0, 0);
            for segment in plan.pieces().iter().flat_map(|piece| &piece.segments) {
                while next.1 == lens[next.0] {
                    next = (next.0 + 1, 0);
                }
                assert_eq!((segment.parameter, segment.range.start), next, "{ranks}");
                assert!(segment.range.start.is_multiple_of(CHUNK));
                next.1 = segment.range.end;
            }
            assert_eq!(next, (5, 7));
            let owners: Vec<usize> = plan.pieces().iter().map(|piece| piece.owner).collect();
            assert!(owners.is_sorted() && owners.iter().all(|owner| *owner < ranks));
            assert_eq!((0..ranks).map(|rank| plan.own_len(rank)).sum::<usize>(), lens.iter().sum::<usize>());
        }
    }

    #[test]
    fn shares_differ_by_a_chunk_at_most_where_there_are_many() {
        let plan = Plan::new(&[100 * CHUNK], 3);
        let shares: Vec<usize> = (0..3).map(|rank| plan.own_len(rank) / CHUNK).collect();
        assert_eq!(shares, [34, 33, 33]);
        assert_eq!(plan.ranges(1), std::slice::from_ref(&(34 * CHUNK..67 * CHUNK)));
        assert!(plan.pieces().iter().all(|piece| piece.len <= 2 * CHUNK), "{:?}", plan.pieces());
        let plan = Plan::new(&[2000 * CHUNK], 2);
        assert!(plan.pieces().iter().any(|piece| piece.len == MOST_CHUNKS * CHUNK));
    }

    #[test]
    fn pieces_are_packed_and_unpacked_in_place() {
        let lens = [3, CHUNK + 2];
        let values: Vec<Vec<f32>> = lens.iter().map(|len| (0..*len).map(|i| i as f32).collect()).collect();
        let plan = Plan::new(&lens, 2);
        let mut copy: Vec<Vec<f32>> = lens.iter().map(|len| vec![-1.0; *len]).collect();
        for piece in plan.pieces() {
            piece.unpack(&piece.packed(&values, &[]), &mut copy, &[]);
        }
        assert_eq!(copy, values);
        let starts = plan.ranges(1);
        let own: Vec<&[f32]> = values.iter().zip(&starts).map(|(all, own)| &all[own.clone()]).collect();
        let piece = &plan.pieces()[plan.owned(1).start];
        assert_eq!(piece.packed(&own, &starts), piece.packed(&values, &[]));
    }
}
