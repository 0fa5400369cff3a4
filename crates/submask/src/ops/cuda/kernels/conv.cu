// Convolutions with a square kernel of odd width and stride 1, images being continued by zeros, of the factors of conv_pack.cu.
//
// A block has a tile of channels out by pixels, which may be of several images. For every slice of channels in, a patch, the
// positions that the tile's pixels meet, is copied to shared memory once, and all places of the kernel read it there; their
// weights stream through a ring of STAGES tiles. Every sum is in the order (slice, place, channel), whatever the tiles are, so
// that an image has the same bits in any batch. On very wide images a patch is of one row of the kernel only.
//
// Macros besides those of conv_tiles.cuh: CHANNEL_WARPS × PIXEL_WARPS of a block, each of which has WARP_CHANNELS × WARP_PIXELS
// sums (multiples of 16); STAGES; BLOCKS that a multiprocessor should have at once.

constexpr int THREADS = CHANNEL_WARPS * PIXEL_WARPS * int(WARP_SIZE);
constexpr int BLOCK_CHANNELS = CHANNEL_WARPS * WARP_CHANNELS, BLOCK_PIXELS = PIXEL_WARPS * WARP_PIXELS;
constexpr int WEIGHT_TILE = BLOCK_CHANNELS * ROW;
// Tiles of a warp's sums: 16 channels, 8 pixels.
constexpr int CHANNEL_TILES = WARP_CHANNELS / 16, PIXEL_TILES = WARP_PIXELS / 8;
// A lane's elements of such a tile: channels `group` and group + 8, pixels `pair` and pair + 1, in all precisions.
using Sums = float[CHANNEL_TILES][PIXEL_TILES][4];

// On tensor cores a lane gives addresses to ldmatrix, one for two tiles of pixels; otherwise it reads its own pixels.
constexpr bool ON_TENSOR_CORES = FACTORS != Precision::fp32;
constexpr int LANE_PIXELS = ON_TENSOR_CORES ? PIXEL_TILES / 2 : PIXEL_TILES * 2;

/// Which of the warp's pixels the lane's i-th is.
__device__ inline int lane_pixel(int i) {
    const int lane = lane_of_warp();
    if (ON_TENSOR_CORES) return 16 * i + lane / 16 * 8 + lane % 8;
    return i / 2 * 8 + lane % 4 * 2 + i % 2;
}

/// Adds the products of a tile of weights, the warp's rows of it, with rows of a patch.
__device__ inline void add_products(Sums &sums, const unsigned char *weights, const unsigned char *patch, const int (&rows)[LANE_PIXELS]) {
    const int lane = lane_of_warp();
    if constexpr (ON_TENSOR_CORES) {
        const int weight = place(lane % 16, lane / 16);
        int pixels[LANE_PIXELS];
#pragma unroll
        for (int i = 0; i < LANE_PIXELS; i++) pixels[i] = place(rows[i], lane / 8 % 2);
        // Of a row, two chunks at a time.
#pragma unroll
        for (int step = 0; step < 2; step++) {
            unsigned b[LANE_PIXELS][4];
#pragma unroll
            for (int i = 0; i < LANE_PIXELS; i++) ldmatrix_x4(b[i], patch + (pixels[i] ^ 2 * CHUNK * step));
#pragma unroll
            for (int m = 0; m < CHANNEL_TILES; m++) {
                unsigned a[4];
                ldmatrix_x4(a, weights + 16 * m * ROW + (weight ^ 2 * CHUNK * step));
#pragma unroll
                for (int n = 0; n < PIXEL_TILES; n++) {
                    const unsigned pair[2] = {b[n / 2][n % 2 * 2], b[n / 2][n % 2 * 2 + 1]};
                    multiply_add(sums[m][n], a, pair);
                }
            }
        }
    } else {
        const int weight = place(lane / 4, 0);
        int pixels[LANE_PIXELS];
#pragma unroll
        for (int i = 0; i < LANE_PIXELS; i++) pixels[i] = place(rows[i], 0);
#pragma unroll 1
        for (int chunk = 0; chunk < CHUNKS; chunk++) {
            float4 a[CHANNEL_TILES][2];
#pragma unroll
            for (int m = 0; m < CHANNEL_TILES; m++)
#pragma unroll
                for (int half = 0; half < 2; half++)
                    a[m][half] = *reinterpret_cast<const float4 *>(weights + (16 * m + 8 * half) * ROW + (weight ^ CHUNK * chunk));
#pragma unroll
            for (int i = 0; i < LANE_PIXELS; i++) {
                const float4 b = *reinterpret_cast<const float4 *>(patch + (pixels[i] ^ CHUNK * chunk));
#pragma unroll
                for (int m = 0; m < CHANNEL_TILES; m++)
#pragma unroll
                    for (int half = 0; half < 2; half++) {
                        float &sum = sums[m][i / 2][2 * half + i % 2];
                        sum = fmaf(a[m][half].x, b.x, sum);
                        sum = fmaf(a[m][half].y, b.y, sum);
                        sum = fmaf(a[m][half].z, b.z, sum);
                        sum = fmaf(a[m][half].w, b.w, sum);
                    }
            }
        }
    }
}

