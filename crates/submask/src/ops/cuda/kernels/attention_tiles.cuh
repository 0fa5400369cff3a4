// What the kernels of attention share: tiles of rows in shared memory, and the two products of a warp, in three precisions.
//
// The scheme is that of FlashAttention-2 (Dao, arXiv 2307.08691): a block of threads holds some rows (queries, or keys in one
// backward pass) and streams tiles of the others through shared memory, so that no matrix of queries and keys is in memory. Each
// warp has rows of its own, and in all precisions the same lanes have the same elements of a sum (those of mma.sync), so that
// all but the products is written once.
//
// Macros, known when a source is compiled: PRECISION (fp32, tf32 or bf16), HEAD_WIDTH (w, even), WARPS of a block of threads,
// ROW_TILES (16 rows each) of a warp, STREAMED_ROWS of a tile, STAGES (1, or 2: the next tile is copied while one is read).

enum class Precision { fp32, tf32, bf16 };
constexpr Precision FACTORS = Precision::PRECISION;

template <Precision> struct FactorOf { using Type = float; };
template <> struct FactorOf<Precision::bf16> { using Type = bf16; };
using Factor = FactorOf<FACTORS>::Type;

// Heads are placed with each half, which rotary positions pair with the other, followed by zeros up to a multiple of 8.
constexpr int HALF = HEAD_WIDTH / 2;
constexpr int PLACED_HALF = (HALF + 7) / 8 * 8;
constexpr int WIDTH = 2 * PLACED_HALF;
constexpr bool IS_DENSE = PLACED_HALF == HALF;

// Scores are of powers of 2.
constexpr float LOG2_E = 1.44269504088896f;
// A score that gives a weight of zero: minus infinity.
#define NOTHING __uint_as_float(0xFF800000)

constexpr int THREADS = WARPS * int(WARP_SIZE);
constexpr int WARP_ROWS = 16 * ROW_TILES;
constexpr int ROWS = WARPS * WARP_ROWS;
// Rows of a streamed tile are columns of scores.
constexpr int COLUMNS = STREAMED_ROWS;
constexpr int CHUNK = 16 / int(sizeof(Factor));
// Rows in shared memory are an odd number of 16 bytes apart: lanes that read 8 of them find 8 different banks.
constexpr int STRIDE = WIDTH + CHUNK;
// In fp32 weights go through memory of their warp.
constexpr int SCRATCH_STRIDE = COLUMNS + 4;
constexpr int SCRATCH = FACTORS == Precision::fp32 ? WARP_ROWS * SCRATCH_STRIDE : 0;

using Scores = float[ROW_TILES][COLUMNS / 8][4];
using Sums = float[ROW_TILES][WIDTH / 8][4];

__device__ inline float number(float x) { return x; }
__device__ inline float number(bf16 x) { return __bfloat162float(x); }
__device__ inline void store(float &to, float x) { to = x; }
__device__ inline void store(bf16 &to, float x) { to = __float2bfloat16_rn(x); }
__device__ inline void store_pair(float *to, float x, float y) { *reinterpret_cast<float2 *>(to) = make_float2(x, y); }
__device__ inline void store_pair(bf16 *to, float x, float y) { *reinterpret_cast<unsigned *>(to) = pack_bf16(x, y); }

// x as products take it, in the type of a placed tensor.
__device__ inline float rounded(float x) { return FACTORS == Precision::tf32 ? __uint_as_float(tf32_bits(x)) : x; }

// Which of the own w columns of a head a placed column is, if any.
__device__ inline int own_column(int placed) { return placed < PLACED_HALF ? placed : placed - PLACED_HALF + HALF; }
__device__ inline bool is_own(int placed) { return IS_DENSE || placed % PLACED_HALF < HALF; }

// Where a warp's lane is in tiles of 16 rows and 8 columns: it has columns `pair` and pair + 1 of rows `group` and group + 8.
struct Lane {
    int group, pair;
    __device__ Lane() : group(int(lane_of_warp()) / 4), pair(int(lane_of_warp()) % 4 * 2) {}
    // The lane's row of those of its warp.
    __device__ int row(int tile, int half) const { return 16 * tile + 8 * half + group; }
};

__device__ inline int warp_of_block() { return int(threadIdx.x / WARP_SIZE); }
__device__ inline int blocks_of(int count, int size) { return (count + size - 1) / size; }

