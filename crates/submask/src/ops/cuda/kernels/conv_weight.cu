// Gradients of the weights of convolutions, of the factors of conv_pack.cu: sums over all positions of g times what x has as far
// away as the place of the kernel says. Where a position is no pixel, g is zero.
//
// A block has a tile of channels out by channels in, for all places in one row of the kernel: they meet x in the same rows of shared
// memory. Positions are cut into pieces whose sums stand in memory by themselves; a second kernel adds them in order.
//
// Macros besides those of conv_tiles.cuh: OUTER_WARPS × INNER_WARPS of a block, each of which has WARP_OUTER × WARP_INNER channels
// (multiples of 16, of a block multiples of a slice); STAGES; STAGE_POSITIONS, a multiple of 16; BLOCKS that a multiprocessor should have at once.

constexpr int THREADS = OUTER_WARPS * INNER_WARPS * int(WARP_SIZE);
constexpr int BLOCK_OUTER = OUTER_WARPS * WARP_OUTER, BLOCK_INNER = INNER_WARPS * WARP_INNER;
static_assert(BLOCK_OUTER % SLICE == 0 && BLOCK_INNER % SLICE == 0, "whole slices");
constexpr int OUTER_SLICES = BLOCK_OUTER / SLICE, INNER_SLICES = BLOCK_INNER / SLICE;
// Places of the kernel move x by up to KERNEL - 1 rows; an even number of rows.
constexpr int X_ROWS = (STAGE_POSITIONS + KERNEL) / 2 * 2;
constexpr int G_TILE = STAGE_POSITIONS * ROW, X_TILE = X_ROWS * ROW, STAGE = OUTER_SLICES * G_TILE + INNER_SLICES * X_TILE;

constexpr int OUTER_TILES = WARP_OUTER / 16, INNER_TILES = WARP_INNER / 8;
// A lane's elements: channels out `group` and group + 8, channels in `pair` and pair + 1.
using Sums = float[KERNEL][OUTER_TILES][INNER_TILES][4];

constexpr int SIXTEENS = SLICE / 16;
/// The first of the chunks of 16 channels in a tile, of which a slice has one or two times 16.
__device__ inline int first_chunk(int sixteen) { return sixteen % SIXTEENS * 2; }
template <int SLICE_BYTES> __device__ inline int slice_of(int sixteen) { return sixteen / SIXTEENS * SLICE_BYTES; }

/// Adds the products of a stage. `outer` and `inner` are the first of the warp's channels, over 16.
__device__ inline void add_products(Sums &sums, const unsigned char *g, const unsigned char *x, int outer, int inner) {
    const int lane = lane_of_warp(), group = lane / 4, t = lane % 4;
    if constexpr (FACTORS == Precision::bf16) {
        // Rows are positions, which are the inner dimension: ldmatrix transposes.
        const int row_of_g = lane / 16 * 8 + lane % 8, row_of_x = lane % 16;
#pragma unroll
        for (int first = 0; first < STAGE_POSITIONS; first += 16) {
            unsigned a[OUTER_TILES][4];
#pragma unroll
            for (int m = 0; m < OUTER_TILES; m++)
                ldmatrix_x4_trans(a[m], g + slice_of<G_TILE>(outer + m) + first * ROW + place(row_of_g, first_chunk(outer + m) + lane / 8 % 2));
#pragma unroll
            for (int right = 0; right < KERNEL; right++)
#pragma unroll
                for (int n = 0; n < INNER_TILES; n += 2) {
                    unsigned b[4];
                    ldmatrix_x4_trans(b, x + slice_of<X_TILE>(inner + n / 2) + first * ROW +
                                             place(row_of_x + right, first_chunk(inner + n / 2) + lane / 16));
                    const unsigned left_tile[2] = {b[0], b[1]}, right_tile[2] = {b[2], b[3]};
#pragma unroll
                    for (int m = 0; m < OUTER_TILES; m++) {
                        multiply_add(sums[right][m][n], a[m], left_tile);
                        multiply_add(sums[right][m][n + 1], a[m], right_tile);
                    }
                }
        }
    } else if constexpr (FACTORS == Precision::tf32) {
        auto word = [](const unsigned char *at) { return *reinterpret_cast<const unsigned *>(at); };
#pragma unroll
        for (int first = 0; first < STAGE_POSITIONS; first += 8) {
            unsigned a[OUTER_TILES][4];
#pragma unroll
            for (int m = 0; m < OUTER_TILES; m++)
#pragma unroll
                for (int i = 0; i < 4; i++)
                    a[m][i] = word(g + slice_of<G_TILE>(outer + m) + first * ROW + place(t + i / 2 * 4, i % 2 * 2 + group / 4) + group % 4 * 4);
#pragma unroll
            for (int right = 0; right < KERNEL; right++)
#pragma unroll
                for (int n = 0; n < INNER_TILES; n++) {
                    unsigned b[2];
#pragma unroll
                    for (int i = 0; i < 2; i++)
                        b[i] = word(x + slice_of<X_TILE>(inner + n / 2) + first * ROW +
                                    place(t + i * 4 + right, n % 2 * 2 + group / 4) + group % 4 * 4);
#pragma unroll
                    for (int m = 0; m < OUTER_TILES; m++) multiply_add(sums[right][m][n], a[m], b);
                }
        }
    } else {
#pragma unroll 4
        for (int position = 0; position < STAGE_POSITIONS; position++) {
            float a[OUTER_TILES][2];
#pragma unroll
            for (int m = 0; m < OUTER_TILES; m++)
#pragma unroll
                for (int half = 0; half < 2; half++)
                    a[m][half] = *reinterpret_cast<const float *>(g + slice_of<G_TILE>(outer + m) + place(position, half * 2 + group / 4) +
                                                                  group % 4 * 4);
#pragma unroll
            for (int right = 0; right < KERNEL; right++)
#pragma unroll
                for (int n = 0; n < INNER_TILES; n++) {
                    const float2 b = *reinterpret_cast<const float2 *>(x + slice_of<X_TILE>(inner + n / 2) +
                                                                       place(position + right, n % 2 * 2 + t / 2) + t % 2 * 8);
#pragma unroll
                    for (int m = 0; m < OUTER_TILES; m++) {
                        float(&sum)[4] = sums[right][m][n];
                        sum[0] = fmaf(a[m][0], b.x, sum[0]);
                        sum[1] = fmaf(a[m][0], b.y, sum[1]);
                        sum[2] = fmaf(a[m][1], b.x, sum[2]);
                        sum[3] = fmaf(a[m][1], b.y, sum[3]);
                    }
                }
        }
    }
}

/// factors of g [images, outer, height, width] and x [images, inner, height, width] → parts [pieces, KERNEL², outer, inner], where a
/// piece has `piece` positions, a multiple of STAGE_POSITIONS. Blocks are (row of the kernel, channels in, channels out, piece).
extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
    weight_gradient(const unsigned char *__restrict__ g, const unsigned char *__restrict__ x, float *__restrict__ parts, int count,
                    int height, int width, int outer, int inner, int piece) {
    extern __shared__ __align__(128) unsigned char dynamic_shared[];
    const Images images{count, height, width};
    const int positions = images.positions();
    // Neighbours in the grid read the same positions at the same time.
    int block = blockIdx.x;
    const int down = block % KERNEL;
    block /= KERNEL;
    const int first_inner = block % blocks_of(inner, BLOCK_INNER) * BLOCK_INNER;
    block /= blocks_of(inner, BLOCK_INNER);
    const int first_outer = block % blocks_of(outer, BLOCK_OUTER) * BLOCK_OUTER;
    const int own_piece = block / blocks_of(outer, BLOCK_OUTER);
    const int start = own_piece * piece, end = min(positions, start + piece);
    const int shift = (down - RADIUS) * images.line() - RADIUS;
    const int outer_slices = blocks_of(outer, SLICE), inner_slices = blocks_of(inner, SLICE);
    auto copy = [&](int first, int stage) {
        unsigned char *to = dynamic_shared + stage * STAGE;
        for (int i = 0; i < OUTER_SLICES; i++, to += G_TILE) {
            const int slice = first_outer / SLICE + i;
            // There is nothing of a slice behind the last.
            copy_rows<THREADS>(to, g + size_t(slice) * positions * ROW, STAGE_POSITIONS, first, slice < outer_slices ? end : 0);
        }
        for (int i = 0; i < INNER_SLICES; i++, to += X_TILE) {
            const int slice = first_inner / SLICE + i;
            copy_rows<THREADS>(to, x + size_t(slice) * positions * ROW, X_ROWS, first + shift, slice < inner_slices ? positions : 0);
        }
    };
    int next = start, next_stage = 0;
    auto copy_next = [&] {
        if (next < end) copy(next, next_stage);
        cp_async_commit();
        next += STAGE_POSITIONS;
        next_stage = next_stage + 1 == STAGES ? 0 : next_stage + 1;
    };
#pragma unroll 1
    for (int i = 0; i < STAGES - 1; i++) copy_next();

    const int warp = threadIdx.x / WARP_SIZE, warp_outer = warp % OUTER_WARPS * WARP_OUTER, warp_inner = warp / OUTER_WARPS * WARP_INNER;
    Sums sums = {};
    int stage = 0;
#pragma unroll 1
    for (int first = start; first < end; first += STAGE_POSITIONS) {
        cp_async_wait<STAGES - 2>();
        __syncthreads();
        copy_next();
        const unsigned char *const tiles = dynamic_shared + stage * STAGE;
        add_products(sums, tiles, tiles + OUTER_SLICES * G_TILE, warp_outer / 16, warp_inner / 16);
        stage = stage + 1 == STAGES ? 0 : stage + 1;
    }

    const int group = lane_of_warp() / 4, pair = lane_of_warp() % 4 * 2;
#pragma unroll
    for (int right = 0; right < KERNEL; right++)
#pragma unroll
        for (int m = 0; m < OUTER_TILES; m++)
#pragma unroll
            for (int half = 0; half < 2; half++) {
                const int o = first_outer + warp_outer + 16 * m + 8 * half + group;
                if (o >= outer) continue;
                float *const to = parts + ((size_t(own_piece) * PLACES + down * KERNEL + right) * outer + o) * inner;
#pragma unroll
                for (int n = 0; n < INNER_TILES; n++) {
                    const int c = first_inner + warp_inner + 8 * n + pair;
                    if (c < inner) to[c] = sums[right][m][n][2 * half];
                    if (c + 1 < inner) to[c + 1] = sums[right][m][n][2 * half + 1];
                }
            }
}

/// parts [pieces, KERNEL², pairs of channels] → [pairs of channels, KERNEL²].
extern "C" __global__ void sum_weight_gradients(const float *__restrict__ parts, float *__restrict__ out, int pieces, int pairs) {
    const size_t count = size_t(pairs) * PLACES, index = size_t(blockIdx.x) * blockDim.x + threadIdx.x;
    if (index >= count) return;
    parts += index % PLACES * pairs + index / PLACES;
    float sum = 0.0f;
#pragma unroll 4
    for (int piece = 0; piece < pieces; piece++) sum += parts[piece * count];
    out[index] = sum;
}
