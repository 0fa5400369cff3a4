// Tokens by their digits, and sums over a block of threads; what kernels of losses and of draws begin with.
//
// -DDIGITS=ℓ digits of a token, -DDIGIT_BITS bits of each in the token's code, digit 0 in the lowest bits, -DCODE_BITS all
// bits of a code, 32 or 64.

#if CODE_BITS == 32
typedef unsigned code_t;
#else
typedef unsigned long long code_t;
#endif

constexpr code_t DIGIT = ((code_t)1 << DIGIT_BITS) - 1;
constexpr int MOST_WARPS = 32;

// −∞.
__device__ inline float lowest() { return __int_as_float(0xff800000); }

__device__ inline code_t digit_of(code_t code, int j) { return code >> (j * DIGIT_BITS) & DIGIT; }

// Visible digits of a token in their places, and ones at their places. No token's code has bits elsewhere.
struct Seen {
    code_t digits, places;
};

// Of the digits y [ℓ], where `mask` is that of a masked one.
__device__ inline Seen seen_in(const int *y, int mask) {
    Seen seen = {0, 0};
    for (int j = 0; j < DIGITS; j++) {
        if (y[j] == mask) continue;
        seen.digits |= (code_t)y[j] << (j * DIGIT_BITS);
        seen.places |= DIGIT << (j * DIGIT_BITS);
    }
    return seen;
}

__device__ inline bool agrees(code_t code, Seen seen) { return ((code ^ seen.digits) & seen.places) == 0; }

// What the threads of a block say to each other. All of them take part in all of these, and all get the result, which does
// not depend on when they come.

__device__ inline int lane() { return threadIdx.x % 32; }
__device__ inline int warp() { return threadIdx.x / 32; }
__device__ inline int warps() { return blockDim.x / 32; }

struct Sum {
    template <class T> __device__ T operator()(T a, T b) const { return a + b; }
};
struct Largest {
    template <class T> __device__ T operator()(T a, T b) const { return a < b ? b : a; }
};
struct Least {
    template <class T> __device__ T operator()(T a, T b) const { return b < a ? b : a; }
};

template <class T, class Combine> __device__ inline T over_warp(T x, Combine combine) {
    for (int distance = 16; distance > 0; distance /= 2) x = combine(x, __shfl_xor_sync(~0u, x, distance));
    return x;
}

template <class T, class Combine> __device__ inline T over_block(T x, Combine combine) {
    __shared__ T of_warps[MOST_WARPS];
    x = over_warp(x, combine);
    if (lane() == 0) of_warps[warp()] = x;
    __syncthreads();
    x = of_warps[0];
    for (int other = 1; other < warps(); other++) x = combine(x, of_warps[other]);
    // Before the next use of the same memory.
    __syncthreads();
    return x;
}
