//! Micro-kernels: tiles of a result whose sums stay in registers while a block of the inner dimension is added.
//!
//! One generic kernel is compiled for every kind of vectors. It gives the same bits with each, since an element of a
//! vector is the chain of fused multiply-adds of one element of the result.

use super::pack::{DEPTH, Line, NR};
#[cfg(target_arch = "aarch64")]
use super::vector::neon::Neon;
use super::vector::{Portable, Vector};
use crate::ops::vectors::Isa;

/// Most rows of a micro-tile: six by sixteen sums fill twelve of the sixteen registers of AVX2, twelve by 32 sums 24 of
/// the 32 registers of AVX-512.
pub const MR: usize = 6;
pub const MR_512: usize = 12;

/// Rows of a micro-tile, which are the rows of a panel of [`RowBlock::ByColumns`], too.
pub fn tile_rows(isa: Isa) -> usize {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => MR_512,
        _ => MR,
    }
}

/// Columns that one call of [`multiply`] should have at least, unless there are fewer.
pub fn tile_columns(isa: Isa) -> usize {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => 2 * NR,
        _ => NR,
    }
}

/// Rows of a block of the first factor, as they are packed.
#[derive(Clone, Copy)]
pub enum RowBlock<'a> {
    /// [row][`DEPTH`], of which the first `depth` elements are used.
    ByRows(&'a [Line]),
    /// [panel][depth][rows of a micro-tile].
    ByColumns(&'a [Line]),
}

/// Panels of columns of the same block of the second factor, [panel][depth][`NR`].
#[derive(Clone, Copy)]
pub struct Panels<'a> {
    /// At least as many panels as the tile has columns for.
    pub lines: &'a [Line],
    /// Elements of the inner dimension in this block, at most [`DEPTH`].
    pub depth: usize,
}

/// Where products go, and how they are begun and ended.
#[derive(Clone, Copy)]
pub struct Tile {
    pub out: *mut f32,
    /// From a row of the result to the next.
    pub stride: usize,
    pub rows: usize,
    pub columns: usize,
    /// Whether the chains go on from what is at `out`; otherwise they start at 0.
    pub go_on: bool,
    /// What the finished chains are multiplied by; nothing where they will go on.
    pub factor: Option<f32>,
}

/// Adds the products of a block.
///
/// # Safety
/// The processor has the instructions. `tile.out` is valid for all rows and columns, used by nobody else, and
/// initialised where chains go on from it. Rows and panels are packed for `isa` and hold as many as the tile has.
pub unsafe fn multiply(isa: Isa, rows: RowBlock, panels: Panels, tile: Tile) {
    let lines = match rows {
        RowBlock::ByRows(lines) => {
            assert!(panels.depth <= DEPTH && lines.len() * NR >= tile.rows * DEPTH);
            lines
        }
        RowBlock::ByColumns(lines) => {
            assert!(lines.len() * NR >= tile.rows.next_multiple_of(tile_rows(isa)) * panels.depth);
            lines
        }
    };
    assert!(panels.lines.len() >= tile.columns.div_ceil(NR) * panels.depth);
    let (a, b) = (lines.as_ptr().cast(), panels.lines.as_ptr().cast());
    let by_rows = matches!(rows, RowBlock::ByRows(_));
    // SAFETY: the slices are as long as is read of them, as was just checked; the rest is the caller's.
    unsafe {
        match (isa, by_rows) {
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx512, true) => x86::avx512::<DEPTH, 1>(a, b, panels.depth, tile),
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx512, false) => x86::avx512::<1, MR_512>(a, b, panels.depth, tile),
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx2, true) => x86::avx2::<DEPTH, 1>(a, b, panels.depth, tile),
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx2, false) => x86::avx2::<1, MR>(a, b, panels.depth, tile),
            #[cfg(target_arch = "x86_64")]
            (Isa::Fma128, true) => x86::fma128::<DEPTH, 1>(a, b, panels.depth, tile),
            #[cfg(target_arch = "x86_64")]
            (Isa::Fma128, false) => x86::fma128::<1, MR>(a, b, panels.depth, tile),
            #[cfg(target_arch = "aarch64")]
            (Isa::Neon, true) => columns::<Neon, Six, 4, DEPTH, 1>(a, b, panels.depth, tile),
            #[cfg(target_arch = "aarch64")]
            (Isa::Neon, false) => columns::<Neon, Six, 4, 1, MR>(a, b, panels.depth, tile),
            (Isa::Portable, true) => columns::<Portable, Six, 1, DEPTH, 1>(a, b, panels.depth, tile),
            (Isa::Portable, false) => columns::<Portable, Six, 1, 1, MR>(a, b, panels.depth, tile),
        }
    }
}

