//! Convolutions with kernels of 3×3 in fewer multiplications: Winograd's minimal filtering F(2×2, 3×3) (Lavin and Gray, Fast
//! Algorithms for Convolutional Neural Networks, arXiv 1509.09308).
//!
//! Tiles d of 4×4 pixels, two pixels apart, are seen as BᵀdB, the kernel g as GgGᵀ. For each of the 16 places of a tile
//! there is a product over channels of what is seen there, and from the results m of all places AᵀmA are 2×2 pixels: 16
//! multiplications where a sum over the kernel has 36. The gradient of the kernel is Gᵀ(Σ (AgAᵀ)·(BᵀdB))G by the same tiles.
//!
//! Products are chains of fused multiply-adds over channels, or over images and tiles, in order; what is before and behind them is
//! added in an order of its own. So the bits depend on no number of threads and no length of vectors, and those of an image on
//! no batch. (The gradient of the kernel is a sum over the batch, whose size also says whether it is made here.)
//!
//! What is seen of a tile are differences of its pixels: a small result beside large pixels loses more digits than in a sum over
//! the kernel, and an infinity becomes NaN.

use std::cell::RefCell;
use std::mem::MaybeUninit;
use std::ops::Range;

use rayon::prelude::*;

use super::{Sizes, of_length};
use crate::ops::flex::fp32::{Factors, First, Line, NR, Rows, Second};
use crate::ops::flex::gemm::{Matrix, Place};
use crate::ops::lanes;
use crate::ops::vectors::Isa;

/// Places of a tile.
const PLACES: usize = 16;

/// Channels, tiles of an image, and tiles of a batch from which on this is faster than a sum over the kernel.
const FEWEST_CHANNELS: usize = 64;
const FEWEST_TILES: usize = 64;
const FEWEST_SUMMED: usize = 256;

/// Tiles of a task, about; fewer where threads would have no task.
const TILES: [usize; 2] = [32, 128];

/// Elements of what a task sees and multiplies, about, which every thread keeps; a row of tiles at least is a task.
const ELEMENTS: usize = 1 << 20;

/// Tiles over which the gradient of the kernel is summed at once, about, and the most rows of a task.
const SUMMED: usize = 256;
const ROWS: usize = 264;

thread_local! {
    static BUFFER: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Whether convolutions of these sizes are made here. It does not depend on the batch.
pub fn fits(sizes: Sizes) -> bool {
    has_kernels(sizes) && Tiling::of(sizes).of_image() >= FEWEST_TILES
}

/// Whether gradients of these sizes are made here, which are sums over a batch.
pub fn fits_gradient(sizes: Sizes) -> bool {
    has_kernels(sizes) && sizes.batch * Tiling::of(sizes).of_image() >= FEWEST_SUMMED
}

fn has_kernels(sizes: Sizes) -> bool {
    sizes.kernel == 3 && sizes.inner.min(sizes.outer) >= FEWEST_CHANNELS
}

/// What is written for the tiles of a segment, by place.
type Places<'a> = [&'a mut [f32]; PLACES];

/// The tiles of images.
#[derive(Clone, Copy)]
struct Tiling {
    height: usize,
    width: usize,
    /// Rows of tiles of an image.
    rows: usize,
    /// Tiles of a row.
    columns: usize,
}

/// Consecutive rows of tiles of one image, and which of a task's tiles is their first.
struct Segment {
    image: usize,
    rows: Range<usize>,
    first: usize,
}

impl Tiling {
    fn of(sizes: Sizes) -> Self {
        let Sizes { height, width, .. } = sizes;
        Self { height, width, rows: height.div_ceil(2), columns: width.div_ceil(2) }
    }

    /// Tiles of an image.
    fn of_image(self) -> usize {
        self.rows * self.columns
    }

