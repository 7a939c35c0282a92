// Products with matrices that are stored in tiles of sixteen outputs.
//
// Whatever the number of rows, and however they are taken together, each output is one chain of sums over the inputs in
// ascending order; so a row's result does not depend on its company.
#pragma once
#if defined(__GNUC__) && !defined(__clang__)
// GCC 12 otherwise keeps weights of some kernels in memory, though registers are free, which halves their speed.
#pragma GCC optimize("ira-region=all")
#endif
#include <algorithm>
#include "lanes.h"

enum Format { FP32, BF16, INT8, INT4 };

// A matrix [outputs, inputs]. codes: by tile of sixteen outputs
//   FP32  [inputs][16]
//   BF16  [inputs / 2][16][2]
//   INT8  [inputs / 2][16][2]
//   INT4  [inputs / 8][16][2] words of 16 bits: the n-th half byte from below belongs to input 8 * step + 2 * n + (0,
//         1); its value is code - 8
// scales: bf16 [tile][inputs / group][16], or none. bias: [outputs], or none. Outputs and inputs are padded with zeros.
struct Matrix {
    const void* codes;
    const bf16* scales;
    const float* bias;
    int32_t format, inputs, outputs, group;
    int32_t source, target;  // buffers: of rows that are read, and of fp32 rows that are written
};

#ifdef __AVX512BF16__
typedef bf16 Input;  // what packed and bf16 matrices are multiplied with
#else
typedef float Input;
#endif

// Each kind of tile says how many inputs one step takes (STEP), in how many products of WIDTH inputs, its size, how the
// weights are read, and whether it is worth while to unpack them once for many rows.
struct Fp32Tile {
    static constexpr bool UNPACKS = false;
    typedef float In;
    typedef Lanes Weights;
    static constexpr int STEP = 1, PRODUCTS = 1;
    static size_t bytes(int inputs) { return size_t(inputs) * 64; }
    struct Codes {
        Lanes weights;
    };
    static INLINE Codes read(const char* tile, long step) { return {load((const float*)tile + step * 16)}; }
    static INLINE Weights weights(Codes codes, int) { return codes.weights; }
    static INLINE Lanes take(const float* x) { return broadcast(*x); }
    static INLINE Lanes dot(Lanes sum, Weights w, Lanes x) { return add_product(sum, w, x); }
    static constexpr int WIDTH = 1;  // inputs in one product
};

