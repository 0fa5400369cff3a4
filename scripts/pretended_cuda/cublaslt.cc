// libcublasLt.so that multiplies on the CPU, at once. It refuses what the documentation of cuBLASLt refuses, as far as our
// products could ask for it: wrong sizes, addresses that are not aligned as the algorithm was told, missing pointers, leading
// dimensions of auxiliary matrices. An element of a result is one sum over the inner dimension from its first term to its
// last, whatever the number of rows.
//
// Own code after the public documentation.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "device/types.h"

namespace {

/// As in cublas_api.h.
enum Status { SUCCESS = 0, NOT_INITIALIZED = 1, INVALID_VALUE = 7, NOT_SUPPORTED = 15 };
enum Type { F32 = 0, F16 = 2, BF16 = 14 };
enum Compute { COMPUTE_32F = 68, COMPUTE_32F_PEDANTIC = 69, COMPUTE_32F_FAST_TF32 = 77 };

/// As in cublasLt.h.
enum Order { COLUMNS = 0, ROWS = 1 };
enum LayoutAttribute { LAYOUT_TYPE, LAYOUT_ORDER, LAYOUT_ROWS, LAYOUT_COLUMNS, LAYOUT_LEADING, LAYOUT_BATCHES, LAYOUT_BATCH_STRIDE };
enum DescAttribute {
    DESC_COMPUTE = 0,
    DESC_SCALE = 1,
    DESC_POINTER_MODE = 2,
    DESC_TRANSPOSED_A = 3,
    DESC_TRANSPOSED_B = 4,
    DESC_TRANSPOSED_C = 5,
    DESC_EPILOGUE = 7,
    DESC_BIAS = 8,
    DESC_BIAS_STRIDE = 10,
    DESC_AUX = 11,
    DESC_AUX_LEADING = 12,
    DESC_AUX_STRIDE = 13,
    DESC_AUX_TYPE = 22,
    DESC_BIAS_TYPE = 26,
};
enum PreferenceAttribute { PREFERENCE_WORKSPACE = 1, PREFERENCE_REDUCTION = 3, PREFERENCE_ALIGNMENT_A = 5 };
enum AlgoAttribute { ALGO_ID, ALGO_TILE, ALGO_SPLIT, ALGO_REDUCTION, ALGO_SWIZZLE, ALGO_OPTION, ALGO_STAGES, ALGO_INNER, ALGO_CLUSTER };
/// Epilogues are sums of these.
enum Epilogue : uint32_t { PLAIN = 1, RELU = 2, BIAS = 4, BIAS_GRADIENT = 16, GELU = 32, GELU_GRADIENT = 64, AUX = 128, BIAS_GRADIENT_A = 256, BIAS_GRADIENT_B = 512 };

struct Layout {
    int type;
    uint64_t rows, columns;
    int64_t leading;
    int order = COLUMNS, batches = 1;
    int64_t batch_stride = 0;
};

struct Desc {
    int compute, scale;
    int transposed_a = 0, transposed_b = 0, transposed_c = 0, pointer_mode = 0;
    uint32_t epilogue = PLAIN;
    void *bias = nullptr, *aux = nullptr;
    int64_t bias_stride = 0, aux_leading = 0, aux_stride = 0;
    int aux_type = -1, bias_type = -1;
};

struct Preference {
    uint64_t workspace = 0;
    uint32_t reductions = 7;
    /// Of A, B, C, D.
    uint32_t alignments[4] = {256, 256, 256, 256};
};

/// The first words of cublasLtMatmulAlgo_t are settings; then, what the algorithm may be used for.
struct Algo {
    int32_t settings[9];
    uint32_t alignments[4];
    uint32_t kind;
    uint64_t reserved;
};
static_assert(sizeof(Algo) == 64, "as cublasLtMatmulAlgo_t");

struct Heuristic {
    Algo algo;
    size_t workspace;
    int status;
    float waves;
    int reserved[4];
};

size_t size_of(int type) { return type == F32 ? 4 : 2; }

float load(int type, const void *from, int64_t index) {
    switch (type) {
    case F32: return static_cast<const float *>(from)[index];
    case F16: return pretended::of_half(static_cast<const uint16_t *>(from)[index]);
    default: return pretended::of_bf16(static_cast<const uint16_t *>(from)[index]);
    }
}

void store(int type, void *to, int64_t index, float value) {
    switch (type) {
    case F32: static_cast<float *>(to)[index] = value; break;
    case F16: static_cast<uint16_t *>(to)[index] = pretended::half_of(value); break;
    default: static_cast<uint16_t *>(to)[index] = pretended::bf16_of(value);
    }
}

/// A factor of TF32: 10 bits behind the point.
float tf32(float x) {
    auto bits = pretended::bits_as<uint32_t>(x);
    if ((bits & 0x7F800000) != 0x7F800000) bits = (bits + 0xFFF + (bits >> 13 & 1)) & 0xFFFFE000;
    return pretended::bits_as<float>(bits);
}

/// The tanh form, as cuBLASLt's.
constexpr float GELU_SCALE = 0.7978845608028654f, GELU_CUBE = 0.044715f;

float gelu(float x) { return 0.5f * x * (1 + std::tanh(GELU_SCALE * (x + GELU_CUBE * x * x * x))); }

float gelu_gradient(float x) {
    float t = std::tanh(GELU_SCALE * (x + GELU_CUBE * x * x * x));
    return 0.5f * (1 + t) + 0.5f * x * (1 - t * t) * GELU_SCALE * (1 + 3 * GELU_CUBE * x * x);
}

/// A matrix of a batch: element (row, column) at row · row_step + column · column_step.
struct View {
    const Layout &layout;
    char *data;
    int64_t row_step, column_step;