    /// Rows of tiles, counted over all images, by image.
    fn segments(self, rows: Range<usize>) -> Vec<Segment> {
        let images = rows.start / self.rows..rows.end.div_ceil(self.rows);
        let of_image = |image: usize| {
            let start = rows.start.max(image * self.rows);
            let own = start - image * self.rows..(rows.end - image * self.rows).min(self.rows);
            Segment { image, rows: own, first: (start - rows.start) * self.columns }
        };
        images.map(of_image).collect()
    }

    /// Tiles of a segment.
    fn tiles(self, segment: &Segment) -> usize {
        segment.rows.len() * self.columns
    }

    /// Elements of scratch for so many rows of tiles.
    fn scratch(self, rows: usize) -> usize {
        2 * (self.columns + 1) + 8 * (rows + 1) * self.columns
    }

    /// A row of pixels, in pairs, or zeros; `offset` zeros are before it, and zeros are behind it.
    #[inline(always)]
    fn pixel_pairs<'a>(
        self,
        plane: &[f32],
        row: Option<usize>,
        offset: usize,
        padded: &'a mut [f32],
    ) -> &'a [[f32; 2]] {
        padded.fill(0.0);
        if let Some(row) = row.filter(|row| *row < self.height) {
            padded[offset..][..self.width].copy_from_slice(&plane[row * self.width..][..self.width]);
        }
        padded.as_chunks().0
    }

    /// BᵀdB of the tiles of a segment.
    #[inline(always)]
    fn transform_input(self, plane: &[f32], rows: &Range<usize>, scratch: &mut [f32], out: Places) {
        let (columns, tiles) = (self.columns, rows.len() * self.columns);
        let (padded, along) = scratch.split_at_mut(2 * (columns + 1));
        // For each column of a tile the first and every second row of pixels, and those between.
        let len = tiles + columns;
        let part = |column: usize, parity: usize| (2 * column + parity) * len;
        for line in 0..2 * rows.len() + 2 {
            let at = |column: usize| part(column, line % 2) + line / 2 * columns..;
            let pairs = self.pixel_pairs(plane, (2 * rows.start + line).checked_sub(1), 1, padded);
            let (left, right) = (&pairs[..columns], &pairs[1..]);
            write_pairwise(&mut along[at(0)], left, right, |[x, _], [y, _]| x - y);
            write_pairwise(&mut along[at(1)], left, right, |[_, x], [y, _]| x + y);
            write_pairwise(&mut along[at(2)], left, right, |[_, x], [y, _]| y - x);
            write_pairwise(&mut along[at(3)], left, right, |[_, x], [_, y]| x - y);
        }
        for column in 0..4 {
            let (even, odd) = (&along[part(column, 0)..][..len], &along[part(column, 1)..][..len]);
            let (first, second) = (&even[..tiles], &odd[..tiles]);
            let (third, fourth) = (&even[columns..], &odd[columns..]);
            write_pairwise(out[column], first, third, |x, y| x - y);
            write_pairwise(out[4 + column], second, third, |x, y| x + y);
            write_pairwise(out[8 + column], second, third, |x, y| y - x);
            write_pairwise(out[12 + column], second, fourth, |x, y| x - y);
        }
    }

    /// AgAᵀ of 2×2 pixels of the tiles of a segment.
    #[inline(always)]
    fn transform_gradient(self, plane: &[f32], rows: &Range<usize>, scratch: &mut [f32], out: Places) {
        let (columns, tiles) = (self.columns, rows.len() * self.columns);
        let (padded, along) = scratch.split_at_mut(2 * (columns + 1));
        // The first and the second row of every tile, for each of the four places along a row.
        let part = |place: usize, parity: usize| (2 * place + parity) * tiles;
        for line in 0..2 * rows.len() {
            let at = |place: usize| part(place, line % 2) + line / 2 * columns..;
            let pairs = &self.pixel_pairs(plane, Some(2 * rows.start + line), 0, padded)[..columns];
            write_pairwise(&mut along[at(0)], pairs, pairs, |[x, _], _| x);
            write_pairwise(&mut along[at(1)], pairs, pairs, |[x, y], _| x + y);
            write_pairwise(&mut along[at(2)], pairs, pairs, |[x, y], _| x - y);
            write_pairwise(&mut along[at(3)], pairs, pairs, |[_, y], _| -y);
        }
        for column in 0..4 {
            let (top, bottom) = (&along[part(column, 0)..][..tiles], &along[part(column, 1)..][..tiles]);
            write_pairwise(out[column], top, bottom, |x, _| x);
            write_pairwise(out[4 + column], top, bottom, |x, y| x + y);
            write_pairwise(out[8 + column], top, bottom, |x, y| x - y);
            write_pairwise(out[12 + column], top, bottom, |_, y| -y);
        }
    }

    /// AᵀmA and a bias: rows of pixels, from the places of their tiles.
    #[inline(always)]
    fn transform_output(self, places: [&[f32]; PLACES], bias: f32, scratch: &mut [f32], out: &mut [f32]) {
        let (top, bottom) = scratch.split_at_mut(2 * places[0].len());
        let (top, bottom) = (top.as_chunks_mut().0, bottom.as_chunks_mut().0);
        let [first, second, third, fourth] =
            std::array::from_fn(|row| places[4 * row..].first_chunk().expect("four"));
        let bias = |[x, y]: [f32; 2]| [x + bias, y + bias];
        combine(top, [first, second, third], |x, y, z| x + y + z, bias);
        combine(bottom, [second, third, fourth], |x, y, z| x - y - z, bias);
        for (line, out) in out.chunks_exact_mut(self.width).enumerate() {
            let pixels = if line % 2 == 0 { &*top } else { &*bottom };
            out.copy_from_slice(&pixels[line / 2 * self.columns..].as_flattened()[..self.width]);
        }
    }
}