template <class Array> __device__ inline void clear(Array &sums) {
#pragma unroll
    for (auto &rows : sums)
#pragma unroll
        for (auto &tile : rows)
#pragma unroll
            for (float &x : tile) x = 0.0f;
}

// Rows of a placed tensor that a tile has, by their index: from `first` on, up to `limit`.
struct Range {
    static constexpr int UNROLLED = 4;
    int first, limit;
    __device__ int operator()(int slot) const { return first + slot < limit ? first + slot : -1; }
};

// Rows of whole blocks of `len`, each of which begins in a slot that is a multiple of `size`: a row's sums then grow in one order,
// whatever blocks stand beside its own.
struct Slots {
    static constexpr int UNROLLED = 1;
    int first, limit, len, size, blocks;
    __device__ int operator()(int slot) const {
        const int block = slot / size, inside = slot % size, row = first + block * len + inside;
        return block < blocks && inside < len && row < limit ? row : -1;
    }
};

// Begins to copy rows, which are `stride` apart, to a tile of `count`; zeros where there is none.
template <int count, class Rows>
__device__ inline void copy_rows(Factor *tile, const Factor *placed, size_t stride, Rows rows) {
    constexpr int CHUNKS = WIDTH / CHUNK, ALL = count * CHUNKS, TURNS = (ALL + THREADS - 1) / THREADS;
#pragma unroll Rows::UNROLLED
    for (int turn = 0; turn < TURNS; turn++) {
        const int i = turn * THREADS + int(threadIdx.x), slot = i / CHUNKS, column = i % CHUNKS * CHUNK;
        if (ALL % THREADS != 0 && i >= ALL) break;
        const int row = rows(slot);
        cp_async_16(tile + slot * STRIDE + column, placed + (row < 0 ? 0 : row) * stride + column, row >= 0);
    }
}

// Calls `issue(step, stage)`, which begins to copy a tile, and `compute(step, stage)` for all steps; the first tile's copy has
// begun. Before all `begin()` is called, once that and what was copied before is there.
template <class Issue, class Begin, class Compute>
__device__ inline void for_each_tile(int steps, Issue issue, Begin begin, Compute compute) {
    cp_async_commit();
    cp_async_wait<0>();
    __syncthreads();
    begin();
    for (int step = 0; step < steps; step++) {
        if (step > 0) {
            cp_async_wait<0>();
            __syncthreads();
        }
        if (STAGES == 2) {
            // Nobody reads the other stage any more: all have passed the barrier.
            if (step + 1 < steps) issue(step + 1, (step + 1) % 2);
            cp_async_commit();
            compute(step, step % 2);
        } else {
            compute(step, 0);
            __syncthreads();
            if (step + 1 < steps) issue(step + 1, 0);
            cp_async_commit();
        }
    }
}

// The rows that a row reads: from `from` on, before `to`. Neither decreases from a row to the next.
struct Interval {
    int from, to;
    __device__ Interval minus(int begin) const { return {from - begin, to - begin}; }
};

// What the rows of a warp read, given the intervals of the first and of the last.
struct WarpReads {
    Interval first, last;
    // Whether any reads the tile that begins at `begin`, and whether all read all of it.
    __device__ bool any(int begin) const { return last.to > begin && first.from < begin + COLUMNS; }
    __device__ bool all(int begin) const { return first.to >= begin + COLUMNS && last.from <= begin; }
};

// Puts `value` where nothing is read, given the interval of slots of every row of the warp.
template <class OfRow> __device__ inline void mask(Scores &scores, Lane lane, float value, OfRow of_row) {
#pragma unroll
    for (int m = 0; m < ROW_TILES; m++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const Interval read = of_row(lane.row(m, half));
#pragma unroll
            for (int n = 0; n < COLUMNS / 8; n++)
#pragma unroll
                for (int i = 0; i < 2; i++) {
                    const int slot = 8 * n + lane.pair + i;
                    if (slot < read.from || slot >= read.to) scores[m][n][2 * half + i] = value;
                }
        }
}

