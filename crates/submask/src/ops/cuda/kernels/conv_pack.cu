// Factors of convolutions, as conv_tiles.cuh has them, of images and of kernels; and sums over pixels on the way.
//
// INPUT: type of the images.

__device__ inline float number(float x) { return x; }
__device__ inline float number(bf16 x) { return __bfloat162float(x); }

/// A chunk of numbers as products take them.
__device__ inline uint4 as_factors(const float (&x)[CHUNK_CHANNELS]) {
    unsigned words[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        if constexpr (FACTORS == Precision::bf16)
            words[i] = pack_bf16(x[2 * i], x[2 * i + 1]);
        else
            words[i] = FACTORS == Precision::tf32 ? tf32_bits(x[i]) : __float_as_uint(x[i]);
    }
    return make_uint4(words[0], words[1], words[2], words[3]);
}

constexpr int PACKING = 256;
// Positions of a block.
constexpr int POSITIONS = 256;

/// x [images, channels, height, width] → factors, and, if `sums` is there, sums over the pixels of each block [blocks, channels].
/// Blocks are (positions, slice).
extern "C" __global__ void __launch_bounds__(PACKING)
    pack_images(const INPUT *__restrict__ x, uint4 *__restrict__ factors, float *__restrict__ sums, int count, int channels, int height,
                int width) {
    const Images images{count, height, width};
    const int area = images.area(), positions = images.positions();
    const int chunk = threadIdx.x % CHUNKS, first = blockIdx.y * SLICE + chunk * CHUNK_CHANNELS;
    float own_sums[CHUNK_CHANNELS] = {};
    for (int i = threadIdx.x / CHUNKS; i < POSITIONS; i += PACKING / CHUNKS) {
        const int position = blockIdx.x * POSITIONS + i;
        if (position >= positions) break;
        const int inside = position % images.positions_of_each(), row = inside / images.line(), column = inside % images.line();
        const bool is_pixel = row < height && column < width;
        const INPUT *from = x + (size_t(position / images.positions_of_each()) * channels + first) * area + row * width + column;
        float values[CHUNK_CHANNELS];
#pragma unroll
        for (int c = 0; c < CHUNK_CHANNELS; c++) {
            values[c] = is_pixel && first + c < channels ? number(from[size_t(c) * area]) : 0.0f;
            own_sums[c] += values[c];
        }
        factors[(size_t(blockIdx.y) * positions + position) * CHUNKS + chunk] = as_factors(values);
    }
    if (!sums) return;
    __shared__ float of_warps[PACKING / WARP_SIZE][SLICE];
#pragma unroll
    for (int c = 0; c < CHUNK_CHANNELS; c++) {
        // Over the lanes that have the same chunk.
        for (int by = CHUNKS; by < int(WARP_SIZE); by *= 2) own_sums[c] += __shfl_xor_sync(WHOLE_WARP, own_sums[c], by);
        if (lane_of_warp() < CHUNKS) of_warps[threadIdx.x / WARP_SIZE][chunk * CHUNK_CHANNELS + c] = own_sums[c];
    }
    __syncthreads();
    const int channel = blockIdx.y * SLICE + threadIdx.x;
    if (threadIdx.x >= SLICE || channel >= channels) return;
    float sum = 0.0f;
    for (auto &of_warp : of_warps) sum += of_warp[threadIdx.x];
    sums[size_t(blockIdx.x) * channels + channel] = sum;
}

// Channels out of a block.
constexpr int OUTER = 8;

/// weight [outer, inner, KERNEL²] → [slice of inner][place][outer][channel of the slice]; or, if `reversed`, of the convolution
/// that gives the gradient of the images: weight [inner, outer, KERNEL²] with its places in reverse. Blocks are (outer, slice).
extern "C" __global__ void __launch_bounds__(PACKING)
    pack_weight(const float *__restrict__ weight, uint4 *__restrict__ factors, int outer, int inner, int reversed) {
    // An odd number, so that threads which write chunks of one place find different banks.
    __shared__ float tile[PLACES][OUTER * SLICE + 1];
    const int first_outer = blockIdx.x * OUTER, first_inner = blockIdx.y * SLICE;
    // Neighbours read neighbours in memory.
    for (int i = threadIdx.x; i < PLACES * OUTER * SLICE; i += PACKING) {
        const int at = i % PLACES, pair = i / PLACES;
        const int o = reversed ? pair % OUTER : pair / SLICE, c = reversed ? pair / OUTER : pair % SLICE;
        const bool exists = first_outer + o < outer && first_inner + c < inner;
        const size_t row = reversed ? size_t(first_inner + c) * outer + first_outer + o : size_t(first_outer + o) * inner + first_inner + c;
        tile[reversed ? PLACES - 1 - at : at][o * SLICE + c] = exists ? weight[row * PLACES + at] : 0.0f;
    }
    __syncthreads();
    for (int i = threadIdx.x; i < PLACES * OUTER * CHUNKS; i += PACKING) {
        const int chunk = i % CHUNKS, o = i / CHUNKS % OUTER, at = i / CHUNKS / OUTER;
        if (first_outer + o >= outer) continue;
        float values[CHUNK_CHANNELS];
#pragma unroll
        for (int c = 0; c < CHUNK_CHANNELS; c++) values[c] = tile[at][o * SLICE + chunk * CHUNK_CHANNELS + c];
        factors[((size_t(blockIdx.y) * PLACES + at) * outer + first_outer + o) * CHUNKS + chunk] = as_factors(values);
    }
}
