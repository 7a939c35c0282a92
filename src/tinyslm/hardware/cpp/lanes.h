// Sixteen fp32 numbers at a time, on any processor: what the compiler makes of it is one AVX-512 register, two of AVX2
// or four of NEON. Sums are always taken in the same order.
//
// Registers are read and written one by one: GCC 12 copies larger memory in pieces of 16 bytes through the stack, and
// then waits for it.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#ifdef __AVX__
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
#define REGISTER_BYTES 64
#elif defined(__AVX__)
#define REGISTER_BYTES 32
#else
#define REGISTER_BYTES 16
#endif
#define INLINE inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 32")

constexpr int LANES = 16;
constexpr int PARTS = 64 / REGISTER_BYTES, PER_REGISTER = LANES / PARTS;

typedef float Floats __attribute__((vector_size(REGISTER_BYTES)));
typedef int32_t Ints __attribute__((vector_size(REGISTER_BYTES)));
typedef uint16_t bf16;

struct Whole;  // sixteen int32

struct Lanes {
    Floats part[PARTS];
};
struct Whole {
    Ints part[PARTS];
};

#define EACH_PART UNROLL for (int i = 0; i < PARTS; i++)

INLINE Lanes broadcast(float x) {
    Lanes y;
    EACH_PART y.part[i] = x - Floats{};  // not a sum, which would turn -0 into 0
    return y;
}
INLINE Whole broadcast_whole(int32_t x) {
    Whole y;
    EACH_PART y.part[i] = Ints{} + x;
    return y;
}
INLINE Lanes load(const float* from) {
    Lanes y;
    EACH_PART memcpy(&y.part[i], from + i * PER_REGISTER, REGISTER_BYTES);
    return y;
}
INLINE Whole load_whole(const void* from) {
    Whole y;
    EACH_PART memcpy(&y.part[i], (const int32_t*)from + i * PER_REGISTER, REGISTER_BYTES);
    return y;
}
INLINE void store(float* to, Lanes x) {
    EACH_PART memcpy(to + i * PER_REGISTER, &x.part[i], REGISTER_BYTES);
}
INLINE Lanes operator+(Lanes a, Lanes b) {
    EACH_PART a.part[i] += b.part[i];
    return a;
}
INLINE Lanes operator-(Lanes a, Lanes b) {
    EACH_PART a.part[i] -= b.part[i];
    return a;
}
INLINE Lanes operator*(Lanes a, Lanes b) {
    EACH_PART a.part[i] *= b.part[i];
    return a;
}
INLINE Lanes operator/(Lanes a, Lanes b) {
    EACH_PART a.part[i] /= b.part[i];
    return a;
}
INLINE Lanes operator*(Lanes a, float b) { return a * broadcast(b); }
INLINE Lanes operator+(Lanes a, float b) { return a + broadcast(b); }
INLINE Lanes largest(Lanes a, Lanes b) {
    EACH_PART a.part[i] = a.part[i] > b.part[i] ? a.part[i] : b.part[i];
    return a;
}
INLINE Lanes smallest(Lanes a, Lanes b) {
    EACH_PART a.part[i] = a.part[i] < b.part[i] ? a.part[i] : b.part[i];
    return a;
}
INLINE Whole operator&(Whole a, int32_t b) {
    EACH_PART a.part[i] &= b;
    return a;
}
INLINE Whole operator<<(Whole a, int b) {
    EACH_PART a.part[i] <<= b;
    return a;
}
INLINE Whole operator>>(Whole a, int b) {  // arithmetic: keeps the sign
    EACH_PART a.part[i] >>= b;
    return a;
}
INLINE Lanes as_floats(Whole bits) {
    Lanes y;
    EACH_PART y.part[i] = (Floats)bits.part[i];
    return y;
}
INLINE Whole as_bits(Lanes x) {
    Whole y;
    EACH_PART y.part[i] = (Ints)x.part[i];
    return y;
}
INLINE Lanes to_floats(Whole x) {
    Lanes y;
    EACH_PART y.part[i] = __builtin_convertvector(x.part[i], Floats);
    return y;
}

