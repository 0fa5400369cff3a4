//! Convolutions that keep the resolution, without a matrix of patches: products on tensor cores, or in true single precision.
//! Kept for the backward pass are the images as products take them, and the weight.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Cube, Dispatch, TensorMetadata, backend_extension};
use burn::tensor::{DType, Tensor};

use super::columns::sum_parts;
use super::device::{Array, Launch, Source, contiguous, name_of, room, source};
use super::rows::factor_type;
use crate::ops::Precision;

static PACK: Source = source!("conv_pack.cu", "conv_tiles.cuh");
static CONVOLVE: Source = source!("conv.cu", "conv_tiles.cuh");
static WEIGHT: Source = source!("conv_weight.cu", "conv_tiles.cuh");

/// Bytes of a row of factors, as the kernels have it.
const ROW: usize = 64;

/// Threads of a block that packs, and positions or channels out that it has, as the kernels have them.
const PACKING: usize = 256;
const PACKED_POSITIONS: usize = 256;
const PACKED_OUTER: usize = 8;

/// Threads of a block that adds up gradients of weights.
const SUMMING: usize = 256;

/// Shared memory that a block may have on every device since 2020; and on an H100 two blocks at once.
const MAX_SHARED: usize = 99 << 10;

/// Blocks that fill an H100, one on each multiprocessor; and two turns of two blocks on each.
const FILLING: usize = 128;
const FILLING_IN_TURNS: usize = 528;

/// Tiles of weights in shared memory, and stages of the gradient of weights.
const WEIGHT_STAGES: usize = 4;
const GRADIENT_STAGES: usize = 3;

#[backend_extension(Cube, Autodiff)]
pub trait ConvOp: Backend {
    fn submask_cuda_conv(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        precision: Precision,
    ) -> FloatTensor<Self>;
}

/// See [`crate::ops::Kernels::conv`]: of `x` in single precision or in bfloat16. The result is in single precision.
pub fn conv(x: Tensor<4>, weight: Tensor<4>, bias: Tensor<1>, precision: Precision) -> Tensor<4> {
    let (x, weight, bias) = (x.into_dispatch(), weight.into_dispatch(), bias.into_dispatch());
    Tensor::from_dispatch(Dispatch::submask_cuda_conv(x, weight, bias, precision))
}

/// What all kernels are compiled for.
#[derive(Clone, Copy, Debug)]
struct Kind {
    precision: Precision,
    /// Height and width of the kernel, odd.
    kernel: usize,
}

impl Kind {
    fn of(weight: &Array, precision: Precision) -> Self {
        let [_, _, height, kernel] = weight.shape().dims();
        assert!(height == kernel && kernel % 2 == 1, "a square kernel of odd width");
        Self { precision, kernel }
    }

    fn radius(self) -> usize {
        self.kernel / 2
    }

    fn places(self) -> usize {
        self.kernel * self.kernel
    }

    /// Channels of a slice.
    fn slice(self) -> usize {
        ROW / factor_type(self.precision).size()
    }

    fn launch(self, source: &'static Source, name: &'static str) -> Launch {
        Launch::new(source, name).define("PRECISION", self.precision).define("KERNEL", self.kernel)
    }

    /// A launch of a kernel that packs; the other knows no images.
    fn packing(self, name: &'static str, images: DType) -> Launch {
        self.launch(&PACK, name).define("INPUT", name_of(images))
    }
}

/// Sizes of a batch of images.
#[derive(Clone, Copy, Debug)]
struct Images {
    count: usize,
    height: usize,
    width: usize,
}

impl Images {
    fn area(self) -> usize {
        self.height * self.width
    }

    /// Positions from a row of pixels to the next.
    fn line(self, kind: Kind) -> usize {
        self.width + kind.radius()
    }

    /// Pixels, and the zeros between them.
    fn positions(self, kind: Kind) -> usize {
        self.count * (self.height + kind.radius()) * self.line(kind)
    }

    fn arguments(self, launch: Launch) -> Launch {
        launch.int(self.count).int(self.height).int(self.width)
    }
}

/// Images as products take them, [slices, positions, channels of a slice].
#[derive(Clone, Debug)]
struct Planes {
    factors: Array,
    images: Images,
    channels: usize,
}

