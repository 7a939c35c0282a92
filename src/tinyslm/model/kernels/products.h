// Small matrix products of bf16 pairs with fp32 sums, for operands that lie in the caches.
#pragma once
#include "lanes.h"

constexpr int ROWS = 4;           // a tile of the result, in registers, has four rows
constexpr int64_t WIDE = 64;      // of at most so many columns

// A tile's rows: row m's pairs are at row[m][0], row[m][step], row[m][2 * step], ...
struct Left {
    const pair* row[ROWS];
    int64_t step;
};

// The other factor, in tiles of sixteen columns: tile c's pairs are at start + c * across + i * step.
struct Right {
    const pair* start;
    int64_t across, step;
};

template <int N> INLINE void multiply_tile(const Left& a, const Right& b, int64_t pairs, int64_t column, Lanes (&sum)[ROWS][N]) {
    const pair* from = b.start + column / LANES * b.across;
    for (int64_t i = 0; i < pairs; i++, from += b.step) {
        __m512bh right[N];
        UNROLL for (int n = 0; n < N; n++) right[n] = (__m512bh)_mm512_loadu_si512(from + n * b.across);
        UNROLL for (int m = 0; m < ROWS; m++) {
            const __m512bh left = (__m512bh)_mm512_set1_epi32((int)a.row[m][i * a.step]);
            UNROLL for (int n = 0; n < N; n++) sum[m][n] = _mm512_dpbf16_ps(sum[m][n], left, right[n]);
        }
    }
}

// The product of four rows with N tiles from `column` on: start(m, column) says what is added to sixteen values of row m,
// and result(m, column, sum) gets them.
template <int N, class Start, class Result>
INLINE void multiply_strip(const Left& a, const Right& b, int64_t pairs, int64_t column, Start start, Result result) {
    Lanes sum[ROWS][N];
    UNROLL for (int m = 0; m < ROWS; m++) UNROLL for (int n = 0; n < N; n++) sum[m][n] = start(m, column + n * LANES);
    multiply_tile<N>(a, b, pairs, column, sum);
    UNROLL for (int m = 0; m < ROWS; m++) UNROLL for (int n = 0; n < N; n++) result(m, column + n * LANES, sum[m][n]);
}

// `count` columns (a multiple of sixteen, at most sixty-four) from `column` on.
template <class Start, class Result>
INLINE void multiply_some(const Left& a, const Right& b, int64_t pairs, int64_t column, int64_t count, Start start, Result result) {
    switch (count / LANES) {  // as many at once as there are: sums that wait for each other are slow
        case 4: return multiply_strip<4>(a, b, pairs, column, start, result);
        case 3: return multiply_strip<3>(a, b, pairs, column, start, result);
        case 2: return multiply_strip<2>(a, b, pairs, column, start, result);
        default: return multiply_strip<1>(a, b, pairs, column, start, result);
    }
}

template <class Start, class Result>
INLINE void multiply(const Left& a, const Right& b, int64_t pairs, int64_t columns, Start start, Result result) {
    for (int64_t column = 0; column < columns; column += WIDE)
        multiply_some(a, b, pairs, column, columns - column < WIDE ? columns - column : WIDE, start, result);
}

INLINE Lanes from_zero(int, int64_t) { return broadcast(0); }
