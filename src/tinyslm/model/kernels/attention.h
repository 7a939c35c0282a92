// Causal attention for training, forward and backward: y = softmax(scale q k^T) v, where position t sees itself and
// what is before it. The scores of a block of rows are the most that is ever held of them; the backward pass computes
// them again (Dao et al., 2022: FlashAttention).
//
// Sums and the softmax are in fp32. One piece of work is one sequence's key-value head with all query
// heads that share it.
#pragma once
#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>
#include "parallel.h"
#include "products.h"

namespace attention {

constexpr int64_t BLOCK = TILES > 1 ? 32 : 64;  // rows whose scores are held at a time
constexpr int BACK = TILES > 1 ? 2 : 1;  // tiles of a strip in the backward pass, which has two of sums at once

struct Strides {  // in elements; the last dimension is dense
    int64_t sequence, head, position;
};

struct Shape {
    int64_t batch, heads, kv_heads, length, head_dim;
    Strides q, k, v, y, dy, dq, dk, dv;
    float scale;

    int64_t padded() const { return (length + BLOCK - 1) / BLOCK * BLOCK; }
    // Of a block's rows of scores. Not a power of two: such rows, one below the other, share few places of the cache.
    int64_t stride() const { return padded() + LANES; }
    int64_t group() const { return heads / kv_heads; }
};

// One head's rows, where the caller has them.
template <class Value> struct Head {
    Value* start;
    int64_t stride;

    Head(Value* base, const Strides& strides, int64_t sequence, int64_t head)
        : start(base + sequence * strides.sequence + head * strides.head), stride(strides.position) {}
    Value* operator[](int64_t position) const { return start + position * stride; }
};
typedef Head<const Number> Input;
typedef Head<Number> Output;

template <class Value> struct Buffer {
    std::unique_ptr<Value, void (*)(void*)> memory;
    explicit Buffer(int64_t count) : memory((Value*)aligned_alloc(64, (count * sizeof(Value) + 63) / 64 * 64), free) {}
    Value* get() const { return memory.get(); }
};

// Positions as columns: [padded / 16][head_dim / PER_UNIT][16] units along a row's values.
inline void pack_columns(Unit* to, Input from, int64_t length, int64_t padded, int64_t head_dim) {
    for (int64_t first = 0; first < padded; first += LANES) {
        const Unit* row[LANES];
        for (int64_t t = 0; t < LANES; t++) row[t] = (const Unit*)from[first + t < length ? first + t : length - 1];
        for (int64_t i = 0; i < head_dim / PER_UNIT; i++, to += LANES)
            UNROLL for (int64_t t = 0; t < LANES; t++) memcpy(to + t, row[t] + i, sizeof(Unit));
    }
}

INLINE Right columns_in(const Buffer<Unit>& packed, int64_t head_dim) {
    return {packed.get(), {head_dim / PER_UNIT * LANES, LANES}};
}
INLINE Right rows_in(const Buffer<Unit>& packed, int64_t rows, int64_t head_dim) {
    return {packed.get(), Layout::of(rows / PER_UNIT, head_dim)};
}

// Units of neighbouring positions' values, as `rows_in` has them; positions at and beyond `length` are zero.
inline void pack_rows(Unit* to, Input from, int64_t first, int64_t rows, int64_t length, int64_t head_dim) {
    const Layout layout = Layout::of(rows / PER_UNIT, head_dim);
    for (int64_t t = first; t < first + rows; t += 2)
        for (int64_t i = 0; i < head_dim; i += LANES)
            store_rows(
                to + layout.place((t - first) / PER_UNIT, i), layout.step, t < length ? load(from[t] + i) : broadcast(0),
                t + 1 < length ? load(from[t + 1] + i) : broadcast(0));
}

INLINE Left rows_of(Input from, int64_t first, int64_t length) {
    Left left;
    left.step = 1;
    for (int m = 0; m < ROWS; m++) left.row[m] = (const Unit*)from[first + m < length ? first + m : length - 1];
    return left;
}

// Positions [first, first + ROWS) of units that lie as [i][stride].
INLINE Left columns_of(const Unit* from, int64_t first, int64_t stride) {
    Left left;
    left.step = stride;
    for (int m = 0; m < ROWS; m++) left.row[m] = from + first + m;
    return left;
}

INLINE Left dense_rows(const Number* from, int64_t stride) {
    Left left;
    left.step = 1;
    for (int m = 0; m < ROWS; m++) left.row[m] = (const Unit*)(from + m * stride);
    return left;
}

// The rows [BLOCK][stride] of a block, each with a number for every column it sees, times rows of `width` values; a strip of
// these stays close for the whole block. result(row, i, sum) gets sixteen values from i on.
template <class Result>
INLINE void multiply_block(const Number* rows, int64_t stride, Right b, int64_t block, int64_t width, Result result) {
    for (int64_t i = 0; i < width; i += WIDE)
        for (int64_t local = 0; local < BLOCK; local += ROWS)
            multiply_some(
                dense_rows(rows + local * stride, stride), b, (block + local + ROWS) / PER_UNIT, i, std::min(WIDE, width - i),
                from_zero, [&](int m, int64_t at, Lanes sum) { result(local + m, at, sum); });
}

// Whether some of the four rows from `local` on see a column.
INLINE bool sees(int64_t block, int64_t local, int64_t column) { return column < block + local + ROWS; }

// How many of the columns from `column` on the row at `position` sees.
INLINE int64_t seen(int64_t position, int64_t column) { return position - column + 1; }

// A row's scores become the numerators of its softmax, up to a multiple of sixteen columns; returns the sum, and the
// highest in `highest`.
inline float soften(const float* scores, Number* weights, int64_t position, float scale, float& highest) {
    Lanes highest_of = broadcast(-INFINITY);
    for (int64_t s = 0; s <= position; s += LANES)
        highest_of = largest(highest_of, first_of(load(scores + s), seen(position, s), -INFINITY));
    highest = most(highest_of) * scale;
    Lanes sum = broadcast(0);
    for (int64_t s = 0; s <= position; s += LANES) {
        const Lanes e = exponential(load(scores + s) * broadcast(scale) - broadcast(highest));
        const Lanes kept = first_of(e, seen(position, s));
        store(weights + s, kept);
        sum += kept;
    }
    return total(sum);
}

// `logs` [batch][heads][length]: the logarithm of each row's softmax sum, which the backward pass needs.
inline void forward(const Shape& shape, const Number* q, const Number* k, const Number* v, Number* y, float* logs, Threads threads) {
    const int64_t padded = shape.padded(), stride = shape.stride(), width = shape.head_dim, length = shape.length;
    threads.share(shape.batch * shape.kv_heads, [&](int64_t piece) {
        const int64_t sequence = piece / shape.kv_heads, kv_head = piece % shape.kv_heads;
        Buffer<Unit> keys(padded * width / PER_UNIT), values(padded * width / PER_UNIT);
        Buffer<float> scores(BLOCK * stride);
        Buffer<Number> weights(BLOCK * stride);
        pack_columns(keys.get(), Input(k, shape.k, sequence, kv_head), length, padded, width);
        pack_rows(values.get(), Input(v, shape.v, sequence, kv_head), 0, padded, length, width);
        for (int64_t head = kv_head * shape.group(); head < (kv_head + 1) * shape.group(); head++) {
            const Input from(q, shape.q, sequence, head);
            const Output to(y, shape.y, sequence, head);
            float* log = logs + (sequence * shape.heads + head) * length;
            for (int64_t block = 0; block < length; block += BLOCK) {
                const int64_t columns = block + BLOCK;
                for (int64_t column = 0; column < columns; column += WIDE)  // these keys stay close for the whole block
                    for (int64_t local = 0; local < BLOCK; local += ROWS)
                        if (sees(block, local, column)) multiply_some(
                            rows_of(from, block + local, length), columns_in(keys, width), width / PER_UNIT, column,
                            std::min(WIDE, columns - column), from_zero,
                            [&](int m, int64_t s, Lanes sum) { store(scores.get() + (local + m) * stride + s, sum); });
                float inverse[BLOCK];
                for (int64_t local = 0; local < BLOCK && block + local < length; local++) {
                    float highest;
                    const float sum = soften(
                        scores.get() + local * stride, weights.get() + local * stride, block + local, shape.scale,
                        highest);
                    inverse[local] = 1 / sum;
                    log[block + local] = highest + std::log(sum);
                }
                multiply_block(weights.get(), stride, rows_in(values, padded, width), block, width, [&](int64_t row, int64_t i, Lanes sum) {
                    if (block + row < length) store(to[block + row] + i, sum * broadcast(inverse[row]));
                });
            }
        }
    });
}

// What the backward pass of one key-value head works in.
struct Room {
    Buffer<Unit> key_columns, value_columns, key_rows;  // packed
    Buffer<Unit> q_rows, dy_rows;                       // of a block
    Buffer<Unit> p, ds;                                 // [BLOCK / PER_UNIT][stride]: units of neighbouring rows
    Buffer<Number> ds_rows;                             // [BLOCK][stride], where that is not how `ds` lies
    Buffer<float> dk, dv;                               // sums [padded][head_dim]