/// Micro-tiles of C vectors each, beside each other; an element k of row r of the first factor is at ROW·r + K·k of its
/// panel.
///
/// # Safety
/// As of [`multiply`].
#[inline(always)]
unsafe fn columns<V: Vector, H: Heights, const C: usize, const ROW: usize, const K: usize>(
    a: *const f32,
    b: *const f32,
    depth: usize,
    tile: Tile,
) {
    let width = C * V::LANES;
    for column in (0..tile.columns).step_by(width) {
        // SAFETY: the caller's; a panel of several vectors is `NR` elements wide, and one tile may read two panels.
        unsafe {
            let b = b.add(column / NR * NR * depth + column % NR);
            let part = Tile { out: tile.out.add(column), columns: width.min(tile.columns - column), ..tile };
            rows::<V, H, C, ROW, K>(a, b, depth, part);
        }
    }
}

/// Micro-tiles below each other.
///
/// # Safety
/// As of [`multiply`].
#[inline(always)]
unsafe fn rows<V: Vector, H: Heights, const C: usize, const ROW: usize, const K: usize>(
    a: *const f32,
    b: *const f32,
    depth: usize,
    tile: Tile,
) {
    let width = C * V::LANES;
    let mut edge = [[0.0; 2 * NR]; MR_512];
    for row in (0..tile.rows).step_by(H::MOST) {
        let count = H::MOST.min(tile.rows - row);
        // SAFETY: the caller's; the edge has room for a micro-tile.
        unsafe {
            let a = if K == 1 { a.add(row * ROW) } else { a.add(row * depth) };
            let out = tile.out.add(row * tile.stride);
            if tile.columns == width {
                H::micro_tiles::<V, C, ROW, K>(count, a, b, depth, Tile { out, ..tile });
                continue;
            }
            for (r, edge) in edge[..count].iter_mut().enumerate().filter(|_| tile.go_on) {
                std::ptr::copy_nonoverlapping(out.add(r * tile.stride), edge.as_mut_ptr(), tile.columns);
            }
            let inside = Tile { out: edge.as_mut_ptr().cast(), stride: 2 * NR, ..tile };
            H::micro_tiles::<V, C, ROW, K>(count, a, b, depth, inside);
            for (r, edge) in edge[..count].iter().enumerate() {
                std::ptr::copy_nonoverlapping(edge.as_ptr(), out.add(r * tile.stride), tile.columns);
            }
        }
    }
}

/// How many rows micro-tiles may have. A few numbers are enough, of which those of edges are made up: each is a kernel
/// of its own, which takes its time to compile.
trait Heights {
    /// The most.
    const MOST: usize;

    /// Adds the products of some rows, at most [`Self::MOST`].
    ///
    /// # Safety
    /// As of [`multiply`].
    unsafe fn micro_tiles<V: Vector, const C: usize, const ROW: usize, const K: usize>(
        rows: usize,
        a: *const f32,
        b: *const f32,
        depth: usize,
        tile: Tile,
    );
}

macro_rules! heights {
    ($name:ident, $most:expr, $($rows:literal)*) => {
        struct $name;

        impl Heights for $name {
            const MOST: usize = $most;

            #[inline(always)]
            unsafe fn micro_tiles<V: Vector, const C: usize, const ROW: usize, const K: usize>(
                rows: usize,
                a: *const f32,
                b: *const f32,
                depth: usize,
                tile: Tile,
            ) {
                let mut row = 0;
                while row < rows {
                    // SAFETY: the caller's; these rows are inside the tile.
                    unsafe {
                        let (a, part) = (a.add(row * ROW), Tile { out: tile.out.add(row * tile.stride), ..tile });
                        $(
                            if rows - row >= $rows {
                                sums::<V, $rows, C, ROW, K>(a, b, depth, part);
                                row += $rows;
                                continue;
                            }
                        )*
                    }
                }
            }
        }
    };
}