/// Adds the bias, if there is one, and writes the warp's sums, from a channel and a pixel on, up to pixel `end`. PAIRS: the area is
/// even, so that two pixels are of one image, and may be written together.
template <bool PAIRS>
__device__ inline void write_sums(const Sums &sums, const float *bias, float *out, const Images &images, int outer, int first_channel,
                                  int first_pixel, int end) {
    const int group = lane_of_warp() / 4, pair = lane_of_warp() % 4 * 2, area = images.area();
    const int first_image = first_pixel / area;
    out += size_t(first_image) * outer * area;
    constexpr int APART = PAIRS ? 1 : 2;
    int offsets[PIXEL_TILES][APART];
#pragma unroll
    for (int n = 0; n < PIXEL_TILES; n++)
#pragma unroll
        for (int i = 0; i < APART; i++) {
            const int pixel = first_pixel + 8 * n + pair + i, image = pixel / area;
            offsets[n][i] = pixel < end ? (image - first_image) * outer * area + pixel - image * area : -1;
        }
#pragma unroll
    for (int m = 0; m < CHANNEL_TILES; m++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const int channel = first_channel + 16 * m + 8 * half + group;
            if (channel >= outer) continue;
            const float more = bias ? bias[channel] : 0.0f;
            float *const plane = out + size_t(channel) * area;
#pragma unroll
            for (int n = 0; n < PIXEL_TILES; n++) {
                const float left = sums[m][n][2 * half] + more, right = sums[m][n][2 * half + 1] + more;
                if (offsets[n][0] < 0) continue;
                if constexpr (PAIRS) {
                    *reinterpret_cast<float2 *>(plane + offsets[n][0]) = make_float2(left, right);
                } else {
                    plane[offsets[n][0]] = left;
                    if (offsets[n][1] >= 0) plane[offsets[n][1]] = right;
                }
            }
        }
}

