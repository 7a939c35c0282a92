// What the kernels compute with. NUMBER_BITS says what they read, write and multiply: 16 is bf16, for processors that
// multiply it (AVX512_BF16), 32 is fp32, for all others. Sums are in fp32, sixteen at a time (lanes.h).
//
// Factors of products lie in units of 32 bits, since AVX512_BF16 multiplies pairs: a unit is two neighbouring bf16, the
// first in its lower half, or one fp32.
#pragma once
#if NUMBER_BITS == 16 && defined(__AVX512BF16__)
#include "avx512.h"
#else
#include "lanes.h"

INLINE Lanes load(const bf16* from) { return load_wide(from); }
INLINE void store(bf16* to, Lanes x) { store_narrow(to, x); }
INLINE Lanes operator-(Lanes x) { return broadcast(0) - x; }
INLINE Lanes& operator+=(Lanes& a, Lanes b) { return a = a + b; }

// The first `count` of sixteen; the others are `filler`.
INLINE Lanes first_of(Lanes x, int64_t count, float filler = 0) {
    static const int32_t PLACES[LANES] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    if (count >= LANES) return x;
    const Whole places = load_whole(PLACES);
    EACH_PART x.part[i] = places.part[i] < (int32_t)count ? x.part[i] : Floats{} + filler;
    return x;
}
INLINE Lanes load_some(const bf16* from, int64_t count) {
    bf16 x[LANES] = {};
    memcpy(x, from, (count < LANES ? count : LANES) * sizeof(bf16));
    return load(x);
}
INLINE void store_some(bf16* to, Lanes x, int64_t count) {
    bf16 y[LANES];
    store(y, x);
    memcpy(to, y, (count < LANES ? count : LANES) * sizeof(bf16));
}

// 1 / (1 + e^-x).
INLINE Lanes sigmoid(Lanes x) { return broadcast(1) / (broadcast(1) + exponential(-x)); }

#if NUMBER_BITS == 16  // imitated: for tests on other processors
struct Factors {
    Lanes low, high;
};
INLINE Factors halves(Whole pairs) { return {as_floats(pairs << 16), as_floats(pairs & (int32_t)0xFFFF0000)}; }
INLINE Factors factors(const uint32_t* from) { return halves(load_whole(from)); }
INLINE Factors repeated(uint32_t pair) { return halves(broadcast_whole((int32_t)pair)); }
INLINE Lanes add_products(Lanes sum, Factors a, Factors b) {
    return add_product(add_product(sum, a.low, b.low), a.high, b.high);
}
INLINE void store_pairs(uint32_t* to, const bf16* first, const bf16* second) {
    for (int i = 0; i < LANES; i++) to[i] = first[i] | (uint32_t)second[i] << 16;
}
INLINE void store_pairs(uint32_t* to, Lanes first, Lanes second) {
    bf16 low[LANES], high[LANES];
    store(low, first), store(high, second);
    store_pairs(to, low, high);
}
#endif
#endif

#if NUMBER_BITS == 16
typedef bf16 Number;
typedef uint32_t Unit;
INLINE float wide(bf16 x) {
    const uint32_t bits = (uint32_t)x << 16;
    float y;
    memcpy(&y, &bits, sizeof(y));
    return y;
}
// Sixteen columns of two neighbouring rows, which lie as [rows / PER_UNIT][stride].
template <class Row> INLINE void store_rows(Unit* to, int64_t, Row first, Row second) { store_pairs(to, first, second); }
#else
typedef float Number;
typedef float Unit;
typedef Lanes Factors;
INLINE Factors factors(const float* from) { return load(from); }
INLINE Factors repeated(float x) { return broadcast(x); }
INLINE Lanes add_products(Lanes sum, Factors a, Factors b) { return add_product(sum, a, b); }
INLINE float wide(float x) { return x; }
INLINE void store_rows(Unit* to, int64_t stride, Lanes first, Lanes second) { store(to, first), store(to + stride, second); }
INLINE void store_rows(Unit* to, int64_t stride, const float* first, const float* second) {
    store_rows(to, stride, load(first), load(second));
}
#endif

// In registers, not in memory: GCC would read it again for each product, and a processor adds more quickly than it reads.
INLINE Factors held(Factors x) {
#if NUMBER_BITS == 32 && defined(__AVX__)
    EACH_PART asm("" : "+v"(x.part[i]));
#endif
    return x;
}

constexpr int64_t PER_UNIT = sizeof(Unit) / sizeof(Number);
#ifdef __AVX512F__
constexpr int64_t REGISTERS = 32;
#else
constexpr int64_t REGISTERS = 16;  // and an AVX2 register has half of the lanes
#endif
