// Draws of digits from logits, and how sure a network is of tokens. After block.cuh, codes.cuh and random.cuh.
//
// A block works on a token. Each of its warps sees to a run of neighbouring classes, so that sums of weights are sums in the
// order of the classes; they are in double precision, of weights exp((logit − largest)/τ) in single precision.

// Bits of Sequence::how.
constexpr unsigned EACH_DIGIT = 1;   // Every digit is drawn by itself.
constexpr unsigned EXCLUSIVE = 2;    // The nucleus leaves out the token with which its mass crosses p.
constexpr unsigned CONTRADICTS = 4;  // Digits may be drawn that no token has.
constexpr unsigned STEPS = 8;        // Digits are revealed at random, each with probability `share`.
constexpr unsigned JUMPS = 16;       // Then digits jump.

// How the tokens of a sequence are drawn in a visit; 64 bytes, as the host writes them.
struct Sequence {
    Draws draws;
    // Number of the visit, the key of its draws.
    unsigned event;
    unsigned how;
    // Most probable tokens kept.
    unsigned top_k;
    float inverse_temperature;
    // The mass kept of them; 1 keeps all.
    double top_p;
    double share;
    // Rates of jumps, times the length of the step.
    double to_value, to_mask;
};

// A token that is drawn; 24 bytes.
struct Token {
    // Its place among all, and in its sequence.
    unsigned position, i;
    unsigned sequence, unused;
    // The digits that are revealed, or with STEPS those that may change: bit j of digit j.
    unsigned long long digits;
};

// What is told of a token: 1 if its logits were no distribution, and numbers.
enum Note { IMPROPER, REDRAWS, JUMPED, JUMPS_DROPPED };

// A number that is larger if x is: both zeros are one.
__device__ inline unsigned key_of(float x) {
    const unsigned bits = __float_as_uint(x + 0.0f);
    return bits >> 31 ? ~bits : bits | 0x80000000u;
}

// Behind all tokens.
constexpr int NO_TOKEN = 0x7fffffff;

// softmax(logits/τ) over the tokens that agree with what is seen, of which some may be left out.
struct Distribution {
    const float *logits;
    const code_t *codes;
    int classes;
    Seen seen;
    float largest, inverse_temperature;
    // Kept are tokens of larger keys, and those of this key that come before `tie_end`.
    unsigned threshold = 0;
    int tie_end = NO_TOKEN;
    // Sums of the warps' weights, in shared memory, and of all.
    double *of_warps;
    double total;

    __device__ Distribution(const float *logits, const code_t *codes, int classes, Seen seen, float inverse_temperature,
                            double *of_warps)
        : logits(logits), codes(codes), classes(classes), seen(seen), inverse_temperature(inverse_temperature),
          of_warps(of_warps) {
        float most = lowest();
        for_own([&](int, float logit) { most = fmaxf(most, logit); });
        largest = over_block(most, Largest());
        measure(weights());
    }

    // Classes of a warp.
    __device__ int run() const { return ((classes + (int)blockDim.x - 1) / (int)blockDim.x) * 32; }

    __device__ bool is_possible(int x) const { return seen.places == 0 || agrees(codes[x], seen); }

    // Calls `each` with the thread's possible tokens and their logits.
    template <class Each> __device__ void for_own(Each each) const {
        const int start = warp() * run(), end = min(start + run(), classes);
#pragma unroll 8
        for (int x = start + lane(); x < end; x += 32) {
            const float logit = logits[x];
            if (is_possible(x)) each(x, logit);
        }
    }

    __device__ bool keeps(int x, float logit) const {
        const unsigned key = key_of(logit);
        return key > threshold || key == threshold && x < tie_end;
    }
    __device__ double weight(float logit) const { return expf((logit - largest) * inverse_temperature); }

    // The weight of a possible token, zero of one that is left out.
    struct Weights {
        const Distribution &p;
        __device__ double operator()(int x, float logit) const { return p.keeps(x, logit) ? p.weight(logit) : 0.0; }
    };
    __device__ Weights weights() const { return Weights{*this}; }

    // Notes sums of what `of` gives for possible tokens.
    template <class Of> __device__ void measure(Of of) {
        double sum = 0.0;
        for_own([&](int x, float logit) { sum += of(x, logit); });
        sum = over_warp(sum, Sum());
        __syncthreads();
        if (lane() == 0) of_warps[warp()] = sum;
        __syncthreads();
        total = 0.0;
        for (int k = 0; k < warps(); k++) total += of_warps[k];
    }