#ifdef __AVX512BF16__
struct Pairs {
    typedef bf16 In;
    typedef __m512bh Weights;
    static constexpr int WIDTH = 2;
    static INLINE __m512bh take(const bf16* x) {
        int32_t pair;
        memcpy(&pair, x, 4);
        return (__m512bh)_mm512_set1_epi32(pair);
    }
    static INLINE Lanes dot(Lanes sum, Weights w, __m512bh x) {
        sum.part[0] = (Floats)_mm512_dpbf16_ps((__m512)sum.part[0], w, x);
        return sum;
    }
    static INLINE void write(char* tile, long pair, Weights w) { memcpy(tile + pair * 64, &w, 64); }
};
struct Bf16Tile : Pairs {
    static constexpr bool UNPACKS = false;
    static constexpr int STEP = 2, PRODUCTS = 1;
    static size_t bytes(int inputs) { return size_t(inputs) * 32; }
    typedef __m512i Codes;
    static INLINE Codes read(const char* tile, long step) { return _mm512_loadu_si512(tile + step * 64); }
    static INLINE Weights weights(Codes codes, int) { return (__m512bh)codes; }
};
struct Int8Tile : Pairs {
    static constexpr bool UNPACKS = true;
    static constexpr int STEP = 2, PRODUCTS = 1;
    static size_t bytes(int inputs) { return size_t(inputs) * 16; }
    typedef __m256i Codes;
    static INLINE Codes read(const char* tile, long step) {
        return _mm256_loadu_si256((const __m256i*)(tile + step * 32));
    }
    static INLINE Weights weights(Codes codes, int) {  // whole numbers up to 256 are exact in bf16
        __m512 low = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm256_castsi256_si128(codes)));
        __m512 high = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm256_extracti128_si256(codes, 1)));
        return _mm512_cvtne2ps_pbh(high, low);
    }
};
struct Int4Tile : Pairs {
    static constexpr bool UNPACKS = false;  // reading the codes costs next to nothing
    static constexpr int STEP = 8, PRODUCTS = 4;
    static size_t bytes(int inputs) { return size_t(inputs) * 8; }
    typedef __m512i Codes;
    static INLINE Codes read(const char* tile, long step) { return _mm512_loadu_si512(tile + step * 64); }
    static INLINE Weights weights(Codes codes, int product) {
        // The values -8 to 7 in bf16, twice: the permutation looks at five bits, the highest of which is a neighbour's.
        alignas(64) static const bf16 values[32] = {
            0xc100, 0xc0e0, 0xc0c0, 0xc0a0, 0xc080, 0xc040, 0xc000, 0xbf80,
            0,      0x3f80, 0x4000, 0x4040, 0x4080, 0x40a0, 0x40c0, 0x40e0,
            0xc100, 0xc0e0, 0xc0c0, 0xc0a0, 0xc080, 0xc040, 0xc000, 0xbf80,
            0,      0x3f80, 0x4000, 0x4040, 0x4080, 0x40a0, 0x40c0, 0x40e0};
        return (__m512bh)_mm512_permutexvar_epi16(_mm512_srli_epi16(codes, 4 * product), _mm512_load_si512(values));
    }
};
typedef Bf16Tile UnpackedTile;
#else
struct Pair {
    Lanes even, odd;
};
struct Pairs {
    typedef float In;
    typedef Pair Weights;
    static constexpr int WIDTH = 2;
    static INLINE Pair take(const float* x) { return {broadcast(x[0]), broadcast(x[1])}; }
    static INLINE Lanes dot(Lanes sum, Weights w, Pair x) {
        return add_product(add_product(sum, w.even, x.even), w.odd, x.odd);
    }
    static INLINE void write(char* tile, long pair, Weights w) {
        store((float*)tile + pair * 32, w.even);
        store((float*)tile + pair * 32 + 16, w.odd);
    }
};
struct Bf16Tile : Pairs {
    static constexpr bool UNPACKS = false;
    static constexpr int STEP = 2, PRODUCTS = 1;
    static size_t bytes(int inputs) { return size_t(inputs) * 32; }
    typedef Whole Codes;
    static INLINE Codes read(const char* tile, long step) { return load_whole(tile + step * 64); }
    static INLINE Weights weights(Codes codes, int) { return {as_floats(codes << 16), as_floats(codes & 0xffff0000)}; }
};
struct Int8Tile : Pairs {
    static constexpr bool UNPACKS = true;
    static constexpr int STEP = 2, PRODUCTS = 1;
    static size_t bytes(int inputs) { return size_t(inputs) * 16; }
    struct Codes {
        int8_t code[32];
    };
    static INLINE Codes read(const char* tile, long step) {
        Codes codes;
        memcpy(&codes, tile + step * 32, 32);
        return codes;
    }
    static INLINE Weights weights(const Codes& codes, int) {
        float even[LANES], odd[LANES];
        for (int i = 0; i < LANES; i++) even[i] = codes.code[2 * i], odd[i] = codes.code[2 * i + 1];
        return {load(even), load(odd)};
    }
};
struct Int4Tile : Pairs {
    static constexpr bool UNPACKS = true;
    static constexpr int STEP = 8, PRODUCTS = 4;
    static size_t bytes(int inputs) { return size_t(inputs) * 8; }
    typedef Whole Codes;
    static INLINE Codes read(const char* tile, long step) { return load_whole(tile + step * 64); }
    static INLINE Weights weights(Codes codes, int product) {
        Lanes even = to_floats((codes >> (4 * product)) & 15), odd = to_floats((codes >> (16 + 4 * product)) & 15);
        return {even + -8.0f, odd + -8.0f};
    }
};
typedef Fp32Tile UnpackedTile;
#endif

// Memory that is read next: fetched bit by bit while the processor computes, at `from` and `gap` bytes further at once.
struct Ahead {
    const char* from;
    long step, gap;

    INLINE void fetch() {
        __builtin_prefetch(from, 0, 2);
        __builtin_prefetch(from + gap, 0, 2);
        from += step;
    }
};

