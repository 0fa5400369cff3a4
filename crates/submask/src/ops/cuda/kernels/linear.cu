// What stands beside the products of linear layers: roundings to factors, bias and GELU where no product does them, and
// GELU's derivative.
//
// STORED: the type of what GELU gives and takes; UPSTREAM: that of the gradient of what it gives.

#ifndef STORED
#define STORED float
#endif
#ifndef UPSTREAM
#define UPSTREAM float
#endif

/// Elements of a thread.
constexpr int ELEMENTS = 4;
constexpr float ROOT = 0.7978846f, CUBIC = 0.044715f;

/// The tanh form: a(1 + tanh(√(2/π)(a + 0.044715a³)))/2.
__device__ inline float gelu(float a) {
    return 0.5f * a * (1.0f + tanhf(ROOT * (a + CUBIC * a * a * a)));
}

/// Its derivative.
__device__ inline float gelu_gradient(float a) {
    const float inner = tanhf(ROOT * (a + CUBIC * a * a * a));
    return 0.5f * (1.0f + inner) + 0.5f * a * (1.0f - inner * inner) * ROOT * (1.0f + 3.0f * CUBIC * a * a);
}

/// Calls `work` with the thread's elements.
template <class Work> __device__ inline void for_own_elements(size_t count, Work work) {
    by_packs<ELEMENTS>((blockIdx.x * size_t(blockDim.x) + threadIdx.x) * ELEMENTS, count, true, work);
}

/// x rounded to bfloat16, to the nearest, ties to even.
extern "C" __global__ void to_bf16(const float *__restrict__ x, bf16 *__restrict__ out, size_t count) {
    for_own_elements(count, [&](size_t first, auto together) {
        constexpr int N = decltype(together)::COUNT;
        float values[N];
        load<N>(values, x + first);
        store<N>(out + first, values);
    });
}

/// GELU of `before`, element by element.
extern "C" __global__ void gelu_forward(const float *__restrict__ before, STORED *__restrict__ out, size_t count) {
    for_own_elements(count, [&](size_t first, auto together) {
        constexpr int N = decltype(together)::COUNT;
        float values[N];
        load<N>(values, before + first);
#pragma unroll
        for (int i = 0; i < N; i++) values[i] = gelu(values[i]);
        store<N>(out + first, values);
    });
}

/// g times GELU's derivative at `before`.
extern "C" __global__ void gelu_backward(const UPSTREAM *__restrict__ g, const STORED *__restrict__ before,
                                         STORED *__restrict__ out, size_t count) {
    for_own_elements(count, [&](size_t first, auto together) {
        constexpr int N = decltype(together)::COUNT;
        float upstream[N], values[N];
        load<N>(upstream, g + first);
        load<N>(values, before + first);
#pragma unroll
        for (int i = 0; i < N; i++) upstream[i] *= gelu_gradient(values[i]);
        store<N>(out + first, upstream);
    });
}

/// A thread's element of a product whose rows are `leading` apart: its place, its column, and its number among all.
struct Element {
    STORED *place;
    int column;
    size_t number;
    bool exists;

    __device__ Element(STORED *out, size_t rows, int columns, int leading)
        : number(blockIdx.x * size_t(blockDim.x) + threadIdx.x), exists(number < rows * columns) {
        column = int(number % columns);
        place = out + number / columns * leading + column;
    }
};

/// Adds a bias to the rows of a product, and takes GELU of them if asked to; `before`, if it is there, gets what GELU takes.
extern "C" __global__ void finish(STORED *__restrict__ out, const STORED *__restrict__ bias, STORED *__restrict__ before,
                                  int takes_gelu, size_t rows, int columns, int leading) {
    const Element element(out, rows, columns, leading);
    if (!element.exists) return;
    float value[1], added[1];
    load<1>(value, element.place);
    load<1>(added, bias + element.column);
    value[0] += added[0];
    if (before) store<1>(before + element.number, value);
    if (takes_gelu) value[0] = gelu(value[0]);
    store<1>(element.place, value);
}

/// Multiplies the rows of a product by GELU's derivative at `before`.
extern "C" __global__ void finish_gelu_gradient(STORED *__restrict__ out, const STORED *__restrict__ before, size_t rows, int columns,
                                                int leading) {
    const Element element(out, rows, columns, leading);
    if (!element.exists) return;
    float value[1], at[1];
    load<1>(value, element.place);
    load<1>(at, before + element.number);
    value[0] *= gelu_gradient(at[0]);
    store<1>(element.place, value);
}
