// A residual connection and the norm that follows it: x' = x + gate·dropout(h), and LayerNorm with modulation or RMSNorm of x',
// forward and backward. What passes through memory twice in kernels apart is here in registers.
//
// ADDED and GRADIENT: types of h, and of its gradient; RESULT and UPSTREAM: of the norm, and of its gradient.

/// Calls work with the place in a part, and with the factor of dropout, of every number of this thread, in the row whose first
/// element has a number.
template <class Work> __device__ inline void for_each_factor(const Dropout &dropout, size_t first, Work work) {
#pragma unroll
    for (int pack = 0; pack < PACKS; pack++) {
        if (column_of(pack) >= WIDTH) continue;
        float factors[PACK];
        dropout.factors(factors, first + column_of(pack));
#pragma unroll
        for (int i = 0; i < PACK; i++) work(pack * PACK + i, factors[i]);
    }
}

/// Writes x' of this thread's row, with mean and 1/σ, and returns what is normalised of it. The row after the last one is zero.
template <bool CENTRED>
__device__ inline Part normalised_sum(const float *x, const ADDED *h, const float *gate, const Dropout &dropout, float *out,
                                      float2 *statistics, int row, int rows) {
    size_t first = size_t(row) * WIDTH;
    Part sum{};
    if (row < rows) {
        sum = read(x + first);
        Part added = read(h + first), gates = read(gate);
        for_each_factor(dropout, first, [&](int at, float factor) { sum.at[at] += added.at[at] * factor * gates.at[at]; });
        write(out + first, sum);
    }
    Statistics found = normalise<CENTRED>(sum);
    if (row < rows && threadIdx.x % ROW_THREADS == 0) statistics[row] = make_float2(found.mean, found.inverse);
    return sum;
}

/// `length` rows that follow each other share gate, shift and scale, which are their strides apart, 0 where all rows share
/// them.
extern "C" __global__ void __launch_bounds__(BLOCK_THREADS)
    residual_norm(const float *__restrict__ x, const ADDED *__restrict__ h, const float *__restrict__ gate,
                  const float *__restrict__ weight, const float *__restrict__ shift, const float *__restrict__ scale,
                  float *__restrict__ out, RESULT *__restrict__ normed, float2 *__restrict__ statistics, int rows, int length,
                  int gate_stride, int shift_stride, int scale_stride, unsigned key_low, unsigned key_high, unsigned step_low,
                  unsigned step_high, unsigned layer, unsigned threshold, float keep) {
    Dropout dropout{key_low, key_high, step_low, step_high, layer, threshold, keep};
    int row = blockIdx.x * BLOCK_ROWS + threadIdx.x / ROW_THREADS;
    size_t modulation = row < rows ? row / length : 0;
    Part hat = normalised_sum<true>(x, h, gate + modulation * gate_stride, dropout, out, statistics, row, rows);
    if (row >= rows) return;
    Part factors = read(weight), scales = read(scale + modulation * scale_stride);
    Part shifts = read(shift + modulation * shift_stride);
    for_each([&](int at, int) { hat.at[at] = hat.at[at] * factors.at[at] * (1.0f + scales.at[at]) + shifts.at[at]; });
    write(normed + size_t(row) * WIDTH, hat);
}

extern "C" __global__ void __launch_bounds__(BLOCK_THREADS)
    residual_rms_norm(const float *__restrict__ x, const ADDED *__restrict__ h, const float *__restrict__ gate,
                      const float *__restrict__ weight, float *__restrict__ out, RESULT *__restrict__ normed,
                      float2 *__restrict__ statistics, int rows, int length, int gate_stride, unsigned key_low,
                      unsigned key_high, unsigned step_low, unsigned step_high, unsigned layer, unsigned threshold,
                      float keep) {
    Dropout dropout{key_low, key_high, step_low, step_high, layer, threshold, keep};
    int row = blockIdx.x * BLOCK_ROWS + threadIdx.x / ROW_THREADS;
    size_t modulation = row < rows ? row / length : 0;
    Part hat = normalised_sum<false>(x, h, gate + modulation * gate_stride, dropout, out, statistics, row, rows);
    if (row >= rows) return;
    Part factors = read(weight);
    for_each([&](int at, int) { hat.at[at] *= factors.at[at]; });
    write(normed + size_t(row) * WIDTH, hat);
}

/// What comes backward, and what the forward pass left: x', mean and 1/σ of its rows, and h, if the gradient of the gate is
/// asked for. The gradients of x' and of its norm are null where nothing was made of it.
struct Backward {
    const float *after;
    const float2 *statistics;
    const ADDED *h;
    const float *gate;
    const float *from_sum;
    const UPSTREAM *from_norm;
    Dropout dropout;
};

