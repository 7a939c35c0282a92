// Keys and values in blocks of sixteen positions, and attention over them.
//
// The keys of a block and one head form one tile of a matrix whose outputs are the positions (linear.h), so that scores
// of sixteen positions come from one chain of products; its values are sixteen rows. A row sees its own positions in
// ascending order, whatever else is computed.
#pragma once
#include "linear.h"

constexpr int BLOCK = 16;
constexpr int MOST_HEADS = 4;  // query heads that share one reading of keys and values

// Where keys and values are: [block][layer][kv_head] tiles of keys, and [16][values_width] of values. A short text
// thus touches few pages of memory.
struct Cache {
    int heads, kv_heads, head_dim, blocks, layers;
    bool narrow;
    char *keys, *values;

    long key_inputs() const { return narrow ? (head_dim + 1) / 2 * 2 : head_dim; }
    long key_bytes() const { return key_inputs() * BLOCK * (narrow ? 2 : 4); }
    long values_width() const { return (head_dim + LANES - 1) / LANES * LANES; }
    long value_bytes() const { return values_width() * BLOCK * (narrow ? 2 : 4); }
    long number(int layer, int block, int head) const { return (long(block) * layers + layer) * kv_heads + head; }
    char* key(int layer, int block, int head) const { return keys + number(layer, block, head) * key_bytes(); }
    char* value(int layer, int block, int head) const { return values + number(layer, block, head) * value_bytes(); }

    // Puts one position's key and value [kv_heads * head_dim] in their places.
    void store(int layer, int block, int place, const float* k, const float* v) const {
        for (int head = 0; head < kv_heads; head++, k += head_dim, v += head_dim) {
            char *tile = key(layer, block, head), *rows = value(layer, block, head);
            if (narrow) {
                bf16 *to = (bf16*)tile, *row = (bf16*)rows + place * values_width();
                for (int i = 0; i < head_dim; i++) to[(i / 2 * BLOCK + place) * 2 + i % 2] = narrowed(k[i]);
                for (int i = 0; i < head_dim; i++) row[i] = narrowed(v[i]);
            } else {
                float *to = (float*)tile, *row = (float*)rows + place * values_width();
                for (int i = 0; i < head_dim; i++) to[i * BLOCK + place] = k[i];
                for (int i = 0; i < head_dim; i++) row[i] = v[i];
            }
        }
    }
};

// What one row of one kv_head sees: positions [start, stop) in the blocks of its table.
struct View {
    const Cache& cache;
    const int32_t* table;
    int layer, head, start, stop;
    float scale, limit;  // limit: scores are bent to stay within it; 0: none

    const char* key(int block) const { return cache.key(layer, table[block], head); }
    const char* value(int block) const { return cache.value(layer, table[block], head); }
};

// limit * tanh(x / limit) in the place of `count` values.
INLINE void bend(float* x, long count, float limit) {
    const Lanes most = broadcast(limit);
    for (long i = 0; i < count; i += LANES)  // tanh(z) = 1 - 2 / (e^2z + 1)
        store(x + i, most - most * 2.0f / (exponential(load(x + i) / most * 2.0f) + 1.0f));
}

// Scores of the view's positions, beginning with the whole first block: [R][stride]. Hidden positions get the lowest.
template <class Tile, int R, int T>
INLINE void score(const View& view, const typename Tile::In* q, float* scores, long stride) {
    const Cache& cache = view.cache;
    const typename Tile::In* row[R];
    UNROLL for (int r = 0; r < R; r++) row[r] = q + r * cache.head_dim;
    const int first = view.start / BLOCK, end = (view.stop + BLOCK - 1) / BLOCK;  // blocks
    for (int block = first; block < end; block += T) {
        const char* tile[T];
        Lanes sum[R][T];
        UNROLL for (int t = 0; t < T; t++) tile[t] = view.key(std::min(block + t, end - 1));
        UNROLL for (int r = 0; r < R; r++) UNROLL for (int t = 0; t < T; t++) sum[r][t] = broadcast(0);
        const char* next[2];
        UNROLL for (int t = 0; t < 2; t++) next[t] = view.key(std::min(block + T + t, end - 1));
        Ahead ahead{next[0], 64, next[1] - next[0]};
        accumulate<Tile, R, T>(sum, tile, row, 0, cache.key_inputs(), ahead);
        UNROLL for (int r = 0; r < R; r++)
            UNROLL for (int t = 0; t < T; t++)
                store(scores + r * stride + (block + t - first) * BLOCK, sum[r][t] * view.scale);
    }
    if (view.limit > 0)
        for (int r = 0; r < R; r++) bend(scores + r * stride, long(end - first) * BLOCK, view.limit);
    for (int r = 0; r < R; r++) {
        for (int i = first * BLOCK; i < view.start; i++) scores[r * stride + i - first * BLOCK] = -1e30f;
        for (int i = view.stop; i < end * BLOCK; i++) scores[r * stride + i - first * BLOCK] = -1e30f;
    }
}

