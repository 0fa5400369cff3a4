// x + gate·dropout(h), forward and backward.
//
// ADDED and GRADIENT: types of h, and of its gradient; PACK: columns of a thread, 4 or, where the width is no multiple
// of 4, 1.

/// Rows of a block.
constexpr int FORWARD_ROWS = 4;
constexpr int CHUNK = 32;

/// Rows of which `length` that follow each other share a gate; gates are `stride` apart, 0 where all rows share one. Blocks
/// are (rows, columns).
extern "C" __global__ void gated_residual(const float *__restrict__ x, const ADDED *__restrict__ h,
                                          const float *__restrict__ gate, float *__restrict__ out, int rows, int width,
                                          int length, int stride, unsigned key_low, unsigned key_high, unsigned step_low,
                                          unsigned step_high, unsigned layer, unsigned threshold, float keep) {
    Dropout dropout{key_low, key_high, step_low, step_high, layer, threshold, keep};
    int column = (blockIdx.y * blockDim.x + threadIdx.x) * PACK;
    if (column >= width) return;
    int start = blockIdx.x * FORWARD_ROWS;
#pragma unroll
    for (int i = 0; i < FORWARD_ROWS; i++) {
        int row = start + i;
        if (row >= rows) return;
        size_t element = size_t(row) * width + column;
        float residual[PACK], added[PACK], gates[PACK], factors[PACK];
        load<PACK>(residual, x + element);
        load<PACK>(added, h + element);
        load<PACK>(gates, gate + size_t(row / length) * stride + column);
        dropout.factors(factors, element);
#pragma unroll
        for (int j = 0; j < PACK; j++) residual[j] += added[j] * factors[j] * gates[j];
        store<PACK>(out + element, residual);
    }
}

/// dh = g·gate·factor, and of a chunk of the `rows` that share a gate, which are `chunks` blocks, Σ g·h·factor if anybody
/// asks for it by `parts`. Blocks are (chunk, columns).
extern "C" __global__ void gated_residual_backward(const float *__restrict__ g, const ADDED *__restrict__ h,
                                                   const float *__restrict__ gate, GRADIENT *__restrict__ dh,
                                                   float *__restrict__ parts, int rows, int chunks, int width, int stride,
                                                   unsigned key_low, unsigned key_high, unsigned step_low,
                                                   unsigned step_high, unsigned layer, unsigned threshold, float keep) {
    Dropout dropout{key_low, key_high, step_low, step_high, layer, threshold, keep};
    int column = (blockIdx.y * blockDim.x + threadIdx.x) * PACK;
    if (column >= width) return;
    int start = blockIdx.x % chunks * CHUNK, count = min(CHUNK, rows - start);
    size_t modulation = blockIdx.x / chunks;
    size_t first = (modulation * rows + start) * width + column;
    float gates[PACK], sum[PACK] = {};
    load<PACK>(gates, gate + modulation * stride + column);
#pragma unroll 4
    for (int row = 0; row < count; row++) {
        size_t element = first + size_t(row) * width;
        float upstream[PACK], factors[PACK];
        load<PACK>(upstream, g + element);
        dropout.factors(factors, element);
        if (parts) {
            float added[PACK];
            load<PACK>(added, h + element);
#pragma unroll
            for (int i = 0; i < PACK; i++) sum[i] += upstream[i] * added[i] * factors[i];
        }
#pragma unroll
        for (int i = 0; i < PACK; i++) upstream[i] *= gates[i] * factors[i];
        store<PACK>(dh + element, upstream);
    }
    if (parts) store<PACK>(parts + size_t(blockIdx.x) * width + column, sum);
}
