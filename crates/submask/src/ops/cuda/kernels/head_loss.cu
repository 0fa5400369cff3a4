// Training losses of rows of logits, and their gradients by the logits, which take the logits' place. After block.cuh and
// codes.cuh.
//
// Kernels of losses take logits of the rows from `first` on [blocks, stride], codes of the tokens [stride], and of all
// `count` rows digits that are seen [count, ℓ], then targets [count], then the bits of what a row's loss is multiplied by
// [count]; they write losses [count] in nats.
//
// A row is a token that is to be predicted, of the digits that are seen of it: tokens that contradict these are excluded
// where carry-over is on. A block works on a row; its threads see to four neighbouring tokens each, one tile of such after
// the other, so that a row's bits depend on C alone.
//
// -DGRADIENT is the type of gradients: float, or __nv_bfloat16, a row of which takes the first half of the memory of its
// logits.

// Tokens of a thread in one access, and accesses before the block waits.
constexpr int WIDTH = 4;
constexpr int ACCESSES = 4;

// Threads of a block at most.
constexpr int MOST_THREADS = 512;

// The largest of the numbers seen so far, and Σ exp(number − largest). Starts below all finite numbers: no number is.
struct LogSum {
    float largest = -3.402823466e38f, sum = 0.0f;

    // A number of −∞ adds nothing, one that is none makes the sum none.
    __device__ void add(float x) {
        const float before = largest;
        largest = fmaxf(before, x);
        sum = sum * __expf(before - largest) + __expf(x - largest);
    }
    __device__ void add(const float (&x)[WIDTH]) {
        const float before = largest;
        for (int i = 0; i < WIDTH; i++) largest = fmaxf(largest, x[i]);
        sum *= __expf(before - largest);
        for (int i = 0; i < WIDTH; i++) sum += __expf(x[i] - largest);
    }
    // That of all threads of the block.
    __device__ LogSum of_block() const {
        LogSum all;
        all.largest = over_block(largest, Largest());
        all.sum = over_block(sum * __expf(largest - all.largest), Sum());
        return all;
    }
    __device__ double log() const { return (double)largest + ::log((double)sum); }
};

__device__ inline void store(float *to, const float (&x)[WIDTH]) {
    *reinterpret_cast<float4 *>(to) = make_float4(x[0], x[1], x[2], x[3]);
}
__device__ inline void store(__nv_bfloat16 *to, const float (&x)[WIDTH]) {
    reinterpret_cast<__nv_bfloat162 *>(to)[0] = __floats2bfloat162_rn(x[0], x[1]);
    reinterpret_cast<__nv_bfloat162 *>(to)[1] = __floats2bfloat162_rn(x[2], x[3]);
}

// The row of this block, of rows whose logits stand `stride` apart, a multiple of WIDTH that is not less than C; so many
// codes there are, too.
struct Row {
    float *logits;
    const code_t *codes;
    int classes, stride;
    Seen seen;
    // Whether seen digits exclude tokens.
    bool excludes;

    int target;
    float weight;
    // Where the loss is written.
    double *loss;

    __device__ Row(float *logits, int classes, int stride, const code_t *codes, const int *rows, int count, int first,
                   double *losses, int mask, int carry_over)
        : logits(logits + (size_t)blockIdx.x * stride), codes(codes), classes(classes), stride(stride) {
        const size_t row = first + blockIdx.x;
        seen = seen_in(rows + row * DIGITS, mask);
        excludes = carry_over && seen.places != 0;
        const int *targets = rows + (size_t)count * DIGITS;
        target = targets[row];
        weight = __int_as_float(targets[count + row]);
        loss = losses + row;
    }

