// What all kernels share; it stands before every source. Whatever needs PTX is here, each function with a twin in C++ that
// runs on the CPU (see scripts/pretended_cuda/device.h).

#include <cuda_bf16.h>

using bf16 = __nv_bfloat16;

constexpr unsigned WARP_SIZE = 32;
constexpr unsigned WHOLE_WARP = 0xFFFFFFFF;

__device__ inline unsigned lane_of_warp() {
    return threadIdx.x % WARP_SIZE;
}

/// Two numbers rounded to bfloat16, `low` in the lower half: what a register of a fragment holds.
__device__ inline unsigned pack_bf16(float low, float high) {
    return unsigned(__bfloat16_as_ushort(__float2bfloat16_rn(high))) << 16 | __bfloat16_as_ushort(__float2bfloat16_rn(low));
}

__device__ inline float low_bf16(unsigned pair) {
    return __uint_as_float(pair << 16);
}

__device__ inline float high_bf16(unsigned pair) {
    return __uint_as_float(pair & 0xFFFF0000);
}

/// The sum over a warp, the same bits in every lane.
__device__ inline float warp_sum(float x) {
    for (int by = 16; by > 0; by /= 2) x += __shfl_xor_sync(WHOLE_WARP, x, by);
    return x;
}

__device__ inline float warp_max(float x) {
    for (int by = 16; by > 0; by /= 2) x = fmaxf(x, __shfl_xor_sync(WHOLE_WARP, x, by));
    return x;
}

// On the CPU scripts/pretended_cuda/device/tensor_core.h has the functions from here on.
#ifndef PRETENDED_CUDA

/// 2^x with 22 bits, in one instruction; subnormal numbers are zero.
__device__ inline float fast_exp2(float x) {
    float power;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(x));
    return power;
}

/// A factor of `mma_tf32`: rounded to the nearest number with 10 bits behind the point.
__device__ inline unsigned tf32_bits(float x) {
    unsigned bits;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
    return bits;
}

/// d += a·b of a warp: a is [16, 16] of bf16, b is [16, 8] of bf16, d is [16, 8] of float. With g = lane / 4 and t = lane % 4
/// a lane holds, two columns or rows at a time from 2t on,
/// a: (row g, k 2t), (g + 8, 2t), (g, 2t + 8), (g + 8, 2t + 8); b: (k 2t, column g), (2t + 8, g);
/// d: (row g, columns 2t and 2t + 1), (g + 8, the same).
__device__ inline void mma_bf16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/// d += a·b of a warp: a is [16, 8] and b is [8, 8] of `tf32_bits`, d is [16, 8] of float. A lane holds
/// a: (row g, k t), (g + 8, t), (g, t + 4), (g + 8, t + 4); b: (k t, column g), (t + 4, g); d as above.
__device__ inline void mma_tf32(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/// Four matrices of 8 rows of 8 bf16 from shared memory. Lane l gives the address of row l % 8 of matrix l / 8 (aligned by 16
/// bytes), and gets of each matrix two elements of row lane / 4 from column 2·(lane % 4) on.
__device__ inline void ldmatrix_x4(unsigned (&r)[4], const void *row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(unsigned(__cvta_generic_to_shared(row)))
                 : "memory");
}

/// As `ldmatrix_x4`, each matrix transposed.
__device__ inline void ldmatrix_x4_trans(unsigned (&r)[4], const void *row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(unsigned(__cvta_generic_to_shared(row)))
                 : "memory");
}

/// Copies 16 bytes, both sides aligned by 16, beside what the thread goes on with; zeros where `valid` is false, and `global` is
/// not read then.
__device__ inline void cp_async_16(void *shared, const void *global, bool valid) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(unsigned(__cvta_generic_to_shared(shared))), "l"(global),
                 "r"(valid ? 16 : 0)
                 : "memory");
}

/// Closes the group of the copies since the last one.
__device__ inline void cp_async_commit() {
    asm volatile("cp.async.commit_group;" ::: "memory");
}

/// Waits until all groups of this thread but the last N are there.
template <int N>
__device__ inline void cp_async_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

#endif
