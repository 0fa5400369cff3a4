// Which keys queries read, a tile of them after the other.

// Blocks of positions of `len` each.
struct Blocks {
    int len;
    __device__ int start(int position) const { return position / len * len; }
    __device__ int end(int position) const { return start(position) + len; }
};

// Keys of a head that some queries read: those of a past, if `separate`, and then those among the queries' own rows. Without a past
// these are all up to the end of a query's block, with one those of its block.
struct Keys {
    // Rows of the past and own rows; values stand `values` elements behind the keys.
    const Factor *past, *own;
    size_t past_stride, own_stride, values;
    int past_rows, rows;
    // The position of the first own row.
    int first;
    Blocks blocks;
    bool separate;
    // Rows of a tile that a block has, if whole blocks share tiles; otherwise 0.
    int slot;
    // Tiles of the past, and all tiles; own rows that are read.
    int past_steps, steps, own_first, own_limit;

    // Finds what the queries from row_first on, before row_end, read.
    __device__ void find(int row_first, int row_end) {
        past_steps = separate ? blocks_of(blocks.start(first + row_end - 1), COLUMNS) : 0;
        own_first = separate ? blocks.start(row_first) : 0;
        own_limit = min(blocks.end(row_end - 1), rows);
        const int rows_of_tile = slot > 0 ? blocks_of_tile() * blocks.len : COLUMNS;
        steps = past_steps + blocks_of(own_limit - own_first, rows_of_tile);
    }

    __device__ int blocks_of_tile() const { return COLUMNS / slot; }
    __device__ bool is_past(int step) const { return step < past_steps; }
    __device__ bool is_in_slots(int step) const { return slot > 0 && !is_past(step); }
    // The key in a tile's first row, where none is in slots.
    __device__ int begin(int step) const { return is_past(step) ? step * COLUMNS : own_first + (step - past_steps) * COLUMNS; }

    // Begins to copy keys to a tile, and values to the one behind it.
    __device__ void copy(int step, Factor *tile) const {
        const Factor *const from = is_past(step) ? past : own;
        const size_t stride = is_past(step) ? past_stride : own_stride;
        const auto copy_both = [&](auto which) {
            copy_rows<COLUMNS>(tile, from, stride, which);
            copy_rows<COLUMNS>(tile + COLUMNS * STRIDE, from + values, stride, which);
        };
        if (is_in_slots(step)) {
            const int block_first = own_first + (step - past_steps) * blocks_of_tile() * blocks.len;
            copy_both(Slots{block_first, rows, blocks.len, slot, blocks_of_tile()});
        } else {
            copy_both(Range{begin(step), is_past(step) ? past_rows : own_limit});
        }
    }

    // Which keys of the past and which own ones a query reads.
    __device__ Interval of_past(int query) const { return {0, blocks.start(first + query)}; }
    __device__ Interval of_own(int query) const {
        return {separate ? blocks.start(query) : 0, min(blocks.end(query), rows)};
    }

    // Which rows of a tile a query reads.
    __device__ Interval of_tile(int query, int step) const {
        if (!is_in_slots(step)) return (is_past(step) ? of_past(query) : of_own(query)).minus(begin(step));
        const int start = blocks.start(query);
        const int inside = (start - own_first) / blocks.len - (step - past_steps) * blocks_of_tile();
        if (inside < 0 || inside >= blocks_of_tile()) return {0, 0};
        return {inside * slot, inside * slot + min(blocks.len, rows - start)};
    }
};

// What the queries of a warp read. Those behind the last one do as it does.
struct WarpQueries {
    int first, last;
    WarpReads past, own;

    __device__ WarpQueries(const Keys &keys, int row_first, int row_end)
        : first(row_first + warp_of_block() * WARP_ROWS), last(row_end - 1),
          past{keys.of_past(query(0)), keys.of_past(query(WARP_ROWS - 1))},
          own{keys.of_own(query(0)), keys.of_own(query(WARP_ROWS - 1))} {}

    __device__ int query(int row) const { return min(first + row, last); }
    __device__ bool is_empty() const { return first > last; }
    // Whether any reads a tile, and whether all read all of it.
    __device__ bool any(const Keys &keys, int step) const {
        const bool of_kind = keys.is_past(step) ? past.any(keys.begin(step)) : own.any(keys.begin(step));
        return of_kind || keys.is_in_slots(step);
    }
    __device__ bool all(const Keys &keys, int step) const {
        const bool of_kind = keys.is_past(step) ? past.all(keys.begin(step)) : own.all(keys.begin(step));
        return of_kind && !keys.is_in_slots(step);
    }
};
