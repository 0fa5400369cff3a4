// PTX that the tensor library's kernels write as `asm`. The pretended NVRTC makes calls of `pretended::ptx` of them; an
// instruction that is missing here ends the program when it runs.
#pragma once

#include <string_view>
#include <tuple>

#include "warp.h"

namespace pretended {

template <class T>
T ptx_atomic(std::string_view operation, T *at, T value) {
    T old = *at;
    if (operation == "add")
        *at = T(old + value);
    else if (operation == "min")
        *at = value < old ? value : old;
    else if (operation == "max")
        *at = old < value ? value : old;
    else if (operation == "exch")
        *at = value;
    else
        machine->fail("PTX: atom.%.*s", int(operation.size()), operation.data());
    return old;
}

inline bool starts(std::string_view text, std::string_view with) { return text.substr(0, with.size()) == with; }

/// Instructions of two numbers of a type; what is none of them is not touched, and false.
inline bool ptx_binary(std::string_view text, float &out, float a, float b) {
    bool is_max = starts(text, "max.NaN.f32"), is_min = starts(text, "min.NaN.f32");
    if (is_max || is_min) out = a != a ? a : b != b ? b : is_max == (a < b) ? b : a;
    return is_max || is_min;
}

inline bool ptx_binary(std::string_view text, int &out, int a, int b) {
    bool adds = starts(text, "add.sat.s32"), subtracts = starts(text, "sub.sat.s32");
    long long sum = adds ? (long long)(a) + b : (long long)(a) - b;
    if (adds || subtracts) out = int(sum > INT_MAX ? INT_MAX : sum < INT_MIN ? INT_MIN : sum);
    return adds || subtracts;
}

template <class T, class A, class B>
bool ptx_one(std::string_view text, T &out, A a, B b) {
    constexpr std::string_view ATOM = "atom.relaxed.";
    if constexpr (std::is_pointer_v<A> && std::is_arithmetic_v<T>) {
        if (!starts(text, ATOM)) return false;
        out = ptx_atomic(text.substr(ATOM.size(), text.find('.', ATOM.size()) - ATOM.size()), (T *)a, T(b));
        return true;
    } else if constexpr (std::is_same_v<T, A> && std::is_same_v<T, B> && (std::is_same_v<T, float> || std::is_same_v<T, int>)) {
        return ptx_binary(text, out, a, b);
    } else {
        return false;
    }
}

/// `text` is one instruction, `out` what it writes, `in` what it reads.
template <class... Out, class... In>
void ptx(std::string_view text, std::tuple<Out &...> out, In... in) {
    if constexpr (sizeof...(Out) == 1 && sizeof...(In) == 2)
        if (ptx_one(text, std::get<0>(out), in...)) return;
    machine->fail("PTX: %.*s", int(text.size()), text.data());
}

} // namespace pretended