/// Writes f of two elements, as many as there are.
#[inline(always)]
fn write_pairwise<A: Copy, B: Copy>(out: &mut [f32], a: &[A], b: &[B], f: impl Fn(A, B) -> f32) {
    for (out, (a, b)) in out.iter_mut().zip(a.iter().zip(b)) {
        *out = f(*a, *b);
    }
}

/// A row of places of a tile. (Not by `array::from_fn`, which is a call where it is not inlined; so below.)
#[inline(always)]
fn places_of(row: &[&[f32]; 4], tile: usize) -> [f32; 4] {
    [row[0][tile], row[1][tile], row[2][tile], row[3][tile]]
}

/// Two pixels of every tile, from three rows of its places.
#[inline(always)]
fn combine(
    out: &mut [[f32; 2]],
    rows: [&[&[f32]; 4]; 3],
    down: impl Fn(f32, f32, f32) -> f32,
    end: impl Fn([f32; 2]) -> [f32; 2],
) {
    let count = rows[0][0].len();
    let rows = rows.map(|row| row.map(|place| &place[..count]));
    for (tile, out) in out[..count].iter_mut().enumerate() {
        let [[a0, b0, c0, d0], [a1, b1, c1, d1], [a2, b2, c2, d2]] =
            [places_of(&rows[0], tile), places_of(&rows[1], tile), places_of(&rows[2], tile)];
        let (a, b, c, d) = (down(a0, a1, a2), down(b0, b1, b2), down(c0, c1, c2), down(d0, d1, d2));
        *out = end([a + b + c, b - c - d]);
    }
}

/// GgGᵀ of every pair of channels, rows of in by [place][out].
fn transformed_kernel(sizes: Sizes, weight: &[f32]) -> Rows {
    let inner = sizes.inner;
    Rows::in_groups(sizes.outer, PLACES, inner, |channel, seen| {
        let weight = &weight[channel * 9 * inner..][..9 * inner];
        BUFFER.with_borrow_mut(|buffer| {
            lanes::vectorized(
                #[inline(always)]
                || transform_kernel(weight, of_length(buffer, (9 + 12) * inner), seen),
            );
        });
    })
}

