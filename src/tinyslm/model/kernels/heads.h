// What happens to queries and keys before attention: RMSNorm of each head (where there are weights), then the rotary
// turn y = z * cos + swapped(z) * sin, whose `sin` is negative in the first half (Su et al., 2021).
#pragma once
#include <vector>
#include "norm.h"

namespace heads {

constexpr int64_t POSITIONS = 16;  // of a piece of work
constexpr int64_t WIDEST = 256;

struct Shape {
    int64_t positions, length, heads, width;  // positions in all; in one sequence
    float eps;
};

// cos, sin: [length][width]. weight, scales: null without a norm.
inline void forward(
    const Shape& shape, const Number* x, const float* weight, const float* cos, const float* sin, Number* y, float* scales,
    Threads threads) {
    const int64_t width = shape.width, half = width / 2;
    threads.share((shape.positions + POSITIONS - 1) / POSITIONS, [&](int64_t piece) {
        float z[WIDEST];
        for (int64_t t = piece * POSITIONS; t < shape.positions && t < (piece + 1) * POSITIONS; t++) {
            const float *c = cos + t % shape.length * width, *s = sin + t % shape.length * width;
            for (int64_t row = t * shape.heads; row < (t + 1) * shape.heads; row++) {
                const Number* from = x + row * width;
                if (weight) scales[row] = norm::one(from, weight, z, width, shape.eps);
                else for (int64_t i = 0; i < width; i += LANES) store(z + i, load(from + i));
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
    const Shape& shape, const Number* dy, const Number* x, const float* weight, const float* cos, const float* sin,
    const float* scales, Number* dx, float* d_weight, Threads threads) {
    const int64_t width = shape.width, half = width / 2, pieces = (shape.positions + POSITIONS - 1) / POSITIONS;
    std::vector<float> sums(weight ? pieces * width : 0, 0.0f);
    threads.share(pieces, [&](int64_t piece) {
        float dz[WIDEST];
        float* sum = sums.data() + piece * width;
        for (int64_t t = piece * POSITIONS; t < shape.positions && t < (piece + 1) * POSITIONS; t++) {
            const float *c = cos + t % shape.length * width, *s = sin + t % shape.length * width;
            for (int64_t row = t * shape.heads; row < (t + 1) * shape.heads; row++) {
                const Number *d_to = dy + row * width, *from = x + row * width;
                for (int64_t i = 0; i < width; i += LANES) {
                    const int64_t other = i < half ? i + half : i - half;
                    store(dz + i, load(d_to + i) * load(c + i) + load(d_to + other) * load(s + other));
                }
                Number* d_from = dx + row * width;
                if (weight) norm::one_back(dz, from, weight, scales[row], d_from, sum, width);
                else for (int64_t i = 0; i < width; i += LANES) store(d_from + i, load(dz + i));
            }
        }
    });
    if (weight) norm::add_up(sums, d_weight, width);
}

}  // namespace heads