    __device__ bool is_proper() const { return total > 0.0 && total <= 1e300; }

    // The first token up to which the sum of what was measured exceeds a target, among those of which something positive was
    // measured; the last of these if the sum does not, or token 0 if there is none.
    template <class Of> __device__ int first_beyond(Of of, double target) const {
        int chosen = 0;
        double sum = 0.0, before = 0.0;
        bool found = false;
        for (int k = 0; k < warps() && !found; k++) {
            if (of_warps[k] > 0.0) chosen = k, before = sum;
            sum += of_warps[k];
            found = sum > target && of_warps[k] > 0.0;
        }
        // All threads take the run of that warp, each some neighbours.
        const int each = (run() + blockDim.x - 1) / blockDim.x, end = min((chosen + 1) * run(), classes);
        const int start = min(chosen * run() + (int)threadIdx.x * each, end), stop = min(start + each, end);
        auto measured = [&](int x) { return is_possible(x) ? of(x, logits[x]) : 0.0; };
        double own = 0.0;
        for (int x = start; x < stop; x++) own += measured(x);
        sum = before + before_in_block(own);
        int first = NO_TOKEN, last = 0;
        for (int x = start; x < stop; x++) {
            const double one = measured(x);
            if (!(one > 0.0)) continue;
            sum += one;
            last = x;
            if (first == NO_TOKEN && sum > target) first = x;
        }
        first = over_block(first, Least());
        last = over_block(last, Largest());
        return first == NO_TOKEN ? last : first;
    }

    // The sum of what the threads before this one have.
    __device__ static double before_in_block(double own) {
        __shared__ double ends[MOST_WARPS];
        double sum = own;
        for (int distance = 1; distance < 32; distance *= 2) {
            const double other = __shfl_up_sync(~0u, sum, distance);
            if (lane() >= distance) sum += other;
        }
        if (lane() == 31) ends[warp()] = sum;
        __syncthreads();
        double before = 0.0;
        for (int k = 0; k < warp(); k++) before += ends[k];
        __syncthreads();
        const double up_to_last = __shfl_up_sync(~0u, sum, 1);
        return lane() == 0 ? before : before + up_to_last;
    }

    // The token at `uniform` of the cumulative distribution.
    __device__ int draw(double uniform) const { return first_beyond(weights(), uniform * total); }

    // The largest key of which `is_enough` is true, which it is of 0, of no key above that of the largest logit, and of all
    // keys below another that it is true of.
    template <class IsEnough> __device__ unsigned largest_key(IsEnough is_enough) const {
        unsigned low = 0, high = key_of(largest) + 1;
        while (high - low > 1) {
            const unsigned middle = low + (high - low) / 2;
            (is_enough(middle) ? low : high) = middle;
        }
        return low;
    }

    // The number, or what is weighed, of the kept tokens whose keys are at least `key`.
    template <class Number, class Of> __device__ Number from_key(unsigned key, Of of) const {
        Number sum = 0;
        for_own([&](int x, float logit) {
            if (key_of(logit) >= key && keeps(x, logit)) sum += of(logit);
        });
        return over_block(sum, Sum());
    }

    // Leaves out tokens whose keys are below `key`, and of those that have it all but the first `count`.
    __device__ void keep(unsigned key, unsigned count) {
        const unsigned old_threshold = threshold;
        const int old_end = tie_end;
        auto is_tie = [=](int x, float logit) {
            return key_of(logit) == key && (key > old_threshold || x < old_end) ? 1.0 : 0.0;
        };
        measure(is_tie);
        const int end = count == 0 ? 0 : first_beyond(is_tie, (double)count - 1.0) + 1;
        threshold = key, tie_end = end;
    }

