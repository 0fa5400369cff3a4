// Twins of the PTX instructions that kernels use through common.cuh, by the layouts of fragments in the PTX manual.
#pragma once

#include "warp.h"

inline float fast_exp2(float x) {
    float power = exp2f(x);
    return power < 1.17549435e-38f ? 0.0f : power;
}

inline unsigned tf32_bits(float x) {
    unsigned bits = __float_as_uint(x);
    // To the nearest, ties away from zero; infinities and NaNs stay.
    return (bits & 0x7F800000) == 0x7F800000 ? bits : (bits + 0x1000) & 0xFFFFE000;
}

namespace pretended {

/// What a lane brings to a product, and takes from it.
struct Factors {
    const unsigned *a, *b;
    const float *d;
};
struct Sums {
    float of[4];
};

/// d + a·b, with matrices as arrays.
template <int K>
void multiply(const float (&a)[16][K], const float (&b)[K][8], float (&d)[16][8]) {
    for (int row = 0; row < 16; row++)
        for (int k = 0; k < K; k++)
            for (int column = 0; column < 8; column++) d[row][column] += a[row][k] * b[k][column];
}

inline float low(unsigned pair) { return of_bf16(uint16_t(pair)); }
inline float high(unsigned pair) { return of_bf16(uint16_t(pair >> 16)); }
/// Tensor cores do not look at the lower 13 bits.
inline float tf32(unsigned bits) { return __uint_as_float(bits & 0xFFFFE000); }

template <int K, class Unpack>
void product(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2], int line, Unpack unpack) {
    Sums sums = exchange<Sums>(
        Factors{a, b, d},
        [unpack](const Factors *const *in, Sums *const *out) {
            float left[16][K], right[K][8], sum[16][8];
            for (unsigned lane = 0; lane < WARP; lane++) {
                if (!in[lane]) machine->fail("a product of matrices without lane %u", lane);
                unsigned g = lane / 4, t = lane % 4;
                unpack(*in[lane], g, t, left, right);
                for (unsigned i = 0; i < 4; i++) sum[g + i / 2 * 8][2 * t + i % 2] = in[lane]->d[i];
            }
            multiply<K>(left, right, sum);
            for (unsigned lane = 0; lane < WARP; lane++)
                for (unsigned i = 0; i < 4; i++) out[lane]->of[i] = sum[lane / 4 + i / 2 * 8][2 * (lane % 4) + i % 2];
        },
        ALL_LANES, line);
    memcpy(d, sums.of, sizeof sums.of);
}

/// Rows of 8 bf16, one from each lane, to four registers for each.
struct Registers {
    unsigned of[4];
};

template <bool TRANSPOSED>
void load_matrices(unsigned (&r)[4], const void *row, int line) {
    if (reinterpret_cast<uintptr_t>(row) % 16) machine->fail("line %d: ldmatrix from an address that is not aligned by 16 bytes", line);
    Registers got = exchange<Registers>(
        static_cast<const uint16_t *>(row),
        [](const uint16_t *const *const *in, Registers *const *out) {
            for (unsigned lane = 0; lane < WARP; lane++)
                for (unsigned m = 0; m < 4; m++) {
                    unsigned i = lane / 4, j = 2 * (lane % 4);
                    auto element = [&](unsigned row, unsigned column) -> unsigned { return (*in[8 * m + row])[column]; };
                    out[lane]->of[m] = TRANSPOSED ? element(j, i) | element(j + 1, i) << 16 : element(i, j) | element(i, j + 1) << 16;
                }
        },
        ALL_LANES, line);
    memcpy(r, got.of, sizeof got.of);
}

} // namespace pretended

inline void mma_bf16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2], PRETENDED_LINE) {
    pretended::product<16>(d, a, b, line, [](const pretended::Factors &of, unsigned g, unsigned t, float (&left)[16][16], float (&right)[16][8]) {
        for (unsigned i = 0; i < 4; i++) {
            left[g + i % 2 * 8][2 * t + i / 2 * 8] = pretended::low(of.a[i]);
            left[g + i % 2 * 8][2 * t + i / 2 * 8 + 1] = pretended::high(of.a[i]);
        }
        for (unsigned i = 0; i < 2; i++) {
            right[2 * t + 8 * i][g] = pretended::low(of.b[i]);
            right[2 * t + 8 * i + 1][g] = pretended::high(of.b[i]);
        }
    });
}

inline void mma_tf32(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2], PRETENDED_LINE) {
    pretended::product<8>(d, a, b, line, [](const pretended::Factors &of, unsigned g, unsigned t, float (&left)[16][8], float (&right)[8][8]) {
        for (unsigned i = 0; i < 4; i++) left[g + i % 2 * 8][t + i / 2 * 4] = pretended::tf32(of.a[i]);
        for (unsigned i = 0; i < 2; i++) right[t + 4 * i][g] = pretended::tf32(of.b[i]);
    });
}

inline void ldmatrix_x4(unsigned (&r)[4], const void *row, PRETENDED_LINE) { pretended::load_matrices<false>(r, row, line); }
inline void ldmatrix_x4_trans(unsigned (&r)[4], const void *row, PRETENDED_LINE) { pretended::load_matrices<true>(r, row, line); }

inline void cp_async_16(void *shared, const void *global, bool valid, PRETENDED_LINE) {
    pretended::machine->copy_later(shared, valid ? global : nullptr, line);
}
inline void cp_async_commit() { pretended::machine->close_copies(); }
template <int N>
void cp_async_wait() {
    pretended::machine->finish_copies(N);
}
