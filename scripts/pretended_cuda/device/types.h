// CUDA's vectors and its short floats, by the names of NVIDIA's headers.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#define PRETENDED_VECTORS(T, name, align2, align4)                                                                              \
    struct name##1 { T x; };                                                                                                    \
    struct alignas(align2) name##2 { T x, y; };                                                                                 \
    struct name##3 { T x, y, z; };                                                                                              \
    struct alignas(align4) name##4 { T x, y, z, w; };                                                                           \
    inline name##1 make_##name##1(T x) { return {x}; }                                                                          \
    inline name##2 make_##name##2(T x, T y) { return {x, y}; }                                                                  \
    inline name##3 make_##name##3(T x, T y, T z) { return {x, y, z}; }                                                          \
    inline name##4 make_##name##4(T x, T y, T z, T w) { return {x, y, z, w}; }
PRETENDED_VECTORS(signed char, char, 2, 4)
PRETENDED_VECTORS(unsigned char, uchar, 2, 4)
PRETENDED_VECTORS(short, short, 4, 8)
PRETENDED_VECTORS(unsigned short, ushort, 4, 8)
PRETENDED_VECTORS(int, int, 8, 16)
PRETENDED_VECTORS(long, long, 16, 16)
PRETENDED_VECTORS(unsigned long, ulong, 16, 16)
PRETENDED_VECTORS(long long, longlong, 16, 16)
PRETENDED_VECTORS(unsigned long long, ulonglong, 16, 16)
PRETENDED_VECTORS(float, float, 8, 16)
PRETENDED_VECTORS(double, double, 16, 16)
PRETENDED_VECTORS(unsigned, uint, 8, 16)

struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
    constexpr dim3(uint3 of) : x(of.x), y(of.y), z(of.z) {}
    constexpr operator uint3() const { return {x, y, z}; }
};