impl Planes {
    /// Packs x [B, channels, H, W], and adds up the pixels of every channel if `sums`.
    fn new(x: Array, kind: Kind, sums: bool) -> (Self, Option<Array>) {
        let x = contiguous(x);
        let [count, channels, height, width] = x.shape().dims();
        let images = Images { count, height, width };
        let positions = images.positions(kind);
        assert!(i32::try_from(positions).is_ok(), "images of fewer pixels in a batch");
        let (slices, blocks) = (channels.div_ceil(kind.slice()), positions.div_ceil(PACKED_POSITIONS));
        let factors = room(&x, [slices, positions, kind.slice()], factor_type(kind.precision));
        let parts = sums.then(|| room(&x, [blocks, channels], DType::F32));
        let launch = kind.packing("pack_images", x.dtype).read(&x).write(&factors).write_if(parts.as_ref());
        launch.int(count).int(channels).int(height).int(width).run(&x, [blocks, slices, 1], PACKING);
        (Self { factors, images, channels }, parts.map(|parts| sum_parts(&parts, 1, blocks, channels)))
    }
}

/// A weight as products take it: of the convolution, or of the one that gives the gradient of its input.
fn packed_weight(weight: &Array, kind: Kind, reversed: bool) -> Array {
    let [mut outer, mut inner, ..] = weight.shape().dims::<4>();
    if reversed {
        (outer, inner) = (inner, outer);
    }
    let slices = inner.div_ceil(kind.slice());
    let out = room(weight, [slices, kind.places(), outer, kind.slice()], factor_type(kind.precision));
    kind.packing("pack_weight", DType::F32)
        .read(weight)
        .write(&out)
        .int(outer)
        .int(inner)
        .int(u32::from(reversed))
        .run(&out, [outer.div_ceil(PACKED_OUTER), slices, 1], PACKING);
    out
}

/// Channels out of a block's tile: what leaves the fewest without use, and of those the most.
fn tile_channels(outer: usize) -> usize {
    [96, 64, 32].into_iter().min_by_key(|&tile| outer.next_multiple_of(tile)).expect("there are three")
}

/// How often up to `count` pixels from a tile's first one on pass the end of `length` pixels.
fn crossings(count: usize, length: usize) -> usize {
    if count.is_multiple_of(length) {
        count / length - 1
    } else if length.is_multiple_of(count) {
        0
    } else {
        (count - 1).div_ceil(length)
    }
}

/// How a block cuts its tile of channels by pixels for its warps.
#[derive(Clone, Copy, Debug)]
struct Tile {
    /// Warps, by channels and by pixels.
    warps: [usize; 2],
    /// Channels and pixels of a warp.
    sums: [usize; 2],
    /// Blocks that registers should suffice for, on a multiprocessor.
    blocks: usize,
}

/// What a block copies at once.
#[derive(Clone, Copy, Debug)]
struct Patches {
    /// Pixels of which a tile may have some: all, or those of an image.
    span: usize,
    /// Rows of the kernel that read a patch.
    kernel_rows: usize,
    /// Positions of a patch.
    rows: usize,
    /// Patches in shared memory.
    count: usize,
}

impl Tile {
    /// Tiles for a number of channels out, the largest first. No sum depends on them.
    fn all(precision: Precision, outer: usize) -> Vec<Self> {
        let channels = tile_channels(outer);
        let half = channels / 2;
        let tile = |warps, sums, blocks| Self { warps, sums, blocks };
        match precision {
            Precision::Fp32 => vec![tile([2, 4], [half, 32], 2), tile([2, 2], [half, 32], 4)],
            Precision::Tf32 | Precision::Bf16 => vec![
                tile([1, 4], [channels, 64], 2),
                tile([2, 2], [half, 64], 2),
                tile([2, 2], [half, 32], 4),
            ],
        }
    }

    fn channels(self) -> usize {
        self.warps[0] * self.sums[0]
    }

    fn pixels(self) -> usize {
        self.warps[1] * self.sums[1]
    }

