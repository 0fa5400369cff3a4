// Gradients of attention. With p the probabilities, g the gradient of the result o, and Δ = Σ g∘o of every row: dv = pᵀ·g,
// ds = p∘(g·vᵀ − Δ), dq = ds·k/√w, dk = dsᵀ·q/√w. A kernel has rows of queries and streams keys, another one has rows of keys and
// streams queries; each computes the probabilities again from the rows' logarithms. No sum is shared, none is added atomically.
//
// Macros besides those of attention_tiles.cuh: UPSTREAM, OUTPUT and GRADIENT, types of g, of o, and of what is written.

// Where rotary positions are: [positions, w/2].
struct Angles {
    const float *cosines, *sines;
};

// Writes sums of rows to gradients of heads, [rows, parts, heads, w]; those of queries and keys are rotated back by the position of
// row 0 and later, if `rotates`.
template <bool rotates, class Valid>
__device__ inline void store_gradient(GRADIENT *head, size_t stride, const Sums &sums, float scale, Angles angles, int first_row,
                                      int first_position, Lane lane, Valid valid) {
#pragma unroll
    for (int m = 0; m < ROW_TILES; m++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const int row = first_row + lane.row(m, half);
            if (!valid(row)) continue;
            GRADIENT *const to = head + row * stride;
            const size_t angle = size_t(first_position + row) * HALF;
#pragma unroll
            for (int n = 0; n < PLACED_HALF / 8; n++) {
                float left[2], right[2];
                const int column = 8 * n + lane.pair;
#pragma unroll
                for (int i = 0; i < 2; i++) {
                    left[i] = scale * sums[m][n][2 * half + i];
                    right[i] = scale * sums[m][n + PLACED_HALF / 8][2 * half + i];
                    if (rotates && is_own(column + i)) {
                        const float cosine = angles.cosines[angle + column + i], sine = angles.sines[angle + column + i];
                        const float a = left[i], b = right[i];
                        left[i] = a * cosine + b * sine;
                        right[i] = b * cosine - a * sine;
                    }
                }
                if constexpr (IS_DENSE) {
                    store_pair(to + column, left[0], left[1]);
                    store_pair(to + HALF + column, right[0], right[1]);
                } else {
#pragma unroll
                    for (int i = 0; i < 2; i++)
                        if (is_own(column + i)) {
                            store(to[column + i], left[i]);
                            store(to[HALF + column + i], right[i]);
                        }
                }
            }
        }
}

// Turns scores into probabilities and products g·vᵀ into ds of a tile, given of every row or column its logarithm and its Δ.
template <class Logarithm, class Delta>
__device__ inline void weigh(Scores &scores, Scores &products, float scale, Logarithm logarithm, Delta delta) {
#pragma unroll
    for (int m = 0; m < ROW_TILES; m++)
#pragma unroll
        for (int n = 0; n < COLUMNS / 8; n++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                scores[m][n][i] = fast_exp2(fmaf(scores[m][n][i], scale, -logarithm(m, n, i)));
                products[m][n][i] = scores[m][n][i] * (products[m][n][i] - delta(m, n, i));
            }
}

// g of some rows as a factor, to a tile of shared memory and to memory, and Δ. A warp takes a row after the other.
__device__ inline void place_upstream(Factor *tile, const UPSTREAM *upstream, const OUTPUT *out, Factor *placed, float *deltas,
                                      int heads, int row_first, int row_end) {
    const int lane = int(lane_of_warp());
#pragma unroll 4
    for (int slot = warp_of_block(); slot < ROWS; slot += WARPS) {
        const int row = row_first + slot;
        float delta = 0.0f;
#pragma unroll
        for (int begin = 0; begin < WIDTH; begin += int(WARP_SIZE)) {
            const int column = begin + lane;
            if (column >= WIDTH) continue;
            float g = 0.0f;
            if (row < row_end && is_own(column)) {
                const size_t from = size_t(row) * heads * HEAD_WIDTH + own_column(column);
                g = number(upstream[from]);
                delta = fmaf(g, number(out[from]), delta);
            }
            Factor factor;
            store(factor, rounded(g));
            tile[slot * STRIDE + column] = factor;
            if (row < row_end) placed[size_t(row) * heads * WIDTH + column] = factor;
        }
        delta = warp_sum(delta);
        if (row < row_end && lane == 0) deltas[row] = delta;
    }
}

// The gradient of the queries; and for the gradients of keys and values g as a factor, and Δ.
//
// own, logarithms, separate: as of `attention_forward`; past: [sequences, past_rows, 2, heads, WIDTH]; upstream, out:
// [sequences, rows, heads, w]; placed: [sequences, rows, heads, WIDTH]; deltas: as logarithms; gradient:
// [sequences, rows, 3, heads, w], part 0 of which is written.
extern "C" __global__ void __launch_bounds__(THREADS, 2)
    attention_queries_gradient(const Factor *__restrict__ own, const Factor *__restrict__ past,
                               const UPSTREAM *__restrict__ upstream, const OUTPUT *__restrict__ out, const float *__restrict__ logarithms,
                               const float *__restrict__ cosines, const float *__restrict__ sines, Factor *__restrict__ placed,
                               float *__restrict__ deltas, GRADIENT *__restrict__ gradient, int rows, int heads, int past_rows,
                               int first, int block_len, int separate, float scale) {
    extern __shared__ __align__(16) unsigned char shared_memory[];
    Factor *const queries = reinterpret_cast<Factor *>(shared_memory), *const upstreams = queries + ROWS * STRIDE;
    Factor *const tiles = upstreams + ROWS * STRIDE;
    float *const scratch = reinterpret_cast<float *>(tiles + 2 * STAGES * COLUMNS * STRIDE) + warp_of_block() * SCRATCH;

    const int all_tiles = blocks_of(rows, ROWS);
    const int row_first = (all_tiles - 1 - int(blockIdx.x % all_tiles)) * ROWS, row_end = min(row_first + ROWS, rows);
    const int head = int(blockIdx.x / all_tiles % heads), sequence = int(blockIdx.x / all_tiles / heads);
    const size_t part = size_t(heads) * WIDTH, own_stride = 3 * part, past_stride = 2 * part;
    const Factor *const own_of_head = own + sequence * own_stride * rows + head * WIDTH;
    const Factor *const past_of_head = past + sequence * past_stride * past_rows + head * WIDTH;
    Keys keys{past_of_head, own_of_head + part, past_stride, own_stride, part, past_rows, rows, first, Blocks{block_len},
              separate != 0, 0};
    keys.find(row_first, row_end);
    const WarpQueries warp_queries(keys, row_first, row_end);
    const size_t of_head = size_t(sequence) * rows * heads + head;
    const size_t numbers = (size_t(sequence) * heads + head) * (blocks_of(rows, 4) * 4);

    const Lane lane;
    float logarithm[ROW_TILES][2], delta[ROW_TILES][2];
    WarpRows<16> own_queries, own_upstreams;
    Sums sums;
    clear(sums);
    copy_rows<ROWS>(queries, own_of_head, own_stride, Range{row_first, row_end});
    keys.copy(0, tiles);
    place_upstream(upstreams, upstream + of_head * HEAD_WIDTH, out + of_head * HEAD_WIDTH, placed + of_head * WIDTH,
                   deltas + numbers, heads, row_first, row_end);
    for_each_tile(
        keys.steps, [&](int step, int stage) { keys.copy(step, tiles + 2 * stage * COLUMNS * STRIDE); },
        [&] {
            own_queries.begin(queries);
            own_upstreams.begin(upstreams);
#pragma unroll
            for (int m = 0; m < ROW_TILES; m++)
#pragma unroll
                for (int half = 0; half < 2; half++) {
                    const int row = warp_queries.query(lane.row(m, half));
                    logarithm[m][half] = logarithms[numbers + row];
                    // Written by this block of threads before the barrier.
                    delta[m][half] = deltas[numbers + row];
                }
        },
        [&](int step, int stage) {
            if (warp_queries.is_empty() || !warp_queries.any(keys, step)) return;
            const Factor *const tile = tiles + 2 * stage * COLUMNS * STRIDE;
            Scores scores, products;
            clear(scores);
            clear(products);
            multiply_rows(scores, own_queries, tile);
            multiply_rows(products, own_upstreams, tile + COLUMNS * STRIDE);
            weigh(scores, products, scale * LOG2_E, [&](int m, int, int i) { return logarithm[m][i / 2]; },
                  [&](int m, int, int i) { return delta[m][i / 2]; });
            if (!warp_queries.all(keys, step))
                mask(products, lane, 0.0f, [&](int row) { return keys.of_tile(warp_queries.query(row), step); });
            multiply_columns(sums, products, tile, scratch);
        });
    GRADIENT *const of_queries = gradient + (size_t(sequence) * rows * 3 * heads + head) * HEAD_WIDTH;
    store_gradient<true>(of_queries, size_t(3) * heads * HEAD_WIDTH, sums, scale, Angles{cosines, sines}, warp_queries.first, first,
                         lane, [&](int row) { return row < row_end; });
}

