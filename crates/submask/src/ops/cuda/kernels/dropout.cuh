// The factors of dropout. What it zeroes is a function of an element's place: four elements that follow each other take the
// four words of their number, with the counters of `crate::random`. DROPOUT: 1 if there is any, otherwise 0.

/// Which factors: key and counter of the draws (the step in the first two words, its purpose in the second; the layer in
/// the last), below which words elements are zeroed, and the factor of the others.
struct Dropout {
    unsigned key_low, key_high, step_low, step_high, layer, threshold;
    float keep;

    /// Factors of elements from a number on that is a multiple of N, 4 or 1.
    template <int N> __device__ void factors(float (&factors)[N], size_t element) const {
        if (!DROPOUT) {
            for (float &factor : factors) factor = 1.0f;
            return;
        }
        Words words = philox({{step_low, step_high, unsigned(element / 4), layer}}, key_low, key_high);
        if constexpr (N == 4) {
#pragma unroll
            for (int i = 0; i < 4; i++) factors[i] = words.at[i] < threshold ? 0.0f : keep;
        } else {
            unsigned at = unsigned(element % 4);
            unsigned word = at == 0 ? words.at[0] : at == 1 ? words.at[1] : at == 2 ? words.at[2] : words.at[3];
            factors[0] = word < threshold ? 0.0f : keep;
        }
    }
};