// A warp's rows of a tile, as the first factor of products. In bf16 fragments stay in registers, if these are at most `most`.
template <int most> struct WarpRows {
    static constexpr bool IS_KEPT = FACTORS == Precision::bf16 && ROW_TILES * WIDTH / 4 <= most;
    static constexpr int KEPT = IS_KEPT ? WIDTH / 16 : 1;
    const Factor *rows;
    unsigned kept[KEPT][ROW_TILES][4];

    // Once the tile is there.
    __device__ void begin(const Factor *tile) {
        rows = tile + warp_of_block() * WARP_ROWS * STRIDE;
        if constexpr (IS_KEPT) {
#pragma unroll
            for (int k = 0; k < KEPT; k++)
#pragma unroll
                for (int m = 0; m < ROW_TILES; m++) load(kept[k][m], m, 16 * k);
        }
    }

    // The fragment of 16 rows and of the columns from k on: 16 in bf16, 8 in tf32.
    __device__ void load(unsigned (&a)[4], int m, int k) const {
        if constexpr (FACTORS == Precision::bf16) {
            const int lane = int(lane_of_warp());
            ldmatrix_x4(a, rows + (16 * m + lane % 16) * STRIDE + k + lane / 16 * 8);
        } else {
            const int group = int(lane_of_warp()) / 4, index = int(lane_of_warp()) % 4;
#pragma unroll
            for (int i = 0; i < 4; i++)
                a[i] = __float_as_uint(number(rows[(16 * m + group + i % 2 * 8) * STRIDE + k + index + i / 2 * 4]));
        }
    }
};

// sums += a·bᵀ, b a tile of COLUMNS rows.
template <int most> __device__ inline void multiply_rows(Scores &sums, const WarpRows<most> &a, const Factor *b) {
    const int lane = int(lane_of_warp()), group = lane / 4, index = lane % 4;
    if constexpr (FACTORS == Precision::bf16) {
        const auto multiply = [&](const unsigned(&fragments)[ROW_TILES][4], int k) {
#pragma unroll
            for (int n = 0; n < COLUMNS; n += 16) {
                unsigned four[4];
                ldmatrix_x4(four, b + (n + lane % 8 + lane / 16 * 8) * STRIDE + k + lane / 8 % 2 * 8);
                const unsigned left[2] = {four[0], four[1]}, right[2] = {four[2], four[3]};
#pragma unroll
                for (int m = 0; m < ROW_TILES; m++) {
                    mma_bf16(sums[m][n / 8], fragments[m], left);
                    mma_bf16(sums[m][n / 8 + 1], fragments[m], right);
                }
            }
        };
#pragma unroll
        for (int k = 0; k < WIDTH; k += 16) {
            if constexpr (WarpRows<most>::IS_KEPT) {
                multiply(a.kept[k / 16], k);
            } else {
                unsigned loaded[ROW_TILES][4];
#pragma unroll
                for (int m = 0; m < ROW_TILES; m++) a.load(loaded[m], m, k);
                multiply(loaded, k);
            }
        }
    } else if constexpr (FACTORS == Precision::tf32) {
#pragma unroll
        for (int k = 0; k < WIDTH; k += 8) {
            unsigned fragments[ROW_TILES][4];
#pragma unroll
            for (int m = 0; m < ROW_TILES; m++) a.load(fragments[m], m, k);
#pragma unroll
            for (int n = 0; n < COLUMNS; n += 8) {
                const Factor *row = b + (n + group) * STRIDE + k + index;
                const unsigned pair[2] = {__float_as_uint(row[0]), __float_as_uint(row[4])};
#pragma unroll
                for (int m = 0; m < ROW_TILES; m++) mma_tf32(sums[m][n / 8], fragments[m], pair);
            }
        }
    } else {
#pragma unroll 2
        for (int k = 0; k < WIDTH; k += 4) {
            float4 x[ROW_TILES][2];
#pragma unroll
            for (int m = 0; m < ROW_TILES; m++)
#pragma unroll
                for (int half = 0; half < 2; half++)
                    x[m][half] = *reinterpret_cast<const float4 *>(a.rows + (16 * m + 8 * half + group) * STRIDE + k);
#pragma unroll
            for (int n = 0; n < COLUMNS / 8; n++)
#pragma unroll
                for (int column = 0; column < 2; column++) {
                    const float4 y = *reinterpret_cast<const float4 *>(b + (8 * n + 2 * index + column) * STRIDE + k);
#pragma unroll
                    for (int m = 0; m < ROW_TILES; m++)
#pragma unroll
                        for (int half = 0; half < 2; half++) {
                            float &sum = sums[m][n][2 * half + column];
                            sum = fmaf(x[m][half].x, y.x, sum);
                            sum = fmaf(x[m][half].y, y.y, sum);
                            sum = fmaf(x[m][half].z, y.z, sum);
                            sum = fmaf(x[m][half].w, y.w, sum);
                        }
                }
        }
    }
}

