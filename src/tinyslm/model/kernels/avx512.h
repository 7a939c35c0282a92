// Sixteen numbers at a time with AVX-512, and products of bf16 pairs (AVX512_BF16): the same names as in lanes.h and
// numbers.h, for the processors that have an instruction for nearly each of them.
#pragma once
#include <immintrin.h>
#include <cmath>
#include <cstdint>
#include <cstring>

#define INLINE inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")

typedef uint16_t bf16;
typedef __m512 Lanes;

constexpr int64_t LANES = 16;

INLINE Lanes broadcast(float x) { return _mm512_set1_ps(x); }
INLINE Lanes load(const float* from) { return _mm512_loadu_ps(from); }
INLINE void store(float* to, Lanes x) { _mm512_storeu_ps(to, x); }
INLINE Lanes widened(__m256i x) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(x), 16)); }
INLINE __m256i narrowed(Lanes x) { return (__m256i)_mm512_cvtneps_pbh(x); }  // rounds to nearest, ties to even
INLINE Lanes load(const bf16* from) { return widened(_mm256_loadu_si256((const __m256i*)from)); }
INLINE void store(bf16* to, Lanes x) { _mm256_storeu_si256((__m256i*)to, narrowed(x)); }

INLINE Lanes add_product(Lanes sum, Lanes a, Lanes b) { return _mm512_fmadd_ps(a, b, sum); }
INLINE Lanes largest(Lanes a, Lanes b) { return _mm512_max_ps(a, b); }
INLINE float total(Lanes x) { return _mm512_reduce_add_ps(x); }
INLINE float most(Lanes x) { return _mm512_reduce_max_ps(x); }

INLINE __mmask16 mask_of(int64_t count) { return count >= LANES ? 0xFFFF : count <= 0 ? 0 : (1u << count) - 1; }
INLINE Lanes first_of(Lanes x, int64_t count, float filler = 0) {
    return _mm512_mask_mov_ps(broadcast(filler), mask_of(count), x);
}
INLINE Lanes load_some(const float* from, int64_t count) { return _mm512_maskz_loadu_ps(mask_of(count), from); }
INLINE Lanes load_some(const bf16* from, int64_t count) { return widened(_mm256_maskz_loadu_epi16(mask_of(count), from)); }
INLINE void store_some(float* to, Lanes x, int64_t count) { _mm512_mask_storeu_ps(to, mask_of(count), x); }
INLINE void store_some(bf16* to, Lanes x, int64_t count) { _mm256_mask_storeu_epi16(to, mask_of(count), narrowed(x)); }

typedef __m512bh Factors;
INLINE Factors factors(const uint32_t* from) { return (Factors)_mm512_loadu_si512(from); }
INLINE Factors repeated(uint32_t pair) { return (Factors)_mm512_set1_epi32((int)pair); }
INLINE Lanes add_products(Lanes sum, Factors a, Factors b) { return _mm512_dpbf16_ps(sum, a, b); }

INLINE void store_pairs(uint32_t* to, Lanes first, Lanes second) {
    const __m512i low = _mm512_cvtepu16_epi32(narrowed(first)), high = _mm512_cvtepu16_epi32(narrowed(second));
    _mm512_storeu_si512(to, _mm512_or_si512(low, _mm512_slli_epi32(high, 16)));
}

INLINE void store_pairs(uint32_t* to, const bf16* first, const bf16* second) {
    const __m512i low = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)first));
    const __m512i high = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)second));
    _mm512_storeu_si512(to, _mm512_or_si512(low, _mm512_slli_epi32(high, 16)));
}

// e^x for x <= 0, to about 2e-7; what is far below gives 0. e^x = 2^whole * 2^rest with |rest| <= 1/2, and
// 2^rest by its Taylor series.
INLINE Lanes exponential(Lanes x) {
    const Lanes scaled = _mm512_max_ps(x * broadcast(1.44269504f), broadcast(-150));
    const Lanes whole = _mm512_roundscale_ps(scaled, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const Lanes rest = scaled - whole;
    Lanes sum = broadcast(1.54035304e-4f);
    sum = _mm512_fmadd_ps(sum, rest, broadcast(1.33335581e-3f));
    sum = _mm512_fmadd_ps(sum, rest, broadcast(9.61812911e-3f));
    sum = _mm512_fmadd_ps(sum, rest, broadcast(5.55041087e-2f));
    sum = _mm512_fmadd_ps(sum, rest, broadcast(2.40226507e-1f));
    sum = _mm512_fmadd_ps(sum, rest, broadcast(6.93147181e-1f));
    sum = _mm512_fmadd_ps(sum, rest, broadcast(1));
    return _mm512_scalef_ps(sum, whole);
}

// 1 / (1 + e^-x).
INLINE Lanes sigmoid(Lanes x) {
    const Lanes small = exponential(-_mm512_abs_ps(x));  // no overflow
    const Lanes positive = broadcast(1) / (broadcast(1) + small);
    const __mmask16 negative = _mm512_cmp_ps_mask(x, broadcast(0), _CMP_LT_OQ);
    return _mm512_mask_mov_ps(positive, negative, small * positive);
}
