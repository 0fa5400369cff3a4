// LayerNorm with modulation, and RMSNorm: of rows of WIDTH numbers, forward and backward.
//
// A row is held in registers by a warp, or by several if it is long. Its mean and deviation are computed again in the
// backward pass, which reads the row anyway. Gradients of weights and modulations are added up by chunks of CHUNK rows,
// in order, and a second kernel adds the chunks.
//
// RESULT and UPSTREAM: types of what is written forward, and of the gradient that comes backward.

constexpr float EPSILON = 1e-5f;
constexpr int CHUNK = 32;

constexpr int ROW_WARPS = WIDTH <= 1024 ? 1 : WIDTH <= 2048 ? 2 : WIDTH <= 4096 ? 4 : WIDTH <= 8192 ? 8 : 16;
constexpr int ROW_THREADS = 32 * ROW_WARPS;
constexpr int BLOCK_THREADS = ROW_THREADS < 128 ? 128 : ROW_THREADS;
constexpr int BLOCK_ROWS = BLOCK_THREADS / ROW_THREADS;
constexpr int PACK = WIDTH % 4 == 0 ? 4 : 1;
constexpr int PACKS = (WIDTH + ROW_THREADS * PACK - 1) / (ROW_THREADS * PACK);

/// A thread's part of a row.
struct Part {
    float at[PACKS * PACK];
};

__device__ inline int column_of(int pack) { return (pack * ROW_THREADS + threadIdx.x % ROW_THREADS) * PACK; }

/// Calls work with the place of every number of this thread in a part, and with its column.
template <class Work> __device__ inline void for_each(Work work) {
#pragma unroll
    for (int pack = 0; pack < PACKS; pack++) {
#pragma unroll
        for (int i = 0; i < PACK; i++)
            if (column_of(pack) < WIDTH) work(pack * PACK + i, column_of(pack) + i);
    }
}

/// Zeros stand behind the end of the row.
template <class Number> __device__ inline Part read(const Number *row) {
    Part part;
#pragma unroll
    for (int pack = 0; pack < PACKS; pack++) {
        if (column_of(pack) < WIDTH) {
            load<PACK>(part.at + pack * PACK, row + column_of(pack));
        } else {
#pragma unroll
            for (int i = 0; i < PACK; i++) part.at[pack * PACK + i] = 0.0f;
        }
    }
    return part;
}

template <class Number> __device__ inline void write(Number *row, const Part &part) {
#pragma unroll
    for (int pack = 0; pack < PACKS; pack++)
        if (column_of(pack) < WIDTH) store<PACK>(row + column_of(pack), part.at + pack * PACK);
}

/// The sums over the threads of a row, of N numbers each. All threads of the block call it together.
template <int N> __device__ inline void add_up(float (&sums)[N]) {
#pragma unroll
    for (int i = 0; i < N; i++) sums[i] = warp_sum(sums[i]);
    if constexpr (ROW_WARPS > 1) {
        __shared__ float of_warps[N][BLOCK_THREADS / 32];
        int warp = threadIdx.x / 32, first = warp / ROW_WARPS * ROW_WARPS;
        // Earlier sums have been read.
        __syncthreads();
        if (threadIdx.x % 32 == 0)
            for (int i = 0; i < N; i++) of_warps[i][warp] = sums[i];
        __syncthreads();
        for (int i = 0; i < N; i++) {
            sums[i] = 0.0f;
            for (int other = 0; other < ROW_WARPS; other++) sums[i] += of_warps[i][first + other];
        }
    }
}

/// Replaces a row by what is normalised of it, and returns 1/σ. Behind the end it stays zero.
template <bool CENTRED> __device__ inline float normalise(Part &row) {
    float sums[1] = {0.0f};
    if constexpr (CENTRED) {
        for_each([&](int at, int) { sums[0] += row.at[at]; });
        add_up(sums);
        float mean = sums[0] / WIDTH;
        for_each([&](int at, int) { row.at[at] -= mean; });
        sums[0] = 0.0f;
    }
    for_each([&](int at, int) { sums[0] += row.at[at] * row.at[at]; });
    add_up(sums);
    float inverse = 1.0f / sqrtf(sums[0] / WIDTH + EPSILON);
    for_each([&](int at, int) { row.at[at] *= inverse; });
    return inverse;
}

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

/// The sums of the groups of threads of a block, in order, into a row of global memory.
__device__ inline void write_sums(float *to, const Part &sums) {
    if constexpr (BLOCK_ROWS == 1) {
        write(to, sums);
    } else {
        __shared__ float total[WIDTH];
        int group = threadIdx.x / ROW_THREADS;
        for (int turn = 0; turn < BLOCK_ROWS; turn++) {
            if (group == turn)
                for_each([&](int at, int column) {
                    total[column] = turn == 0 ? sums.at[at] : total[column] + sums.at[at];
                });
            __syncthreads();
        }
        for (int column = threadIdx.x; column < WIDTH; column += BLOCK_THREADS) to[column] = total[column];
        // Before the next sums come.
        __syncthreads();
    }
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
        float inverse = normalise<CENTRED>(hat);
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
