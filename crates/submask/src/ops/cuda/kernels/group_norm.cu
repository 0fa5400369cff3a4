// GroupNorm: (x − mean)/σ·scale + shift, mean and deviation over all planes of a group of channels; then SiLU, if SILU is 1.
//
// A block has a group of one image, whose elements stand one after the other. They stay in shared memory, if they fit.
// RESULT, UPSTREAM: types of the result, and of its gradient; PACK: elements of a thread, a divisor of the pixels.

constexpr float EPSILON = 1e-5f;

/// A group: its elements, and scale and shift of its channels.
struct Group {
    const float *x, *scale, *shift;
    int channels, pixels;
    float mean, inverse;

    __device__ int elements() const { return channels * pixels; }

    /// What goes into SiLU, of an element x̂ of a channel.
    __device__ float result(float hat, int channel) const { return hat * scale[channel] + shift[channel]; }

    __device__ float hat(float element) const { return (element - mean) * inverse; }
};

/// Calls work with the first of PACK elements, for all of this thread.
template <class Work> __device__ inline void for_own(int elements, Work work) {
    for (int first = threadIdx.x * PACK; first < elements; first += blockDim.x * PACK) work(first);
}

/// This block's group, of `groups` per image, with its mean and deviation. `held` is room for its elements, or null. Scale
/// and shift of images are `stride` apart, 0 where all share them.
__device__ inline Group own_group(const float *x, const float *scale, const float *shift, int groups, int channels,
                                  int pixels, int stride, float *held) {
    size_t image = blockIdx.x / groups, modulation = image * stride + size_t(blockIdx.x % groups) * channels;
    Group group{x + size_t(blockIdx.x) * channels * pixels, scale + modulation, shift + modulation, channels, pixels, 0.0f, 0.0f};
    int count = group.elements();
    float sum = 0.0f;
    for_own(count, [&](int first) {
        float values[PACK];
        load<PACK>(values, group.x + first);
        if (held) store<PACK>(held + first, values);
#pragma unroll
        for (int i = 0; i < PACK; i++) sum += values[i];
    });
    // After the sum all elements are in shared memory.
    group.mean = block_sum(sum) / count;
    if (held) group.x = held;
    float squares = 0.0f;
    for_own(count, [&](int first) {
        float values[PACK];
        load<PACK>(values, group.x + first);
#pragma unroll
        for (int i = 0; i < PACK; i++) squares += (values[i] - group.mean) * (values[i] - group.mean);
    });
    group.inverse = 1.0f / sqrtf(block_sum(squares) / count + EPSILON);
    return group;
}

extern "C" __global__ void group_norm(const float *__restrict__ x, const float *__restrict__ scale,
                                      const float *__restrict__ shift, RESULT *__restrict__ out, int groups, int channels,
                                      int pixels, int stride, int holds) {
    extern __shared__ __align__(16) float dynamic_shared[];
    Group group = own_group(x, scale, shift, groups, channels, pixels, stride, holds ? dynamic_shared : nullptr);
    out += size_t(blockIdx.x) * group.elements();
    for_own(group.elements(), [&](int first) {
        float values[PACK];
        load<PACK>(values, group.x + first);
        int channel = first / pixels;
#pragma unroll
        for (int i = 0; i < PACK; i++) {
            values[i] = group.result(group.hat(values[i]), channel);
            if (SILU) values[i] *= sigmoid(values[i]);
        }
        store<PACK>(out + first, values);
    });
}

/// g, or g through SiLU at what the norm gave.
__device__ inline float upstream(const Group &group, float hat, int channel, float g) {
    if (!SILU) return g;
    float n = group.result(hat, channel), s = sigmoid(n);
    return g * s * (1.0f + n * (1.0f - s));
}

/// With u the gradient of x̂·scale + shift: dshift = Σ u and dscale = Σ u·x̂ of every image [B, channels], and dx = (u·scale −
/// mean(u·scale) − x̂·mean(u·scale·x̂))/σ.
extern "C" __global__ void group_norm_backward(const float *__restrict__ x, const float *__restrict__ scale,
                                               const float *__restrict__ shift, const UPSTREAM *__restrict__ g,
                                               float *__restrict__ dx, float *__restrict__ dscale,
                                               float *__restrict__ dshift, int groups, int channels, int pixels, int stride,
                                               int holds) {
    extern __shared__ __align__(16) float dynamic_shared[];
    Group group = own_group(x, scale, shift, groups, channels, pixels, stride, holds ? dynamic_shared : nullptr);
    int count = group.elements();
    g += size_t(blockIdx.x) * count;
    dx += size_t(blockIdx.x) * count;
    // A warp has a channel at a time.
    float sum = 0.0f, product = 0.0f;
    for (int channel = threadIdx.x / 32; channel < channels; channel += blockDim.x / 32) {
        float of_shift = 0.0f, of_scale = 0.0f;
        for (int pixel = lane_of_warp() * PACK; pixel < pixels; pixel += 32 * PACK) {
            float values[PACK], gradients[PACK];
            load<PACK>(values, group.x + channel * pixels + pixel);
            load<PACK>(gradients, g + channel * pixels + pixel);
#pragma unroll
            for (int i = 0; i < PACK; i++) {
                float hat = group.hat(values[i]), u = upstream(group, hat, channel, gradients[i]);
                of_shift += u;
                of_scale += u * hat;
            }
        }
        of_shift = warp_sum(of_shift);
        of_scale = warp_sum(of_scale);
        if (lane_of_warp() == 0) {
            size_t place = size_t(blockIdx.x) * channels + channel;
            dshift[place] = of_shift;
            dscale[place] = of_scale;
            sum += group.scale[channel] * of_shift;
            product += group.scale[channel] * of_scale;
        }
    }
    sum = block_sum(sum) / count;
    product = block_sum(product) / count;
    for_own(count, [&](int first) {
        float values[PACK], gradients[PACK];
        load<PACK>(values, group.x + first);
        load<PACK>(gradients, g + first);
        int channel = first / pixels;
#pragma unroll
        for (int i = 0; i < PACK; i++) {
            float hat = group.hat(values[i]), u = upstream(group, hat, channel, gradients[i]);
            values[i] = group.inverse * (u * group.scale[channel] - sum - hat * product);
        }
        store<PACK>(dx + first, values);
    });
}
