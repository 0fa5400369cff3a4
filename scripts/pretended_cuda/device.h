// CUDA C++ for g++: force-included before a kernel's source, it gives the names that NVRTC and NVIDIA's headers give, so that
// the kernel runs on the CPU, slowly and checked.
//
//     g++ -std=c++17 -O1 -include scripts/pretended_cuda/device.h …
//
// What a device would leave undefined ends the program or shows as NaN: see device/machine.h (threads, barriers, exchanges),
// device/shared.h (shared memory), device/launch.h (launches, memory).
#pragma once

#define PRETENDED_CUDA 1
#ifndef __CUDA_ARCH__
#define __CUDA_ARCH__ 900
#endif

#include <cassert>
#include <climits>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "device/types.h"

#include "device/launch.h"
#include "device/machine.h"
#include "device/math.h"
#include "device/ptx.h"
#include "device/shared.h"
#include "device/tensor_core.h"
#include "device/warp.h"
#include "device/wmma.h"

#define __global__
#define __device__
#define __host__
#define __constant__
#define __managed__
#define __grid_constant__
#define __noinline__ [[gnu::noinline]]
#define __forceinline__ inline
#define __shared__ thread_local
#define __launch_bounds__(...)
#define __cluster_dims__(...)
#define __align__(bytes) __attribute__((aligned(bytes)))
#define __restrict__ __restrict
#define __builtin_assume(...) ((void)0)

#define threadIdx (pretended::machine->thread_index)
#define blockIdx (pretended::machine->block_index)
#define blockDim (pretended::machine->block_size)
#define gridDim (pretended::machine->grid_size)
constexpr int warpSize = 32;

#define PRETENDED_LOAD(name)                                                                                                    \
    template <class T>                                                                                                          \
    T name(const T *at) {                                                                                                       \
        return *at;                                                                                                             \
    }
PRETENDED_LOAD(__ldg)
PRETENDED_LOAD(__ldca)
PRETENDED_LOAD(__ldcg)
PRETENDED_LOAD(__ldcs)
PRETENDED_LOAD(__ldcv)
PRETENDED_LOAD(__ldlu)
#define PRETENDED_STORE(name)                                                                                                   \
    template <class T>                                                                                                          \
    void name(T *at, T value) {                                                                                                 \
        *at = value;                                                                                                            \
    }
PRETENDED_STORE(__stcg)
PRETENDED_STORE(__stcs)
PRETENDED_STORE(__stwb)
PRETENDED_STORE(__stwt)
inline size_t __cvta_generic_to_shared(const void *at) { return reinterpret_cast<size_t>(at); }
[[noreturn]] inline void __trap() { pretended::machine->fail("traps"); }

// On the device these are `long long`, and sources declare them so themselves.
typedef long long pretended_int64;
typedef unsigned long long pretended_uint64;
#define int64_t pretended_int64
#define uint64_t pretended_uint64

// The tensor library's casts of floats to integers, `int32_t(x)`, which C++ leaves open where x is out of range.
#define int32_t(...) pretended::truncate<int>(__VA_ARGS__)
#define uint32_t(...) pretended::truncate<unsigned>(__VA_ARGS__)
#define pretended_int64(...) pretended::truncate<long long>(__VA_ARGS__)
#define pretended_uint64(...) pretended::truncate<unsigned long long>(__VA_ARGS__)