    View(const Layout &layout, const void *data, int batch)
        : layout(layout), data(static_cast<char *>(const_cast<void *>(data)) + batch * layout.batch_stride * int64_t(size_of(layout.type))),
          row_step(layout.order == ROWS ? layout.leading : 1), column_step(layout.order == ROWS ? 1 : layout.leading) {}
    float at(int64_t row, int64_t column) const { return load(layout.type, data, row * row_step + column * column_step); }
    void put(int64_t row, int64_t column, float value) const { store(layout.type, data, row * row_step + column * column_step, value); }
};

// A tile of the result is ROWS_OF_TILE × COLUMNS_OF_TILE sums in registers; factors are packed so that a step of the inner
// dimension reads both one after the other.
constexpr int64_t TILE_ROWS = 16, TILE_COLUMNS = 6;
typedef float Eight __attribute__((vector_size(32), aligned(4)));

#if defined(__x86_64__)
__attribute__((target_clones("default", "arch=x86-64-v3")))
#endif
void
tile(const float *a, const float *b, int64_t inner, float *sums) {
    Eight sum[TILE_COLUMNS][2] = {};
    for (int64_t k = 0; k < inner; k++, a += TILE_ROWS, b += TILE_COLUMNS) {
        Eight low = *reinterpret_cast<const Eight *>(a), high = *reinterpret_cast<const Eight *>(a + 8);
        for (int64_t c = 0; c < TILE_COLUMNS; c++) {
            sum[c][0] += low * b[c];
            sum[c][1] += high * b[c];
        }
    }
    memcpy(sums, sum, sizeof sum);
}

/// A factor in panels of `width` rows (of A) or columns (of B), inner index by inner index; what is missing is zero.
std::vector<float> pack(const View &view, bool transposed, bool rounded, int64_t outer, int64_t inner, int64_t width, bool of_rows) {
    int64_t panels = (outer + width - 1) / width;
    std::vector<float> packed(size_t(panels * width * inner));
    int64_t outer_step = of_rows != transposed ? view.row_step : view.column_step;
    int64_t inner_step = of_rows != transposed ? view.column_step : view.row_step;
    for (int64_t o = 0; o < outer; o++) {
        float *to = &packed[size_t(o / width * width * inner + o % width)];
        for (int64_t k = 0; k < inner; k++) {
            float x = load(view.layout.type, view.data, o * outer_step + k * inner_step);
            to[k * width] = rounded ? tf32(x) : x;
        }
    }
    return packed;
}

struct Product {
    const Desc &desc;
    int64_t rows, columns, inner;
    float alpha, beta;
};

/// What happens to a sum before it is written.
void finish(const Product &of, int batch, int64_t row, int64_t column, float sum, const View &c, const View &d, std::vector<float> &bias_gradient) {
    const Desc &desc = of.desc;
    float value = of.alpha * sum;
    // As in BLAS, what stands in C does not matter if beta is 0.
    if (of.beta != 0) value += of.beta * c.at(row, column);
    int bias_type = desc.bias_type < 0 ? d.layout.type : desc.bias_type;
    int aux_type = desc.aux_type < 0 ? d.layout.type : desc.aux_type;
    int64_t aux = batch * desc.aux_stride + row + column * desc.aux_leading;
    if (desc.epilogue & BIAS) value += load(bias_type, desc.bias, batch * desc.bias_stride + row);
    if (desc.epilogue & GELU) {
        if (desc.epilogue & AUX) store(aux_type, desc.aux, aux, value);
        value = gelu(value);
    }
    if (desc.epilogue & GELU_GRADIENT) value *= gelu_gradient(load(aux_type, desc.aux, aux));
    if (desc.epilogue & RELU) value = std::max(value, 0.0f);
    if (desc.epilogue & BIAS_GRADIENT) bias_gradient[size_t(row)] += value;
    d.put(row, column, value);
}

void multiply(const Product &of, int batch, const View &a, const View &b, const View &c, const View &d) {
    const Desc &desc = of.desc;
    bool rounded = desc.compute == COMPUTE_32F_FAST_TF32 && a.layout.type == F32;
    auto left = pack(a, desc.transposed_a, rounded, of.rows, of.inner, TILE_ROWS, true);
    auto right = pack(b, desc.transposed_b, rounded, of.columns, of.inner, TILE_COLUMNS, false);
    std::vector<float> bias_gradient(size_t(desc.epilogue & BIAS_GRADIENT ? of.rows : 0));
    for (int64_t column = 0; column < of.columns; column += TILE_COLUMNS)
        for (int64_t row = 0; row < of.rows; row += TILE_ROWS) {
            float sums[TILE_COLUMNS][TILE_ROWS];
            tile(&left[size_t(row * of.inner)], &right[size_t(column * of.inner)], of.inner, &sums[0][0]);
            for (int64_t j = 0; j < std::min(TILE_COLUMNS, of.columns - column); j++)
                for (int64_t i = 0; i < std::min(TILE_ROWS, of.rows - row); i++)
                    finish(of, batch, row + i, column + j, sums[j][i], c, d, bias_gradient);
        }
    if (desc.epilogue & (BIAS_GRADIENT_A | BIAS_GRADIENT_B)) {
        bool first = desc.epilogue & BIAS_GRADIENT_A;
        int64_t outer = first ? of.rows : of.columns;
        bias_gradient.assign(size_t(outer), 0);
        for (int64_t o = 0; o < outer; o++)
            for (int64_t k = 0; k < of.inner; k++)
                bias_gradient[size_t(o)] += first ? (desc.transposed_a ? a.at(k, o) : a.at(o, k)) : (desc.transposed_b ? b.at(o, k) : b.at(k, o));
    }
    int bias_type = desc.bias_type < 0 ? d.layout.type : desc.bias_type;
    for (size_t i = 0; i < bias_gradient.size(); i++) store(bias_type, desc.bias, batch * desc.bias_stride + int64_t(i), bias_gradient[i]);
}

int refuse(Status status, const char *why) {
    fprintf(stderr, "pretended cuBLASLt refuses a product: %s\n", why);
    return status;
}

uint64_t stored_leading(const Layout &layout) { return layout.order == ROWS ? layout.columns : layout.rows; }

/// How far an address or the step from column to column is aligned, up to 16 bytes.
uint32_t alignment(uint64_t bytes) {
    uint32_t aligned = 16;
    while (bytes % aligned) aligned /= 2;
    return aligned;
}

/// What an algorithm depends on: all but the sizes.
uint32_t kind_of(const Desc &desc, const Layout &a, const Layout &b, const Layout &c, const Layout &d) {
    uint32_t hash = 2166136261u;
    auto add = [&](uint64_t value) { hash = (hash ^ uint32_t(value)) * 16777619u; };
    add(uint64_t(desc.compute));
    add(uint64_t(desc.transposed_a));
    add(uint64_t(desc.transposed_b));
    add(desc.epilogue);
    for (const Layout *layout : {&a, &b, &c, &d}) {
        add(uint64_t(layout->type));
        add(uint64_t(layout->order));
        add(alignment(uint64_t(layout->leading) * size_of(layout->type)));
    }
    return hash;
}

/// Whether the description of a product is one that can be computed.
int check(const Desc &desc, const Layout &a, const Layout &b, const Layout &c, const Layout &d) {
    if (desc.compute != COMPUTE_32F && desc.compute != COMPUTE_32F_PEDANTIC && desc.compute != COMPUTE_32F_FAST_TF32)
        return refuse(NOT_SUPPORTED, "the compute type");
    if (desc.scale != F32) return refuse(NOT_SUPPORTED, "alpha and beta that are not float");
    if (desc.pointer_mode || desc.transposed_c) return refuse(NOT_SUPPORTED, "alpha and beta on the device, or C transposed");
    for (const Layout *layout : {&a, &b, &c, &d}) {
        if (layout->type != F32 && layout->type != F16 && layout->type != BF16) return refuse(NOT_SUPPORTED, "a type of numbers");
        if (layout->order != COLUMNS && layout->order != ROWS) return refuse(NOT_SUPPORTED, "an order in memory");
        if (layout->leading < int64_t(stored_leading(*layout))) return refuse(INVALID_VALUE, "a leading dimension that is too small");
        if (layout->batches != d.batches) return refuse(INVALID_VALUE, "numbers of matrices that differ");
    }
    if (a.type != b.type || c.type != d.type) return refuse(NOT_SUPPORTED, "factors or results of two types");
    if (a.type == F32 && d.type != F32) return refuse(NOT_SUPPORTED, "a short result of float factors");
    uint64_t rows = desc.transposed_a ? a.columns : a.rows, inner = desc.transposed_a ? a.rows : a.columns;
    uint64_t inner_b = desc.transposed_b ? b.columns : b.rows, columns = desc.transposed_b ? b.rows : b.columns;
    if (inner != inner_b || rows != d.rows || columns != d.columns || c.rows != d.rows || c.columns != d.columns)
        return refuse(INVALID_VALUE, "sizes that do not belong together");
    if (!rows || !columns || !inner) return refuse(INVALID_VALUE, "an empty matrix");
    uint32_t known = PLAIN | BIAS | GELU | AUX | GELU_GRADIENT | BIAS_GRADIENT | BIAS_GRADIENT_A | BIAS_GRADIENT_B | RELU;
    if (!desc.epilogue || desc.epilogue & ~known || (desc.epilogue & RELU && desc.epilogue & AUX)) return refuse(NOT_SUPPORTED, "the epilogue");
    if (desc.epilogue & AUX && (desc.aux_leading < int64_t(rows) || desc.aux_leading % 8))
        return refuse(INVALID_VALUE, "a leading dimension of GELU's input that is too small or no multiple of 8");
    return SUCCESS;
}

template <class T>
int set(T &field, const void *value, size_t bytes) {
    if (bytes != sizeof field) return INVALID_VALUE;
    memcpy(&field, value, sizeof field);
    return SUCCESS;
}

} // namespace