// e^(score - highest) in the place of `count` scores; returns one over their sum.
INLINE float weigh(float* scores, long count) {
    Lanes high = load(scores);
    for (long i = LANES; i < count; i += LANES) high = largest(high, load(scores + i));
    const Lanes highest = broadcast(most(high));
    Lanes sum = broadcast(0);
    for (long i = 0; i < count; i += LANES) {
        Lanes weight = exponential(load(scores + i) - highest);
        store(scores + i, weight);
        sum = sum + weight;
    }
    return 1 / total(sum);
}

// sum[r][c] = the weighted sum of sixteen columns of values, from column `column` on.
template <bool NARROW, int R, int C>
INLINE void gather(const View& view, const float* weights, long stride, int column, Lanes (&sum)[R][C]) {
    const long width = view.cache.values_width();
    constexpr int SIZE = NARROW ? 2 : 4;
    const int first = view.start / BLOCK * BLOCK;
    UNROLL for (int r = 0; r < R; r++) UNROLL for (int c = 0; c < C; c++) sum[r][c] = broadcast(0);
    for (int at = view.start; at < view.stop;) {
        const char* rows = view.value(at / BLOCK);
        const int end = std::min(view.stop, at / BLOCK * BLOCK + BLOCK);
        const char* next = view.value(std::min(at / BLOCK + 1, (view.stop - 1) / BLOCK));
        for (; at < end; at++) {
            const long place = (at % BLOCK * width + column) * SIZE;
            UNROLL for (int c = 0; c < C * LANES * SIZE; c += 64) __builtin_prefetch(next + place + c, 0, 3);
            UNROLL for (int c = 0; c < C; c++) {
                const char* from = rows + place + c * LANES * SIZE;
                Lanes value = NARROW ? load_wide((const bf16*)from) : load((const float*)from);
                UNROLL for (int r = 0; r < R; r++)
                    sum[r][c] = add_product(sum[r][c], broadcast(weights[r * stride + at - first]), value);
            }
        }
    }
}

// R query heads of one row, [R, head_dim] each; the result goes to y or narrow, whichever there is.
template <class Tile, bool NARROW, int R>
void attend_heads(const View& view, const typename Tile::In* q, float* y, bf16* narrow, float* scores, long stride) {
    score<Tile, R, R <= 2 ? 4 : 2>(view, q, scores, stride);
    const long count = (view.stop + BLOCK - 1) / BLOCK * BLOCK - view.start / BLOCK * BLOCK;
    float share[R];
    for (int r = 0; r < R; r++) share[r] = weigh(scores + r * stride, count);
    const int head_dim = view.cache.head_dim;
    auto put = [&](Lanes value, int r, int column) {
        const int left = head_dim - column;
        if (y) store_some(y + r * head_dim + column, value * share[r], left);
        if (narrow) store_narrow_some(narrow + r * head_dim + column, value * share[r], left);
    };
    int column = 0;
    for (; column + 4 * LANES <= head_dim; column += 4 * LANES) {
        Lanes sum[R][4];
        gather<NARROW, R, 4>(view, scores, stride, column, sum);
        UNROLL for (int r = 0; r < R; r++) UNROLL for (int c = 0; c < 4; c++) put(sum[r][c], r, column + c * LANES);
    }
    for (; column < head_dim; column += LANES) {
        Lanes sum[R][1];
        gather<NARROW, R, 1>(view, scores, stride, column, sum);
        UNROLL for (int r = 0; r < R; r++) put(sum[r][0], r, column);
    }
}

// All query heads of one kv_head. scores: room for MOST_HEADS * stride.
template <class Tile, bool NARROW>
void attend_group(const View& view, const typename Tile::In* q, float* y, bf16* narrow, float* scores, long stride) {
    const int group = view.cache.heads / view.cache.kv_heads, head_dim = view.cache.head_dim;
    for (int at = 0; at < group; at += MOST_HEADS) {
        switch (std::min(group - at, MOST_HEADS)) {
            case 1: attend_heads<Tile, NARROW, 1>(view, q, y, narrow, scores, stride); break;
            case 2: attend_heads<Tile, NARROW, 2>(view, q, y, narrow, scores, stride); break;
            case 3: attend_heads<Tile, NARROW, 3>(view, q, y, narrow, scores, stride); break;
            default: attend_heads<Tile, NARROW, 4>(view, q, y, narrow, scores, stride);
        }
        q += MOST_HEADS * head_dim;
        if (y) y += MOST_HEADS * head_dim;
        if (narrow) narrow += MOST_HEADS * head_dim;
    }
}