// sum + a * b, rounded once where the processor can.
INLINE Lanes add_product(Lanes sum, Lanes a, Lanes b) {
    EACH_PART sum.part[i] += a.part[i] * b.part[i];
    return sum;
}

// Of all sixteen: halves together, then quarters, and so on.
template <class Join> INLINE float joined(Lanes x, Join join) {
#ifdef __AVX512F__
    __m512 whole = (__m512)x.part[0];
    __m256 upper = _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(whole), 1));
    __m256 half = join(_mm512_castps512_ps256(whole), upper);
#elif defined(__AVX__)
    __m256 half = join((__m256)x.part[0], (__m256)x.part[1]);
#endif
#ifdef __AVX__
    __m128 four = join(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
    __m128 two = join(four, _mm_movehl_ps(four, four));
    return join(two[0], two[1]);
#else
    float y[LANES];
    store(y, x);
    for (int half = LANES / 2; half; half /= 2)
        for (int i = 0; i < half; i++) y[i] = join(y[i], y[i + half]);
    return y[0];
#endif
}
INLINE float total(Lanes x) {
    return joined(x, [](auto a, auto b) { return a + b; });
}
INLINE float most(Lanes x) {
    return joined(x, [](auto a, auto b) { return a > b ? a : b; });
}

// The first `count` of sixteen numbers; the others are `filler`.
INLINE Lanes load_some(const float* from, int count, float filler = 0) {
    if (count >= LANES) return load(from);
    float y[LANES];
    for (int i = 0; i < LANES; i++) y[i] = i < count ? from[i] : filler;
    return load(y);
}
INLINE void store_some(float* to, Lanes x, int count) {
    if (count >= LANES) return store(to, x);
    float y[LANES];
    store(y, x);
    for (int i = 0; i < count; i++) to[i] = y[i];
}

// fp32 to the nearest bf16 (ties to even) and back.
INLINE bf16 narrowed(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    if ((bits & 0x7fffffff) > 0x7f800000) return bits >> 16 | 0x40;
    return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}
INLINE float widened(bf16 x) {
    uint32_t bits = uint32_t(x) << 16;
    float y;
    memcpy(&y, &bits, 4);
    return y;
}
INLINE void store_narrow(bf16* to, Lanes x) {
#ifdef __AVX512BF16__
    __m256bh y = _mm512_cvtneps_pbh((__m512)x.part[0]);
    memcpy(to, &y, 32);
#else
    float y[LANES];
    store(y, x);
    for (int i = 0; i < LANES; i++) to[i] = narrowed(y[i]);
#endif
}
INLINE Lanes load_wide(const bf16* from) {
#ifdef __AVX512F__
    Lanes y;
    y.part[0] = (Floats)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)from)), 16);
    return y;
#else
    float y[LANES];
    for (int i = 0; i < LANES; i++) y[i] = widened(from[i]);
    return load(y);
#endif
}

// e^x within 2 units in the last place, 0 below -87 (Cephes' polynomial).
INLINE Lanes exponential(Lanes x) {
    x = largest(smallest(x, broadcast(88.0f)), broadcast(-104.0f));
    const Lanes magic = broadcast(12582912.0f);  // 1.5 * 2^23: adding it rounds to a whole number
    Lanes n = (x * 1.44269504088896341f + magic) - magic;
    Lanes r = add_product(x, n, broadcast(-0.693359375f));
    r = add_product(r, n, broadcast(2.12194440e-4f));
    Lanes y = broadcast(1.9875691500e-4f);
    const float terms[] = {1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f};
    UNROLL for (int i = 0; i < 5; i++) y = add_product(broadcast(terms[i]), y, r);
    y = add_product(r + 1.0f, y * r, r);
    Whole power;
    EACH_PART power.part[i] = __builtin_convertvector(n.part[i], Ints);
    EACH_PART power.part[i] = power.part[i] < -126 ? Ints{} : (power.part[i] + 127) << 23;
    return y * as_floats(power);
}
