// Dropout alone, forward and backward: x times the factors of its elements.

/// Elements of a thread.
constexpr int ELEMENTS = 4;

extern "C" __global__ void drop(const float *__restrict__ x, float *__restrict__ out, unsigned long long count,
                                unsigned key_low, unsigned key_high, unsigned step_low, unsigned step_high, unsigned layer,
                                unsigned threshold, float keep) {
    const Dropout dropout{key_low, key_high, step_low, step_high, layer, threshold, keep};
    const size_t first = (blockIdx.x * size_t(blockDim.x) + threadIdx.x) * ELEMENTS;
    if (first >= count) return;
    float factors[ELEMENTS], values[ELEMENTS];
    dropout.factors(factors, first);
    if (first + ELEMENTS <= count) {
        load<ELEMENTS>(values, x + first);
#pragma unroll
        for (int i = 0; i < ELEMENTS; i++) values[i] *= factors[i];
        store<ELEMENTS>(out + first, values);
    } else {
        for (int i = 0; first + i < count; i++) out[first + i] = x[first + i] * factors[i];
    }
}