    Room(int64_t padded, int64_t stride, int64_t width)
        : key_columns(padded * width / PER_UNIT), value_columns(padded * width / PER_UNIT),
          key_rows(padded * width / PER_UNIT), q_rows(BLOCK * width / PER_UNIT), dy_rows(BLOCK * width / PER_UNIT),
          p(BLOCK / PER_UNIT * stride), ds(BLOCK / PER_UNIT * stride), ds_rows(PER_UNIT > 1 ? BLOCK * stride : 0),
          dk(padded * width), dv(padded * width) {
        memset(dk.get(), 0, padded * width * sizeof(float));
        memset(dv.get(), 0, padded * width * sizeof(float));
    }
};

// Probabilities and the gradient of the scores of four rows, for `columns` positions.
struct Gradients {
    const Shape& shape;
    const Room& room;
    const float* log;      // of the head
    const float* product;  // of the head: sum over y * dy

    // All rows of a block that begins at `block`, for `columns` positions: what is packed stays close for all rows.
    void whole_block(Input q, Input dy, int64_t block, int64_t columns) const {
        for (int64_t column = 0; column < columns; column += BACK * LANES)
            for (int64_t local = 0; local < BLOCK; local += ROWS)
                if (sees(block, local, column)) strip<BACK>(
                    rows_of(q, block + local, shape.length), rows_of(dy, block + local, shape.length), local, block + local,
                    column);
    }

