// Causal attention for training, forward and backward: y = softmax(scale q k^T) v, where position t sees itself and
// what is before it. The scores of a block of rows are the most that is ever held of them; the backward pass computes
// them again (Dao et al., 2022: FlashAttention).
//
// Products are of bf16, sums and the softmax in fp32. One piece of work is one sequence's key-value head with all query
// heads that share it.
#pragma once
#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>
#include "parallel.h"
#include "products.h"

namespace attention {

constexpr int64_t BLOCK = 32;  // rows whose scores are held at a time

struct Strides {  // in elements; the last dimension is dense
    int64_t sequence, head, position;
};

struct Shape {
    int64_t batch, heads, kv_heads, length, head_dim;
    Strides q, k, v, y, dy, dq, dk, dv;
    float scale;

    int64_t padded() const { return (length + BLOCK - 1) / BLOCK * BLOCK; }
    int64_t group() const { return heads / kv_heads; }
};

// One head's rows, where the caller has them.
template <class Number> struct Head {
    Number* start;
    int64_t stride;

    Head(Number* base, const Strides& strides, int64_t sequence, int64_t head)
        : start(base + sequence * strides.sequence + head * strides.head), stride(strides.position) {}
    Number* operator[](int64_t position) const { return start + position * stride; }
};
typedef Head<const bf16> Input;
typedef Head<bf16> Output;

template <class Number> struct Buffer {
    std::unique_ptr<Number, void (*)(void*)> memory;
    explicit Buffer(int64_t count) : memory((Number*)aligned_alloc(64, (count * sizeof(Number) + 63) / 64 * 64), free) {}
    Number* get() const { return memory.get(); }
};

// Positions as columns: [padded / 16][head_dim / 2][16] pairs along a row's values.
inline void pack_columns(pair* to, Input from, int64_t length, int64_t padded, int64_t head_dim) {
    for (int64_t first = 0; first < padded; first += LANES) {
        const pair* row[LANES];
        for (int64_t t = 0; t < LANES; t++) row[t] = (const pair*)from[first + t < length ? first + t : length - 1];
        for (int64_t i = 0; i < head_dim / 2; i++, to += LANES)
            UNROLL for (int64_t t = 0; t < LANES; t++) memcpy(to + t, row[t] + i, sizeof(pair));
    }
}

INLINE Right columns_in(const Buffer<pair>& packed, int64_t head_dim) { return {packed.get(), head_dim / 2 * LANES, LANES}; }
INLINE Right rows_in(const Buffer<pair>& packed, int64_t head_dim) { return {packed.get(), LANES, head_dim}; }

// [rows / 2][head_dim]: pairs of two positions' values; positions at and beyond `length` are zero.
inline void pack_rows(pair* to, Input from, int64_t first, int64_t rows, int64_t length, int64_t head_dim) {
    for (int64_t t = first; t < first + rows; t += 2, to += head_dim)
        for (int64_t i = 0; i < head_dim; i += LANES)
            store_pairs(
                to + i, t < length ? load(from[t] + i) : broadcast(0),
                t + 1 < length ? load(from[t + 1] + i) : broadcast(0));
}

INLINE Left rows_of(Input from, int64_t first, int64_t length) {
    Left left;
    left.step = 1;
    for (int m = 0; m < ROWS; m++) left.row[m] = (const pair*)from[first + m < length ? first + m : length - 1];
    return left;
}

// Positions [first, first + ROWS) of pairs that lie as [i][stride].
INLINE Left columns_of(const pair* from, int64_t first, int64_t stride) {
    Left left;
    left.step = stride;
    for (int m = 0; m < ROWS; m++) left.row[m] = from + first + m;
    return left;
}

INLINE Left dense_rows(const bf16* from, int64_t stride) {
    Left left;
    left.step = 1;
    for (int m = 0; m < ROWS; m++) left.row[m] = (const pair*)(from + m * stride);
    return left;
}

// Which of sixteen columns the row at `position` sees.
INLINE __mmask16 seen(int64_t position, int64_t column) {
    const int64_t count = position - column + 1;
    return count >= 16 ? 0xFFFF : count <= 0 ? 0 : (1u << count) - 1;
}

// A row's scores [columns] become the numerators of its softmax in bf16; returns the sum, and the highest in `highest`.
inline float soften(float* scores, bf16* weights, int64_t columns, int64_t position, float scale, float& highest) {
    Lanes most = broadcast(-INFINITY);
    for (int64_t s = 0; s <= position; s += LANES)
        most = _mm512_mask_max_ps(most, seen(position, s), most, load(scores + s));
    highest = _mm512_reduce_max_ps(most) * scale;
    Lanes sum = broadcast(0);
    for (int64_t s = 0; s < columns; s += LANES) {
        const Lanes e = exponential(load(scores + s) * broadcast(scale) - broadcast(highest));
        const Lanes kept = _mm512_maskz_mov_ps(seen(position, s), e);
        store(weights + s, kept);
        sum += kept;
    }
    return _mm512_reduce_add_ps(sum);
}

// `logs` [batch][heads][length]: the logarithm of each row's softmax sum, which the backward pass needs.
inline void forward(const Shape& shape, const bf16* q, const bf16* k, const bf16* v, bf16* y, float* logs, Threads threads) {
    const int64_t padded = shape.padded(), width = shape.head_dim, length = shape.length;
    threads.share(shape.batch * shape.kv_heads, [&](int64_t piece) {
        const int64_t sequence = piece / shape.kv_heads, kv_head = piece % shape.kv_heads;
        Buffer<pair> keys(padded * width / 2), values(padded * width / 2);
        Buffer<float> scores(BLOCK * padded);
        Buffer<bf16> weights(BLOCK * padded);
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
                        multiply_some(
                            rows_of(from, block + local, length), columns_in(keys, width), width / 2, column,
                            std::min(WIDE, columns - column), from_zero,
                            [&](int m, int64_t s, Lanes sum) { store(scores.get() + (local + m) * padded + s, sum); });
                float inverse[BLOCK];
                for (int64_t local = 0; local < BLOCK && block + local < length; local++) {
                    float highest;
                    const float sum = soften(
                        scores.get() + local * padded, weights.get() + local * padded, columns, block + local, shape.scale,
                        highest);
                    inverse[local] = 1 / sum;
                    log[block + local] = highest + std::log(sum);
                }
                for (int64_t local = 0; local < BLOCK; local += ROWS)
                    multiply(
                        dense_rows(weights.get() + local * padded, padded), rows_in(values, width), columns / 2, width,
                        from_zero, [&](int m, int64_t i, Lanes sum) {
                            const int64_t row = local + m;
                            if (block + row < length) store(to[block + row] + i, sum * broadcast(inverse[row]));
                        });
            }
        }
    });
}

