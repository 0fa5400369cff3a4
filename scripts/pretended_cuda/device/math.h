// CUDA's mathematics that C++'s library has under another name or not at all.
#pragma once

#include <limits>
#include <type_traits>

#include "types.h"

inline float __uint_as_float(unsigned x) { return pretended::bits_as<float>(x); }
inline float __int_as_float(int x) { return pretended::bits_as<float>(x); }
inline unsigned __float_as_uint(float x) { return pretended::bits_as<unsigned>(x); }
inline int __float_as_int(float x) { return pretended::bits_as<int>(x); }
inline long long __double_as_longlong(double x) { return pretended::bits_as<long long>(x); }
inline double __longlong_as_double(long long x) { return pretended::bits_as<double>(x); }

// Rounded to nearest, and never contracted by the compiler of the device.
#define PRETENDED_ROUNDED(name, T, expression) [[gnu::optimize("fp-contract=off")]] inline T name(T a, T b) { return expression; }
PRETENDED_ROUNDED(__fadd_rn, float, a + b)
PRETENDED_ROUNDED(__fsub_rn, float, a - b)
PRETENDED_ROUNDED(__fmul_rn, float, a * b)
PRETENDED_ROUNDED(__fdiv_rn, float, a / b)
PRETENDED_ROUNDED(__dadd_rn, double, a + b)
PRETENDED_ROUNDED(__dsub_rn, double, a - b)
PRETENDED_ROUNDED(__dmul_rn, double, a * b)
PRETENDED_ROUNDED(__ddiv_rn, double, a / b)
inline float __fmaf_rn(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
inline double __fma_rn(double a, double b, double c) { return __builtin_fma(a, b, c); }
inline float __fsqrt_rn(float x) { return __builtin_sqrtf(x); }
inline float __frcp_rn(float x) { return 1.0f / x; }
inline float __frsqrt_rn(float x) { return float(1.0 / __builtin_sqrt(x)); }

inline float rsqrtf(float x) { return 1.0f / __builtin_sqrtf(x); }
inline float rsqrt(float x) { return rsqrtf(x); }
inline double rsqrt(double x) { return 1.0 / __builtin_sqrt(x); }
inline float __expf(float x) { return __builtin_expf(x); }
inline float __exp10f(float x) { return __builtin_powf(10.0f, x); }
inline float __logf(float x) { return __builtin_logf(x); }
inline float __log2f(float x) { return __builtin_log2f(x); }
inline float __log10f(float x) { return __builtin_log10f(x); }
inline float __sinf(float x) { return __builtin_sinf(x); }
inline float __cosf(float x) { return __builtin_cosf(x); }
inline float __tanf(float x) { return __builtin_tanf(x); }
inline float __tanhf(float x) { return __builtin_tanhf(x); }
inline float __powf(float x, float y) { return __builtin_powf(x, y); }
inline float __fdividef(float x, float y) { return x / y; }
inline float fdividef(float x, float y) { return x / y; }
inline float __saturatef(float x) { return x < 0 || x != x ? 0 : x > 1 ? 1 : x; }
inline void __sincosf(float x, float *sine, float *cosine) { *sine = __builtin_sinf(x), *cosine = __builtin_cosf(x); }
inline float sinpif(float x) { return float(__builtin_sin(3.14159265358979323846 * x)); }
inline float cospif(float x) { return float(__builtin_cos(3.14159265358979323846 * x)); }

// `exp(__half)` and its kind are ambiguous in the standard library.
#define PRETENDED_SHORT_MATH(T)                                                                                                 \
    inline T hexp(T x) { return __builtin_expf(x); }                                                                            \
    inline T hexp2(T x) { return __builtin_exp2f(x); }                                                                          \
    inline T hlog(T x) { return __builtin_logf(x); }                                                                            \
    inline T hlog2(T x) { return __builtin_log2f(x); }                                                                          \
    inline T hsqrt(T x) { return __builtin_sqrtf(x); }                                                                          \
    inline T hrsqrt(T x) { return rsqrtf(x); }                                                                                  \
    inline T hrcp(T x) { return 1.0f / float(x); }                                                                              \
    inline T hsin(T x) { return __builtin_sinf(x); }                                                                            \
    inline T hcos(T x) { return __builtin_cosf(x); }                                                                            \
    inline T htanh(T x) { return __builtin_tanhf(x); }                                                                          \
    inline T hfloor(T x) { return __builtin_floorf(x); }                                                                        \
    inline T hceil(T x) { return __builtin_ceilf(x); }                                                                          \
    inline T htrunc(T x) { return __builtin_truncf(x); }                                                                        \
    inline T hrint(T x) { return __builtin_rintf(x); }                                                                          \
    inline T __habs(T x) { return __builtin_fabsf(x); }                                                                         \
    inline T __hneg(T x) { return -x; }                                                                                         \
    inline T __hadd(T a, T b) { return a + b; }                                                                                 \
    inline T __hsub(T a, T b) { return a - b; }                                                                                 \
    inline T __hmul(T a, T b) { return a * b; }                                                                                 \
    inline T __hdiv(T a, T b) { return a / b; }                                                                                 \
    inline T __hfma(T a, T b, T c) { return __builtin_fmaf(a, b, c); }                                                          \
    inline T __hmax(T a, T b) { return __builtin_fmaxf(a, b); }                                                                 \
    inline T __hmin(T a, T b) { return __builtin_fminf(a, b); }                                                                 \
    inline bool __hisnan(T x) { return __builtin_isnan(float(x)); }                                                             \
    inline T __hmax_nan(T a, T b) { return __hisnan(a) || (!__hisnan(b) && a > b) ? a : b; }                                   \
    inline T __hmin_nan(T a, T b) { return __hisnan(a) || (!__hisnan(b) && a < b) ? a : b; }                                   \
    inline int __hisinf(T x) { return __builtin_isinf_sign(float(x)); }                                                         \
    inline bool __hlt(T a, T b) { return a < b; }                                                                               \
    inline bool __hgt(T a, T b) { return a > b; }                                                                               \
    inline bool __heq(T a, T b) { return a == b; }
PRETENDED_SHORT_MATH(__nv_bfloat16)
PRETENDED_SHORT_MATH(__half)
#define PRETENDED_PAIR_MATH(T, one)                                                                                             \
    inline T one(T x) { return {one(x.x), one(x.y)}; }
#define PRETENDED_PAIR_MATH_2(T, name, one)                                                                                     \
    inline T name(T a, T b) { return {one(a.x, b.x), one(a.y, b.y)}; }
#define PRETENDED_PAIRS(T)                                                                                                      \
    inline T __hfma2(T a, T b, T c) { return {__hfma(a.x, b.x, c.x), __hfma(a.y, b.y, c.y)}; }                                  \
    PRETENDED_PAIR_MATH_2(T, __hadd2, __hadd)                                                                                   \
    PRETENDED_PAIR_MATH_2(T, __hsub2, __hsub)                                                                                   \
    PRETENDED_PAIR_MATH_2(T, __hmul2, __hmul)                                                                                   \
    PRETENDED_PAIR_MATH_2(T, __h2div, __hdiv)                                                                                   \
    PRETENDED_PAIR_MATH_2(T, __hmax2, __hmax)                                                                                   \
    PRETENDED_PAIR_MATH_2(T, __hmin2, __hmin)                                                                                   \
    PRETENDED_PAIR_MATH_2(T, __hmax2_nan, __hmax_nan)                                                                           \
    PRETENDED_PAIR_MATH_2(T, __hmin2_nan, __hmin_nan)                                                                                   \
    inline T __habs2(T x) { return {__habs(x.x), __habs(x.y)}; }                                                                \
    inline T h2exp(T x) { return {hexp(x.x), hexp(x.y)}; }                                                                      \
    inline T h2log(T x) { return {hlog(x.x), hlog(x.y)}; }                                                                      \
    inline T h2sqrt(T x) { return {hsqrt(x.x), hsqrt(x.y)}; }                                                                   \
    inline T h2rsqrt(T x) { return {hrsqrt(x.x), hrsqrt(x.y)}; }                                                                \
    inline T h2rcp(T x) { return {hrcp(x.x), hrcp(x.y)}; }                                                                      \
    inline T h2sin(T x) { return {hsin(x.x), hsin(x.y)}; }                                                                      \
    inline T h2cos(T x) { return {hcos(x.x), hcos(x.y)}; }                                                                      \
    inline T h2tanh(T x) { return {htanh(x.x), htanh(x.y)}; }                                                                   \
    inline T h2floor(T x) { return {hfloor(x.x), hfloor(x.y)}; }                                                                \
    inline T h2ceil(T x) { return {hceil(x.x), hceil(x.y)}; }                                                                   \
    inline T h2trunc(T x) { return {htrunc(x.x), htrunc(x.y)}; }                                                                \
    inline T h2rint(T x) { return {hrint(x.x), hrint(x.y)}; }
PRETENDED_PAIRS(__nv_bfloat162)
PRETENDED_PAIRS(__half2)

inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __clz(int x) { return x ? __builtin_clz(unsigned(x)) : 32; }
inline int __clzll(long long x) { return x ? __builtin_clzll((unsigned long long)(x)) : 64; }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __ffsll(long long x) { return __builtin_ffsll(x); }
inline unsigned __brev(unsigned x) {
    unsigned reversed = 0;
    for (int b = 0; b < 32; b++) reversed |= (x >> b & 1) << (31 - b);
    return reversed;
}
inline unsigned long long __brevll(unsigned long long x) {
    return (unsigned long long)(__brev(unsigned(x))) << 32 | __brev(unsigned(x >> 32));
}
inline unsigned __umulhi(unsigned a, unsigned b) { return unsigned((unsigned long long)(a) * b >> 32); }
inline int __mulhi(int a, int b) { return int((long long)(a) * b >> 32); }
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
    return (unsigned long long)((unsigned __int128)(a) * b >> 64);
}
inline long long __mul64hi(long long a, long long b) { return (long long)((__int128)(a) * b >> 64); }
inline int __mul24(int a, int b) { return a * b; }
inline unsigned __umul24(unsigned a, unsigned b) { return a * b; }
inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned shift) {
    return unsigned(((unsigned long long)(high) << 32 | low) << (shift & 31) >> 32);
}
inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned shift) {
    return unsigned(((unsigned long long)(high) << 32 | low) >> (shift & 31));
}
inline unsigned __byte_perm(unsigned a, unsigned b, unsigned selector) {
    unsigned long long both = (unsigned long long)(b) << 32 | a;
    unsigned made = 0;
    for (int i = 0; i < 4; i++) made |= unsigned(both >> 8 * (selector >> 4 * i & 7) & 0xFF) << 8 * i;
    return made;
}