/// GgGᵀ of the kernels of one channel out, [place][in].
#[inline(always)]
fn transform_kernel(weight: &[f32], scratch: &mut [f32], out: &mut [f32]) {
    let inner = out.len() / PLACES;
    let (by_tap, along) = scratch.split_at_mut(9 * inner);
    for (channel, g) in weight.as_chunks::<9>().0.iter().enumerate() {
        for (tap, g) in g.iter().enumerate() {
            by_tap[tap * inner + channel] = *g;
        }
    }
    for line in 0..3 {
        filter(&by_tap[3 * line * inner..], inner, &mut along[4 * line * inner..], inner, inner);
    }
    for column in 0..4 {
        filter(&along[column * inner..], 4 * inner, &mut out[column * inner..], 4 * inner, inner);
    }
}

/// G·g for `count` columns beside each other, of rows that start `from` and `to` elements apart.
#[inline(always)]
fn filter(g: &[f32], from: usize, out: &mut [f32], to: usize, count: usize) {
    let [x, y, z] = std::array::from_fn(|row| &g[row * from..][..count]);
    out[..count].copy_from_slice(x);
    for (column, (out, (x, z))) in out[to..][..count].iter_mut().zip(x.iter().zip(z)).enumerate() {
        *out = 0.5 * (x + z) + 0.5 * y[column];
    }
    for (column, (out, (x, z))) in out[2 * to..][..count].iter_mut().zip(x.iter().zip(z)).enumerate() {
        *out = 0.5 * (x + z) - 0.5 * y[column];
    }
    out[3 * to..][..count].copy_from_slice(z);
}

/// Gᵀ·u.
#[inline(always)]
fn filter_gradient([a, b, c, d]: [f32; 4]) -> [f32; 3] {
    let half = 0.5 * (b + c);
    [a + half, 0.5 * (b - c), half + d]
}

/// The convolution that [`super::kernel::convolve`] makes, of sizes that fit, rounded otherwise.
pub fn convolve(sizes: Sizes, x: &[f32], weight: &[f32], bias: Option<&[f32]>) -> Vec<f32> {
    let (tiling, Sizes { inner, outer, .. }) = (Tiling::of(sizes), sizes);
    let mut out = vec![0.0; sizes.batch * outer * sizes.pixels()];
    if out.is_empty() {
        return out;
    }
    let kernel = transformed_kernel(sizes, weight);
    let result = Place { out: out.as_mut_ptr(), stride: sizes.pixels() };
    let rows = sizes.batch * tiling.rows;
    let tiles = (rows * tiling.columns / (4 * rayon::current_num_threads())).clamp(TILES[0], TILES[1]);
    let most = ELEMENTS / (PLACES * (inner + outer));
    let step = (tiles.min(most) / tiling.columns).max(1);
    let tasks: Vec<usize> = (0..rows).step_by(step).collect();
    tasks.into_par_iter().with_max_len(1).for_each(|start| {
        let task = Task::new(tiling, start..rows.min(start + step));
        let padded = task.tiles.next_multiple_of(NR);
        BUFFER.with_borrow_mut(|buffer| {
            let len = PLACES * (inner + outer) * padded + tiling.scratch(step);
            let (seen, rest) = of_length(buffer, len).split_at_mut(PLACES * inner * padded);
            let (products, scratch) = rest.split_at_mut(PLACES * outer * padded);
            lanes::vectorized(
                #[inline(always)]
                || task.transform_images(x, inner, scratch, seen),
            );
            multiply(&kernel, [inner, outer], padded, seen, products);
            // SAFETY: no other task has these rows of pixels.
            lanes::vectorized(
                #[inline(always)]
                || unsafe { task.write_images(products, bias, scratch, result, outer) },
            );
        });
    });
    out
}

/// Rows of tiles that are transformed and multiplied together.
struct Task {
    tiling: Tiling,
    segments: Vec<Segment>,
    tiles: usize,
}

impl Task {
    /// Of rows of tiles that are counted over all images.
    fn new(tiling: Tiling, rows: Range<usize>) -> Self {
        Self { tiling, tiles: rows.len() * tiling.columns, segments: tiling.segments(rows) }
    }

