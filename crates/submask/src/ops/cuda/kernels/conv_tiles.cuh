// What the kernels of convolutions share: how images are in memory as factors of products, and rows of factors in shared memory.
//
// A convolution is a product of matrices whose inner dimension is (channel in, place of the kernel), without a matrix of patches.
// Positions: pixels stand one after the other, every row of an image followed by RADIUS zeros and every image by RADIUS rows of
// zeros. So a place of the kernel meets a position that is always as far away, and beyond a border it meets zeros.
// Factors: channels are cut into slices that take ROW bytes, the last slice being filled with zeros, and factors are
// [slice][position][channel of the slice]: what a tile needs of a slice is one piece of memory, and every row of it is
// where ldmatrix may begin, wherever the place of the kernel moves it to.
//
// Macros, known when a source is compiled: PRECISION (fp32, tf32 or bf16), KERNEL (height and width of the kernel, odd).

enum class Precision { fp32, tf32, bf16 };
constexpr Precision FACTORS = Precision::PRECISION;

template <Precision> struct FactorOf { using Type = float; };
template <> struct FactorOf<Precision::bf16> { using Type = bf16; };
using Factor = FactorOf<FACTORS>::Type;

constexpr int RADIUS = KERNEL / 2, PLACES = KERNEL * KERNEL;
// Bytes that are copied at once, and of a row; channels of both.
constexpr int CHUNK = 16, ROW = 64, CHUNKS = ROW / CHUNK;
constexpr int CHUNK_CHANNELS = CHUNK / int(sizeof(Factor)), SLICE = ROW / int(sizeof(Factor));

__device__ inline int blocks_of(int count, int size) { return (count + size - 1) / size; }

/// Sizes of images, and where their pixels stand.
struct Images {
    int count, height, width;

    __device__ int area() const { return height * width; }
    /// Positions from a row of pixels to the next.
    __device__ int line() const { return width + RADIUS; }
    __device__ int positions_of_each() const { return (height + RADIUS) * line(); }
    __device__ int positions() const { return count * positions_of_each(); }
    /// The position of a pixel, counted over all images.
    __device__ int position(int pixel) const {
        int inside = pixel % area();
        return pixel / area() * positions_of_each() + inside / width * line() + inside % width;
    }
};

/// Where a chunk of a row is in shared memory, in bytes. Chunks trade places so that one chunk of 8 rows that follow each other
/// fills all banks, whichever the first row is, and so do two chunks of 4 rows.
__device__ inline int place(int row, int chunk) { return row * ROW + CHUNK * (chunk ^ (row & 2) ^ (row >> 2 & 1)); }

/// Begins to copy rows of a slice from row `first` on; those before the first of all and from `end` on are zero.
template <int THREADS>
__device__ inline void copy_rows(unsigned char *to, const unsigned char *slice, int rows, int first, int end) {
#pragma unroll 2
    for (int i = threadIdx.x; i < rows * CHUNKS; i += THREADS) {
        int row = i / CHUNKS, chunk = i % CHUNKS, from = first + row;
        bool exists = from >= 0 && from < end;
        cp_async_16(to + place(row, chunk), slice + size_t(exists ? from : 0) * ROW + CHUNK * chunk, exists);
    }
}

__device__ inline void multiply_add(float (&sums)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    if constexpr (FACTORS == Precision::bf16)
        mma_bf16(sums, a, b);
    else
        mma_tf32(sums, a, b);
}
