// SiLU(a), and SiLU(a)·x, the middle of SwiGLU, element by element, forward and backward.
//
// INPUT, RESULT, UPSTREAM and GRADIENT: types of a and x, of the result, of its gradient, and of the gradients of a and x.

/// Calls work with the elements of this thread, of `count`.
template <class Work> __device__ inline void for_own(size_t count, Work work) {
    size_t first = (size_t(blockIdx.x) * blockDim.x + threadIdx.x) * 4;
    by_packs<4>(first, count, true, work);
}

extern "C" __global__ void swiglu(const INPUT *__restrict__ a, const INPUT *__restrict__ x, RESULT *__restrict__ out,
                                  size_t count) {
    for_own(count, [&](size_t first, auto together) {
        constexpr int N = decltype(together)::COUNT;
        float gates[N], values[N];
        load<N>(gates, a + first);
        load<N>(values, x + first);
#pragma unroll
        for (int i = 0; i < N; i++) values[i] *= gates[i] * sigmoid(gates[i]);
        store<N>(out + first, values);
    });
}

/// With s = sigmoid(a): dx = g·a·s, da = g·x·s·(1 + a·(1 − s)).
extern "C" __global__ void swiglu_backward(const INPUT *__restrict__ a, const INPUT *__restrict__ x,
                                           const UPSTREAM *__restrict__ g, GRADIENT *__restrict__ da,
                                           GRADIENT *__restrict__ dx, size_t count) {
    for_own(count, [&](size_t first, auto together) {
        constexpr int N = decltype(together)::COUNT;
        float gates[N], values[N], upstream[N];
        load<N>(gates, a + first);
        load<N>(values, x + first);
        load<N>(upstream, g + first);
#pragma unroll
        for (int i = 0; i < N; i++) {
            float s = sigmoid(gates[i]), of_x = upstream[i] * gates[i] * s;
            gates[i] = upstream[i] * values[i] * s * (1.0f + gates[i] * (1.0f - s));
            values[i] = of_x;
        }
        store<N>(da + first, gates);
        store<N>(dx + first, values);
    });
}

extern "C" __global__ void silu(const INPUT *__restrict__ a, RESULT *__restrict__ out, size_t count) {
    for_own(count, [&](size_t first, auto together) {
        constexpr int N = decltype(together)::COUNT;
        float values[N];
        load<N>(values, a + first);
#pragma unroll
        for (int i = 0; i < N; i++) values[i] *= sigmoid(values[i]);
        store<N>(out + first, values);
    });
}

/// With s = sigmoid(a): da = g·s·(1 + a·(1 − s)).
extern "C" __global__ void silu_backward(const INPUT *__restrict__ a, const UPSTREAM *__restrict__ g,
                                         GRADIENT *__restrict__ da, size_t count) {
    for_own(count, [&](size_t first, auto together) {
        constexpr int N = decltype(together)::COUNT;
        float values[N], upstream[N];
        load<N>(values, a + first);
        load<N>(upstream, g + first);
#pragma unroll
        for (int i = 0; i < N; i++) {
            float s = sigmoid(values[i]);
            values[i] = upstream[i] * s * (1.0f + values[i] * (1.0f - s));
        }
        store<N>(da + first, values);
    });
}