/// dx = dx' + (u − mean(u) − x̂·mean(u·x̂))/σ with u = g·factor, where factor multiplied x̂; without mean(u) where x̂ is not centred.
/// dh = dx·gate·f with the factors f of dropout. A block has up to CHUNK of the `rows` that share a modulation, which are
/// `chunks` blocks; of its rows it writes Σ g·x̂ and, where x̂ is centred, Σ g before it; and Σ dx·h·f, if there is h.
template <bool CENTRED>
__device__ inline void backward(const Backward &given, const Part &factor, float *dx, GRADIENT *dh, float *parts,
                                float *gate_parts, int rows, int chunks) {
    int group = threadIdx.x / ROW_THREADS;
    int start = blockIdx.x % chunks * CHUNK, count = min(CHUNK, rows - start);
    int first_row = blockIdx.x / chunks * rows + start;
    Part gates = read(given.gate), sum{}, products{}, of_gate{};
    for (int turn = 0; turn < count; turn += BLOCK_ROWS) {
        bool exists = turn + group < count;
        int row = first_row + (exists ? turn + group : 0);
        size_t first = size_t(row) * WIDTH;
        Part hat = read(given.after + first), upstream = exists && given.from_norm ? read(given.from_norm + first) : Part{};
        float2 statistics = given.statistics[row];
        float means[2] = {0.0f, 0.0f};
        for_each([&](int at, int) {
            hat.at[at] = (hat.at[at] - statistics.x) * statistics.y;
            if (CENTRED) sum.at[at] += upstream.at[at];
            products.at[at] += upstream.at[at] * hat.at[at];
            upstream.at[at] *= factor.at[at];
            means[0] += upstream.at[at];
            means[1] += upstream.at[at] * hat.at[at];
        });
        add_up(means);
        float mean = CENTRED ? means[0] / WIDTH : 0.0f, product = means[1] / WIDTH;
        if (!exists) continue;
        for_each([&](int at, int) {
            hat.at[at] = statistics.y * (upstream.at[at] - mean - hat.at[at] * product);
        });
        if (given.from_sum) {
            Part from_sum = read(given.from_sum + first);
            for_each([&](int at, int) { hat.at[at] += from_sum.at[at]; });
        }
        write(dx + first, hat);
        Part added = given.h ? read(given.h + first) : Part{};
        for_each_factor(given.dropout, first, [&](int at, float f) {
            of_gate.at[at] += hat.at[at] * added.at[at] * f;
            hat.at[at] *= gates.at[at] * f;
        });
        write(dh + first, hat);
    }
    parts += size_t(blockIdx.x) * (CENTRED ? 2 : 1) * WIDTH;
    if (CENTRED) write_sums(parts, sum);
    write_sums(parts + (CENTRED ? WIDTH : 0), products);
    if (given.h) write_sums(gate_parts + size_t(blockIdx.x) * WIDTH, of_gate);
}

extern "C" __global__ void __launch_bounds__(BLOCK_THREADS)
    residual_norm_backward(const float *__restrict__ after, const float2 *__restrict__ statistics,
                           const ADDED *__restrict__ h, const float *__restrict__ gate, const float *__restrict__ from_sum,
                           const UPSTREAM *__restrict__ from_norm, const float *__restrict__ weight,
                           const float *__restrict__ scale, float *__restrict__ dx, GRADIENT *__restrict__ dh,
                           float *__restrict__ parts, float *__restrict__ gate_parts, int rows, int chunks, int gate_stride,
                           int scale_stride, unsigned key_low, unsigned key_high, unsigned step_low, unsigned step_high,
                           unsigned layer, unsigned threshold, float keep) {
    size_t modulation = blockIdx.x / chunks;
    Part factor = read(weight), scales = read(scale + modulation * scale_stride);
    for_each([&](int at, int) { factor.at[at] *= 1.0f + scales.at[at]; });
    Dropout dropout{key_low, key_high, step_low, step_high, layer, threshold, keep};
    Backward given{after, statistics, h, gate + modulation * gate_stride, from_sum, from_norm, dropout};
    backward<true>(given, factor, dx, dh, parts, gate_parts, rows, chunks);
}

extern "C" __global__ void __launch_bounds__(BLOCK_THREADS)
    residual_rms_norm_backward(const float *__restrict__ after, const float2 *__restrict__ statistics,
                               const ADDED *__restrict__ h, const float *__restrict__ gate,
                               const float *__restrict__ from_sum, const UPSTREAM *__restrict__ from_norm,
                               const float *__restrict__ weight, float *__restrict__ dx, GRADIENT *__restrict__ dh,
                               float *__restrict__ parts, float *__restrict__ gate_parts, int rows, int chunks,
                               int gate_stride, unsigned key_low, unsigned key_high, unsigned step_low, unsigned step_high,
                               unsigned layer, unsigned threshold, float keep) {
    Dropout dropout{key_low, key_high, step_low, step_high, layer, threshold, keep};
    Backward given{after, statistics, h, gate + size_t(blockIdx.x / chunks) * gate_stride, from_sum, from_norm, dropout};
    backward<false>(given, read(weight), dx, dh, parts, gate_parts, rows, chunks);
}