heights!(Six, MR, 6 4 2 1);
#[cfg(target_arch = "x86_64")]
heights!(Twelve, MR_512, 12 8 4 2 1);

/// A micro-tile of R rows.
///
/// # Safety
/// As of [`multiply`].
#[inline(always)]
unsafe fn sums<V: Vector, const R: usize, const C: usize, const ROW: usize, const K: usize>(
    mut a: *const f32,
    mut b: *const f32,
    depth: usize,
    tile: Tile,
) {
    // SAFETY: the caller's.
    unsafe {
        let at = |row: usize, part: usize| tile.out.add(row * tile.stride + part * V::LANES);
        let zero = V::splat(&0.0);
        let mut sums = [[zero; C]; R];
        for (row, sums) in sums.iter_mut().enumerate() {
            for (part, sum) in sums.iter_mut().enumerate() {
                if tile.go_on {
                    *sum = V::load(at(row, part));
                }
            }
            V::prefetch(at(row, C).sub(1));
        }
        macro_rules! add {
            ($($step:literal)*) => {$(
                let mut columns = [zero; C];
                for (part, column) in columns.iter_mut().enumerate() {
                    // A vector stands in the panel of its first column.
                    let first = part * V::LANES;
                    *column = V::load(b.add(first / NR * NR * depth + first % NR + $step * NR));
                }
                for (row, sums) in sums.iter_mut().enumerate() {
                    let x = V::splat(a.add(row * ROW + $step * K));
                    for (sum, column) in sums.iter_mut().zip(columns) {
                        *sum = V::fused(x, column, *sum);
                    }
                }
            )*};
        }
        for _ in 0..depth / 4 {
            add!(0 1 2 3);
            (a, b) = (a.add(4 * K), b.add(4 * NR));
        }
        for _ in 0..depth % 4 {
            add!(0);
            (a, b) = (a.add(K), b.add(NR));
        }
        if let Some(factor) = tile.factor {
            let factor = V::splat(&factor);
            for sum in sums.as_flattened_mut() {
                *sum = V::product(factor, *sum);
            }
        }
        for (row, sums) in sums.iter().enumerate() {
            for (part, sum) in sums.iter().enumerate() {
                V::store(at(row, part), *sum);
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::super::vector::x86::{Xmm, Ymm, Zmm};
    use super::{NR, Six, Tile, Twelve, columns};

    /// # Safety
    /// As of [`super::multiply`]; so for all.
    #[target_feature(enable = "avx,fma")]
    pub unsafe fn fma128<const ROW: usize, const K: usize>(
        a: *const f32,
        b: *const f32,
        depth: usize,
        tile: Tile,
    ) {
        // SAFETY: the caller's.
        unsafe { columns::<Xmm, Six, 2, ROW, K>(a, b, depth, tile) }
    }

    #[target_feature(enable = "avx2,fma")]
    pub unsafe fn avx2<const ROW: usize, const K: usize>(
        a: *const f32,
        b: *const f32,
        depth: usize,
        tile: Tile,
    ) {
        // SAFETY: the caller's.
        unsafe { columns::<Ymm, Six, 2, ROW, K>(a, b, depth, tile) }
    }

    #[target_feature(enable = "avx512f")]
    pub unsafe fn avx512<const ROW: usize, const K: usize>(
        a: *const f32,
        b: *const f32,
        depth: usize,
        tile: Tile,
    ) {
        // Two panels at once; one that is left over has half the tiles.
        let double = tile.columns / (2 * NR) * (2 * NR);
        let single = if tile.columns - double > NR { 0 } else { tile.columns - double };
        let double = tile.columns - single;
        // SAFETY: the caller's.
        unsafe {
            columns::<Zmm, Twelve, 2, ROW, K>(a, b, depth, Tile { columns: double, ..tile });
            let (b, out) = (b.add(double * depth), tile.out.add(double));
            columns::<Zmm, Twelve, 1, ROW, K>(a, b, depth, Tile { out, columns: single, ..tile });
        }
    }
}