    /// The largest tile with enough blocks for a device, or a smaller one whose patches fit into shared memory.
    fn choose(kind: Kind, outer: usize, images: Images) -> (Self, Patches) {
        let (tiles, pixels) = (Self::all(kind.precision, outer), images.count * images.area());
        let blocks = |tile: &Self| outer.div_ceil(tile.channels()) * pixels.div_ceil(tile.pixels());
        let first = tiles.iter().position(|tile| blocks(tile) >= FILLING).unwrap_or(tiles.len() - 1);
        let fitting = tiles[first..].iter().find_map(|&tile| {
            // On wide images, whose rows are far apart, one row of the kernel after the other.
            let of_all =
                [kind.kernel, 1].map(|kernel_rows| Patches::new(kind, tile, images, pixels, kernel_rows));
            let of_one = Patches::new(kind, tile, images, images.area(), 1);
            let all = of_all.into_iter().chain((tile.pixels() <= images.area()).then_some(of_one));
            all.map(|patches| (tile, patches)).find(|(tile, patches)| tile.shared(*patches) <= MAX_SHARED)
        });
        fitting.unwrap_or_else(|| {
            let tile = tiles[tiles.len() - 1];
            (tile, Patches::new(kind, tile, images, images.area(), 1))
        })
    }

    /// Bytes of shared memory.
    fn shared(self, patches: Patches) -> usize {
        ROW * (WEIGHT_STAGES * self.channels() + patches.count * patches.rows)
    }
}

impl Patches {
    fn new(kind: Kind, tile: Tile, images: Images, span: usize, kernel_rows: usize) -> Self {
        let (count, radius, line) = (tile.pixels().min(span).max(1), kind.radius(), images.line(kind));
        let between_rows = radius * crossings(count, images.width);
        let between_images =
            if span > images.area() { radius * line * crossings(count, images.area()) } else { 0 };
        let around = (kernel_rows - 1) * line + 2 * radius;
        Self {
            span,
            kernel_rows,
            rows: (count + between_rows + between_images + around).next_multiple_of(2),
            // A patch is copied as long before it is read as its first weights are.
            count: 1 + (WEIGHT_STAGES - 1).div_ceil(kernel_rows * kind.kernel),
        }
    }
}

/// The convolution of images with a packed weight of `outer` channels out.
fn convolve(x: &Planes, weight: &Array, bias: Option<&Array>, outer: usize, kind: Kind) -> Array {
    let images = x.images;
    let out = room(&x.factors, [images.count, outer, images.height, images.width], DType::F32);
    if out.shape().num_elements() == 0 {
        return out;
    }
    let (tile, patches) = Tile::choose(kind, outer, images);
    let spans = images.count * images.area() / patches.span;
    let blocks = outer.div_ceil(tile.channels()) * patches.span.div_ceil(tile.pixels()) * spans;
    assert!(i32::try_from(outer * (images.area() + tile.pixels())).is_ok(), "smaller images");
    let launch = kind
        .launch(&CONVOLVE, "convolve")
        .define("CHANNEL_WARPS", tile.warps[0])
        .define("PIXEL_WARPS", tile.warps[1])
        .define("WARP_CHANNELS", tile.sums[0])
        .define("WARP_PIXELS", tile.sums[1])
        .define("STAGES", WEIGHT_STAGES)
        .define("BLOCKS", tile.blocks)
        .read(&x.factors)
        .read(weight)
        .read_if(bias)
        .write(&out);
    images
        .arguments(launch)
        .int(outer)
        .int(x.channels.div_ceil(kind.slice()))
        .int(patches.span)
        .int(patches.kernel_rows)
        .int(patches.rows)
        .int(patches.count)
        .shared(tile.shared(patches))
        .run(&out, [blocks, 1, 1], 32 * tile.warps[0] * tile.warps[1]);
    out
}