    /// Every segment with every channel.
    fn parts(&self, channels: usize) -> impl Iterator<Item = (&Segment, usize)> {
        self.segments.iter().flat_map(move |segment| (0..channels).map(move |channel| (segment, channel)))
    }

    /// The pixels of a channel of a segment's image.
    fn plane<'a>(&self, x: &'a [f32], channels: usize, segment: &Segment, channel: usize) -> &'a [f32] {
        let pixels = self.tiling.height * self.tiling.width;
        &x[(segment.image * channels + channel) * pixels..][..pixels]
    }

    /// BᵀdB of all channels, [place][channel][tile].
    #[inline(always)]
    fn transform_images(&self, x: &[f32], channels: usize, scratch: &mut [f32], out: &mut [f32]) {
        let place_len = out.len() / PLACES;
        for (segment, channel) in self.parts(channels) {
            let first = channel * (place_len / channels) + segment.first;
            let mut places = out.chunks_exact_mut(place_len);
            let places = std::array::from_fn(|_| {
                &mut places.next().expect("16 places")[first..][..self.tiling.tiles(segment)]
            });
            let plane = self.plane(x, channels, segment, channel);
            self.tiling.transform_input(plane, &segment.rows, scratch, places);
        }
    }

    /// The pixels of all channels, from products [place][channel][tile].
    ///
    /// # Safety
    /// The planes of `result` hold all images, and nobody else uses the rows of pixels of these tiles.
    #[inline(always)]
    unsafe fn write_images(
        &self,
        products: &[f32],
        bias: Option<&[f32]>,
        scratch: &mut [f32],
        result: Place,
        channels: usize,
    ) {
        let (place_len, width) = (products.len() / PLACES, self.tiling.width);
        for (segment, channel) in self.parts(channels) {
            let first = channel * (place_len / channels) + segment.first;
            let places = std::array::from_fn(|place| {
                &products[place * place_len + first..][..self.tiling.tiles(segment)]
            });
            let lines = 2 * segment.rows.start..self.tiling.height.min(2 * segment.rows.end);
            let plane = segment.image * channels + channel;
            // SAFETY: the caller's.
            let out = unsafe { result.from(plane, lines.start * width).row(0, lines.len() * width) };
            self.tiling.transform_output(places, bias.map_or(0.0, |bias| bias[channel]), scratch, out);
        }
    }
}

/// The products over channels at every place, [place][out][tile], of [place][in][tile].
fn multiply(kernel: &Rows, [inner, outer]: [usize; 2], padded: usize, seen: &[f32], products: &mut [f32]) {
    let by_place = seen.chunks_exact(inner * padded).zip(products.chunks_exact_mut(outer * padded));
    for (place, (seen, products)) in by_place.enumerate() {
        let pack = |start: usize, tile: usize, lines: &mut [MaybeUninit<Line>]| {
            let rows = seen[start * padded..].chunks_exact(padded);
            for (line, row) in lines.iter_mut().zip(rows) {
                line.write(Line(*row[tile..].first_chunk().expect("rows are padded")));
            }
        };
        let factors = Factors { a: First::Packed(kernel), b: Second::Written(&pack), isa: Isa::get() };
        let to = Place { out: products.as_mut_ptr(), stride: padded };
        // SAFETY: there are as many rows and columns, which nobody else uses.
        unsafe {
            factors.write(to, place * outer..(place + 1) * outer, 0..padded, (1.0, false), |_| ());
        }
    }
}