extern "C" {

int cublasLtCreate(void **handle) {
    static char library;
    return *handle = &library, SUCCESS;
}
int cublasLtDestroy(void *) { return SUCCESS; }
size_t cublasLtGetVersion() { return 130000; }
size_t cublasLtGetCudartVersion() { return 13000; }
const char *cublasLtGetStatusName(int status) {
    switch (status) {
    case SUCCESS: return "CUBLAS_STATUS_SUCCESS";
    case NOT_INITIALIZED: return "CUBLAS_STATUS_NOT_INITIALIZED";
    case INVALID_VALUE: return "CUBLAS_STATUS_INVALID_VALUE";
    default: return "CUBLAS_STATUS_NOT_SUPPORTED";
    }
}
const char *cublasLtGetStatusString(int status) { return cublasLtGetStatusName(status); }

int cublasLtMatrixLayoutCreate(Layout **layout, int type, uint64_t rows, uint64_t columns, int64_t leading) {
    return *layout = new Layout{type, rows, columns, leading}, SUCCESS;
}
int cublasLtMatrixLayoutDestroy(Layout *layout) { return delete layout, SUCCESS; }
int cublasLtMatrixLayoutSetAttribute(Layout *layout, int attribute, const void *value, size_t bytes) {
    switch (attribute) {
    case LAYOUT_TYPE: return set(layout->type, value, bytes);
    case LAYOUT_ORDER: return set(layout->order, value, bytes);
    case LAYOUT_ROWS: return set(layout->rows, value, bytes);
    case LAYOUT_COLUMNS: return set(layout->columns, value, bytes);
    case LAYOUT_LEADING: return set(layout->leading, value, bytes);
    case LAYOUT_BATCHES: return set(layout->batches, value, bytes);
    case LAYOUT_BATCH_STRIDE: return set(layout->batch_stride, value, bytes);
    default: return refuse(NOT_SUPPORTED, "an attribute of a matrix");
    }
}

int cublasLtMatmulDescCreate(Desc **desc, int compute, int scale) { return *desc = new Desc{compute, scale}, SUCCESS; }
int cublasLtMatmulDescDestroy(Desc *desc) { return delete desc, SUCCESS; }
int cublasLtMatmulDescSetAttribute(Desc *desc, int attribute, const void *value, size_t bytes) {
    switch (attribute) {
    case DESC_COMPUTE: return set(desc->compute, value, bytes);
    case DESC_SCALE: return set(desc->scale, value, bytes);
    case DESC_POINTER_MODE: return set(desc->pointer_mode, value, bytes);
    case DESC_TRANSPOSED_A: return set(desc->transposed_a, value, bytes);
    case DESC_TRANSPOSED_B: return set(desc->transposed_b, value, bytes);
    case DESC_TRANSPOSED_C: return set(desc->transposed_c, value, bytes);
    case DESC_EPILOGUE: return set(desc->epilogue, value, bytes);
    case DESC_BIAS: return set(desc->bias, value, bytes);
    case DESC_BIAS_STRIDE: return set(desc->bias_stride, value, bytes);
    case DESC_AUX: return set(desc->aux, value, bytes);
    case DESC_AUX_LEADING: return set(desc->aux_leading, value, bytes);
    case DESC_AUX_STRIDE: return set(desc->aux_stride, value, bytes);
    case DESC_AUX_TYPE: return set(desc->aux_type, value, bytes);
    case DESC_BIAS_TYPE: return set(desc->bias_type, value, bytes);
    default: return refuse(NOT_SUPPORTED, "an attribute of a product");
    }
}

int cublasLtMatmulPreferenceCreate(Preference **preference) { return *preference = new Preference, SUCCESS; }
int cublasLtMatmulPreferenceDestroy(Preference *preference) { return delete preference, SUCCESS; }
int cublasLtMatmulPreferenceSetAttribute(Preference *preference, int attribute, const void *value, size_t bytes) {
    if (attribute == PREFERENCE_WORKSPACE) return set(preference->workspace, value, bytes);
    if (attribute == PREFERENCE_REDUCTION) return set(preference->reductions, value, bytes);
    if (attribute >= PREFERENCE_ALIGNMENT_A && attribute < PREFERENCE_ALIGNMENT_A + 4)
        return set(preference->alignments[attribute - PREFERENCE_ALIGNMENT_A], value, bytes);
    return SUCCESS;
}

int cublasLtMatmulAlgoGetHeuristic(void *, Desc *desc, Layout *a, Layout *b, Layout *c, Layout *d, Preference *preference, int asked,
                                   Heuristic *results, int *found) {
    *found = 0;
    if (int status = check(*desc, *a, *b, *c, *d)) return status;
    if (asked < 1) return INVALID_VALUE;
    // For tests of what happens then: no algorithm finishes results, or none takes so many columns.
    if (const char *refused = getenv("PRETENDED_CUBLASLT_REFUSES")) {
        const uint64_t columns = strtoull(refused, nullptr, 10);
        const bool is_refused = columns ? a->columns == columns || b->columns == columns || d->columns == columns
                                        : !strcmp(refused, "epilogues") && desc->epilogue != PLAIN;
        if (is_refused) return NOT_SUPPORTED;
    }
    Heuristic &result = results[0];
    result = {};
    memcpy(result.algo.alignments, preference->alignments, sizeof preference->alignments);
    result.algo.settings[ALGO_SPLIT] = 1;
    result.algo.kind = kind_of(*desc, *a, *b, *c, *d);
    result.waves = 1;
    *found = 1;
    return SUCCESS;
}
int cublasLtMatmulAlgoGetIds(void *, int, int, int, int, int, int, int asked, int *ids, int *found) {
    if (asked < 1) return INVALID_VALUE;
    return ids[0] = 0, *found = 1, SUCCESS;
}
int cublasLtMatmulAlgoInit(void *, int, int, int, int, int, int, int id, Algo *algo) {
    *algo = {};
    algo->settings[ALGO_ID] = id;
    algo->settings[ALGO_SPLIT] = 1;
    return SUCCESS;
}
int cublasLtMatmulAlgoConfigSetAttribute(Algo *algo, int attribute, const void *value, size_t bytes) {
    if (attribute <= ALGO_ID || attribute > ALGO_CLUSTER || bytes > sizeof(int32_t)) return INVALID_VALUE;
    algo->settings[attribute] = 0;
    memcpy(&algo->settings[attribute], value, bytes);
    return SUCCESS;
}
int cublasLtMatmulAlgoConfigGetAttribute(const Algo *algo, int attribute, void *value, size_t bytes, size_t *written) {
    if (attribute < ALGO_ID || attribute > ALGO_CLUSTER) return INVALID_VALUE;
    // Shapes and stages are of 16 bits.
    size_t size = attribute == ALGO_INNER || attribute == ALGO_CLUSTER ? 2 : 4;
    if (written) *written = size;
    if (!bytes) return SUCCESS;
    if (bytes < size) return INVALID_VALUE;
    return memcpy(value, &algo->settings[attribute], size), SUCCESS;
}
int cublasLtMatmulAlgoCapGetAttribute(const Algo *, int, void *value, size_t bytes, size_t *written) {
    memset(value, 0, bytes);
    if (written) *written = bytes;
    return SUCCESS;
}
int cublasLtMatmulAlgoCheck(void *, Desc *desc, Layout *a, Layout *b, Layout *c, Layout *d, const Algo *algo, Heuristic *result) {
    if (int status = check(*desc, *a, *b, *c, *d)) return status;
    *result = {};
    result->algo = *algo;
    result->waves = 1;
    return SUCCESS;
}

int cublasLtMatmul(void *handle, Desc *desc, const float *alpha, const void *a, Layout *of_a, const void *b, Layout *of_b, const float *beta,
                   const void *c, Layout *of_c, void *d, Layout *of_d, const Algo *algo, void *, size_t, void *) {
    if (!handle) return NOT_INITIALIZED;
    if (int status = check(*desc, *of_a, *of_b, *of_c, *of_d)) return status;
    if (!a || !b || !d || (!c && *beta != 0)) return refuse(INVALID_VALUE, "a matrix is missing");
    if (desc->epilogue & (BIAS | BIAS_GRADIENT | BIAS_GRADIENT_A | BIAS_GRADIENT_B) && !desc->bias) return refuse(INVALID_VALUE, "the bias is missing");
    if (desc->epilogue & AUX && !desc->aux) return refuse(INVALID_VALUE, "GELU's input is missing");
    const void *addresses[] = {a, b, c, d};
    const Layout *layouts[] = {of_a, of_b, of_c, of_d};
    for (int i = 0; i < 4; i++) {
        auto address = reinterpret_cast<uint64_t>(addresses[i]);
        uint32_t wanted = algo && algo->alignments[i] ? algo->alignments[i] : uint32_t(size_of(layouts[i]->type));
        if (address % wanted == 0) continue;
        fprintf(stderr, "matrix %c, %llu x %llu, leading dimension %lld, at an address that is a multiple of %u and not of %u\n", "ABCD"[i],
                (unsigned long long)(layouts[i]->rows), (unsigned long long)(layouts[i]->columns), (long long)(layouts[i]->leading),
                alignment(address), wanted);
        return refuse(INVALID_VALUE, "an address that is not aligned as the algorithm was told");
    }
    if (algo && algo->kind && algo->kind != kind_of(*desc, *of_a, *of_b, *of_c, *of_d))
        return refuse(INVALID_VALUE, "the algorithm was asked for another kind of product");
    if (algo && algo->settings[ALGO_SPLIT] > 1) return refuse(NOT_SUPPORTED, "a sum that is split");
    Product product{*desc, int64_t(of_d->rows), int64_t(of_d->columns), int64_t(desc->transposed_a ? of_a->rows : of_a->columns), *alpha, *beta};
    for (int batch = 0; batch < of_d->batches; batch++)
        multiply(product, batch, {*of_a, a, batch}, {*of_b, b, batch}, {*of_c, c, batch}, {*of_d, d, batch});
    return SUCCESS;
}

} // extern "C"
