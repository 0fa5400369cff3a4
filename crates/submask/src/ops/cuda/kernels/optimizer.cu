// Clipping, AdamW and the moving average of all weights of a network in a few launches.
//
// A block has CHUNK elements of one weight. Which these are it finds in a table that all kernels read.

constexpr int CHUNK = 4096;
constexpr int THREADS = 256;

/// A weight, and what belongs to it.
struct Weight {
    float *weight;
    float *first;
    float *second;
    float *average;
    /// Null where it is zero.
    const float *gradient;
    unsigned long long length;
    /// Blocks of the weights before it.
    unsigned long long blocks_before;
};

/// This block's weight, of `count`, and its elements, from `start` to before `end`.
struct Range {
    Weight of;
    size_t start, end;

    __device__ Range(const Weight *table, int count) {
        int low = 0, high = count;
        while (high - low > 1) {
            int middle = (low + high) / 2;
            (table[middle].blocks_before <= blockIdx.x ? low : high) = middle;
        }
        of = table[low];
        start = (blockIdx.x - of.blocks_before) * CHUNK;
        end = min(size_t(of.length), start + CHUNK);
    }
};

__device__ inline bool by_fours(const void *address) {
    return reinterpret_cast<size_t>(address) % 16 == 0;
}

/// Calls work with all elements of this thread. A weight that is a part of a tensor may begin anywhere: then `together` is
/// false, and the elements come one by one.
template <class Work> __device__ inline void for_own(const Range &range, bool together, Work work) {
#pragma unroll
    for (int turn = 0; turn < CHUNK; turn += 4 * THREADS)
        by_packs<4>(range.start + turn + 4 * threadIdx.x, range.end, together, work);
}

/// Σ g² of every block.
extern "C" __global__ void __launch_bounds__(THREADS)
    gradient_squares(const Weight *__restrict__ table, int count, double *__restrict__ squares) {
    Range range(table, count);
    const float *gradient = range.of.gradient;
    double sum = 0.0;
    if (gradient)
        for_own(range, by_fours(gradient), [&](size_t first, auto together) {
            constexpr int N = decltype(together)::COUNT;
            float g[N];
            load<N>(g, gradient + first);
#pragma unroll
            for (int i = 0; i < N; i++) sum += double(g[i]) * double(g[i]);
        });
    sum = block_sum(sum);
    if (threadIdx.x == 0) squares[blockIdx.x] = sum;
}

/// From the squares of all blocks, by one block: norms = (‖g‖₂, Σ of it since `begins` was not 0, and the factor
/// min(1, limit/(‖g‖₂ + 10⁻⁶)) of the gradients).
extern "C" __global__ void __launch_bounds__(1024)
    gradient_norm(const double *__restrict__ squares, int blocks, float limit, int begins, float *__restrict__ norms) {
    double sum = 0.0;
    for (int i = threadIdx.x; i < blocks; i += blockDim.x) sum += squares[i];
    sum = block_sum(sum);
    if (threadIdx.x > 0) return;
    float norm = float(sqrt(sum));
    norms[0] = norm;
    norms[1] = begins ? norm : norms[1] + norm;
    norms[2] = fminf(1.0f, limit / (norm + 1e-6f));
}

/// The numbers of a step, see `Update` of `crate::train::optimizer`; `share` is what the average takes of the difference.
struct Update {
    float factor, beta_1, beta_2, epsilon, correction_2, rate, keep, share;
};

/// m ← β₁m + (1 − β₁)g, v ← β₂v + (1 − β₂)g², θ ← keep·θ − rate·m/(√v/correction₂ + ε), average ← average −
/// share·(average − θ), of N elements.
template <int N> __device__ inline void step(const Weight &of, const Update &update, size_t at) {
    float weight[N], first[N], second[N], average[N], g[N] = {};
    load<N>(weight, of.weight + at);
    load<N>(first, of.first + at);
    load<N>(second, of.second + at);
    load<N>(average, of.average + at);
    if (of.gradient) load<N>(g, of.gradient + at);
#pragma unroll
    for (int i = 0; i < N; i++) {
        float gradient = g[i] * update.factor;
        first[i] = update.beta_1 * first[i] + (1.0f - update.beta_1) * gradient;
        second[i] = update.beta_2 * second[i] + (1.0f - update.beta_2) * gradient * gradient;
        float root = sqrtf(second[i]) / update.correction_2 + update.epsilon;
        weight[i] = update.keep * weight[i] - update.rate * first[i] / root;
        average[i] -= update.share * (average[i] - weight[i]);
    }
    store<N>(of.weight + at, weight);
    store<N>(of.first + at, first);
    store<N>(of.second + at, second);
    store<N>(of.average + at, average);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    adamw(const Weight *__restrict__ table, int count, const float *__restrict__ norms, float beta_1, float beta_2,
          float epsilon, float correction_2, float rate, float keep, float share) {
    Range range(table, count);
    const Weight &of = range.of;
    Update update{norms[2], beta_1, beta_2, epsilon, correction_2, rate, keep, share};
    bool aligned = by_fours(of.weight) && by_fours(of.first) && by_fours(of.second) && by_fours(of.average) &&
                   by_fours(of.gradient);
    for_own(range, aligned, [&](size_t first, auto together) { step<decltype(together)::COUNT>(of, update, first); });
}

/// weight = share·g, or, if `adds`, weight + share·g: the sums of gradients of a step's micro-batches, which stand where
/// the table has weights.
extern "C" __global__ void __launch_bounds__(THREADS)
    add_gradients(const Weight *__restrict__ table, int count, float share, int adds) {
    Range range(table, count);
    const Weight &of = range.of;
    for_own(range, by_fours(of.weight) && by_fours(of.gradient), [&](size_t first, auto together) {
        constexpr int N = decltype(together)::COUNT;
        float sum[N] = {}, g[N] = {};
        if (adds) load<N>(sum, of.weight + first);
        if (of.gradient) load<N>(g, of.gradient + first);
#pragma unroll
        for (int i = 0; i < N; i++) sum[i] += share * g[i];
        store<N>(of.weight + first, sum);
    });
}
