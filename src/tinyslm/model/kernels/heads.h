// What happens to queries and keys before attention: RMSNorm of each head (where there are weights), then the rotary
// turn y = z * cos + swapped(z) * sin, whose `sin` is negative in the first half (Su et al., 2021).
#pragma once
#include <cmath>
#include <vector>
#include "lanes.h"
#include "parallel.h"

namespace heads {

constexpr int64_t POSITIONS = 16;  // of a piece of work
constexpr int64_t WIDEST = 256;

struct Shape {
    int64_t positions, length, heads, width;  // positions in all; in one sequence
    float eps;
};

// cos, sin: [length][width]. weight, scales: null without a norm.
inline void forward(
    const Shape& shape, const bf16* x, const float* weight, const float* cos, const float* sin, bf16* y, float* scales,
    Threads threads) {
    const int64_t width = shape.width, half = width / 2;
    threads.share((shape.positions + POSITIONS - 1) / POSITIONS, [&](int64_t piece) {
        float z[WIDEST];
        for (int64_t t = piece * POSITIONS; t < shape.positions && t < (piece + 1) * POSITIONS; t++) {
            const float *c = cos + t % shape.length * width, *s = sin + t % shape.length * width;
            for (int64_t row = t * shape.heads; row < (t + 1) * shape.heads; row++) {
                const bf16* from = x + row * width;
                if (weight) {
                    Lanes squares = broadcast(0);
                    for (int64_t i = 0; i < width; i += LANES)
                        squares = _mm512_fmadd_ps(load(from + i), load(from + i), squares);
                    scales[row] = 1 / std::sqrt(_mm512_reduce_add_ps(squares) / width + shape.eps);
                    for (int64_t i = 0; i < width; i += LANES)
                        store(z + i, load(from + i) * broadcast(scales[row]) * load(weight + i));
                } else {
                    for (int64_t i = 0; i < width; i += LANES) store(z + i, load(from + i));
                }
                for (int64_t i = 0; i < width; i += LANES) {
                    const int64_t other = i < half ? i + half : i - half;
                    store(y + row * width + i, load(z + i) * load(c + i) + load(z + other) * load(s + i));
                }
            }
        }
    });
}

// The turn's gradient turns back; then as in norm.h. d_weight [width]: null without a norm.
inline void backward(
    const Shape& shape, const bf16* dy, const bf16* x, const float* weight, const float* cos, const float* sin,
    const float* scales, bf16* dx, float* d_weight, Threads threads) {
    const int64_t width = shape.width, half = width / 2, pieces = (shape.positions + POSITIONS - 1) / POSITIONS;
    std::vector<float> sums(weight ? pieces * width : 0, 0.0f);
    threads.share(pieces, [&](int64_t piece) {
        float dz[WIDEST];
        float* sum = sums.data() + piece * width;
        for (int64_t t = piece * POSITIONS; t < shape.positions && t < (piece + 1) * POSITIONS; t++) {
            const float *c = cos + t % shape.length * width, *s = sin + t % shape.length * width;
            for (int64_t row = t * shape.heads; row < (t + 1) * shape.heads; row++) {
                const bf16 *d_to = dy + row * width, *from = x + row * width;
                for (int64_t i = 0; i < width; i += LANES) {
                    const int64_t other = i < half ? i + half : i - half;
                    store(dz + i, load(d_to + i) * load(c + i) + load(d_to + other) * load(s + other));
                }
                if (!weight) {
                    for (int64_t i = 0; i < width; i += LANES) store(dx + row * width + i, load(dz + i));
                    continue;
                }
                const Lanes scale = broadcast(scales[row]);
                Lanes along = broadcast(0);
                for (int64_t i = 0; i < width; i += LANES) {
                    const Lanes u = load(from + i) * scale, d = load(dz + i);
                    store(sum + i, _mm512_fmadd_ps(d, u, load(sum + i)));
                    along = _mm512_fmadd_ps(d * load(weight + i), u, along);
                }
                const Lanes mean = broadcast(_mm512_reduce_add_ps(along) / width);
                for (int64_t i = 0; i < width; i += LANES)
                    store(dx + row * width + i, (load(dz + i) * load(weight + i) - load(from + i) * scale * mean) * scale);
            }
        }
    });
    if (!weight) return;
    memset(d_weight, 0, width * sizeof(float));
    for (int64_t piece = 0; piece < pieces; piece++)
        for (int64_t i = 0; i < width; i += LANES)
            store(d_weight + i, load(d_weight + i) + load(sums.data() + piece * width + i));
}

}  // namespace heads
