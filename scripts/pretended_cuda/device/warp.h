// Barriers, exchanges between the lanes of a warp, and atomics.
#pragma once

#include "machine.h"
#include "math.h"

namespace pretended {

constexpr unsigned ALL_LANES = 0xFFFFFFFF;

/// Every lane brings a value; `combine(const In *const *in, Out *const *out)` runs once, when the last lane of the mask has
/// come (null stands for lanes that take no part), and every lane gets its result. This is what `mma` and `ldmatrix` are made of.
template <class Out, class In, class Combine>
Out exchange(const In &in, Combine combine, unsigned mask = ALL_LANES, int line = __builtin_LINE()) {
    Out out;
    machine->collect(mask, in, out, line, combine);
    return out;
}

/// A value, and the lane whose value it is to be exchanged for.
template <class T>
struct Shuffled {
    T value;
    int source;
};

template <class T>
T shuffle(unsigned mask, T value, int source, int line) {
    return exchange<T>(
        Shuffled<T>{value, source},
        [](const Shuffled<T> *const *in, T *const *out) {
            for (unsigned lane = 0; lane < WARP; lane++)
                if (in[lane]) {
                    const Shuffled<T> *from = in[in[lane]->source];
                    // What a lane outside of the mask has is not defined.
                    if (from)
                        *out[lane] = from->value;
                    else
                        memset(static_cast<void *>(out[lane]), POISON, sizeof(T));
                }
        },
        mask, line);
}

template <class T, class Add>
T reduce(unsigned mask, T value, int line, Add add) {
    return exchange<T>(
        value,
        [add](const T *const *in, T *const *out) {
            bool first = true;
            T sum{};
            for (unsigned lane = 0; lane < WARP; lane++)
                if (in[lane]) sum = first ? *in[lane] : add(sum, *in[lane]), first = false;
            for (unsigned lane = 0; lane < WARP; lane++)
                if (in[lane]) *out[lane] = sum;
        },
        mask, line);
}

inline unsigned ballot(unsigned mask, bool predicate, int line) {
    unsigned mine = predicate ? 1u << machine->lane() : 0;
    return reduce(mask, mine, line, [](unsigned a, unsigned b) { return a | b; });
}

} // namespace pretended

#define PRETENDED_LINE int line = __builtin_LINE()

inline void __syncthreads(PRETENDED_LINE) { pretended::machine->barrier(line, 0); }
inline int __syncthreads_count(int predicate, PRETENDED_LINE) { return pretended::machine->barrier(line, predicate); }
inline int __syncthreads_or(int predicate, PRETENDED_LINE) { return pretended::machine->barrier(line, predicate) != 0; }
inline int __syncthreads_and(int predicate, PRETENDED_LINE) {
    int sum = pretended::machine->barrier(line, predicate);
    return sum == pretended::machine->barrier_size();
}
inline void __syncwarp(unsigned mask = pretended::ALL_LANES, PRETENDED_LINE) { pretended::reduce(mask, 0, line, [](int, int) { return 0; }); }
inline void __threadfence() {}
inline void __threadfence_block() {}
inline void __threadfence_system() {}
inline unsigned __activemask() { return 1u << pretended::machine->lane(); }

// As in the programming guide: with a width, each section of the warp is one of its own.
template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32, PRETENDED_LINE) {
    int lane = int(pretended::machine->lane());
    return pretended::shuffle(mask, value, (lane & ~(width - 1)) + (source & (width - 1)), line);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned by, int width = 32, PRETENDED_LINE) {
    int lane = int(pretended::machine->lane());
    int source = lane - int(by);
    return pretended::shuffle(mask, value, source < (lane & ~(width - 1)) ? lane : source, line);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned by, int width = 32, PRETENDED_LINE) {
    int lane = int(pretended::machine->lane());
    int source = lane + int(by);
    return pretended::shuffle(mask, value, source > (lane | (width - 1)) ? lane : source, line);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int with, int width = 32, PRETENDED_LINE) {
    int lane = int(pretended::machine->lane());
    int source = lane ^ with;
    return pretended::shuffle(mask, value, source > (lane | (width - 1)) ? lane : source, line);
}

inline unsigned __ballot_sync(unsigned mask, int predicate, PRETENDED_LINE) { return pretended::ballot(mask, predicate, line); }
inline int __any_sync(unsigned mask, int predicate, PRETENDED_LINE) { return pretended::ballot(mask, predicate, line) != 0; }
inline int __all_sync(unsigned mask, int predicate, PRETENDED_LINE) { return pretended::ballot(mask, !predicate, line) == 0; }
template <class T>
unsigned __match_any_sync(unsigned mask, T value, PRETENDED_LINE) {
    return pretended::exchange<unsigned>(
        value,
        [](const T *const *in, unsigned *const *out) {
            for (unsigned a = 0; a < pretended::WARP; a++)
                if (in[a]) {
                    *out[a] = 0;
                    for (unsigned b = 0; b < pretended::WARP; b++)
                        if (in[b] && *in[a] == *in[b]) *out[a] |= 1u << b;
                }
        },
        mask, line);
}
#define PRETENDED_REDUCTION(name, T, expression)                                                                                \
    inline T name(unsigned mask, T value, PRETENDED_LINE) { return pretended::reduce(mask, value, line, [](T a, T b) { return expression; }); }
PRETENDED_REDUCTION(__reduce_add_sync, unsigned, a + b)
PRETENDED_REDUCTION(__reduce_min_sync, unsigned, min(a, b))
PRETENDED_REDUCTION(__reduce_max_sync, unsigned, max(a, b))
PRETENDED_REDUCTION(__reduce_add_sync, int, a + b)
PRETENDED_REDUCTION(__reduce_min_sync, int, min(a, b))
PRETENDED_REDUCTION(__reduce_max_sync, int, max(a, b))
PRETENDED_REDUCTION(__reduce_and_sync, unsigned, a &b)
PRETENDED_REDUCTION(__reduce_or_sync, unsigned, a | b)
PRETENDED_REDUCTION(__reduce_xor_sync, unsigned, a ^ b)

// A fibre is interrupted nowhere else than where it waits.
#define PRETENDED_ATOMIC(name, expression)                                                                                      \
    template <class T, class V>                                                                                                 \
    T name(T *at, V given) {                                                                                                    \
        T old = *at, value = T(given);                                                                                          \
        *at = expression;                                                                                                       \
        return old;                                                                                                             \
    }
PRETENDED_ATOMIC(atomicAdd, old + value)
PRETENDED_ATOMIC(atomicSub, old - value)
PRETENDED_ATOMIC(atomicExch, value)
PRETENDED_ATOMIC(atomicMin, value < old ? value : old)
PRETENDED_ATOMIC(atomicMax, old < value ? value : old)
PRETENDED_ATOMIC(atomicAnd, old &value)
PRETENDED_ATOMIC(atomicOr, old | value)
PRETENDED_ATOMIC(atomicXor, old ^ value)
PRETENDED_ATOMIC(atomicInc, old >= value ? T(0) : T(old + 1))
PRETENDED_ATOMIC(atomicDec, old == 0 || old > value ? value : T(old - 1))
template <class T, class A, class B>
T atomicCAS(T *at, A expected, B value) {
    T old = *at, wanted = T(expected);
    if (!memcmp(&old, &wanted, sizeof(T))) *at = T(value);
    return old;
}