    // Keeps the k most probable tokens, then the smallest set of them whose mass reaches p, or with `exclusive` the largest
    // whose mass does not exceed it, and one at least. Of equals the first are the most probable.
    __device__ void truncate(unsigned top_k, double top_p, bool exclusive) {
        auto one = [](float) { return 1u; };
        if (top_k < (unsigned)classes && top_k < from_key<unsigned>(0, one)) {
            const unsigned key = largest_key([&](unsigned key) { return from_key<unsigned>(key, one) >= top_k; });
            keep(key, top_k - from_key<unsigned>(key + 1, one));
            measure(weights());
        }
        if (top_p >= 1.0) return;
        auto mass = [this](float logit) { return weight(logit); };
        const double target = top_p * total;
        auto reaches = [&](double mass) { return exclusive ? mass > target : mass >= target; };
        // Where rounding makes the target the whole mass, all is kept.
        if (!reaches(from_key<double>(0, mass))) return;
        const unsigned key = largest_key([&](unsigned key) { return reaches(from_key<double>(key, mass)); });
        const double above = from_key<double>(key + 1, mass);
        const unsigned ties = from_key<unsigned>(key, one) - from_key<unsigned>(key + 1, one);
        double weight_of_tie = 0.0;
        for_own([&](int, float logit) {
            if (key_of(logit) == key) weight_of_tie = weight(logit);
        });
        weight_of_tie = over_block(weight_of_tie, Largest());
        // The first number of ties with which the target is reached.
        unsigned count = (unsigned)fmin((target - above) / weight_of_tie, (double)ties);
        while (count > 0 && reaches(above + (count - 1) * weight_of_tie)) count--;
        while (count < ties && !reaches(above + count * weight_of_tie)) count++;
        if (exclusive && count > 0 && (count > 1 || above > 0.0)) count--;
        keep(key, count);
        measure(weights());
    }
};

// What the draws of a token are made of.
struct Drawing {
    const float *logits;
    const code_t *codes;
    int classes, mask, carry_over;
    const Sequence &sequence;
    unsigned i;
    // Digits before.
    int y[DIGITS];
    // Two distributions' sums.
    double (*of_warps)[MOST_WARPS];

    __device__ Seen support() const {
        return carry_over ? seen_in(y, mask) : Seen{0, 0};
    }

    // p(x_0 | y), sharpened; what is seen of the token says which tokens there are.
    __device__ Distribution predict(Seen seen, double *of_warps) const {
        Distribution p(logits, codes, classes, seen, sequence.inverse_temperature, of_warps);
        if (p.is_proper()) p.truncate(sequence.top_k, sequence.top_p, sequence.how & EXCLUSIVE);
        return p;
    }

    __device__ double uniform(unsigned event) const { return sequence.draws.uniform(TOKEN, i, event); }

    // Whether some token agrees with digits.
    __device__ bool is_possible(const int (&digits)[DIGITS]) const {
        if (!(sequence.how & CONTRADICTS)) return true;
        const Seen seen = seen_in(digits, mask);
        int any = 0;
        for (int x = threadIdx.x; x < classes && !any; x += blockDim.x) any = agrees(codes[x], seen);
        return over_block(any, Largest());
    }

    // A token of those that agree with the digits before; the second uniform number is that of a redraw.
    __device__ int redraw() const {
        return predict(seen_in(y, mask), of_warps[1]).draw(uniform(2 * sequence.event + 1));
    }

    // Copies digits of a token, those with a bit in `digits`.
    __device__ void copy(int x, unsigned long long digits, int (&to)[DIGITS]) const {
        for (int j = 0; j < DIGITS; j++)
            if (digits >> j & 1) to[j] = (int)digit_of(codes[x], j);
    }

    // Draws digits each by itself.
    __device__ void draw_digits(const Distribution &p, unsigned long long digits, unsigned event, int (&to)[DIGITS]) const {
        for (int j = 0; j < DIGITS; j++)
            if (digits >> j & 1)
                to[j] = (int)digit_of(codes[p.draw(sequence.draws.uniform(DIGIT_ALONE, i * DIGITS + j, event))], j);
    }

    // The state to which a digit jumps, or the same: at a rate to its `value`, and at another to the mask. The rate to where
    // it is counts as zero.
    __device__ int jump(int present, int value, int j) const {
        const double to_value = present == value ? 0.0 : sequence.to_value;
        const double to_mask = present == mask ? 0.0 : sequence.to_mask, all = to_value + to_mask;
        const unsigned place = i * DIGITS + j, event = 2 * sequence.event;
        if (sequence.draws.uniform(JUMP, place, event) >= -expm1(-all)) return present;
        return sequence.draws.uniform(JUMP, place, event + 1) * all < to_value ? value : mask;
    }
};

constexpr int MOST_THREADS = 1024;

// The tokens of a visit stand behind its `count` sequences.
__device__ inline const Token *tokens_of(const Sequence *sequences, int count) {
    return reinterpret_cast<const Token *>(sequences + count);
}