namespace pretended {

template <class To, class From>
To bits_as(From from) {
    static_assert(sizeof(To) == sizeof(From), "the same bits");
    To to;
    memcpy(&to, &from, sizeof to);
    return to;
}

inline uint16_t bf16_of(float x) {
    uint32_t bits = bits_as<uint32_t>(x);
    if ((bits & 0x7FFFFFFF) > 0x7F800000) return 0x7FFF;
    // To the nearest, ties to even.
    return uint16_t((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

inline float of_bf16(uint16_t bits) {
    return bits_as<float>(uint32_t(bits) << 16);
}

inline uint16_t half_of(float x) {
    return bits_as<uint16_t>(_Float16(x));
}

inline float of_half(uint16_t bits) {
    return float(bits_as<_Float16>(bits));
}

/// A float of 16 bits. As on the device every operation is computed in float and rounded.
template <uint16_t (*OF)(float), float (*TO)(uint16_t)>
struct Short {
    uint16_t bits;

    Short() = default;
    Short(float x) : bits(OF(x)) {}
    Short(double x) : bits(OF(float(x))) {}
    Short(int x) : bits(OF(float(x))) {}
    Short(unsigned x) : bits(OF(float(x))) {}
    Short(short x) : bits(OF(float(x))) {}
    Short(unsigned short x) : bits(OF(float(x))) {}
    Short(signed char x) : bits(OF(float(x))) {}
    Short(unsigned char x) : bits(OF(float(x))) {}
    Short(long x) : bits(OF(float(x))) {}
    Short(unsigned long x) : bits(OF(float(x))) {}
    Short(long long x) : bits(OF(float(x))) {}
    Short(unsigned long long x) : bits(OF(float(x))) {}
    Short(bool x) : bits(OF(float(x))) {}
    static Short of_bits(uint16_t bits) {
        Short made;
        made.bits = bits;
        return made;
    }
    operator float() const { return TO(bits); }

    friend Short operator+(Short a, Short b) { return float(a) + float(b); }
    friend Short operator-(Short a, Short b) { return float(a) - float(b); }
    friend Short operator*(Short a, Short b) { return float(a) * float(b); }
    friend Short operator/(Short a, Short b) { return float(a) / float(b); }
    friend Short operator-(Short a) { return -float(a); }
    friend bool operator==(Short a, Short b) { return float(a) == float(b); }
    friend bool operator!=(Short a, Short b) { return float(a) != float(b); }
    friend bool operator<(Short a, Short b) { return float(a) < float(b); }
    friend bool operator<=(Short a, Short b) { return float(a) <= float(b); }
    friend bool operator>(Short a, Short b) { return float(a) > float(b); }
    friend bool operator>=(Short a, Short b) { return float(a) >= float(b); }
    Short &operator+=(Short b) { return *this = *this + b; }
    Short &operator-=(Short b) { return *this = *this - b; }
    Short &operator*=(Short b) { return *this = *this * b; }
    Short &operator/=(Short b) { return *this = *this / b; }
};

template <class T>
struct alignas(4) Pair {
    T x, y;

    Pair() = default;
    Pair(T x, T y) : x(x), y(y) {}
    friend Pair operator+(Pair a, Pair b) { return {a.x + b.x, a.y + b.y}; }
    friend Pair operator-(Pair a, Pair b) { return {a.x - b.x, a.y - b.y}; }
    friend Pair operator*(Pair a, Pair b) { return {a.x * b.x, a.y * b.y}; }
    friend Pair operator/(Pair a, Pair b) { return {a.x / b.x, a.y / b.y}; }
    friend Pair operator-(Pair a) { return {-a.x, -a.y}; }
    Pair &operator+=(Pair b) { return *this = *this + b; }
    Pair &operator-=(Pair b) { return *this = *this - b; }
    Pair &operator*=(Pair b) { return *this = *this * b; }
    friend bool operator==(Pair a, Pair b) { return a.x == b.x && a.y == b.y; }
};

} // namespace pretended

using __nv_bfloat16 = pretended::Short<pretended::bf16_of, pretended::of_bf16>;
using __half = pretended::Short<pretended::half_of, pretended::of_half>;
using nv_bfloat16 = __nv_bfloat16;
using half = __half;
using __nv_bfloat162 = pretended::Pair<__nv_bfloat16>;
using __half2 = pretended::Pair<__half>;
using nv_bfloat162 = __nv_bfloat162;
using half2 = __half2;
struct __nv_bfloat16_raw { unsigned short x; };
struct __half_raw { unsigned short x; };

inline float __bfloat162float(__nv_bfloat16 x) { return x; }
inline float __half2float(__half x) { return x; }
inline __nv_bfloat16 __float2bfloat16(float x) { return x; }
inline __nv_bfloat16 __float2bfloat16_rn(float x) { return x; }
inline __nv_bfloat16 __double2bfloat16(double x) { return x; }
inline __half __float2half(float x) { return x; }
inline __half __float2half_rn(float x) { return x; }
inline __half __double2half(double x) { return x; }
inline __nv_bfloat162 __floats2bfloat162_rn(float x, float y) { return {x, y}; }
inline __nv_bfloat162 __float22bfloat162_rn(float2 x) { return {x.x, x.y}; }
inline __nv_bfloat162 __float2bfloat162_rn(float x) { return {x, x}; }
inline float2 __bfloat1622float2(__nv_bfloat162 x) { return {x.x, x.y}; }
inline __half2 __floats2half2_rn(float x, float y) { return {x, y}; }
inline __half2 __float22half2_rn(float2 x) { return {x.x, x.y}; }
inline __half2 __float2half2_rn(float x) { return {x, x}; }
inline float2 __half22float2(__half2 x) { return {x.x, x.y}; }
inline float __low2float(__nv_bfloat162 x) { return x.x; }
inline float __high2float(__nv_bfloat162 x) { return x.y; }
inline float __low2float(__half2 x) { return x.x; }
inline float __high2float(__half2 x) { return x.y; }
inline __nv_bfloat16 __low2bfloat16(__nv_bfloat162 x) { return x.x; }
inline __nv_bfloat16 __high2bfloat16(__nv_bfloat162 x) { return x.y; }
inline __nv_bfloat162 __halves2bfloat162(__nv_bfloat16 x, __nv_bfloat16 y) { return {x, y}; }
inline __nv_bfloat162 __bfloat162bfloat162(__nv_bfloat16 x) { return {x, x}; }
inline __half2 __halves2half2(__half x, __half y) { return {x, y}; }
inline __half2 __half2half2(__half x) { return {x, x}; }
inline __nv_bfloat162 make_bfloat162(__nv_bfloat16 x, __nv_bfloat16 y) { return {x, y}; }
inline __half2 make_half2(__half x, __half y) { return {x, y}; }
inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 x) { return x.bits; }
inline short __bfloat16_as_short(__nv_bfloat16 x) { return short(x.bits); }
inline __nv_bfloat16 __ushort_as_bfloat16(unsigned short x) { return __nv_bfloat16::of_bits(x); }
inline unsigned short __half_as_ushort(__half x) { return x.bits; }
inline __half __ushort_as_half(unsigned short x) { return __half::of_bits(x); }