// sum[r][t] += inputs [from, to) of row r times the weights of tile t.
template <class Tile, int R, int T>
INLINE void accumulate(
    Lanes (&sum)[R][T], const char* const (&tile)[T], const typename Tile::In* const (&x)[R], long from, long to,
    Ahead& ahead) {
    for (long at = from; at < to; at += Tile::STEP) {
        typename Tile::Codes codes[T];
        UNROLL for (int t = 0; t < T; t++) codes[t] = Tile::read(tile[t], at / Tile::STEP);
        if (R > 1) ahead.fetch();
        UNROLL for (int n = 0; n < Tile::PRODUCTS; n++) {
            typename Tile::Weights weights[T];
            UNROLL for (int t = 0; t < T; t++) weights[t] = Tile::weights(codes[t], n);
            UNROLL for (int r = 0; r < R; r++) {
                auto input = Tile::take(x[r] + at + n * Tile::WIDTH);
                UNROLL for (int t = 0; t < T; t++) sum[r][t] = Tile::dot(sum[r][t], weights[t], input);
            }
        }
    }
}

// Where products go: y = product + bias, or y += (product + bias) * factor.
struct Out {
    float* y;
    long stride;
    bool add;
    float factor;

    Out from(int row) const { return {y + row * stride, stride, add, factor}; }
};

// Rows of inputs.
template <class In> struct Inputs {
    const In* x;
    long stride;
};

// R rows from x times T tiles from number `first`, whose codes begin at `codes`.
template <class Tile, int R, int T>
void product(const Matrix& m, const char* codes, int first, Inputs<typename Tile::In> in, Out out, Ahead ahead) {
    const char* tile[T];
    const typename Tile::In* row[R];
    Lanes sum[R][T];
    UNROLL for (int t = 0; t < T; t++) tile[t] = codes + t * Tile::bytes(m.inputs);
    UNROLL for (int r = 0; r < R; r++) row[r] = in.x + r * in.stride;
    UNROLL for (int r = 0; r < R; r++) UNROLL for (int t = 0; t < T; t++) sum[r][t] = broadcast(0);
    if (!m.scales) {
        accumulate<Tile, R, T>(sum, tile, row, 0, m.inputs, ahead);
    } else {
        const long groups = m.inputs / m.group;
        const bf16* scales = m.scales + first * groups * 16;
        for (long g = 0; g < groups; g++) {
            Lanes part[R][T];
            UNROLL for (int r = 0; r < R; r++) UNROLL for (int t = 0; t < T; t++) part[r][t] = broadcast(0);
            accumulate<Tile, R, T>(part, tile, row, g * m.group, (g + 1) * m.group, ahead);
            UNROLL for (int t = 0; t < T; t++) {
                Lanes scale = load_wide(scales + (t * groups + g) * 16);
                UNROLL for (int r = 0; r < R; r++) sum[r][t] = add_product(sum[r][t], part[r][t], scale);
            }
        }
    }
    UNROLL for (int t = 0; t < T; t++) {
        const int at = (first + t) * 16;
        Lanes bias = m.bias ? load(m.bias + at) : broadcast(0);
        UNROLL for (int r = 0; r < R; r++) {
            float* y = out.y + r * out.stride + at;
            Lanes value = sum[r][t] + bias;
            store(y, out.add ? add_product(load(y), value, broadcast(out.factor)) : value);
        }
    }
}

// How many rows and tiles are taken together: what the registers hold. Sums of groups need a second set of them.
#ifdef __AVX512F__
constexpr int MOST_ROWS = 6, MOST_TILES = 4, MOST_TILES_ALONE = 8;
#else
constexpr int MOST_ROWS = 4, MOST_TILES = 2, MOST_TILES_ALONE = 4;
#endif

template <class Tile, int T>
void product_of(
    int rows, const Matrix& m, const char* codes, int first, Inputs<typename Tile::In> in, Out out, Ahead ahead) {
    switch (rows) {
        case 2: return product<Tile, 2, T>(m, codes, first, in, out, ahead);
        case 3: return product<Tile, 3, T>(m, codes, first, in, out, ahead);
        case 4: return product<Tile, 4, T>(m, codes, first, in, out, ahead);
#ifdef __AVX512F__
        case 5: return product<Tile, 5, T>(m, codes, first, in, out, ahead);
        case 6: return product<Tile, 6, T>(m, codes, first, in, out, ahead);
#endif
    }
}

