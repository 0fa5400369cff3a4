// Sums over rows: gradients of biases and of other weights that all rows share.
//
// Chunks of CHUNK rows are added up in order, then the chunks. INPUT: type of the rows; PACK: columns
// of a thread, a divisor of the width.

constexpr int CHUNK = 64;

/// [rows, width] → parts [chunks, width]. Blocks are (chunk, columns).
extern "C" __global__ void column_parts(const INPUT *__restrict__ x, float *__restrict__ parts, int rows, int width) {
    int column = (blockIdx.y * blockDim.x + threadIdx.x) * PACK;
    if (column >= width) return;
    int start = blockIdx.x * CHUNK, end = min(rows, start + CHUNK);
    float sum[PACK] = {};
#pragma unroll 8
    for (int row = start; row < end; row++) {
        float values[PACK];
        load<PACK>(values, x + size_t(row) * width + column);
#pragma unroll
        for (int i = 0; i < PACK; i++) sum[i] += values[i];
    }
    store<PACK>(parts + size_t(blockIdx.x) * width + column, sum);
}

/// parts [groups, count, width] → [groups, width]. Blocks are (group, columns).
extern "C" __global__ void __launch_bounds__(PART_COLUMNS * PART_SHARES)
    sum_parts(const INPUT *__restrict__ parts, float *__restrict__ out, int count, int width) {
    int column = blockIdx.y * PART_COLUMNS + threadIdx.x % PART_COLUMNS;
    bool exists = column < width;
    parts += size_t(blockIdx.x) * count * width + column;
    float sum = total_of_parts(count, [&](int i) {
        float value[1] = {0.0f};
        if (exists) load<1>(value, parts + size_t(i) * width);
        return value[0];
    });
    if (exists && threadIdx.x < PART_COLUMNS) out[size_t(blockIdx.x) * width + column] = sum;
}

/// `count` parts [rows, width] of up to six beside each other, [rows, count·width]; null is zeros. Blocks are (row, columns).
extern "C" __global__ void join_columns(const float *__restrict__ first, const float *__restrict__ second,
                                        const float *__restrict__ third, const float *__restrict__ fourth,
                                        const float *__restrict__ fifth, const float *__restrict__ sixth,
                                        float *__restrict__ out, int count, int width) {
    int column = (blockIdx.y * blockDim.x + threadIdx.x) * PACK;
    if (column >= count * width) return;
    int which = column / width;
    const float *parts[6] = {first, second, third, fourth, fifth, sixth};
    const float *part = first;
#pragma unroll
    for (int i = 1; i < 6; i++)
        if (which == i) part = parts[i];
    float values[PACK] = {};
    if (part) load<PACK>(values, part + size_t(blockIdx.x) * width + column % width);
    store<PACK>(out + size_t(blockIdx.x) * count * width + column, values);
}
