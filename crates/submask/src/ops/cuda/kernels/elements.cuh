// Numbers in single precision, whatever they are stored as, some at a time; and their sums over a block.

/// N numbers from an address that is a multiple of their size together, up to 16 bytes.
template <int N> __device__ inline void load(float *to, const float *from) {
    if constexpr (N % 4 == 0) {
#pragma unroll
        for (int i = 0; i < N; i += 4) {
            float4 four = *reinterpret_cast<const float4 *>(from + i);
            to[i] = four.x, to[i + 1] = four.y, to[i + 2] = four.z, to[i + 3] = four.w;
        }
    } else {
#pragma unroll
        for (int i = 0; i < N; i++) to[i] = from[i];
    }
}

template <int N> __device__ inline void load(float *to, const bf16 *from) {
    if constexpr (N % 4 == 0) {
#pragma unroll
        for (int i = 0; i < N; i += 4) {
            uint2 four = *reinterpret_cast<const uint2 *>(from + i);
            to[i] = low_bf16(four.x), to[i + 1] = high_bf16(four.x);
            to[i + 2] = low_bf16(four.y), to[i + 3] = high_bf16(four.y);
        }
    } else {
#pragma unroll
        for (int i = 0; i < N; i++) to[i] = __bfloat162float(from[i]);
    }
}

template <int N> __device__ inline void store(float *to, const float *from) {
    if constexpr (N % 4 == 0) {
#pragma unroll
        for (int i = 0; i < N; i += 4)
            *reinterpret_cast<float4 *>(to + i) = make_float4(from[i], from[i + 1], from[i + 2], from[i + 3]);
    } else {
#pragma unroll
        for (int i = 0; i < N; i++) to[i] = from[i];
    }
}

template <int N> __device__ inline void store(bf16 *to, const float *from) {
    if constexpr (N % 4 == 0) {
#pragma unroll
        for (int i = 0; i < N; i += 4)
            *reinterpret_cast<uint2 *>(to + i) =
                make_uint2(pack_bf16(from[i], from[i + 1]), pack_bf16(from[i + 2], from[i + 3]));
    } else {
#pragma unroll
        for (int i = 0; i < N; i++) to[i] = __float2bfloat16_rn(from[i]);
    }
}

/// A number of elements that are handled together.
template <int N> struct Together {
    static constexpr int COUNT = N;
};

/// Calls work with `first` and N elements together, or, where they do not lie so or the last ones are fewer, with one after
/// the other.
template <int N, class Work> __device__ inline void by_packs(size_t first, size_t end, bool together, Work work) {
    if (together && first + N <= end) return work(first, Together<N>{});
    for (size_t i = first; i < first + N && i < end; i++) work(i, Together<1>{});
}

__device__ inline double warp_sum(double x) {
    for (int by = 16; by > 0; by /= 2) x += __shfl_xor_sync(WHOLE_WARP, x, by);
    return x;
}

/// The sum over a block of whole warps, which all threads get.
template <class Number> __device__ inline Number block_sum(Number x) {
    __shared__ Number of_warps[32];
    x = warp_sum(x);
    // An earlier sum has been read.
    __syncthreads();
    if (threadIdx.x % 32 == 0) of_warps[threadIdx.x / 32] = x;
    __syncthreads();
    Number sum = 0;
    for (int warp = 0; warp < int(blockDim.x / 32); warp++) sum += of_warps[warp];
    return sum;
}

/// 1/(1 + e^(−x)).
__device__ inline float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }
