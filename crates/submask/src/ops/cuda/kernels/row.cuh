// Rows of WIDTH numbers in registers: each is a warp's or, if it would be more than ROW_ELEMENTS per thread, that of several.

/// Backward passes have seven parts of rows in registers.
constexpr int ROW_ELEMENTS = 16;

constexpr int warps_of_row() {
    int warps = 1;
    while (warps < 16 && 32 * warps * ROW_ELEMENTS < WIDTH) warps *= 2;
    return warps;
}

constexpr float EPSILON = 1e-5f;
/// Rows that a block of a backward pass adds up.
constexpr int CHUNK = 32;

constexpr int ROW_WARPS = warps_of_row();
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

struct Statistics {
    float mean, inverse;
};

/// Replaces a row by what is normalised of it, and returns its mean, if that is taken away, and 1/σ. Behind the end the row
/// stays zero.
template <bool CENTRED> __device__ inline Statistics normalise(Part &row) {
    float sums[1] = {0.0f}, mean = 0.0f;
    if constexpr (CENTRED) {
        for_each([&](int at, int) { sums[0] += row.at[at]; });
        add_up(sums);
        mean = sums[0] / WIDTH;
        for_each([&](int at, int) { row.at[at] -= mean; });
        sums[0] = 0.0f;
    }
    for_each([&](int at, int) { sums[0] += row.at[at] * row.at[at]; });
    add_up(sums);
    float inverse = 1.0f / sqrtf(sums[0] / WIDTH + EPSILON);
    for_each([&](int at, int) { row.at[at] *= inverse; });
    return {mean, inverse};
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
