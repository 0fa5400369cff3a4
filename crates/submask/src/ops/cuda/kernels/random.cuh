// Random numbers as functions of their counters: those of `crate::random`.

struct Words {
    unsigned at[4];
};

// Philox4x32-10 (Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", 2011).
__device__ inline Words philox(Words counter, unsigned key_low, unsigned key_high) {
#pragma unroll
    for (int round = 0; round < 10; round++) {
        const unsigned long long first = counter.at[0] * 0xD2511F53ull, second = counter.at[2] * 0xCD9E8D57ull;
        counter = {{(unsigned)(second >> 32) ^ counter.at[1] ^ key_low, (unsigned)second,
                    (unsigned)(first >> 32) ^ counter.at[3] ^ key_high, (unsigned)first}};
        key_low += 0x9E3779B9u;
        key_high += 0xBB67AE85u;
    }
    return counter;
}

// What a draw is for.
enum Purpose : unsigned { TOKEN = 6, DIGIT_ALONE = 16, REVEAL = 17, JUMP = 18 };

// Draws of a sequence under a seed.
struct Draws {
    unsigned seed_low, seed_high, number_low, number_high;

    // A uniform number in the open interval (0, 1), from 52 random bits.
    __device__ double uniform(Purpose purpose, unsigned position, unsigned event) const {
        const unsigned high = (number_high & 0xffffffu) | (unsigned)purpose << 24;
        const Words words = philox({{number_low, high, position, event}}, seed_low, seed_high);
        const unsigned long long word = words.at[0] | (unsigned long long)words.at[1] << 32;
        return ((double)(word >> 12) + 0.5) * (1.0 / 4503599627370496.0);
    }
};