// One row times tiles.
template <class Tile>
void alone(int tiles, const Matrix& m, const char* codes, int first, Inputs<typename Tile::In> in, Out out) {
    const Ahead nothing{codes, 0, 0};
    switch (tiles) {
        case 1: return product<Tile, 1, 1>(m, codes, first, in, out, nothing);
        case 2: return product<Tile, 1, 2>(m, codes, first, in, out, nothing);
        case 3: return product<Tile, 1, 3>(m, codes, first, in, out, nothing);
        case 4: return product<Tile, 1, 4>(m, codes, first, in, out, nothing);
#ifdef __AVX512F__
        case 5: return product<Tile, 1, 5>(m, codes, first, in, out, nothing);
        case 6: return product<Tile, 1, 6>(m, codes, first, in, out, nothing);
        case 7: return product<Tile, 1, 7>(m, codes, first, in, out, nothing);
        case 8: return product<Tile, 1, 8>(m, codes, first, in, out, nothing);
#endif
    }
}

// Memory that is read after this.
struct Next {
    const char* from;
    long size;
};

// Two rows or more times T tiles, in blocks of rows of about the same height.
template <class Tile, int T>
void rows_of(
    int rows, const Matrix& m, const char* codes, int first, Inputs<typename Tile::In> in, Out out, Next next) {
    const int blocks = (rows + MOST_ROWS - 1) / MOST_ROWS;
    const long steps = m.inputs / Tile::STEP, step = next.size / (blocks * steps);
    for (int block = 0; block < blocks; block++) {
        const int from = rows * block / blocks, to = rows * (block + 1) / blocks;
        const Ahead ahead{next.from + block * steps * step, step <= 128 ? step : 0, step > 64 ? 64 : 0};
        product_of<Tile, T>(to - from, m, codes, first, {in.x + from * in.stride, in.stride}, out.from(from), ahead);
    }
}

template <class Tile>
void tiles_of(
    int tiles, int rows, const Matrix& m, const char* codes, int first, Inputs<typename Tile::In> in, Out out,
    Next next) {
    if (tiles == MOST_TILES) rows_of<Tile, MOST_TILES>(rows, m, codes, first, in, out, next);
    else if (tiles == 2) rows_of<Tile, 2>(rows, m, codes, first, in, out, next);
    else rows_of<Tile, 1>(rows, m, codes, first, in, out, next);
}

// Unpacks tiles, so that many rows need not, where that is worth while; says whether it is.
template <class Tile>
bool unpacked(const Matrix& m, const char* codes, int tiles, char* to) {
    if constexpr (Tile::UNPACKS) {
        for (int t = 0; t < tiles; t++) {
            const char* from = codes + t * Tile::bytes(m.inputs);
            char* tile = to + t * UnpackedTile::bytes(m.inputs);
            for (long step = 0; step < m.inputs / Tile::STEP; step++) {
                auto read = Tile::read(from, step);
                UNROLL for (int n = 0; n < Tile::PRODUCTS; n++)
                    Tile::write(tile, step * Tile::PRODUCTS + n, Tile::weights(read, n));
            }
        }
    }
    return Tile::UNPACKS;
}

// All rows times tiles [from, to). scratch: room for MOST_TILES unpacked tiles.
template <class Tile>
void multiply(const Matrix& m, int from, int to, int rows, Inputs<typename Tile::In> in, Out out, char* scratch) {
    const bool groups = m.scales && m.group < m.inputs;
    for (int first = from, tiles; first < to; first += tiles) {
        const int left = to - first;
        const long bytes = Tile::bytes(m.inputs);
        const char* codes = (const char*)m.codes + first * bytes;
        if (rows == 1) {
            const int turns = (left + MOST_TILES_ALONE - 1) / MOST_TILES_ALONE;
            tiles = (left + turns - 1) / turns;
            alone<Tile>(tiles, m, codes, first, in, out);
            continue;
        }
        tiles = left >= MOST_TILES && !(groups && rows > 2) ? MOST_TILES : left >= 2 ? 2 : 1;
        const Next next{codes + tiles * bytes, std::min(tiles, left - tiles) * bytes};
        const Inputs<UnpackedTile::In> unpacked_input{(const UnpackedTile::In*)in.x, in.stride};
        if (rows <= 2 * MOST_ROWS || !unpacked<Tile>(m, codes, tiles, scratch))
            tiles_of<Tile>(tiles, rows, m, codes, first, in, out, next);
        else
            tiles_of<UnpackedTile>(tiles, rows, m, scratch, first, unpacked_input, out, next);
    }
}
