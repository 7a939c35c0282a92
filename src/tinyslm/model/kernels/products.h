// Small matrix products of bf16 pairs with fp32 sums, for operands that lie in the caches.
#pragma once
#include "lanes.h"

constexpr int ROWS = 4;     // of a tile of the result: four rows of up to four times sixteen columns, in registers
constexpr int COLUMNS = 4;

// A tile's rows: row m's pairs are at row[m][0], row[m][step], row[m][2 * step], ...
struct Left {
    const pair* row[ROWS];
    int64_t step;
};

template <int N> INLINE void multiply_tile(const Left& a, const pair* b, int64_t stride, int64_t pairs, Lanes (&sum)[ROWS][N]) {
    for (int64_t i = 0; i < pairs; i++, b += stride) {
        __m512bh column[N];
        UNROLL for (int n = 0; n < N; n++) column[n] = (__m512bh)_mm512_loadu_si512(b + n * LANES);
        UNROLL for (int m = 0; m < ROWS; m++) {
            const __m512bh both = (__m512bh)_mm512_set1_epi32((int)a.row[m][i * a.step]);
            UNROLL for (int n = 0; n < N; n++) sum[m][n] = _mm512_dpbf16_ps(sum[m][n], both, column[n]);
        }
    }
}

// The product of four rows with b [pairs][stride], `columns` wide (a multiple of 16): result(m, column, sum) gets sixteen
// values, and start(m, column) says what is added to them.
template <int N, class Start, class Result>
INLINE void multiply_strip(const Left& a, const pair* b, int64_t stride, int64_t pairs, int64_t column, Start start, Result result) {
    Lanes sum[ROWS][N];
    UNROLL for (int m = 0; m < ROWS; m++) UNROLL for (int n = 0; n < N; n++) sum[m][n] = start(m, column + n * LANES);
    multiply_tile<N>(a, b + column, stride, pairs, sum);
    UNROLL for (int m = 0; m < ROWS; m++) UNROLL for (int n = 0; n < N; n++) result(m, column + n * LANES, sum[m][n]);
}

template <class Start, class Result>
INLINE void multiply(const Left& a, const pair* b, int64_t stride, int64_t pairs, int64_t columns, Start start, Result result) {
    int64_t column = 0;
    for (; column + COLUMNS * LANES <= columns; column += COLUMNS * LANES)
        multiply_strip<COLUMNS>(a, b, stride, pairs, column, start, result);
    for (; column < columns; column += LANES) multiply_strip<1>(a, b, stride, pairs, column, start, result);
}

INLINE Lanes from_zero(int, int64_t) { return broadcast(0); }