    // Logits and codes of WIDTH tokens from x on: −∞ of those that are excluded, or no token. Codes only if asked for.
    __device__ void load(int x, bool with_codes, float (&logit)[WIDTH], code_t (&code)[WIDTH]) const {
        const float4 four = *reinterpret_cast<const float4 *>(logits + x);
        logit[0] = four.x, logit[1] = four.y, logit[2] = four.z, logit[3] = four.w;
        for (int i = 0; i < WIDTH; i++) code[i] = with_codes || excludes ? codes[x + i] : 0;
        for (int i = 0; i < WIDTH; i++)
            if (x + i >= classes || excludes && !agrees(code[i], seen)) logit[i] = lowest();
    }

    // Calls `each` with the first token, logits and codes of the thread's WIDTHs of tokens.
    template <class Each> __device__ void for_own(bool with_codes, Each each) const {
        float logit[WIDTH];
        code_t code[WIDTH];
#pragma unroll 4
        for (int x = threadIdx.x * WIDTH; x < stride; x += blockDim.x * WIDTH) {
            load(x, with_codes, logit, code);
            each(logit, code);
        }
    }

    // Writes what `gradient` makes of token, logit and code in the place of the logits, zero beyond the tokens. A gradient
    // that is shorter than a logit is written where another thread's logits were: only when these have been read.
    template <class Gradient> __device__ void replace(bool with_codes, Gradient gradient) const {
        GRADIENT *out = reinterpret_cast<GRADIENT *>(logits);
        float logit[ACCESSES][WIDTH];
        code_t code[ACCESSES][WIDTH];
        const int tile = blockDim.x * WIDTH;
        for (int start = 0; start < stride; start += ACCESSES * tile) {
            const int first = start + threadIdx.x * WIDTH;
#pragma unroll
            for (int k = 0; k < ACCESSES; k++)
                if (first + k * tile < stride) load(first + k * tile, with_codes, logit[k], code[k]);
            __syncthreads();
#pragma unroll
            for (int k = 0; k < ACCESSES; k++) {
                const int x = first + k * tile;
                if (x >= stride) break;
                float by_logit[WIDTH];
                for (int i = 0; i < WIDTH; i++)
                    by_logit[i] = x + i < classes ? gradient(x + i, logit[k][i], code[k][i]) : 0.0f;
                store(out + x, by_logit);
            }
        }
    }
};

// weight·(log Σ exp(logit) − the target's logit).
extern "C" __global__ void __launch_bounds__(MOST_THREADS)
    cross_entropy(float *logits, int classes, int stride, const code_t *codes, const int *rows, int count, int first,
                  double *losses, int mask, int carry_over) {
    const Row row(logits, classes, stride, codes, rows, count, first, losses, mask, carry_over);
    const float own = row.logits[row.target];
    LogSum all;
    row.for_own(false, [&](const float(&logit)[WIDTH], const code_t(&)[WIDTH]) { all.add(logit); });
    all = all.of_block();
    if (threadIdx.x == 0) {
        const double log_share = ::log((double)all.sum) - ((double)own - (double)all.largest);
        *row.loss = (double)row.weight * log_share;
    }
    const float scale = row.weight / all.sum;
    row.replace(false, [&](int x, float logit, code_t) {
        const float share = __expf(logit - all.largest) * scale;
        return x == row.target ? share - row.weight : share;
    });
}

// weight·Σ over masked digits j of (log Σ exp(logit) − the same of the tokens that have the target's digit j).
extern "C" __global__ void __launch_bounds__(MOST_THREADS)
    marginal(float *logits, int classes, int stride, const code_t *codes, const int *rows, int count, int first,
             double *losses, int mask, int carry_over) {
    const Row row(logits, classes, stride, codes, rows, count, first, losses, mask, carry_over);
    const code_t target = codes[row.target];
    auto is_masked = [&](int j) { return digit_of(row.seen.places, j) == 0; };
    LogSum all, having[DIGITS];
    row.for_own(true, [&](const float(&logit)[WIDTH], const code_t(&code)[WIDTH]) {
        all.add(logit);
        for (int i = 0; i < WIDTH; i++) {
            if (logit[i] == lowest()) continue;
#pragma unroll
            for (int j = 0; j < DIGITS; j++)
                if (is_masked(j) && digit_of(code[i] ^ target, j) == 0) having[j].add(logit[i]);
        }
    });
    all = all.of_block();
    int masked = 0;
    double loss = 0.0;
#pragma unroll
    for (int j = 0; j < DIGITS; j++) {
        if (!is_masked(j)) continue;
        having[j] = having[j].of_block();
        loss += all.log() - having[j].log();
        masked++;
    }
    if (threadIdx.x == 0) *row.loss = (double)row.weight * loss;
    const float scale = row.weight * (float)masked / all.sum;
    row.replace(true, [&](int, float logit, code_t code) {
        float by_logit = __expf(logit - all.largest) * scale;
        if (logit == lowest()) return by_logit;
#pragma unroll
        for (int j = 0; j < DIGITS; j++)
            if (is_masked(j) && digit_of(code ^ target, j) == 0)
                by_logit -= row.weight * (__expf(logit - having[j].largest) / having[j].sum);
        return by_logit;
    });
}

