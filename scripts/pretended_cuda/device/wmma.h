// `nvcuda::wmma`: products of small matrices of a whole warp, as kernels of the tensor library use them. Which elements a lane
// holds is not defined by CUDA; here lane l holds an equal run of the elements by rows.
#pragma once

#include "tensor_core.h"

namespace nvcuda::wmma {

struct matrix_a;
struct matrix_b;
struct accumulator;
struct row_major;
struct col_major;
enum layout_t { mem_row_major, mem_col_major };
namespace precision {
struct tf32;
}

inline float __float_to_tf32(float x) { return __uint_as_float(tf32_bits(x)); }

/// What a fragment stores for a type of numbers.
template <class T>
struct Stored {
    using Type = T;
};
template <>
struct Stored<precision::tf32> {
    using Type = float;
};

template <class Use, int M, int N, int K>
struct Shape;
template <int M, int N, int K>
struct Shape<matrix_a, M, N, K> {
    static constexpr int ROWS = M, COLUMNS = K;
};
template <int M, int N, int K>
struct Shape<matrix_b, M, N, K> {
    static constexpr int ROWS = K, COLUMNS = N;
};
template <int M, int N, int K>
struct Shape<accumulator, M, N, K> {
    static constexpr int ROWS = M, COLUMNS = N;
};

template <class Use, int M, int N, int K, class T, class Layout = void>
struct fragment {
    using element_type = typename Stored<T>::Type;
    static constexpr int ROWS = Shape<Use, M, N, K>::ROWS, COLUMNS = Shape<Use, M, N, K>::COLUMNS;
    static constexpr int num_elements = ROWS * COLUMNS / int(pretended::WARP);
    element_type x[num_elements];
};

template <class F, class T>
void fill_fragment(F &to, const T &value) {
    for (auto &element : to.x) element = typename F::element_type(value);
}

/// Calls `use(element, index in memory)` for the elements of this lane.
template <class F, class Use>
void each(F &of, unsigned stride, bool by_rows, Use use) {
    for (int i = 0; i < F::num_elements; i++) {
        int at = int(pretended::machine->lane()) * F::num_elements + i, row = at / F::COLUMNS, column = at % F::COLUMNS;
        use(of.x[i], by_rows ? size_t(row) * stride + size_t(column) : size_t(column) * stride + size_t(row));
    }
}

template <class Use, int M, int N, int K, class T, class Layout, class From>
void load_matrix_sync(fragment<Use, M, N, K, T, Layout> &to, const From *from, unsigned stride) {
    each(to, stride, std::is_same_v<Layout, row_major>, [=](auto &element, size_t at) { element = from[at]; });
}
template <int M, int N, int K, class T, class From>
void load_matrix_sync(fragment<accumulator, M, N, K, T> &to, const From *from, unsigned stride, layout_t layout) {
    each(to, stride, layout == mem_row_major, [=](auto &element, size_t at) { element = from[at]; });
}
template <int M, int N, int K, class T, class To>
void store_matrix_sync(To *to, const fragment<accumulator, M, N, K, T> &from, unsigned stride, layout_t layout) {
    each(from, stride, layout == mem_row_major, [=](const auto &element, size_t at) { to[at] = To(element); });
}

/// A factor as the tensor core reads it.
template <class T, class E>
float factor(const E &element) {
    if constexpr (std::is_same_v<T, precision::tf32>)
        return pretended::tf32(__float_as_uint(element));
    else
        return float(element);
}

template <int M, int N, int K, class T, class LayoutA, class LayoutB, class D, class C>
void mma_sync(fragment<accumulator, M, N, K, D> &d, const fragment<matrix_a, M, N, K, T, LayoutA> &a,
              const fragment<matrix_b, M, N, K, T, LayoutB> &b, const fragment<accumulator, M, N, K, C> &c, PRETENDED_LINE) {
    struct In {
        const fragment<matrix_a, M, N, K, T, LayoutA> *a;
        const fragment<matrix_b, M, N, K, T, LayoutB> *b;
        const fragment<accumulator, M, N, K, C> *c;
    };
    constexpr int OF_A = M * K / 32, OF_B = K * N / 32, OF_D = M * N / 32;
    d = pretended::exchange<fragment<accumulator, M, N, K, D>>(
        In{&a, &b, &c},
        [](const In *const *in, fragment<accumulator, M, N, K, D> *const *out) {
            float left[M * K], right[K * N], sum[M * N];
            for (int lane = 0; lane < 32; lane++) {
                if (!in[lane]) pretended::machine->fail("a product of matrices without lane %d", lane);
                for (int i = 0; i < OF_A; i++) left[lane * OF_A + i] = factor<T>(in[lane]->a->x[i]);
                for (int i = 0; i < OF_B; i++) right[lane * OF_B + i] = factor<T>(in[lane]->b->x[i]);
                for (int i = 0; i < OF_D; i++) sum[lane * OF_D + i] = float(in[lane]->c->x[i]);
            }
            for (int row = 0; row < M; row++)
                for (int k = 0; k < K; k++)
                    for (int column = 0; column < N; column++) sum[row * N + column] += left[row * K + k] * right[k * N + column];
            for (int lane = 0; lane < 32; lane++)
                for (int i = 0; i < OF_D; i++) out[lane]->x[i] = typename fragment<accumulator, M, N, K, D>::element_type(sum[lane * OF_D + i]);
        },
        pretended::ALL_LANES, line);
}

} // namespace nvcuda::wmma
