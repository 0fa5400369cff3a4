// Mixtures of networks' predictions. After block.cuh.

// log(eᵃ + eᵇ).
__device__ inline float log_add(float a, float b) {
    const float high = fmaxf(a, b), low = fminf(a, b);
    return low == lowest() ? high : high + log1pf(expf(low - high));
}

// A block works on a row of `classes` logits: `sums` becomes log(e^sums + share·softmax(logits/temperature)).
extern "C" __global__ void add_prediction(float *__restrict__ sums, const float *__restrict__ logits,
                                          const float *__restrict__ temperatures, float log_share, int classes) {
    const size_t start = (size_t)blockIdx.x * classes;
    const float inverse = 1.0f / temperatures[blockIdx.x];
    float largest = lowest();
    for (int x = threadIdx.x; x < classes; x += blockDim.x) largest = fmaxf(largest, logits[start + x]);
    largest = over_block(largest, Largest());
    double total = 0.0;
    for (int x = threadIdx.x; x < classes; x += blockDim.x) total += expf((logits[start + x] - largest) * inverse);
    const float log_total = (float)::log(over_block(total, Sum()));
    for (int x = threadIdx.x; x < classes; x += blockDim.x) {
        const float own = (logits[start + x] - largest) * inverse - log_total + log_share;
        sums[start + x] = log_add(sums[start + x], own);
    }
}