    // local: the first row's number in its block; first: its position.
    template <int N>
    INLINE void strip(Left q, Left dy, int64_t local, int64_t first, int64_t column) const {
        const int64_t stride = shape.stride(), width = shape.head_dim;
        Lanes p[ROWS][N], ds[ROWS][N];
        UNROLL for (int m = 0; m < ROWS; m++) UNROLL for (int n = 0; n < N; n++) p[m][n] = ds[m][n] = broadcast(0);
        multiply_tile<N>(q, columns_in(room.key_columns, width), width / PER_UNIT, column, p);
        multiply_tile<N>(dy, columns_in(room.value_columns, width), width / PER_UNIT, column, ds);
        UNROLL for (int m = 0; m < ROWS; m++) {
            const int64_t position = first + m;
            const bool there = position < shape.length;
            const Lanes shift = broadcast(there ? log[position] : 0), mean = broadcast(there ? product[position] : 0);
            UNROLL for (int n = 0; n < N; n++) {
                const int64_t count = there ? seen(position, column + n * LANES) : 0;
                const Lanes e = exponential(p[m][n] * broadcast(shape.scale) - shift);
                p[m][n] = first_of(e, count);
                ds[m][n] = p[m][n] * (ds[m][n] - mean) * broadcast(shape.scale);
                if (PER_UNIT > 1) store(room.ds_rows.get() + (local + m) * stride + column + n * LANES, ds[m][n]);
            }
        }
        UNROLL for (int m = 0; m < ROWS; m += 2) UNROLL for (int n = 0; n < N; n++) {
            const int64_t place = (local + m) / PER_UNIT * stride + column + n * LANES;
            store_rows(room.p.get() + place, stride, p[m][n], p[m + 1][n]);
            store_rows(room.ds.get() + place, stride, ds[m][n], ds[m + 1][n]);
        }
    }
};

// sums [columns][width] += transposed units [BLOCK / PER_UNIT][stride] times a block's rows [BLOCK][width]; of these, the
// rows that see a column.
inline void add_transposed(float* sums, const Unit* left, Right right, int64_t block, int64_t stride, int64_t width) {
    for (int64_t s = 0; s < block + BLOCK; s += ROWS) {
        const int64_t unseeing = std::max<int64_t>(0, s - block) / PER_UNIT;
        const Right seeing{right.start + unseeing * right.layout.step, right.layout};
        multiply(
            columns_of(left + unseeing * stride, s, stride), seeing, BLOCK / PER_UNIT - unseeing, width,
            [&](int m, int64_t i) { return load(sums + (s + m) * width + i); },
            [&](int m, int64_t i, Lanes sum) { store(sums + (s + m) * width + i, sum); });
    }
}

inline void write(Output to, const float* sums, int64_t length, int64_t width) {
    for (int64_t t = 0; t < length; t++)
        for (int64_t i = 0; i < width; i += LANES) store(to[t] + i, load(sums + t * width + i));
}

inline void backward(
    const Shape& shape, const Number* q, const Number* k, const Number* v, const Number* y, const float* logs,
    const Number* dy, Number* dq, Number* dk, Number* dv, Threads threads) {
    const int64_t padded = shape.padded(), stride = shape.stride(), width = shape.head_dim, length = shape.length;
    threads.share(shape.batch * shape.kv_heads, [&](int64_t piece) {
        const int64_t sequence = piece / shape.kv_heads, kv_head = piece % shape.kv_heads;
        const Room room(padded, stride, width);
        const Number* ds_rows = PER_UNIT > 1 ? room.ds_rows.get() : (const Number*)room.ds.get();
        const Input keys(k, shape.k, sequence, kv_head), values(v, shape.v, sequence, kv_head);
        pack_columns(room.key_columns.get(), keys, length, padded, width);
        pack_columns(room.value_columns.get(), values, length, padded, width);
        pack_rows(room.key_rows.get(), keys, 0, padded, length, width);
        std::vector<float> product(length);
        for (int64_t head = kv_head * shape.group(); head < (kv_head + 1) * shape.group(); head++) {
            const Input from(q, shape.q, sequence, head), out(y, shape.y, sequence, head), d_out(dy, shape.dy, sequence, head);
            const Output d_from(dq, shape.dq, sequence, head);
            for (int64_t t = 0; t < length; t++) {
                Lanes sum = broadcast(0);
                for (int64_t i = 0; i < width; i += LANES) sum += load(out[t] + i) * load(d_out[t] + i);
                product[t] = total(sum);
            }
            const Gradients gradients{shape, room, logs + (sequence * shape.heads + head) * length, product.data()};
            for (int64_t block = 0; block < length; block += BLOCK) {
                const int64_t columns = block + BLOCK;
                gradients.whole_block(from, d_out, block, columns);
                multiply_block(ds_rows, stride, rows_in(room.key_rows, padded, width), block, width, [&](int64_t row, int64_t i, Lanes sum) {
                    if (block + row < length) store(d_from[block + row] + i, sum);
                });
                pack_rows(room.q_rows.get(), from, block, BLOCK, length, width);
                pack_rows(room.dy_rows.get(), d_out, block, BLOCK, length, width);
                add_transposed(room.dv.get(), room.p.get(), rows_in(room.dy_rows, BLOCK, width), block, stride, width);
                add_transposed(room.dk.get(), room.ds.get(), rows_in(room.q_rows, BLOCK, width), block, stride, width);
            }
        }
        write(Output(dk, shape.dk, sequence, kv_head), room.dk.get(), length, width);
        write(Output(dv, shape.dv, sequence, kv_head), room.dv.get(), length, width);
    });
}

}  // namespace attention