// Draws tokens of a visit: their digits in y [_, ℓ] become what is drawn, and notes [_, 4], whose rows may be apart, are added
// to. Logits are [blocks, stride], of the tokens from `first` on.
extern "C" __global__ void __launch_bounds__(MOST_THREADS)
    draw(const float *__restrict__ logits, int classes, int stride, const code_t *__restrict__ codes, int *y, int *notes,
         int notes_stride, const Sequence *__restrict__ sequences, int count, int first, int mask, int carry_over) {
    __shared__ double of_warps[2][MOST_WARPS];
    const Token token = tokens_of(sequences, count)[first + blockIdx.x];
    const Sequence &sequence = sequences[token.sequence];
    y += (size_t)token.position * DIGITS;
    Drawing drawing{logits + (size_t)blockIdx.x * stride, codes, classes, mask, carry_over, sequence, token.i, {}, of_warps};
    int after[DIGITS];
    unsigned long long reveals = 0;
    for (int j = 0; j < DIGITS; j++) {
        after[j] = drawing.y[j] = y[j];
        const bool steps = sequence.how & STEPS, may = token.digits >> j & 1 && !(steps && y[j] != mask);
        if (may && (!steps || sequence.draws.uniform(REVEAL, token.i * DIGITS + j, sequence.event) < sequence.share))
            reveals |= 1ull << j;
    }
    notes += (size_t)token.position * notes_stride;
    int redraws = 0, jumped_digits = 0, dropped = 0;
    const Distribution p = drawing.predict(drawing.support(), of_warps[0]);
    if (!p.is_proper()) {
        if (threadIdx.x == 0) notes[IMPROPER] = 1;
        return;
    }
    int x_0 = 0;
    if (sequence.how & EACH_DIGIT) {
        drawing.draw_digits(p, reveals, 2 * sequence.event, after);
    } else {
        x_0 = p.draw(drawing.uniform(2 * sequence.event));
        drawing.copy(x_0, reveals, after);
    }
    if (!drawing.is_possible(after)) {
        x_0 = drawing.redraw();
        drawing.copy(x_0, reveals, after);
        redraws = 1;
    }
    if (sequence.how & JUMPS) {
        int value[DIGITS], jumped[DIGITS], jumps = 0;
        if (sequence.how & EACH_DIGIT)
            drawing.draw_digits(p, ~0ull, 2 * sequence.event + 1, value);
        else
            drawing.copy(x_0, ~0ull, value);
        for (int j = 0; j < DIGITS; j++) {
            jumped[j] = token.digits >> j & 1 ? drawing.jump(after[j], value[j], j) : after[j];
            jumps += jumped[j] != after[j];
        }
        if (drawing.is_possible(jumped)) {
            for (int j = 0; j < DIGITS; j++) after[j] = jumped[j];
            jumped_digits = jumps;
        } else {
            dropped = jumps;
        }
    }
    // All threads have read the digits before: they have met since.
    if (threadIdx.x > 0) return;
    for (int j = 0; j < DIGITS; j++) y[j] = after[j];
    notes[REDRAWS] += redraws, notes[JUMPED] += jumped_digits, notes[JUMPS_DROPPED] += dropped;
}

// How sure the network is of what is masked: the largest probability, that less the second, or Σ p log p.
enum Ranking { CONFIDENCE, MARGIN, ENTROPY, NONE };

// The score of probabilities in proportion to `masses` [count], in shared memory.
__device__ inline double score_of(const double *masses, int count, int ranking) {
    double sum = 0.0, first = 0.0;
    for (int v = threadIdx.x; v < count; v += blockDim.x) {
        sum += masses[v];
        first = fmax(first, masses[v]);
    }
    sum = over_block(sum, Sum());
    first = over_block(first, Largest()) / sum;
    if (ranking == CONFIDENCE) return first;
    double second = 0.0, entropy = 0.0;
    int firsts = 0;
    for (int v = threadIdx.x; v < count; v += blockDim.x) {
        const double p = masses[v] / sum;
        if (p > 0.0) entropy += p * ::log(p);
        if (p == first) firsts++;
        else second = fmax(second, p);
    }
    if (ranking == ENTROPY) return over_block(entropy, Sum());
    second = over_block(second, Largest());
    return over_block(firsts, Sum()) > 1 ? 0.0 : first - second;
}

// The score of a distribution over tokens.
__device__ inline double score_of(const Distribution &p, int ranking) {
    if (ranking == CONFIDENCE) return 1.0 / p.total;
    double second = 0.0, mean = 0.0;
    int firsts = 0;
    p.for_own([&](int, float logit) {
        const double weight = p.weight(logit);
        if (weight > 0.0) mean += weight * (double)(logit - p.largest);
        if (logit == p.largest) firsts++;
        else second = fmax(second, weight);
    });
    if (ranking == ENTROPY) return over_block(mean, Sum()) / p.total - ::log(p.total);
    second = over_block(second, Largest());
    return over_block(firsts, Sum()) > 1 ? 0.0 : (1.0 - second) / p.total;
}

