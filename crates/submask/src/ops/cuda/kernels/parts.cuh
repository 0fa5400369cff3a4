// Sums of parts, in a fixed order.

/// How many threads, 32 beside 32, add up 32 columns of parts.
constexpr int PART_COLUMNS = 32, PART_SHARES = 32;

/// Σ part(i) over i < count, for each of 32 columns, by a block of 32·32 threads: each share of the threads adds every
/// 32nd part, then the first adds the shares. Only threads of the first share get the sum.
template <class Part> __device__ inline float total_of_parts(int count, Part part) {
    __shared__ float shares[PART_SHARES][PART_COLUMNS];
    int column = threadIdx.x % PART_COLUMNS, share = threadIdx.x / PART_COLUMNS;
    float sum = 0.0f;
#pragma unroll 4
    for (int i = share; i < count; i += PART_SHARES) sum += part(i);
    // An earlier sum has been read.
    __syncthreads();
    shares[share][column] = sum;
    __syncthreads();
    if (share > 0) return 0.0f;
    for (int i = 1; i < PART_SHARES; i++) sum += shares[i][column];
    return sum;
}
