// Tokens by their digits; what kernels of losses and of draws begin with.
//
// -DDIGITS=ℓ digits of a token, -DDIGIT_BITS bits of each in the token's code, digit 0 in the lowest bits, -DCODE_BITS all
// bits of a code, 32 or 64.

#if CODE_BITS == 32
typedef unsigned code_t;
#else
typedef unsigned long long code_t;
#endif

constexpr code_t DIGIT = ((code_t)1 << DIGIT_BITS) - 1;
__device__ inline code_t digit_of(code_t code, int j) { return code >> (j * DIGIT_BITS) & DIGIT; }

// Visible digits of a token in their places, and ones at their places. No token's code has bits elsewhere.
struct Seen {
    code_t digits, places;
};

// Of the digits y [ℓ], where `mask` is that of a masked one.
__device__ inline Seen seen_in(const int *y, int mask) {
    Seen seen = {0, 0};
    for (int j = 0; j < DIGITS; j++) {
        if (y[j] == mask) continue;
        seen.digits |= (code_t)y[j] << (j * DIGIT_BITS);
        seen.places |= DIGIT << (j * DIGIT_BITS);
    }
    return seen;
}

__device__ inline bool agrees(code_t code, Seen seen) { return ((code ^ seen.digits) & seen.places) == 0; }