/// dweight \[out, in, k, k\] = Σ over images and pixels of g times the pixel of x that the place of the kernel meets.
fn weight_gradient(g: &Planes, x: &Planes, kind: Kind) -> Array {
    let (images, outer, inner) = (x.images, g.channels, x.channels);
    // A block has all places in a row of the kernel: of wide ones there are sums of fewer channels.
    let warp_outer = if kind.kernel <= 5 { tile_channels(outer) / 2 } else { 16 };
    let warp_inner = match kind.kernel {
        1 => 64,
        3 => 32,
        _ => 16,
    };
    // Four warps, of half of the channels each.
    let [block_outer, block_inner] = [2 * warp_outer, 2 * warp_inner];
    let stage_positions = if kind.precision == Precision::Bf16 { 64 } else { 32 };
    let tiles = kind.kernel * inner.div_ceil(block_inner) * outer.div_ceil(block_outer);
    let positions = images.positions(kind);
    let stages = positions.div_ceil(stage_positions).max(1);
    // A piece of a few stages alone would wait for memory most of the time.
    let pieces = (FILLING_IN_TURNS / tiles).clamp(1, stages.div_ceil(4 * GRADIENT_STAGES));
    let piece = stages.div_ceil(pieces) * stage_positions;
    let pieces = positions.div_ceil(piece).max(1);

    let parts = room(&x.factors, [pieces, kind.places(), outer, inner], DType::F32);
    // Places of the kernel move x by some rows.
    let x_rows = (stage_positions + kind.kernel) / 2 * 2;
    let rows = (block_outer * stage_positions + block_inner * x_rows) / kind.slice();
    let launch = |name| {
        kind.launch(&WEIGHT, name)
            .define("OUTER_WARPS", 2)
            .define("INNER_WARPS", 2)
            .define("WARP_OUTER", warp_outer)
            .define("WARP_INNER", warp_inner)
            .define("STAGES", GRADIENT_STAGES)
            .define("STAGE_POSITIONS", stage_positions)
            .define("BLOCKS", 2)
    };
    let gradient = launch("weight_gradient").read(&g.factors).read(&x.factors).write(&parts);
    images.arguments(gradient).int(outer).int(inner).int(piece).shared(GRADIENT_STAGES * rows * ROW).run(
        &parts,
        [tiles * pieces, 1, 1],
        128,
    );
    let out = room(&parts, [outer, inner, kind.kernel, kind.kernel], DType::F32);
    let pairs = outer * inner;
    launch("sum_weight_gradients").read(&parts).write(&out).int(pieces).int(pairs).run(
        &out,
        [(pairs * kind.places()).div_ceil(SUMMING), 1, 1],
        SUMMING,
    );
    out
}

impl ConvOp for Cube {
    fn submask_cuda_conv(x: Array, weight: Array, bias: Array, precision: Precision) -> Array {
        let kind = Kind::of(&weight, precision);
        forward(&Planes::new(x, kind, false).0, &contiguous(weight), bias, kind)
    }
}

fn forward(x: &Planes, weight: &Array, bias: Array, kind: Kind) -> Array {
    let packed = packed_weight(weight, kind, false);
    convolve(x, &packed, Some(&contiguous(bias)), weight.shape()[0], kind)
}

impl<C: CheckpointStrategy> ConvOp for Autodiff<Cube, C> {
    fn submask_cuda_conv(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        precision: Precision,
    ) -> FloatTensor<Self> {
        let nodes = [x.node(), weight.node(), bias.node()];
        let weight = contiguous(weight.into_primitive());
        let kind = Kind::of(&weight, precision);
        let (x, _) = Planes::new(x.into_primitive(), kind, false);
        let out = forward(&x, &weight, bias.into_primitive(), kind);
        match ConvBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish(State { x, weight, kind }, out),
            OpsKind::UnTracked(prepared) => prepared.finish(out),
        }
    }
}

/// dx = the convolution of g with the kernel turned by 180° and in and out exchanged; dweight = the products of g and the
/// shifted x; dbias = Σ g.
#[derive(Debug)]
struct ConvBackward;

#[derive(Clone, Debug)]
struct State {
    x: Planes,
    weight: Array,
    kind: Kind,
}

impl Backward<Cube, 3> for ConvBackward {
    type State = State;

    fn backward(self, ops: Ops<State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let State { x, weight, kind } = ops.state;
        let [for_x, for_weight, for_bias] = ops.parents;
        let (g, sums) = Planes::new(grads.consume::<Cube>(&ops.node), kind, for_bias.is_some());
        if let (Some(parent), Some(sums)) = (for_bias, sums) {
            grads.register::<Cube>(parent.id, sums);
        }
        if let Some(parent) = for_x {
            let packed = packed_weight(&weight, kind, true);
            grads.register::<Cube>(parent.id, convolve(&g, &packed, None, x.channels, kind));
        }
        if let Some(parent) = for_weight {
            grads.register::<Cube>(parent.id, weight_gradient(&g, &x, kind));
        }
    }
}
