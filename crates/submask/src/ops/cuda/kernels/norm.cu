// LayerNorm with modulation, and RMSNorm: of rows of WIDTH numbers, forward and backward.
//
// Mean and deviation of a row are computed again in the backward pass, which reads the row anyway. Gradients of weights and
// modulations are added up by chunks of CHUNK rows, in order, and a second kernel adds the chunks.
//
// RESULT and UPSTREAM: types of what is written forward, and of the gradient that comes backward.

/// x̂·weight·(1 + scale) + shift of rows, of which `length` that follow each other share a modulation; these are `strides`
/// apart, 0 where all rows share one.
extern "C" __global__ void __launch_bounds__(BLOCK_THREADS)
    modulated_norm(const float *__restrict__ x, const float *__restrict__ weight, const float *__restrict__ shift,
                   const float *__restrict__ scale, RESULT *__restrict__ out, int rows, int length, int shift_stride,
                   int scale_stride) {
    int row = blockIdx.x * BLOCK_ROWS + threadIdx.x / ROW_THREADS;
    bool exists = row < rows;
    size_t first = size_t(exists ? row : 0) * WIDTH;
    Part part = read(x + first);
    normalise<true>(part);
    if (!exists) return;
    size_t modulation = row / length;
    Part factors = read(weight), scales = read(scale + modulation * scale_stride);
    Part shifts = read(shift + modulation * shift_stride);
    for_each([&](int at, int) {
        part.at[at] = part.at[at] * factors.at[at] * (1.0f + scales.at[at]) + shifts.at[at];
    });
    write(out + first, part);
}

extern "C" __global__ void __launch_bounds__(BLOCK_THREADS)
    rms_norm(const float *__restrict__ x, const float *__restrict__ weight, RESULT *__restrict__ out, int rows) {
    int row = blockIdx.x * BLOCK_ROWS + threadIdx.x / ROW_THREADS;
    bool exists = row < rows;
    size_t first = size_t(exists ? row : 0) * WIDTH;
    Part part = read(x + first);
    normalise<false>(part);
    if (!exists) return;
    Part factors = read(weight);
    for_each([&](int at, int) { part.at[at] *= factors.at[at]; });
    write(out + first, part);
}

/// With u = g·factor, where factor multiplied x̂: dx = (u − mean(u) − x̂·mean(u·x̂))/σ, without mean(u) where x̂ is not
/// centred. A block has up to CHUNK of the `rows` that share a modulation, which are `chunks` blocks; of its rows it writes
/// Σ g·x̂ and, where x̂ is centred, Σ g before it.
template <bool CENTRED>
__device__ inline void backward(const float *x, const UPSTREAM *g, const Part &factor, float *dx, float *parts, int rows,
                                int chunks) {
    int group = threadIdx.x / ROW_THREADS;
    int start = blockIdx.x % chunks * CHUNK, count = min(CHUNK, rows - start);
    size_t first_row = size_t(blockIdx.x / chunks) * rows + start;
    Part sum{}, products{};
    for (int turn = 0; turn < CHUNK && turn < count; turn += BLOCK_ROWS) {
        bool exists = turn + group < count;
        size_t first = (first_row + (exists ? turn + group : 0)) * WIDTH;
        Part hat = read(x + first), upstream = exists ? read(g + first) : Part{};
        float inverse = normalise<CENTRED>(hat).inverse;
        float means[2] = {0.0f, 0.0f};
        for_each([&](int at, int) {
            if (CENTRED) sum.at[at] += upstream.at[at];
            products.at[at] += upstream.at[at] * hat.at[at];
            upstream.at[at] *= factor.at[at];
            means[0] += upstream.at[at];
            means[1] += upstream.at[at] * hat.at[at];
        });
        add_up(means);
        float mean = CENTRED ? means[0] / WIDTH : 0.0f, product = means[1] / WIDTH;
        if (!exists) continue;
        for_each([&](int at, int) { hat.at[at] = inverse * (upstream.at[at] - mean - hat.at[at] * product); });
        write(dx + first, hat);
    }
    parts += size_t(blockIdx.x) * (CENTRED ? 2 : 1) * WIDTH;
    if (CENTRED) write_sums(parts, sum);
    write_sums(parts + (CENTRED ? WIDTH : 0), products);
}

extern "C" __global__ void __launch_bounds__(BLOCK_THREADS)
    modulated_norm_backward(const float *__restrict__ x, const float *__restrict__ weight, const float *__restrict__ scale,
                            const UPSTREAM *__restrict__ g, float *__restrict__ dx, float *__restrict__ parts,
                            int rows, int chunks, int scale_stride) {
    Part factor = read(weight), scales = read(scale + size_t(blockIdx.x / chunks) * scale_stride);
    for_each([&](int at, int) { factor.at[at] *= 1.0f + scales.at[at]; });
    backward<true>(x, g, factor, dx, parts, rows, chunks);
}

extern "C" __global__ void __launch_bounds__(BLOCK_THREADS)
    rms_norm_backward(const float *__restrict__ x, const float *__restrict__ weight, const UPSTREAM *__restrict__ g,
                      float *__restrict__ dx, float *__restrict__ parts, int rows) {
    backward<false>(x, g, read(weight), dx, parts, rows, gridDim.x);
}

/// From the sums S₁ = Σ g and S₂ = Σ g·x̂ of the chunks: dshift = ΣS₁ and dscale = weight·ΣS₂ of every modulation, and
/// dweight = Σ (1 + scale)·S₂ over all; each if there is room for it. Blocks (m, columns) are of modulation m, those behind the
/// last modulation of the weight.
extern "C" __global__ void __launch_bounds__(PART_COLUMNS * PART_SHARES)
    modulated_norm_sums(const float *__restrict__ parts, const float *__restrict__ weight, const float *__restrict__ scale,
                        float *__restrict__ dweight, float *__restrict__ dshift, float *__restrict__ dscale, int modulations,
                        int chunks, int scale_stride) {
    int column = blockIdx.y * PART_COLUMNS + threadIdx.x % PART_COLUMNS;
    bool exists = column < WIDTH, writes = exists && threadIdx.x < PART_COLUMNS;
    auto part = [&](size_t chunk, int which) { return exists ? parts[(chunk * 2 + which) * WIDTH + column] : 0.0f; };
    if (int(blockIdx.x) == modulations) {
        if (!dweight) return;
        float sum = total_of_parts(modulations * chunks, [&](int chunk) {
            return exists ? (1.0f + scale[size_t(chunk / chunks) * scale_stride + column]) * part(chunk, 1) : 0.0f;
        });
        if (writes) dweight[column] = sum;
        return;
    }
    size_t first = size_t(blockIdx.x) * chunks, to = size_t(blockIdx.x) * WIDTH + column;
    if (dshift) {
        float sum = total_of_parts(chunks, [&](int chunk) { return part(first + chunk, 0); });
        if (writes) dshift[to] = sum;
    }
    if (dscale) {
        float sum = total_of_parts(chunks, [&](int chunk) { return part(first + chunk, 1); });
        if (writes) dscale[to] = weight[column] * sum;
    }
}