// Gradients of keys, of values, or of both: of the keys among `own`, or of those of the past.
template <bool of_keys, bool of_values>
__device__ inline void keys_gradient(const Factor *own, const Factor *past, const Factor *placed, const float *logarithms,
                                     const float *deltas, Angles angles, GRADIENT *own_gradient, GRADIENT *past_gradient, int rows,
                                     int heads, int past_rows, int gradient_parts, int first, int block_len, int separate, float scale) {
    extern __shared__ __align__(16) unsigned char shared_memory[];
    Factor *const keys = reinterpret_cast<Factor *>(shared_memory), *const values = keys + ROWS * STRIDE;
    Factor *const tiles = values + ROWS * STRIDE;
    float *const numbers = reinterpret_cast<float *>(tiles + 2 * STAGES * COLUMNS * STRIDE);
    float *const scratch = numbers + 2 * STAGES * COLUMNS + warp_of_block() * SCRATCH;

    const int own_tiles = blocks_of(rows, ROWS), all_tiles = own_tiles + (separate ? blocks_of(past_rows, ROWS) : 0);
    const int tile = int(blockIdx.x % all_tiles), head = int(blockIdx.x / all_tiles % heads);
    const int sequence = int(blockIdx.x / all_tiles / heads);
    const bool is_past = tile >= own_tiles;
    const int key_rows = is_past ? past_rows : rows, parts = is_past ? 2 : 3;
    const int row_first = (is_past ? tile - own_tiles : tile) * ROWS, row_end = min(row_first + ROWS, key_rows);
    const Blocks blocks{block_len};
    const size_t part = size_t(heads) * WIDTH, own_stride = 3 * part, key_stride = parts * part;
    const Factor *const queries = own + sequence * own_stride * rows + head * WIDTH;
    const Factor *const upstreams = placed + sequence * part * rows + head * WIDTH;
    const Factor *const key_rows_of_head =
        (is_past ? past : own) + sequence * key_stride * key_rows + (parts - 2) * part + head * WIDTH;
    const int padded = blocks_of(rows, 4) * 4;
    const float *const of_head = logarithms + (size_t(sequence) * heads + head) * padded;
    const float *const deltas_of_head = deltas + (size_t(sequence) * heads + head) * padded;

    // The queries that read a key: all from its block on, or those of its block, or all behind it.
    const auto query_first = [&](int key) { return is_past ? max(blocks.end(key) - first, 0) : blocks.start(key); };
    const auto query_end = [&](int key) { return separate && !is_past ? min(blocks.end(key), rows) : rows; };
    // From a multiple of COLUMNS on, so that numbers of queries stand in whole multiples of 16 bytes.
    const int columns_first = query_first(row_first) / COLUMNS * COLUMNS, columns_end = query_end(row_end - 1);
    const int steps = columns_first < columns_end ? blocks_of(columns_end - columns_first, COLUMNS) : 0;
    const auto issue = [&](int step, int stage) {
        Factor *const some = tiles + 2 * stage * COLUMNS * STRIDE;
        const int begin = columns_first + step * COLUMNS;
        copy_rows<COLUMNS>(some, queries, own_stride, Range{begin, rows});
        copy_rows<COLUMNS>(some + COLUMNS * STRIDE, upstreams, part, Range{begin, rows});
        for (int i = int(threadIdx.x); i < COLUMNS / 2; i += THREADS) {
            const bool is_delta = i >= COLUMNS / 4;
            const int column = 4 * (i % (COLUMNS / 4));
            const bool valid = begin + column < padded;
            cp_async_16(numbers + (2 * stage + is_delta) * COLUMNS + column,
                        (is_delta ? deltas_of_head : of_head) + (valid ? begin + column : 0), valid);
        }
    };

    const Lane lane;
    const int warp_first = row_first + warp_of_block() * WARP_ROWS;
    const auto of_key = [&](int row) {
        const int key = min(warp_first + row, row_end - 1);
        return Interval{query_first(key), query_end(key)};
    };
    const WarpReads reads{of_key(0), of_key(WARP_ROWS - 1)};
    WarpRows<16> own_keys, own_values;
    Sums key_sums, value_sums;
    clear(key_sums);
    clear(value_sums);
    if (steps > 0) {
        copy_rows<ROWS>(keys, key_rows_of_head, key_stride, Range{row_first, row_end});
        copy_rows<ROWS>(values, key_rows_of_head + part, key_stride, Range{row_first, row_end});
        issue(0, 0);
        for_each_tile(
            steps, issue,
            [&] {
                own_keys.begin(keys);
                own_values.begin(values);
            },
            [&](int step, int stage) {
                if (warp_first >= row_end) return;
                const int begin = columns_first + step * COLUMNS;
                if (!reads.any(begin)) return;
                const Factor *const some = tiles + 2 * stage * COLUMNS * STRIDE, *const some_upstreams = some + COLUMNS * STRIDE;
                const float *const column_numbers = numbers + 2 * stage * COLUMNS + lane.pair;
                Scores scores, products;
                clear(scores);
                clear(products);
                multiply_rows(scores, own_keys, some);
                if (of_keys) multiply_rows(products, own_values, some_upstreams);
                weigh(scores, products, scale * LOG2_E, [&](int, int n, int i) { return column_numbers[8 * n + i % 2]; },
                      [&](int, int n, int i) { return column_numbers[COLUMNS + 8 * n + i % 2]; });
                if (!reads.all(begin)) {
                    const auto of_tile = [&](int row) { return of_key(row).minus(begin); };
                    if (of_values) mask(scores, lane, 0.0f, of_tile);
                    if (of_keys) mask(products, lane, 0.0f, of_tile);
                }
                if (of_values) multiply_columns(value_sums, scores, some_upstreams, scratch);
                if (of_keys) multiply_columns(key_sums, products, some, scratch);
            });
    }
    const int written = is_past ? gradient_parts : 3;
    const size_t stride = size_t(written) * heads * HEAD_WIDTH;
    GRADIENT *const to = (is_past ? past_gradient : own_gradient) + sequence * stride * key_rows + head * HEAD_WIDTH;
    const auto valid = [&](int row) { return row < row_end; };
    const auto of_part = [&](int index) { return to + size_t(index) * heads * HEAD_WIDTH; };
    const int position = is_past ? 0 : first;
    if (of_keys) store_gradient<true>(of_part(written - 2), stride, key_sums, scale, angles, warp_first, position, lane, valid);
    if (of_values) store_gradient<false>(of_part(written - 1), stride, value_sums, 1.0f, angles, warp_first, position, lane, valid);
    // Queries before a past's keys are not read.
    if (of_keys && is_past) {
        clear(key_sums);
        for (int index = 0; index < written - 2; index++)
            store_gradient<false>(of_part(index), stride, key_sums, 1.0f, angles, warp_first, position, lane, valid);
    }
}