// What the backward pass of one key-value head works in.
struct Room {
    Buffer<pair> key_columns, value_columns, key_rows;  // packed
    Buffer<pair> q_rows, dy_rows;                       // of a block
    Buffer<pair> p, ds;                                 // [BLOCK / 2][padded]: pairs of two rows
    Buffer<bf16> ds_rows;                               // [BLOCK][padded]
    Buffer<float> dk, dv;                               // sums [padded][head_dim]

    Room(int64_t padded, int64_t width)
        : key_columns(padded * width / 2), value_columns(padded * width / 2), key_rows(padded * width / 2),
          q_rows(BLOCK * width / 2), dy_rows(BLOCK * width / 2), p(BLOCK / 2 * padded), ds(BLOCK / 2 * padded),
          ds_rows(BLOCK * padded), dk(padded * width), dv(padded * width) {
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
        for (int64_t column = 0; column < columns; column += 2 * LANES)
            for (int64_t local = 0; local < BLOCK; local += ROWS)
                strip<2>(
                    rows_of(q, block + local, shape.length), rows_of(dy, block + local, shape.length), local, block + local,
                    column);
    }

    // local: the first row's number in its block; first: its position.
    template <int N>
    INLINE void strip(Left q, Left dy, int64_t local, int64_t first, int64_t column) const {
        const int64_t padded = shape.padded(), width = shape.head_dim;
        Lanes p[ROWS][N], ds[ROWS][N];
        UNROLL for (int m = 0; m < ROWS; m++) UNROLL for (int n = 0; n < N; n++) p[m][n] = ds[m][n] = broadcast(0);
        multiply_tile<N>(q, columns_in(room.key_columns, width), width / 2, column, p);
        multiply_tile<N>(dy, columns_in(room.value_columns, width), width / 2, column, ds);
        UNROLL for (int m = 0; m < ROWS; m++) {
            const int64_t position = first + m;
            const bool there = position < shape.length;
            const Lanes shift = broadcast(there ? log[position] : 0), mean = broadcast(there ? product[position] : 0);
            UNROLL for (int n = 0; n < N; n++) {
                const __mmask16 mask = there ? seen(position, column + n * LANES) : 0;
                const Lanes e = exponential(p[m][n] * broadcast(shape.scale) - shift);
                p[m][n] = _mm512_maskz_mov_ps(mask, e);
                ds[m][n] = p[m][n] * (ds[m][n] - mean) * broadcast(shape.scale);
                store(room.ds_rows.get() + (local + m) * padded + column + n * LANES, ds[m][n]);
            }
        }
        UNROLL for (int m = 0; m < ROWS; m += 2) UNROLL for (int n = 0; n < N; n++) {
            const int64_t place = (local + m) / 2 * padded + column + n * LANES;
            store_pairs(room.p.get() + place, p[m][n], p[m + 1][n]);
            store_pairs(room.ds.get() + place, ds[m][n], ds[m + 1][n]);
        }
    }
};

