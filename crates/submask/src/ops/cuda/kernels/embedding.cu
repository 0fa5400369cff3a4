// Rows of a table, some per token, and the gradient of the table.
//
// The gradient is a sum over the places that take a row, in their order. Which places these are, the host has sorted; a row
// that is taken often is added up by pieces of PIECE places. TABLE and UPSTREAM: types of table and vectors, and of the
// vectors' gradient; PACK: columns of a thread, a divisor of the widths of table and vectors.

constexpr int TOKENS = 8;
constexpr int PIECE = 64;

/// Vectors of `hidden` numbers of the rows `indices` [tokens, per_token]: added up, or beside each other and followed by
/// zeros. Blocks are (tokens, columns).
extern "C" __global__ void embedding(const TABLE *__restrict__ table, const int *__restrict__ indices,
                                     TABLE *__restrict__ out, int tokens, int per_token, int width, int hidden, int summed) {
    int column = (blockIdx.y * blockDim.x + threadIdx.x) * PACK;
    if (column >= hidden) return;
    int start = blockIdx.x * TOKENS, end = min(tokens, start + TOKENS);
    int first = summed ? 0 : column / width, last = summed ? per_token : min(per_token, first + 1);
    const TABLE *of_column = table + (summed ? column : column % width);
    for (int token = start; token < end; token++) {
        float sum[PACK] = {};
        for (int j = first; j < last; j++) {
            float values[PACK];
            load<PACK>(values, of_column + size_t(indices[size_t(token) * per_token + j]) * width);
#pragma unroll
            for (int i = 0; i < PACK; i++) sum[i] += values[i];
        }
        store<PACK>(out + size_t(token) * hidden + column, sum);
    }
}

/// Which places take which row, in one buffer of the device.
struct Lists {
    /// Of the rows that are taken often: the first place of a piece, and the one behind its last.
    const int2 *pieces;
    /// The places of row r are from starts[r] to before starts[r + 1], and its pieces from pieces_of[r] to before
    /// pieces_of[r + 1].
    const int *starts, *pieces_of;
    /// Where a place's vector begins in the gradient.
    const unsigned *places;

    __device__ Lists(const int *lists, int pieces, int rows)
        : pieces(reinterpret_cast<const int2 *>(lists)), starts(lists + 2 * pieces), pieces_of(starts + rows + 1),
          places(reinterpret_cast<const unsigned *>(pieces_of + rows + 1)) {}

    /// Σ of the gradient over the places from `first` to before `end`.
    __device__ void add(float (&sum)[PACK], const UPSTREAM *g, int first, int end) const {
#pragma unroll 4
        for (int i = first; i < end; i++) {
            float values[PACK];
            load<PACK>(values, g + places[i]);
#pragma unroll
            for (int j = 0; j < PACK; j++) sum[j] += values[j];
        }
    }
};

/// The sums of pieces, [pieces, width]. Blocks are (piece, columns).
extern "C" __global__ void embedding_pieces(const UPSTREAM *__restrict__ g, const int *__restrict__ buffer,
                                            float *__restrict__ parts, int pieces, int rows, int width) {
    int column = (blockIdx.y * blockDim.x + threadIdx.x) * PACK;
    if (column >= width) return;
    Lists lists(buffer, pieces, rows);
    int2 piece = lists.pieces[blockIdx.x];
    float sum[PACK] = {};
    lists.add(sum, g + column, piece.x, piece.y);
    store<PACK>(parts + size_t(blockIdx.x) * width + column, sum);
}

/// The gradient of the table [rows, width]: the sums of the places of each row, or of its pieces, if it has any. Blocks are
/// (row, columns).
extern "C" __global__ void embedding_backward(const UPSTREAM *__restrict__ g, const int *__restrict__ buffer,
                                              const float *__restrict__ parts, float *__restrict__ out, int pieces, int rows,
                                              int width) {
    int column = (blockIdx.y * blockDim.x + threadIdx.x) * PACK;
    if (column >= width) return;
    Lists lists(buffer, pieces, rows);
    int row = blockIdx.x, first = lists.pieces_of[row], end = lists.pieces_of[row + 1];
    float sum[PACK] = {};
    if (first == end) lists.add(sum, g + column, lists.starts[row], lists.starts[row + 1]);
#pragma unroll 8
    for (int piece = first; piece < end; piece++) {
        float values[PACK];
        load<PACK>(values, parts + size_t(piece) * width + column);
#pragma unroll
        for (int j = 0; j < PACK; j++) sum[j] += values[j];
    }
    store<PACK>(out + size_t(row) * width + column, sum);
}
