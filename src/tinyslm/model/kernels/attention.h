// Causal attention for training, forward and backward: y = softmax(scale q k^T) v, where position t sees itself and
// what is before it. The scores of a block of rows are the most that is ever held of them; the backward pass computes
// them again (Dao et al., 2022: FlashAttention).
//
// Products are of bf16, sums and the softmax in fp32. One piece of work is one sequence's key-value head with all query
// heads that share it.
#pragma once
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

// [head_dim / 2][padded]: pairs along a row's values, the positions as columns.
inline void pack_columns(pair* to, Input from, int64_t length, int64_t padded, int64_t head_dim) {
    for (int64_t t = 0; t < padded; t++) {
        const bf16* row = from[t < length ? t : length - 1];
        for (int64_t i = 0; i < head_dim / 2; i++) memcpy(to + i * padded + t, row + 2 * i, 4);
    }
}

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
        Buffer<float> scores(ROWS * padded);
        Buffer<bf16> weights(ROWS * padded);
        pack_columns(keys.get(), Input(k, shape.k, sequence, kv_head), length, padded, width);
        pack_rows(values.get(), Input(v, shape.v, sequence, kv_head), 0, padded, length, width);
        for (int64_t head = kv_head * shape.group(); head < (kv_head + 1) * shape.group(); head++) {
            const Input from(q, shape.q, sequence, head);
            const Output to(y, shape.y, sequence, head);
            float* log = logs + (sequence * shape.heads + head) * length;
            for (int64_t first = 0; first < length; first += ROWS) {
                const int64_t columns = (first + ROWS + LANES - 1) / LANES * LANES;
                multiply(
                    rows_of(from, first, length), keys.get(), padded, width / 2, columns, from_zero,
                    [&](int m, int64_t s, Lanes sum) { store(scores.get() + m * padded + s, sum); });
                float inverse[ROWS];
                for (int m = 0; m < ROWS; m++) {
                    float highest;
                    const float sum = soften(
                        scores.get() + m * padded, weights.get() + m * padded, columns, first + m, shape.scale, highest);
                    inverse[m] = 1 / sum;
                    if (first + m < length) log[first + m] = highest + std::log(sum);
                }
                multiply(
                    dense_rows(weights.get(), padded), values.get(), width, columns / 2, width, from_zero,
                    [&](int m, int64_t i, Lanes sum) {
                        if (first + m < length) store(to[first + m] + i, sum * broadcast(inverse[m]));
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

    // local: the first row's number in its block; first: its position.
    void four_rows(Left q, Left dy, int64_t local, int64_t first, int64_t columns) const {
        const int64_t padded = shape.padded(), pairs = shape.head_dim / 2;
        int64_t column = 0;
        for (; column + 2 * LANES <= columns; column += 2 * LANES) strip<2>(q, dy, local, first, column, padded, pairs);
        for (; column < columns; column += LANES) strip<1>(q, dy, local, first, column, padded, pairs);
    }

    template <int N>
    INLINE void strip(Left q, Left dy, int64_t local, int64_t first, int64_t column, int64_t padded, int64_t pairs) const {
        Lanes p[ROWS][N], ds[ROWS][N];
        UNROLL for (int m = 0; m < ROWS; m++) UNROLL for (int n = 0; n < N; n++) p[m][n] = ds[m][n] = broadcast(0);
        multiply_tile<N>(q, room.key_columns.get() + column, padded, pairs, p);
        multiply_tile<N>(dy, room.value_columns.get() + column, padded, pairs, ds);
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

// sums [columns][width] += transposed pairs [rows / 2][padded] times rows [rows / 2][width].
inline void add_products(float* sums, const pair* left, const pair* right, int64_t rows, int64_t columns, int64_t padded, int64_t width) {
    for (int64_t s = 0; s < columns; s += ROWS)
        multiply(
            columns_of(left, s, padded), right, width, rows / 2, width,
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
                for (int64_t local = 0; local < BLOCK; local += ROWS)
                    gradients.four_rows(
                        rows_of(from, block + local, length), rows_of(d_out, block + local, length), local, block + local,
                        columns);
                for (int64_t local = 0; local < BLOCK; local += ROWS)
                    multiply(
                        dense_rows(room.ds_rows.get() + local * padded, padded), room.key_rows.get(), width, columns / 2,
                        width, from_zero, [&](int m, int64_t i, Lanes sum) {
                            if (block + local + m < length) store(d_from[block + local + m] + i, sum);
                        });
                pack_rows(room.q_rows.get(), from, block, BLOCK, length, width);
                pack_rows(room.dy_rows.get(), d_out, block, BLOCK, length, width);
                add_products(room.dv.get(), room.p.get(), room.dy_rows.get(), BLOCK, columns, padded, width);
                add_products(room.dk.get(), room.ds.get(), room.q_rows.get(), BLOCK, columns, padded, width);
            }
        }
        write(Output(dk, shape.dk, sequence, kv_head), room.dk.get(), length, width);
        write(Output(dv, shape.dv, sequence, kv_head), room.dv.get(), length, width);
    });
}

}  // namespace attention
