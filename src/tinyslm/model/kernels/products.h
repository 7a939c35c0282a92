// Small matrix products with fp32 sums, for operands that lie in the caches.
#pragma once
#include "numbers.h"

constexpr int ROWS = 4;                                   // a tile of the result, in registers, has four rows
constexpr int TILES = REGISTERS == 32 ? 4 : 1;            // of at most so many times sixteen columns
constexpr int64_t WIDE = TILES * LANES;

// A tile's rows: row m's units are at row[m][0], row[m][step], row[m][2 * step], ...
struct Left {
    const Unit* row[ROWS];
    int64_t step;
};

// How a right factor lies, in tiles of sixteen columns: tile c's units are at c * across + i * step. Row by row where
// tiles are taken together; else tile by tile, so that what is read one after the other lies so.
struct Layout {
    int64_t across, step;

    static Layout of(int64_t units, int64_t columns) {
        return TILES > 1 ? Layout{LANES, columns} : Layout{units * LANES, LANES};
    }
    int64_t place(int64_t unit, int64_t column) const { return column / LANES * across + column % LANES + unit * step; }
};

struct Right {
    const Unit* start;
    Layout layout;
};

template <int N> INLINE void multiply_tile(const Left& a, const Right& b, int64_t units, int64_t column, Lanes (&sum)[ROWS][N]) {
    const Unit* from = b.start + b.layout.place(0, column);
    for (int64_t i = 0; i < units; i++, from += b.layout.step) {
        Factors right[N];
        UNROLL for (int n = 0; n < N; n++) right[n] = held(factors(from + n * b.layout.across));
        UNROLL for (int m = 0; m < ROWS; m++) {
            const Factors left = repeated(a.row[m][i * a.step]);
            UNROLL for (int n = 0; n < N; n++) sum[m][n] = add_products(sum[m][n], left, right[n]);
        }
    }
}

// The product of four rows with N tiles from `column` on: start(m, column) says what is added to sixteen values of row m,
// and result(m, column, sum) gets them.
template <int N, class Start, class Result>
INLINE void multiply_strip(const Left& a, const Right& b, int64_t units, int64_t column, Start start, Result result) {
    Lanes sum[ROWS][N];
    UNROLL for (int m = 0; m < ROWS; m++) UNROLL for (int n = 0; n < N; n++) sum[m][n] = start(m, column + n * LANES);
    multiply_tile<N>(a, b, units, column, sum);
    UNROLL for (int m = 0; m < ROWS; m++) UNROLL for (int n = 0; n < N; n++) result(m, column + n * LANES, sum[m][n]);
}

// `count` columns (a multiple of sixteen, at most `WIDE`) from `column` on; as many at once as there are, since sums that
// wait for each other are slow.
template <int N = TILES, class Start, class Result>
INLINE void multiply_some(const Left& a, const Right& b, int64_t units, int64_t column, int64_t count, Start start, Result result) {
    if constexpr (N > 1)
        if (count < N * LANES) return multiply_some<N - 1>(a, b, units, column, count, start, result);
    multiply_strip<N>(a, b, units, column, start, result);
}

template <class Start, class Result>
INLINE void multiply(const Left& a, const Right& b, int64_t units, int64_t columns, Start start, Result result) {
    for (int64_t column = 0; column < columns; column += WIDE)
        multiply_some(a, b, units, column, columns - column < WIDE ? columns - column : WIDE, start, result);
}

INLINE Lanes from_zero(int, int64_t) { return broadcast(0); }