/// The gradient that [`super::kernel::weight_gradient`] makes, of sizes that fit, rounded otherwise.
pub fn weight_gradient(sizes: Sizes, x: &[f32], g: &[f32]) -> Vec<f32> {
    let (tiling, Sizes { inner, outer, .. }) = (Tiling::of(sizes), sizes);
    let rows = sizes.batch * tiling.rows;
    let step = (SUMMED / tiling.columns).clamp(1, rows.max(1));
    let most = step * tiling.columns;
    let mut seen = vec![0.0; PLACES * inner * most];
    let mut spread = vec![0.0; PLACES * outer * most];
    let mut sums = vec![0.0; PLACES * outer * inner];
    for start in (0..rows).step_by(step) {
        let task = Task::new(tiling, start..rows.min(start + step));
        let [to_seen, to_spread] =
            [&mut seen, &mut spread].map(|values| Place { out: values.as_mut_ptr(), stride: most });
        (0..inner + outer).into_par_iter().with_max_len(8).for_each(|channel| {
            // SAFETY: there is room for all channels and tiles, and no other task has this channel.
            unsafe {
                match channel.checked_sub(inner) {
                    None => task.transform_channel(x, inner, channel, Tiling::transform_input, to_seen),
                    Some(channel) => {
                        task.transform_channel(g, outer, channel, Tiling::transform_gradient, to_spread);
                    }
                }
            }
        });
        let transformed =
            |values, channels| Transformed { values, channels, tiles: task.tiles, stride: most };
        add_products(&mut sums, transformed(&spread, outer), transformed(&seen, inner), start > 0);
    }
    kernel_gradient(sizes, &sums)
}

impl Task {
    /// What `transform` gives of a channel, to the rows [place][channel] of tiles at `to`.
    ///
    /// # Safety
    /// `to` has rows for all places and channels, and nobody else uses those of this channel.
    unsafe fn transform_channel(
        &self,
        values: &[f32],
        channels: usize,
        channel: usize,
        transform: impl Fn(Tiling, &[f32], &Range<usize>, &mut [f32], Places),
        to: Place,
    ) {
        BUFFER.with_borrow_mut(|buffer| {
            let rows = self.segments.iter().map(|segment| segment.rows.len()).max().unwrap_or(0);
            let scratch = of_length(buffer, self.tiling.scratch(rows));
            lanes::vectorized(
                #[inline(always)]
                || {
                    for segment in &self.segments {
                        // SAFETY: the caller's.
                        let places = std::array::from_fn(|place| unsafe {
                            to.from(place * channels + channel, segment.first)
                                .row(0, self.tiling.tiles(segment))
                        });
                        let plane = self.plane(values, channels, segment, channel);
                        transform(self.tiling, plane, &segment.rows, scratch, places);
                    }
                },
            );
        });
    }
}

/// Tiles of some images after a transform, [place][channel][tile], rows of which start `stride` elements apart.
#[derive(Clone, Copy)]
struct Transformed<'a> {
    values: &'a [f32],
    channels: usize,
    tiles: usize,
    stride: usize,
}

impl<'a> Transformed<'a> {
    /// The rows of a place.
    fn at(self, place: usize) -> Matrix<'a> {
        let values = &self.values[place * self.channels * self.stride..];
        Matrix::strided(values, self.channels, self.tiles, self.stride)
    }
}

/// Writes the sums over tiles of (AgAᵀ)·(BᵀdB), [place][out][in], or goes on with those that are there.
fn add_products(sums: &mut [f32], spread: Transformed, seen: Transformed, go_on: bool) {
    let (outer, inner) = (spread.channels, seen.channels);
    let sum = Place { out: sums.as_mut_ptr(), stride: inner };
    let tasks: Vec<(usize, usize)> =
        (0..PLACES).flat_map(|place| (0..outer).step_by(ROWS).map(move |row| (place, row))).collect();
    tasks.into_par_iter().with_max_len(1).for_each(|(place, row)| {
        let (a, b) = (First::Matrix(spread.at(place)), Second::Matrix(seen.at(place).t()));
        let factors = Factors { a, b, isa: Isa::get() };
        // SAFETY: no other task has these rows of this place, which are initialised.
        unsafe {
            let place = sum.from(place * outer + row, 0);
            factors.write(place, row..outer.min(row + ROWS), 0..inner, (1.0, go_on), |_| ());
        }
    });
}

