//! The two products of a convolution, whose panels are packed straight from copies of the image.

use std::cell::RefCell;
use std::mem::MaybeUninit;

use rayon::prelude::*;

use super::slab::Slab;
use super::{Sizes, of_length};
use crate::ops::flex::fp32::{DEPTH, Factors, First, Line, NR, Rows, Second, pack_columns};
use crate::ops::flex::gemm::{Matrix, Place};
use crate::ops::lanes;
use crate::ops::vectors::Isa;

/// Pixels that one task of the product with the kernel handles, about.
const PIXELS: usize = 256;

/// Columns of the gradient by the weight that one task handles, about, and the fewest rows.
const COLUMNS: usize = 144;
const ROWS: usize = 264;

thread_local! {
    static SLAB: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Σ over (channel, kernel row, kernel column) of weight times the pixel there, plus bias: the convolution of all
/// images with `weight` [out, inner], where inner runs over those triples in order.
///
/// Every element is one chain of fused multiply-adds in that order, whatever the batch, the threads and the length of
/// vectors.
pub fn convolve(sizes: Sizes, x: &[f32], weight: &[f32], bias: Option<&[f32]>) -> Vec<f32> {
    let (pixels, inner) = (sizes.pixels(), sizes.inner * sizes.taps());
    let mut out = vec![0.0; sizes.batch * sizes.outer * pixels];
    if out.is_empty() || inner == 0 {
        return out;
    }
    let weight = Rows::new(Matrix::new(weight, sizes.outer, inner));
    let rows = (PIXELS / sizes.width).clamp(1, sizes.height);
    let result = Place { out: out.as_mut_ptr(), stride: pixels };
    let firsts = (0..sizes.height).step_by(rows);
    let blocks: Vec<(usize, usize)> =
        (0..sizes.batch).flat_map(|image| firsts.clone().map(move |first| (image, first))).collect();
    blocks.into_par_iter().with_max_len(1).for_each(|(image, first)| {
        let slab = Slab::new(sizes, rows.min(sizes.height - first));
        let planes = &x[image * sizes.inner * pixels..];
        SLAB.with_borrow_mut(|copies| {
            let copies = of_length(copies, slab.len(sizes.inner));
            slab.fill(copies, planes, sizes.height, 0..sizes.inner, first);
            let offsets = slab.offsets(sizes.inner);
            let pack = |start: usize, pixel: usize, lines: &mut [MaybeUninit<Line>]| {
                for (line, offset) in lines.iter_mut().zip(&offsets[start..]) {
                    let seen =
                        copies[offset + pixel..].first_chunk().expect("the copies have slack behind them");
                    line.write(Line(*seen));
                }
            };
            let factors = Factors { a: First::Packed(&weight), b: Second::Written(&pack), isa: Isa::get() };
            // SAFETY: the rows of pixels are inside those of the result, and no other task has them.
            unsafe {
                let place = result.from(image * sizes.outer, first * sizes.width);
                factors.write(place, 0..weight.rows(), 0..slab.pixels(), (1.0, false), |columns| {
                    for (channel, bias) in bias.into_iter().flatten().enumerate() {
                        let out = place.from(0, columns.start).row(channel, columns.len());
                        lanes::vectorized(
                            #[inline(always)]
                            || out.iter_mut().for_each(|out| *out += bias),
                        );
                    }
                });
            }
        });
    });
    out
}

/// dweight \[out, in, k, k\] = Σ over images and pixels, in order, of g times the pixel of x that the element sees: one
/// chain of fused multiply-adds. One task makes the gradients of some channels of the input.
pub fn weight_gradient(sizes: Sizes, x: &[f32], g: &[f32]) -> Vec<f32> {
    let (taps, pixels, row) = (sizes.taps(), sizes.pixels(), sizes.inner * sizes.taps());
    let mut out = vec![0.0; sizes.outer * row];
    if out.is_empty() || pixels * sizes.batch == 0 {
        return out;
    }
    // Small images are summed over together.
    let images = (DEPTH / pixels).clamp(1, sizes.batch);
    let beside = if images > 1 { beside(sizes, g) } else { Vec::new() };
    let gradients = |first: usize, count: usize| match images {
        1 => Matrix::new(&g[first * sizes.outer * pixels..], sizes.outer, pixels),
        _ => Matrix::new(&beside, sizes.outer, sizes.batch * pixels)
            .some_columns(first * pixels..(first + count) * pixels),
    };
    let result = Place { out: out.as_mut_ptr(), stride: row };
    let channels = COLUMNS.div_ceil(taps);
    let starts = (0..sizes.inner).step_by(channels);
    let tasks: Vec<(usize, usize)> =
        starts.flat_map(|start| (0..sizes.outer).step_by(ROWS).map(move |first| (start, first))).collect();
    tasks.into_par_iter().with_max_len(1).for_each(|(start, row)| {
        let range = start..(start + channels).min(sizes.inner);
        let rows = row..(row + ROWS).min(sizes.outer);
        let slab = Slab::new(sizes, sizes.height);
        let (offsets, len) = (slab.offsets(range.len()), slab.len(range.len()));
        SLAB.with_borrow_mut(|copies| {
            for first in (0..sizes.batch).step_by(images) {
                let count = images.min(sizes.batch - first);
                let copies = of_length(copies, count * len);
                for (image, copies) in copies.chunks_exact_mut(len).enumerate() {
                    let planes = &x[(first + image) * sizes.inner * pixels..];
                    slab.fill(copies, planes, sizes.height, range.clone(), 0);
                }
                let pack = |start: usize, element: usize, lines: &mut [MaybeUninit<Line>]| {
                    pack_elements(copies.chunks_exact(len), pixels, start, &offsets[element..], lines);
                };
                let a = First::Matrix(gradients(first, count));
                let factors = Factors { a, b: Second::Written(&pack), isa: Isa::get() };
                // SAFETY: no other task has these rows and columns of the result.
                unsafe {
                    let place = result.from(rows.start, start * taps);
                    factors.write(place, rows.clone(), 0..offsets.len(), (1.0, first > 0), |_| ());
                }
            }
        });
    });
    out
}

/// Packs what elements of the kernel, whose offsets are given, see of the pixels of several images from pixel `start` on.
fn pack_elements<'a>(
    images: impl Iterator<Item = &'a [f32]>,
    pixels: usize,
    start: usize,
    offsets: &[usize],
    mut lines: &mut [MaybeUninit<Line>],
) {
    let mut first = start % pixels;
    for image in images.skip(start / pixels) {
        if lines.is_empty() {
            break;
        }
        let (own, rest) = lines.split_at_mut(lines.len().min(pixels - first));
        let depth = own.len();
        pack_columns(NR.min(offsets.len()), |index| &image[offsets[index] + first..][..depth], own);
        (first, lines) = (0, rest);
    }
}

/// Gradients of all images beside each other: [B, out, pixels] to [out, B·pixels].
fn beside(sizes: Sizes, g: &[f32]) -> Vec<f32> {
    let pixels = sizes.pixels();
    let plane = |channel: usize, image: usize| &g[(image * sizes.outer + channel) * pixels..][..pixels];
    let planes =
        (0..sizes.outer).flat_map(|channel| (0..sizes.batch).map(move |image| plane(channel, image)));
    planes.flatten().copied().collect()
}
