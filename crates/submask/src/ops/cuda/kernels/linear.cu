// What stands beside the products of linear layers: roundings to factors, bias and GELU where no product does them, and
// GELU's derivative.

// Elements of a thread.
constexpr int WIDTH = 4;

// The tanh form: a(1 + tanh(√(2/π)(a + 0.044715a³)))/2.
__device__ inline float gelu(float a) {
    return 0.5f * a * (1.0f + tanhf(0.7978846f * (a + 0.044715f * a * a * a)));
}

// Its derivative.
__device__ inline float gelu_gradient(float a) {
    const float inner = tanhf(0.7978846f * (a + 0.044715f * a * a * a));
    return 0.5f * (1.0f + inner) + 0.5f * a * (1.0f - inner * inner) * 0.7978846f * (1.0f + 3.0f * 0.044715f * a * a);
}

// The calling thread's elements of `count`, one after the other.
template <class Work> __device__ inline void for_own_elements(unsigned long long count, Work work) {
    const unsigned long long first = (blockIdx.x * (unsigned long long)blockDim.x + threadIdx.x) * WIDTH;
    for (int i = 0; i < WIDTH; i++)
        if (first + i < count) work(first + i);
}

// x rounded to bfloat16, to the nearest, ties to even.
extern "C" __global__ void to_bf16(const float *__restrict__ x, __nv_bfloat16 *__restrict__ out, unsigned long long count) {
    const unsigned long long first = (blockIdx.x * (unsigned long long)blockDim.x + threadIdx.x) * WIDTH;
    if (first + WIDTH <= count) {
        const float4 four = *reinterpret_cast<const float4 *>(x + first);
        const __nv_bfloat162 low = __floats2bfloat162_rn(four.x, four.y), high = __floats2bfloat162_rn(four.z, four.w);
        *reinterpret_cast<__nv_bfloat162 *>(out + first) = low;
        *reinterpret_cast<__nv_bfloat162 *>(out + first + 2) = high;
        return;
    }
    for_own_elements(count, [&](unsigned long long i) { out[i] = __float2bfloat16_rn(x[i]); });
}

// The types of what GELU gives and takes, and of the gradient of what it gives.
#ifndef STORED
#define STORED float
#endif
#ifndef UPSTREAM
#define UPSTREAM float
#endif

__device__ inline float number(float x) { return x; }
__device__ inline float number(__nv_bfloat16 x) { return __bfloat162float(x); }
__device__ inline void store(float &to, float x) { to = x; }
__device__ inline void store(__nv_bfloat16 &to, float x) { to = __float2bfloat16_rn(x); }

// GELU of `before`, element by element.
extern "C" __global__ void gelu_forward(const float *__restrict__ before, STORED *__restrict__ out, unsigned long long count) {
    for_own_elements(count, [&](unsigned long long i) { store(out[i], gelu(before[i])); });
}

// g times GELU's derivative at `before`. Both results are of the type in which the forward pass keeps `before`.
extern "C" __global__ void gelu_backward(const UPSTREAM *__restrict__ g, const STORED *__restrict__ before,
                                         STORED *__restrict__ out, unsigned long long count) {
    for_own_elements(count, [&](unsigned long long i) { store(out[i], number(g[i]) * gelu_gradient(number(before[i]))); });
}
