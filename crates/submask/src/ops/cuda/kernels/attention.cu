// Attention: keys and values are placed (heads apart, queries and keys rotated, rounded to factors), then softmax(q·kᵀ/√w)·v.
//
// Macros besides those of attention_tiles.cuh: INPUT and OUTPUT, types of what is placed and of the result.

// Up to 8 numbers: those that there are, and zeros. All of them if `dense`.
template <bool dense, class T> __device__ inline void load_8(float (&x)[8], const T *from, int count) {
    if constexpr (dense) {
        load<8>(x, from);
    } else {
#pragma unroll
        for (int i = 0; i < 8; i++) x[i] = i < count ? number(from[i]) : 0.0f;
    }
}

// The last `parts` of rows (of queries,) keys and values, all but the values rotated: row r is of position first + r mod length.
// A thread has 8 pairs of columns.
//
// packed: [rows, columns], the last parts·heads·w of which are read; cosines, sines: [positions, w/2];
// placed: [rows, parts, heads, WIDTH].
extern "C" __global__ void attention_place(const INPUT *__restrict__ packed, const float *__restrict__ cosines,
                                           const float *__restrict__ sines, Factor *__restrict__ placed, size_t rows, int length,
                                           int columns, int parts, int heads, int first) {
    constexpr int CHUNKS = PLACED_HALF / 8;
    const size_t index = size_t(blockIdx.x) * blockDim.x + threadIdx.x;
    const int chunk = int(index % CHUNKS), head = int(index / CHUNKS % heads);
    const size_t part_of_row = index / CHUNKS / heads, row = part_of_row / parts;
    const int part = int(part_of_row % parts);
    if (row >= rows) return;
    const INPUT *const from = packed + (row + 1) * columns - ((parts - part) * heads - head) * HEAD_WIDTH + 8 * chunk;
    const int count = HALF - 8 * chunk;
    float left[8], right[8];
    load_8<IS_DENSE>(left, from, count);
    load_8<IS_DENSE>(right, from + HALF, count);
    if (part < parts - 1) {
        const size_t angles = (first + row % length) * HALF + 8 * chunk;
        float cosine[8], sine[8];
        load_8<IS_DENSE>(cosine, cosines + angles, count);
        load_8<IS_DENSE>(sine, sines + angles, count);
#pragma unroll
        for (int i = 0; i < 8; i++) {
            const float a = left[i], b = right[i];
            left[i] = a * cosine[i] - b * sine[i];
            right[i] = b * cosine[i] + a * sine[i];
        }
    }
#pragma unroll
    for (int i = 0; i < 8; i++) left[i] = rounded(left[i]), right[i] = rounded(right[i]);
    Factor *const to = placed + (part_of_row * heads + head) * WIDTH + 8 * chunk;
    store<8>(to, left);
    store<8>(to + PLACED_HALF, right);
}

// What a row knows of the keys that it has seen.
struct Softmax {
    // The largest score, and Σ 2^((score − largest)·scale), of the lane's rows.
    float largest[ROW_TILES][2], sum[ROW_TILES][2];

    __device__ Softmax() {
#pragma unroll
        for (int m = 0; m < ROW_TILES; m++)
#pragma unroll
            for (int half = 0; half < 2; half++) largest[m][half] = NOTHING, sum[m][half] = 0.0f;
    }

    // Turns scores of a tile into weights, and scales what was summed before. A tile's own sum is finished before it is added, so
    // that it does not matter which lanes have a row's keys.
    __device__ void add(Scores &scores, Sums &sums, float scale) {
#pragma unroll
        for (int m = 0; m < ROW_TILES; m++)
#pragma unroll
            for (int half = 0; half < 2; half++) {
                float top = largest[m][half];
#pragma unroll
                for (int n = 0; n < COLUMNS / 8; n++) top = fmaxf(top, fmaxf(scores[m][n][2 * half], scores[m][n][2 * half + 1]));
                top = fmaxf(top, __shfl_xor_sync(WHOLE_WARP, top, 1));
                top = fmaxf(top, __shfl_xor_sync(WHOLE_WARP, top, 2));
                // A row that has read nothing yet has no largest score to subtract.
                const float shift = top == NOTHING ? 0.0f : top, scaled = shift * scale;
                // Exactly 1 where the largest score stays.
                const float factor = fast_exp2((largest[m][half] - shift) * scale);
                float own = 0.0f;
#pragma unroll
                for (int n = 0; n < COLUMNS / 8; n++)
#pragma unroll
                    for (int i = 2 * half; i < 2 * half + 2; i++) {
                        scores[m][n][i] = fast_exp2(fmaf(scores[m][n][i], scale, -scaled));
                        own += scores[m][n][i];
                    }
                own += __shfl_xor_sync(WHOLE_WARP, own, 1);
                own += __shfl_xor_sync(WHOLE_WARP, own, 2);
                sum[m][half] = fmaf(sum[m][half], factor, own);
                largest[m][half] = top;
#pragma unroll
                for (int n = 0; n < WIDTH / 8; n++) sums[m][n][2 * half] *= factor, sums[m][n][2 * half + 1] *= factor;
            }
    }
};

// Writes the result of a warp's rows to [rows, heads, w].
__device__ inline void store_result(OUTPUT *head, size_t stride, const Sums &sums, const Softmax &softmax,
                                    const WarpQueries &queries, Lane lane) {
#pragma unroll
    for (int m = 0; m < ROW_TILES; m++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const int row = queries.first + lane.row(m, half);
            if (row > queries.last) continue;
            const float inverse = 1.0f / softmax.sum[m][half];
            OUTPUT *const to = head + row * stride;
#pragma unroll
            for (int n = 0; n < WIDTH / 8; n++) {
                const float x = sums[m][n][2 * half] * inverse, y = sums[m][n][2 * half + 1] * inverse;
                const int column = 8 * n + lane.pair;
                if constexpr (IS_DENSE) {
                    store_pair(to + column, x, y);
                } else {
                    if (is_own(column)) store(to[own_column(column)], x);
                    if (is_own(column + 1)) store(to[own_column(column + 1)], y);
                }
            }
        }
}

// Writes log₂ Σ 2^(score·scale) of a warp's rows.
__device__ inline void store_logarithms(float *head, const Softmax &softmax, float scale, const WarpQueries &queries, Lane lane) {
#pragma unroll
    for (int m = 0; m < ROW_TILES; m++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const int row = queries.first + lane.row(m, half);
            if (row <= queries.last && lane.pair == 0)
                head[row] = fmaf(softmax.largest[m][half], scale, log2f(softmax.sum[m][half]));
        }
}

// The result, and for the backward pass log₂ Σ 2^(score·log₂e/√w) of every row.
//
// A query reads, if `separate`, the past's keys before its block and its own block's keys among `own`; otherwise those among `own`
// that its block and earlier ones have. Blocks of threads have rows of one span: of all rows, of a block, or of some whole blocks
// of at most COLUMNS rows, which then take `slot` rows of a tile each.
//
// own: [sequences, rows, 3, heads, WIDTH]; past: [sequences/draws, past_rows, past_parts, heads, WIDTH], the last two parts of
// which are read; out: [sequences, rows, heads, w]; logarithms: [sequences, heads, rows up to a multiple of 4], or null.
extern "C" __global__ void __launch_bounds__(THREADS, 2)
    attention_forward(const Factor *__restrict__ own, const Factor *__restrict__ past, OUTPUT *__restrict__ out,
                      float *__restrict__ logarithms, int rows, int heads, int past_rows, int past_parts, int draws, int first,
                      int block_len, int separate, int span, int slot, float scale) {
    extern __shared__ __align__(16) unsigned char shared_memory[];
    Factor *const queries = reinterpret_cast<Factor *>(shared_memory), *const tiles = queries + ROWS * STRIDE;
    float *const scratch = reinterpret_cast<float *>(tiles + 2 * STAGES * COLUMNS * STRIDE) + warp_of_block() * SCRATCH;

    // The last rows, which read the most where not all is read, begin first.
    const int tiles_of_span = blocks_of(min(span, rows), ROWS), all_tiles = blocks_of(rows, span) * tiles_of_span;
    const int tile = all_tiles - 1 - int(blockIdx.x % all_tiles), head = int(blockIdx.x / all_tiles % heads);
    const int sequence = int(blockIdx.x / all_tiles / heads);
    const int span_first = tile / tiles_of_span * span, row_first = span_first + tile % tiles_of_span * ROWS;
    const int span_end = min(span_first + span, rows), row_end = min(row_first + ROWS, span_end);
    if (row_first >= row_end) return;

    const size_t part = size_t(heads) * WIDTH, own_stride = 3 * part, past_stride = past_parts * part;
    const Factor *const of_head = own + sequence * own_stride * rows + head * WIDTH;
    const Factor *const past_of_head = past + sequence / draws * past_stride * past_rows + (past_parts - 2) * part + head * WIDTH;
    Keys keys{past_of_head, of_head + part, past_stride, own_stride, part, past_rows, rows, first, Blocks{block_len},
              separate != 0, slot};
    keys.find(row_first, row_end);
    const WarpQueries warp_queries(keys, row_first, row_end);

    WarpRows<32> own_queries;
    Sums sums;
    clear(sums);
    Softmax softmax;
    const Lane lane;
    copy_rows<ROWS>(queries, of_head, own_stride, Range{row_first, row_end});
    keys.copy(0, tiles);
    for_each_tile(
        keys.steps, [&](int step, int stage) { keys.copy(step, tiles + 2 * stage * COLUMNS * STRIDE); },
        [&] { own_queries.begin(queries); },
        [&](int step, int stage) {
            if (warp_queries.is_empty() || !warp_queries.any(keys, step)) return;
            const Factor *const tile = tiles + 2 * stage * COLUMNS * STRIDE;
            Scores scores;
            clear(scores);
            multiply_rows(scores, own_queries, tile);
            if (!warp_queries.all(keys, step))
                mask(scores, lane, NOTHING, [&](int row) { return keys.of_tile(warp_queries.query(row), step); });
            softmax.add(scores, sums, scale * LOG2_E);
            multiply_columns(sums, scores, tile + COLUMNS * STRIDE, scratch);
        });
    const size_t numbers = (size_t(sequence) * heads + head) * (blocks_of(rows, 4) * 4);
    OUTPUT *const out_of_head = out + (size_t(sequence) * rows * heads + head) * HEAD_WIDTH;
    store_result(out_of_head, size_t(heads) * HEAD_WIDTH, sums, softmax, warp_queries, lane);
    if (logarithms) store_logarithms(logarithms + numbers, softmax, scale * LOG2_E, warp_queries, lane);
}