/// GᵀuG of the sums u, [place][out][in]: [out][in][3 × 3].
fn kernel_gradient(Sizes { inner, outer, .. }: Sizes, sums: &[f32]) -> Vec<f32> {
    let mut out = vec![0.0; outer * inner * 9];
    out.par_chunks_exact_mut(9 * inner).enumerate().for_each(|(row, out)| {
        let u: [&[f32]; PLACES] =
            std::array::from_fn(|place| &sums[(place * outer + row) * inner..][..inner]);
        let u: [&[&[f32]; 4]; 4] = std::array::from_fn(|row| u[4 * row..].first_chunk().expect("four"));
        lanes::vectorized(
            #[inline(always)]
            || {
                for (channel, out) in out.as_chunks_mut::<9>().0.iter_mut().enumerate() {
                    let [a, b, c, d] = [
                        filter_gradient(places_of(u[0], channel)),
                        filter_gradient(places_of(u[1], channel)),
                        filter_gradient(places_of(u[2], channel)),
                        filter_gradient(places_of(u[3], channel)),
                    ];
                    for column in 0..3 {
                        let gradients = filter_gradient([a[column], b[column], c[column], d[column]]);
                        for (row, gradient) in gradients.into_iter().enumerate() {
                            out[3 * row + column] = gradient;
                        }
                    }
                }
            },
        );
    });
    out
}

#[cfg(test)]
mod tests {
    use super::super::{kernel, turned};
    use super::*;
    use crate::random::{Draws, Purpose};

    type Convolve = fn(Sizes, &[f32], &[f32], Option<&[f32]>) -> Vec<f32>;
    type WeightGradient = fn(Sizes, &[f32], &[f32]) -> Vec<f32>;

    /// [batch, in, out, height, width]: tiles of two images in a task, more channels than a block of a product has, odd planes, planes
    /// of one column and of one row.
    const SIZES: [[usize; 5]; 7] = [
        [4, 64, 65, 16, 16],
        [3, 70, 90, 19, 17],
        [4, 300, 64, 16, 18],
        [2, 65, 300, 32, 32],
        [5, 64, 66, 150, 1],
        [3, 64, 64, 1, 600],
        [3, 64, 64, 61, 6],
    ];

    fn drawn(id: u64, len: usize) -> Vec<f32> {
        let draws = Draws::new(id, Purpose::Init);
        (0..len).map(|i| draws.normal(0, i as u32, 0) as f32).collect()
    }

    fn sizes([batch, inner, outer, height, width]: [usize; 5]) -> Sizes {
        let sizes = Sizes { batch, inner, outer, height, width, kernel: 3 };
        assert!(fits(sizes) && fits(sizes.reversed()) && fits_gradient(sizes));
        sizes
    }

    /// The pixel of x that a tap sees at a pixel, in double precision.
    fn seen(sizes: Sizes, plane: &[f32], pixel: usize, tap: usize) -> f64 {
        let at = |at: usize, len: usize| at.checked_sub(1).filter(|at| *at < len);
        let row = at(pixel / sizes.width + tap / 3, sizes.height);
        let column = at(pixel % sizes.width + tap % 3, sizes.width);
        row.zip(column).map_or(0.0, |(row, column)| f64::from(plane[row * sizes.width + column]))
    }

    /// Some elements of a convolution, and of its gradient by the kernel, in double precision.
    fn exact(sizes: Sizes, x: &[f32], weight: &[f32], index: usize) -> f64 {
        let pixels = sizes.pixels();
        let (plane, pixel) = (index / pixels, index % pixels);
        let (image, row) = (plane / sizes.outer, plane % sizes.outer);
        (0..sizes.inner * 9)
            .map(|at| {
                let plane = &x[(image * sizes.inner + at / 9) * pixels..][..pixels];
                f64::from(weight[row * sizes.inner * 9 + at]) * seen(sizes, plane, pixel, at % 9)
            })
            .sum()
    }

