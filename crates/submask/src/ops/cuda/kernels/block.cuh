// What the threads of a block say to each other. All of them take part in all of these, and all get the result, which does
// not depend on when they come.

constexpr int MOST_WARPS = 32;

// −∞.
__device__ inline float lowest() { return __int_as_float(0xff800000); }

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