#define KEYS_GRADIENT(name, of_keys, of_values)                                                                                 \
    extern "C" __global__ void __launch_bounds__(THREADS, 2)                                                                       \
        name(const Factor *__restrict__ own, const Factor *__restrict__ past, const Factor *__restrict__ placed,                \
             const float *__restrict__ logarithms, const float *__restrict__ deltas, const float *__restrict__ cosines,         \
             const float *__restrict__ sines, GRADIENT *__restrict__ own_gradient, GRADIENT *__restrict__ past_gradient,        \
             int rows, int heads, int past_rows, int gradient_parts, int first, int block_len, int separate, float scale) {     \
        keys_gradient<of_keys, of_values>(own, past, placed, logarithms, deltas, Angles{cosines, sines}, own_gradient,          \
                                          past_gradient, rows, heads, past_rows, gradient_parts, first, block_len, separate,      \
                                          scale);                                                                              \
    }

// placed, deltas: what `attention_queries_gradient` gave. own_gradient: as there, parts 1 and 2 of which are written;
// past_gradient: [sequences, past_rows, gradient_parts, heads, w], all of which is written if `separate`.
#if HEAD_WIDTH > 128
// Registers hold the sums of one of both.
KEYS_GRADIENT(attention_keys_gradient, true, false)
KEYS_GRADIENT(attention_values_gradient, false, true)
#else
KEYS_GRADIENT(attention_keys_values_gradient, true, true)
#endif
