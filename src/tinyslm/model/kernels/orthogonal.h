// Matrices made orthogonal by the quintic iteration of Muon (training/muon.py), each by one thread in its own caches:
//
//     x <- a x + x (b g + c g g)  with  g = x^T x
//
// g and g g are symmetric, so that only half of them is computed. Factors in bf16, sums in fp32.
#pragma once
#include <vector>
#include "parallel.h"
#include "products.h"

namespace orthogonal {

struct Quintic { float a, b, c; };

// Sixteen rows of sixteen, transposed: four times, all rows are shuffled like two halves of a pack of cards, which
// rotates the eight bits of an element's place (four of its row, four of its column) by one.
INLINE void transpose_block(const bf16* from, int64_t step, bf16* to, int64_t there) {
    const __m256i low = _mm256_setr_epi16(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    const __m256i high = _mm256_add_epi16(low, _mm256_set1_epi16(8));
    __m256i x[LANES], y[LANES];
    UNROLL for (int i = 0; i < LANES; i++) x[i] = _mm256_loadu_si256((const __m256i*)(from + i * step));
    UNROLL for (int round = 0; round < 4; round++) {
        UNROLL for (int i = 0; i < LANES / 2; i++) {
            y[2 * i] = _mm256_permutex2var_epi16(x[i], low, x[i + LANES / 2]);
            y[2 * i + 1] = _mm256_permutex2var_epi16(x[i], high, x[i + LANES / 2]);
        }
        UNROLL for (int i = 0; i < LANES; i++) x[i] = y[i];
    }
    UNROLL for (int i = 0; i < LANES; i++) _mm256_storeu_si256((__m256i*)(to + i * there), x[i]);
}

inline void transpose(const bf16* from, bf16* to, int64_t rows, int64_t columns) {  // `from` has the rows
    for (int64_t i = 0; i < rows; i += LANES)
        for (int64_t j = 0; j < columns; j += LANES) transpose_block(from + i * columns + j, columns, to + j * rows + i, rows);
}

// A matrix as a left factor (row by row, so that two neighbours are a pair) and as a right one (two rows as pairs).
struct Factor {
    int64_t rows, columns;
    std::vector<bf16> flat;
    std::vector<pair> paired;

    Factor(int64_t rows, int64_t columns) : rows(rows), columns(columns), flat(rows * columns) {}

    void pack() {
        paired.resize(rows / 2 * columns);
        for (int64_t i = 0; i < rows; i += 2)
            for (int64_t j = 0; j < columns; j += LANES)
                store_pairs(&paired[i / 2 * columns + j], &flat[i * columns + j], &flat[(i + 1) * columns + j]);
    }

    // Of a symmetric matrix only tiles on and above the diagonal were computed: the rest is their mirror image.
    void mirror() {
        for (int64_t i = 0; i < rows; i += LANES)
            for (int64_t j = i + LANES; j < columns; j += LANES)
                transpose_block(&flat[i * columns + j], columns, &flat[j * columns + i], columns);
    }

    Left left(int64_t row) const {  // four rows as a left factor
        Left found{{}, 1};
        for (int m = 0; m < ROWS; m++) found.row[m] = (const pair*)&flat[(row + m) * columns];
        return found;
    }

    Left transposed(int64_t column) const {  // four columns as rows of the transposed matrix
        Left found{{}, columns};
        for (int m = 0; m < ROWS; m++) found.row[m] = &paired[column + m];
        return found;
    }

    Right right() const { return {paired.data(), LANES, columns}; }
};

// `y` gets left(row) times b plus what start(row, column) says, strip by strip of b, which then stays in the cache; of a
// symmetric result what lies on and above the diagonal.
template <class Rows, class Start>
INLINE void fill(Factor& y, Rows left, const Right& b, int64_t pairs, bool symmetric, Start start) {
    for (int64_t column = 0; column < y.columns; column += WIDE) {
        const int64_t wide = y.columns - column < WIDE ? y.columns - column : WIDE;
        const int64_t rows = symmetric && column + wide < y.rows ? column + wide : y.rows;
        for (int64_t row = 0; row < rows; row += ROWS)
            multiply_some(
                left(row), b, pairs, column, wide, [](int, int64_t) { return broadcast(0); },
                [&](int m, int64_t at, Lanes sum) {
                    store(&y.flat[(row + m) * y.columns + at], start(row + m, at, sum));
                });
    }
    if (symmetric) y.mirror();
}

inline void iterate(Factor& x, Factor& next, Factor& gram, Factor& bent, Quintic by) {
    const Lanes a = broadcast(by.a), b = broadcast(by.b), c = broadcast(by.c);
    x.pack();
    fill(gram, [&](int64_t row) { return x.transposed(row); }, x.right(), x.rows / 2, true,
         [](int64_t, int64_t, Lanes sum) { return sum; });
    gram.pack();
    fill(bent, [&](int64_t row) { return gram.left(row); }, gram.right(), gram.rows / 2, true,
         [&](int64_t row, int64_t at, Lanes sum) {
             return _mm512_fmadd_ps(load(&gram.flat[row * gram.columns + at]), b, sum * c);
         });
    bent.pack();
    fill(next, [&](int64_t row) { return x.left(row); }, bent.right(), bent.rows / 2, false,
         [&](int64_t row, int64_t at, Lanes sum) {
             return _mm512_fmadd_ps(load(&x.flat[row * x.columns + at]), a, sum);
         });
    std::swap(x.flat, next.flat);
}

inline void scale(std::vector<bf16>& x) {  // to a norm of one
    Lanes squares = broadcast(0);
    for (size_t i = 0; i < x.size(); i += LANES) {
        const Lanes some = load(&x[i]);
        squares = _mm512_fmadd_ps(some, some, squares);
    }
    const float norm = __builtin_sqrtf(_mm512_reduce_add_ps(squares));
    const Lanes factor = broadcast(1 / (norm > 1e-7f ? norm : 1e-7f));
    for (size_t i = 0; i < x.size(); i += LANES) store(&x[i], load(&x[i]) * factor);
}

inline void one(const bf16* matrix, bf16* result, int64_t rows, int64_t columns, int64_t iterations, Quintic by) {
    const bool tall = rows >= columns;
    const int64_t longer = tall ? rows : columns, shorter = tall ? columns : rows;
    Factor x(longer, shorter), next(longer, shorter), gram(shorter, shorter), bent(shorter, shorter);
    if (tall) memcpy(x.flat.data(), matrix, rows * columns * sizeof(bf16));
    else transpose(matrix, x.flat.data(), rows, columns);
    scale(x.flat);
    for (int64_t i = 0; i < iterations; i++) iterate(x, next, gram, bent, by);
    if (tall) memcpy(result, x.flat.data(), rows * columns * sizeof(bf16));
    else transpose(x.flat.data(), result, longer, shorter);
}

// `count` matrices, one after the other in memory, with both sides multiples of sixteen.
inline void all(
    const bf16* matrices, bf16* results, int64_t count, int64_t rows, int64_t columns, int64_t iterations, Quintic by, Threads threads) {
    threads.share(count, [&](int64_t i) {
        one(matrices + i * rows * columns, results + i * rows * columns, rows, columns, iterations, by);
    });
}

}  // namespace orthogonal