// Tokens by the values of their digits: those with value v of digit j are order[j][starts[j][v]] and the following, in
// increasing order.
struct ByDigit {
    // [ℓ, C], and [ℓ, b + 1].
    const int *order, *starts;
    int base;
};

// Masses [b] of the values of digit j, in shared memory that has room for as many, and for as many as there are warps.
__device__ inline void marginal(const Distribution &p, const ByDigit &by_digit, int j, double *masses) {
    const int *order = by_digit.order + (size_t)j * p.classes, *starts = by_digit.starts + (size_t)j * (by_digit.base + 1);
    // Warps share a value where there are more warps than values.
    const int parts = max(1, warps() / by_digit.base);
    __syncthreads();
    for (int task = warp(); task < by_digit.base * parts; task += warps()) {
        const int v = task / parts, part = task % parts;
        double sum = 0.0;
        for (int k = starts[v] + part * 32 + lane(); k < starts[v + 1]; k += 32 * parts) {
            const int x = order[k];
            if (p.is_possible(x)) sum += p.weight(p.logits[x]);
        }
        sum = over_warp(sum, Sum());
        if (lane() == 0) masses[task] = sum;
    }
    __syncthreads();
    double sum = 0.0;
    const int v = threadIdx.x;
    if (parts > 1 && v < by_digit.base)
        for (int part = 0; part < parts; part++) sum += masses[v * parts + part];
    __syncthreads();
    if (parts > 1 && v < by_digit.base) masses[v] = sum;
    __syncthreads();
}

// Ranks tokens before temperature, top-k and nucleus, and draws them for whichever of their digits will be revealed. Of all
// tokens of the visit `out` gets scores, [all, ℓ] of masked digits or [all, 1] of tokens where there is no list by digit, and
// then candidates [all, 2]: the token drawn, and the one to copy from where its digits would leave no possible token. Dynamic
// shared memory has room for as many doubles as a digit has values, or the block warps. Otherwise as `draw`.
extern "C" __global__ void __launch_bounds__(MOST_THREADS)
    rank(const float *__restrict__ logits, int classes, int stride, const code_t *__restrict__ codes, const int *y,
         int *notes, int notes_stride, const Sequence *__restrict__ sequences, int count, int first, int mask,
         int carry_over, int ranking, const int *__restrict__ by_digit, int all, int *__restrict__ out) {
    __shared__ double of_warps[2][MOST_WARPS];
    extern __shared__ double dynamic_shared[];
    const int row = first + blockIdx.x;
    const Token token = tokens_of(sequences, count)[row];
    const Sequence &sequence = sequences[token.sequence];
    Drawing drawing{logits + (size_t)blockIdx.x * stride, codes, classes, mask, carry_over, sequence, token.i, {}, of_warps};
    for (int j = 0; j < DIGITS; j++) drawing.y[j] = y[(size_t)token.position * DIGITS + j];
    const Distribution p(drawing.logits, codes, classes, drawing.support(), 1.0f, of_warps[1]);
    if (!p.is_proper()) {
        if (threadIdx.x == 0) notes[(size_t)token.position * notes_stride + IMPROPER] = 1;
        return;
    }
    double *scores = reinterpret_cast<double *>(out);
    const int units = by_digit ? DIGITS : 1;
    if (ranking != NONE && by_digit) {
        const ByDigit lists{by_digit, by_digit + (size_t)DIGITS * classes, mask};
        for (int j = 0; j < DIGITS; j++) {
            double score = 0.0;
            if (drawing.y[j] == mask) {
                marginal(p, lists, j, dynamic_shared);
                score = score_of(dynamic_shared, mask, ranking);
            }
            if (threadIdx.x == 0) scores[(size_t)row * DIGITS + j] = score;
        }
    } else if (ranking != NONE) {
        const double score = score_of(p, ranking);
        if (threadIdx.x == 0) scores[row] = score;
    }
    const int x_0 = drawing.predict(drawing.support(), of_warps[0]).draw(drawing.uniform(2 * sequence.event));
    const int spare = sequence.how & CONTRADICTS ? drawing.redraw() : x_0;
    int *candidates = out + 2 * ((size_t)all * units + row);
    if (threadIdx.x == 0) candidates[0] = x_0, candidates[1] = spare;
}
