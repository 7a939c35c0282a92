// Matrices made orthogonal by the quintic iteration of Muon (training/muon.py), each by one thread in its own caches:
//
//     x <- a x + x (b g + c g g)  with  g = x^T x
//
// g and g g are symmetric, so that only half of them is computed.
#pragma once
#include <vector>
#include "parallel.h"
#include "products.h"

namespace orthogonal {

struct Quintic { float a, b, c; };

#if NUMBER_BITS == 16 && defined(__AVX512BF16__)
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
#else
INLINE void transpose_block(const Number* from, int64_t step, Number* to, int64_t there) {
    for (int j = 0; j < LANES; j++)
        for (int i = 0; i < LANES; i++) to[j * there + i] = from[i * step + j];
}
#endif

inline void transpose(const Number* from, Number* to, int64_t rows, int64_t columns) {  // `from` has the rows
    for (int64_t i = 0; i < rows; i += LANES)
        for (int64_t j = 0; j < columns; j += LANES) transpose_block(from + i * columns + j, columns, to + j * rows + i, rows);
}

// A matrix as a left factor (neighbours in a row are a unit) and as a right one (neighbours in a
// column are).
struct Factor {
    int64_t rows, columns;
    std::vector<Number> flat;
    std::vector<Unit> packed;
    Layout layout;

    Factor(int64_t rows, int64_t columns)
        : rows(rows), columns(columns), flat(rows * columns), layout(Layout::of(rows / PER_UNIT, columns)) {}

    int64_t units() const { return rows / PER_UNIT; }  // in a column

    void pack() {
        packed.resize(rows / PER_UNIT * columns);
        for (int64_t i = 0; i < rows; i += 2)
            for (int64_t j = 0; j < columns; j += LANES)
                store_rows(
                    &packed[layout.place(i / PER_UNIT, j)], layout.step, &flat[i * columns + j], &flat[(i + 1) * columns + j]);
    }

    // Of a symmetric matrix only tiles on and above the diagonal were computed: the rest is their mirror image.
    void mirror() {
        for (int64_t i = 0; i < rows; i += LANES)
            for (int64_t j = i + LANES; j < columns; j += LANES)
                transpose_block(&flat[i * columns + j], columns, &flat[j * columns + i], columns);
    }

    Left left(int64_t row) const {  // four rows as a left factor
        Left found{{}, 1};
        for (int m = 0; m < ROWS; m++) found.row[m] = (const Unit*)&flat[(row + m) * columns];
        return found;
    }

    Left transposed(int64_t column) const {  // four columns as rows of the transposed matrix
        Left found{{}, layout.step};
        for (int m = 0; m < ROWS; m++) found.row[m] = &packed[layout.place(0, column + m)];
        return found;
    }

    Right right() const { return {packed.data(), layout}; }
};

// `y` gets left(row) times b plus what start(row, column) says, strip by strip of b, which then stays in the cache; of a
// symmetric result what lies on and above the diagonal.
template <class Rows, class Start>
INLINE void fill(Factor& y, Rows left, const Right& b, int64_t units, bool symmetric, Start start) {
    for (int64_t column = 0; column < y.columns; column += WIDE) {
        const int64_t wide = y.columns - column < WIDE ? y.columns - column : WIDE;
        const int64_t rows = symmetric && column + wide < y.rows ? column + wide : y.rows;
        for (int64_t row = 0; row < rows; row += ROWS)
            multiply_some(
                left(row), b, units, column, wide, [](int, int64_t) { return broadcast(0); },
                [&](int m, int64_t at, Lanes sum) {
                    store(&y.flat[(row + m) * y.columns + at], start(row + m, at, sum));
                });
    }
    if (symmetric) y.mirror();
}

inline void iterate(Factor& x, Factor& next, Factor& gram, Factor& bent, Quintic by) {
    const Lanes a = broadcast(by.a), b = broadcast(by.b), c = broadcast(by.c);
    x.pack();
    fill(gram, [&](int64_t row) { return x.transposed(row); }, x.right(), x.units(), true,
         [](int64_t, int64_t, Lanes sum) { return sum; });
    gram.pack();
    fill(bent, [&](int64_t row) { return gram.left(row); }, gram.right(), gram.units(), true,
         [&](int64_t row, int64_t at, Lanes sum) {
             return add_product(sum * c, load(&gram.flat[row * gram.columns + at]), b);
         });
    bent.pack();
    fill(next, [&](int64_t row) { return x.left(row); }, bent.right(), bent.units(), false,
         [&](int64_t row, int64_t at, Lanes sum) {
             return add_product(sum, load(&x.flat[row * x.columns + at]), a);
         });
    std::swap(x.flat, next.flat);
}

inline void scale(std::vector<Number>& x) {  // to a norm of one
    Lanes squares = broadcast(0);
    for (size_t i = 0; i < x.size(); i += LANES) {
        const Lanes some = load(&x[i]);
        squares = add_product(squares, some, some);
    }
    const float norm = __builtin_sqrtf(total(squares));
    const Lanes factor = broadcast(1 / (norm > 1e-7f ? norm : 1e-7f));
    for (size_t i = 0; i < x.size(); i += LANES) store(&x[i], load(&x[i]) * factor);
}

inline void one(const Number* matrix, Number* result, int64_t rows, int64_t columns, int64_t iterations, Quintic by) {
    const bool tall = rows >= columns;
    const int64_t longer = tall ? rows : columns, shorter = tall ? columns : rows;
    Factor x(longer, shorter), next(longer, shorter), gram(shorter, shorter), bent(shorter, shorter);
    if (tall) memcpy(x.flat.data(), matrix, rows * columns * sizeof(Number));
    else transpose(matrix, x.flat.data(), rows, columns);
    scale(x.flat);
    for (int64_t i = 0; i < iterations; i++) iterate(x, next, gram, bent, by);
    if (tall) memcpy(result, x.flat.data(), rows * columns * sizeof(Number));
    else transpose(x.flat.data(), result, longer, shorter);
}

// `count` matrices, one after the other in memory, with both sides multiples of sixteen.
inline void all(
    const Number* matrices, Number* results, int64_t count, int64_t rows, int64_t columns, int64_t iterations, Quintic by, Threads threads) {
    threads.share(count, [&](int64_t i) {
        one(matrices + i * rows * columns, results + i * rows * columns, rows, columns, iterations, by);
    });
}

}  // namespace orthogonal