// The sum of losses \[n\], by one block.
extern "C" __global__ void total(const double *__restrict__ losses, int n, float *__restrict__ out) {
    double sum = 0.0;
    for (int row = threadIdx.x; row < n; row += blockDim.x) sum += losses[row];
    sum = over_block(sum, Sum());
    if (threadIdx.x == 0) *out = (float)sum;
}

// Sums of columns: those of a block are COLUMNS, its warps take rows in turn, and a lane WIDTH neighbouring columns.
constexpr int COLUMNS = 32 * WIDTH;

__device__ inline void load(const float *from, float (&x)[WIDTH]) {
    const float4 four = *reinterpret_cast<const float4 *>(from);
    x[0] = four.x, x[1] = four.y, x[2] = four.z, x[3] = four.w;
}
__device__ inline void load(const __nv_bfloat16 *from, float (&x)[WIDTH]) {
    for (int half = 0; half < 2; half++) {
        const float2 two = __bfloat1622float2(reinterpret_cast<const __nv_bfloat162 *>(from)[half]);
        x[2 * half] = two.x, x[2 * half + 1] = two.y;
    }
}

// Sums of the columns of x [n, columns], whose rows are `stride` apart: of each `group` rows by themselves, [groups,
// columns], `out_stride` apart, or added to what stands there.
template <class T>
__device__ void sum_columns(const T *__restrict__ x, int n, int columns, int stride, int group, float *__restrict__ out,
                            int out_stride, int adds) {
    __shared__ float of_warps[MOST_WARPS][COLUMNS];
    const int first = blockIdx.x * COLUMNS + lane() * WIDTH, start = blockIdx.y * group;
    float sum[WIDTH] = {0.0f, 0.0f, 0.0f, 0.0f}, one[WIDTH];
    if (first < columns)
#pragma unroll 4
        for (int row = start + warp(); row < min(start + group, n); row += warps()) {
            load(x + (size_t)row * stride + first, one);
            for (int i = 0; i < WIDTH; i++) sum[i] += one[i];
        }
    for (int i = 0; i < WIDTH; i++) of_warps[warp()][lane() * WIDTH + i] = sum[i];
    __syncthreads();
    const int column = blockIdx.x * COLUMNS + threadIdx.x;
    if (threadIdx.x >= COLUMNS || column >= columns) return;
    float all = 0.0f;
    for (int other = 0; other < warps(); other++) all += of_warps[other][threadIdx.x];
    float *to = out + (size_t)blockIdx.y * out_stride + column;
    *to = adds ? *to + all : all;
}

extern "C" __global__ void sum_gradients(const GRADIENT *x, int n, int columns, int stride, int group, float *out,
                                         int out_stride, int adds) {
    sum_columns(x, n, columns, stride, group, out, out_stride, adds);
}

// Adds sums of groups, [groups, columns], `stride` apart, to what stands in `out` [columns].
extern "C" __global__ void sum_groups(const float *x, int groups, int columns, int stride, float *out) {
    sum_columns(x, groups, columns, stride, groups, out, 0, 1);
}