    fn exact_gradient(sizes: Sizes, x: &[f32], g: &[f32], index: usize) -> f64 {
        let pixels = sizes.pixels();
        let (row, channel, tap) = (index / 9 / sizes.inner, index / 9 % sizes.inner, index % 9);
        (0..sizes.batch * pixels)
            .map(|at| {
                let (image, pixel) = (at / pixels, at % pixels);
                let plane = &x[(image * sizes.inner + channel) * pixels..][..pixels];
                f64::from(g[(image * sizes.outer + row) * pixels + pixel]) * seen(sizes, plane, pixel, tap)
            })
            .sum()
    }

    /// The largest difference of some elements, as a share of the root of the exact values' mean square.
    fn error(values: &[f32], exact: impl Fn(usize) -> f64) -> f64 {
        assert!(values.iter().all(|value| value.is_finite()));
        // A prime that no dimension shares.
        let step = if values.len() > 50_000 { 997 } else { 101 };
        let some: Vec<[f64; 2]> =
            (0..values.len()).step_by(step).map(|i| [f64::from(values[i]), exact(i)]).collect();
        let square = some.iter().map(|[_, exact]| exact * exact).sum::<f64>() / some.len() as f64;
        some.iter().map(|[ours, exact]| (ours - exact).abs()).fold(0.0, f64::max) / square.sqrt()
    }

    #[test]
    fn errors_are_at_most_one_and_a_half_times_those_of_a_sum_over_the_kernel() {
        for all in SIZES {
            let sizes = sizes(all);
            let (images, pixels) = (sizes.batch, sizes.pixels());
            let x = drawn(1, images * sizes.inner * pixels);
            let g = drawn(2, images * sizes.outer * pixels);
            let weight = drawn(3, sizes.outer * sizes.inner * 9);
            let turned = turned(sizes, &weight);
            let of = |convolve: Convolve, gradient: WeightGradient| {
                [
                    error(&convolve(sizes, &x, &weight, None), |i| exact(sizes, &x, &weight, i)),
                    error(&convolve(sizes.reversed(), &g, &turned, None), |i| {
                        exact(sizes.reversed(), &g, &turned, i)
                    }),
                    error(&gradient(sizes, &x, &g), |i| exact_gradient(sizes, &x, &g, i)),
                ]
            };
            let ours = of(convolve, weight_gradient);
            let sums = of(kernel::convolve, kernel::weight_gradient);
            println!("{all:?}: {ours:?}, sums {sums:?}");
            assert!(ours.iter().all(|error| *error < 1e-5), "{all:?}: {ours:?}");
            for (ours, sums) in ours.into_iter().zip(sums) {
                assert!(ours < 1.5 * sums, "{all:?}: {ours}, and {sums} of a sum over the kernel");
            }
        }
    }

    fn bits(values: Vec<f32>) -> Vec<u32> {
        values.into_iter().map(f32::to_bits).collect()
    }

    #[test]
    fn an_image_has_the_same_bits_in_any_batch_and_by_any_number_of_threads() {
        for all in SIZES {
            let sizes = sizes(all);
            let x = drawn(1, sizes.batch * sizes.inner * sizes.pixels());
            let g = drawn(2, sizes.batch * sizes.outer * sizes.pixels());
            let (weight, bias) = (drawn(3, sizes.outer * sizes.inner * 9), drawn(4, sizes.outer));
            let by = |threads| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                let run = || [convolve(sizes, &x, &weight, Some(&bias)), weight_gradient(sizes, &x, &g)];
                pool.install(run).map(bits)
            };
            let whole = by(1);
            assert!(whole == by(3) && whole == by(16), "{all:?}");
            let (one, own) = (Sizes { batch: 1, ..sizes }, sizes.outer * sizes.pixels());
            for (image, whole) in whole[0].chunks_exact(own).enumerate() {
                let x = &x[image * sizes.inner * sizes.pixels()..][..sizes.inner * sizes.pixels()];
                assert!(bits(convolve(one, x, &weight, Some(&bias))) == whole, "{all:?}, image {image}");
            }
        }
    }
}