/// factors of x [images, inner, height, width] and of a weight → out [images, outer, height, width]. `slices` are those of inner;
/// a patch has `patch_rows` positions, an even number, and is of `kernel_rows` rows of the kernel; there is room for `patches`. A tile
/// has pixels of one span of `span` pixels: all of them, or an image.
extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
    convolve(const unsigned char *__restrict__ x, const unsigned char *__restrict__ weight, const float *__restrict__ bias,
             float *__restrict__ out, int count, int height, int width, int outer, int slices, int span, int kernel_rows,
             int patch_rows, int patches) {
    extern __shared__ __align__(128) unsigned char dynamic_shared[];
    unsigned char *const ring = dynamic_shared, *const patch_ring = ring + STAGES * WEIGHT_TILE;
    const Images images{count, height, width};
    const int positions = images.positions(), line = images.line();
    const int channel_blocks = blocks_of(outer, BLOCK_CHANNELS), span_blocks = blocks_of(span, BLOCK_PIXELS);
    // Blocks that read the same patch follow each other.
    const int first_channel = int(blockIdx.x) % channel_blocks * BLOCK_CHANNELS, pixel_block = int(blockIdx.x) / channel_blocks;
    const int start = pixel_block / span_blocks * span, end = start + span, first_pixel = start + pixel_block % span_blocks * BLOCK_PIXELS;
    const int first_position = images.position(first_pixel);
    const int warp = threadIdx.x / WARP_SIZE, warp_channel = warp % CHANNEL_WARPS * WARP_CHANNELS;
    const int warp_pixel = first_pixel + warp / CHANNEL_WARPS * WARP_PIXELS;
    int own_rows[LANE_PIXELS];
#pragma unroll
    for (int i = 0; i < LANE_PIXELS; i++) own_rows[i] = images.position(min(warp_pixel + lane_pixel(i), end - 1)) - first_position;

    // Steps are (slice, place of the kernel); a patch serves some that follow each other.
    const int steps = slices * PLACES, steps_of_patch = kernel_rows * KERNEL, patches_of_slice = KERNEL / kernel_rows;
    int next_step = 0, until_patch = 0, next_patch = 0, patch_slot = 0, ring_slot = 0;
    auto copy_next = [&] {
        if (next_step < steps) {
            const unsigned char *const tile = weight + size_t(next_step) * outer * ROW;
            copy_rows<THREADS>(ring + ring_slot * WEIGHT_TILE, tile, BLOCK_CHANNELS, first_channel, outer);
            if (until_patch == 0) {
                const int slice = next_patch / patches_of_slice, down = next_patch % patches_of_slice * kernel_rows - RADIUS;
                copy_rows<THREADS>(patch_ring + patch_slot * patch_rows * ROW, x + size_t(slice) * positions * ROW, patch_rows,
                                   first_position + down * line - RADIUS, positions);
                until_patch = steps_of_patch;
                next_patch++;
                patch_slot = patch_slot + 1 == patches ? 0 : patch_slot + 1;
            }
            until_patch--;
            next_step++;
            ring_slot = ring_slot + 1 == STAGES ? 0 : ring_slot + 1;
        }
        cp_async_commit();
    };
    // Once in the code is enough: it would not fit the cache of instructions.
#pragma unroll 1
    for (int i = 0; i < STAGES - 1; i++) copy_next();

    Sums sums = {};
    const unsigned char *weights = ring, *patch = patch_ring;
    int down = 0, right = 0;
#pragma unroll 1
    for (int step = 0; step < steps; step++) {
        cp_async_wait<STAGES - 2>();
        // What is copied next takes the place of what all have read.
        __syncthreads();
        copy_next();
        int rows[LANE_PIXELS];
#pragma unroll
        for (int i = 0; i < LANE_PIXELS; i++) rows[i] = own_rows[i] + down * line + right;
        add_products(sums, weights + warp_channel * ROW, patch, rows);
        weights = weights + WEIGHT_TILE == ring + STAGES * WEIGHT_TILE ? ring : weights + WEIGHT_TILE;
        if (++right == KERNEL) {
            right = 0;
            if (++down == kernel_rows) {
                down = 0;
                patch = patch + patch_rows * ROW == patch_ring + patches * patch_rows * ROW ? patch_ring : patch + patch_rows * ROW;
            }
        }
    }
    const int own_channel = first_channel + warp_channel;
    if (images.area() % 2 == 0)
        write_sums<true>(sums, bias, out, images, outer, own_channel, warp_pixel, end);
    else
        write_sums<false>(sums, bias, out, images, outer, own_channel, warp_pixel, end);
}