// sums [columns][width] += transposed pairs [BLOCK / 2][padded] times a block's rows [BLOCK / 2][width].
inline void add_products(float* sums, const pair* left, Right right, int64_t columns, int64_t padded, int64_t width) {
    for (int64_t s = 0; s < columns; s += ROWS)
        multiply(
            columns_of(left, s, padded), right, BLOCK / 2, width,
            [&](int m, int64_t i) { return load(sums + (s + m) * width + i); },
            [&](int m, int64_t i, Lanes sum) { store(sums + (s + m) * width + i, sum); });
}

inline void write(Output to, const float* sums, int64_t length, int64_t width) {
    for (int64_t t = 0; t < length; t++)
        for (int64_t i = 0; i < width; i += LANES) store(to[t] + i, load(sums + t * width + i));
}

inline void backward(
    const Shape& shape, const bf16* q, const bf16* k, const bf16* v, const bf16* y, const float* logs, const bf16* dy,
    bf16* dq, bf16* dk, bf16* dv, Threads threads) {
    const int64_t padded = shape.padded(), width = shape.head_dim, length = shape.length;
    threads.share(shape.batch * shape.kv_heads, [&](int64_t piece) {
        const int64_t sequence = piece / shape.kv_heads, kv_head = piece % shape.kv_heads;
        const Room room(padded, width);
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
                product[t] = _mm512_reduce_add_ps(sum);
            }
            const Gradients gradients{shape, room, logs + (sequence * shape.heads + head) * length, product.data()};
            for (int64_t block = 0; block < length; block += BLOCK) {
                const int64_t columns = block + BLOCK;
                gradients.whole_block(from, d_out, block, columns);
                for (int64_t local = 0; local < BLOCK; local += ROWS)
                    multiply(
                        dense_rows(room.ds_rows.get() + local * padded, padded), rows_in(room.key_rows, width), columns / 2, width,
                        from_zero, [&](int m, int64_t i, Lanes sum) {
                            if (block + local + m < length) store(d_from[block + local + m] + i, sum);
                        });
                pack_rows(room.q_rows.get(), from, block, BLOCK, length, width);
                pack_rows(room.dy_rows.get(), d_out, block, BLOCK, length, width);
                add_products(room.dv.get(), room.p.get(), rows_in(room.dy_rows, width), columns, padded, width);
                add_products(room.dk.get(), room.ds.get(), rows_in(room.q_rows, width), columns, padded, width);
            }
        }
        write(Output(dk, shape.dk, sequence, kv_head), room.dk.get(), length, width);
        write(Output(dv, shape.dv, sequence, kv_head), room.dv.get(), length, width);
    });
}

}  // namespace attention