// sums += weights·b, b a tile of COLUMNS rows; `scratch` is the warp's.
__device__ inline void multiply_columns(Sums &sums, const Scores &weights, const Factor *b, float *scratch) {
    const int lane = int(lane_of_warp()), group = lane / 4, index = lane % 4;
    if constexpr (FACTORS == Precision::bf16) {
#pragma unroll
        for (int k = 0; k < COLUMNS; k += 16) {
            unsigned fragments[ROW_TILES][4];
#pragma unroll
            for (int m = 0; m < ROW_TILES; m++)
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    const float(&four)[4] = weights[m][k / 8 + i / 2];
                    fragments[m][i] = pack_bf16(four[i % 2 * 2], four[i % 2 * 2 + 1]);
                }
#pragma unroll
            for (int n = 0; n < WIDTH; n += 16) {
                unsigned four[4];
                ldmatrix_x4_trans(four, b + (k + lane % 16) * STRIDE + n + lane / 16 * 8);
                const unsigned left[2] = {four[0], four[1]}, right[2] = {four[2], four[3]};
#pragma unroll
                for (int m = 0; m < ROW_TILES; m++) {
                    mma_bf16(sums[m][n / 8], fragments[m], left);
                    mma_bf16(sums[m][n / 8 + 1], fragments[m], right);
                }
            }
        }
    } else if constexpr (FACTORS == Precision::tf32) {
#pragma unroll
        for (int k = 0; k < COLUMNS; k += 8) {
            // The lane has the weights of two neighbours; which of the 8 rows is which k of the product is free to choose.
            unsigned fragments[ROW_TILES][4];
#pragma unroll
            for (int m = 0; m < ROW_TILES; m++)
#pragma unroll
                for (int i = 0; i < 4; i++) fragments[m][i] = tf32_bits(weights[m][k / 8][i % 2 * 2 + i / 2]);
#pragma unroll
            for (int n = 0; n < WIDTH; n += 8) {
                const Factor *row = b + (k + 2 * index) * STRIDE + n + group;
                const unsigned pair[2] = {__float_as_uint(row[0]), __float_as_uint(row[STRIDE])};
#pragma unroll
                for (int m = 0; m < ROW_TILES; m++) mma_tf32(sums[m][n / 8], fragments[m], pair);
            }
        }
    } else {
        __syncwarp();
#pragma unroll
        for (int m = 0; m < ROW_TILES; m++)
#pragma unroll
            for (int n = 0; n < COLUMNS / 8; n++)
#pragma unroll
                for (int half = 0; half < 2; half++)
                    store_pair(scratch + (16 * m + 8 * half + group) * SCRATCH_STRIDE + 8 * n + 2 * index,
                               weights[m][n][2 * half], weights[m][n][2 * half + 1]);
        __syncwarp();
#pragma unroll 1
        for (int k = 0; k < COLUMNS; k += 4) {
            float x[ROW_TILES][2][4];
#pragma unroll
            for (int m = 0; m < ROW_TILES; m++)
#pragma unroll
                for (int half = 0; half < 2; half++) {
                    const float4 four = *reinterpret_cast<const float4 *>(
                        scratch + (16 * m + 8 * half + group) * SCRATCH_STRIDE + k);
                    x[m][half][0] = four.x, x[m][half][1] = four.y, x[m][half][2] = four.z, x[m][half][3] = four.w;
                }
#pragma unroll
            for (int i = 0; i < 4; i++)
#pragma unroll
                for (int n = 0; n < WIDTH / 8; n++) {
                    const float2 y = *reinterpret_cast<const float2 *>(b + (k + i) * STRIDE + 8 * n + 2 * index);
#pragma unroll
                    for (int m = 0; m < ROW_TILES; m++)
#pragma unroll
                        for (int half = 0; half < 2; half++) {
                            float *sum = sums[m][n] + 2 * half;
                            sum[0] = fmaf(x[m][half][i], y.x, sum[0]);
                            sum[1] = fmaf(x[m][half][i], y.y, sum[1]);
                        }
                }
        }
    }
}