namespace pretended {

/// As the device converts: NaN to 0, and what is out of range to the nearest.
template <class To, class From>
To truncate(From x) {
    if constexpr (std::is_integral_v<From> || std::is_enum_v<From>) {
        return To(x);
    } else {
        using Limits = std::numeric_limits<To>;
        double value = double(x);
        if (value != value) return 0;
        if (value <= double(Limits::min())) return Limits::min();
        return value >= double(Limits::max()) ? Limits::max() : To(value);
    }
}

} // namespace pretended

inline int __float2int_rn(float x) { return pretended::truncate<int>(__builtin_rintf(x)); }
inline int __float2int_rz(float x) { return pretended::truncate<int>(x); }
inline int __float2int_rd(float x) { return pretended::truncate<int>(__builtin_floorf(x)); }
inline int __float2int_ru(float x) { return pretended::truncate<int>(__builtin_ceilf(x)); }
inline unsigned __float2uint_rn(float x) { return pretended::truncate<unsigned>(__builtin_rintf(x)); }
inline unsigned __float2uint_rz(float x) { return pretended::truncate<unsigned>(x); }
inline float __int2float_rn(int x) { return float(x); }
inline float __uint2float_rn(unsigned x) { return float(x); }
inline float __ull2float_rn(unsigned long long x) { return float(x); }
inline float __ll2float_rn(long long x) { return float(x); }
inline double __uint2double_rn(unsigned x) { return double(x); }
inline float __double2float_rn(double x) { return float(x); }

