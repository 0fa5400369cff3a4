// x times a factor in memory; most often that is 1, and nothing is done.
extern "C" __global__ void scale(float *x, unsigned long long count, const float *factor) {
    const float by = *factor;
    if (by == 1.0f) return;
    const unsigned long long all = gridDim.x * (unsigned long long)blockDim.x;
    for (unsigned long long i = blockIdx.x * (unsigned long long)blockDim.x + threadIdx.x; i < count; i += all) x[i] *= by;
}