// CUDA's are overloaded in the global namespace, for mixed signs, too.
using std::isfinite;
using std::isinf;
using std::isnan;
#define PRETENDED_EXTREMES(T)                                                                                                   \
    inline T max(T a, T b) { return a < b ? b : a; }                                                                            \
    inline T min(T a, T b) { return b < a ? b : a; }
PRETENDED_EXTREMES(int)
PRETENDED_EXTREMES(unsigned)
PRETENDED_EXTREMES(long)
PRETENDED_EXTREMES(unsigned long)
PRETENDED_EXTREMES(long long)
PRETENDED_EXTREMES(unsigned long long)
inline unsigned max(int a, unsigned b) { return max(unsigned(a), b); }
inline unsigned max(unsigned a, int b) { return max(a, unsigned(b)); }
inline unsigned min(int a, unsigned b) { return min(unsigned(a), b); }
inline unsigned min(unsigned a, int b) { return min(a, unsigned(b)); }
inline float max(float a, float b) { return __builtin_fmaxf(a, b); }
inline float min(float a, float b) { return __builtin_fminf(a, b); }
inline double max(double a, double b) { return __builtin_fmax(a, b); }
inline double min(double a, double b) { return __builtin_fmin(a, b); }
inline double max(float a, double b) { return __builtin_fmax(double(a), b); }
inline double max(double a, float b) { return __builtin_fmax(a, double(b)); }
inline double min(float a, double b) { return __builtin_fmin(double(a), b); }
inline double min(double a, float b) { return __builtin_fmin(a, double(b)); }
