// RMSNorm for training (Zhang and Sennrich, 2019): y = x * scale * weight with scale = 1 / sqrt(mean(x^2) + eps).
#pragma once
#include <cmath>
#include <vector>
#include "numbers.h"
#include "parallel.h"

namespace norm {

constexpr int64_t ROWS = 64;  // rows of a piece of work; fixed, so that sums do not depend on the number of threads

// One vector to y; returns its scale.
template <class In, class Out>
INLINE float one(const In* x, const float* weight, Out* y, int64_t width, float eps) {
    Lanes squares = broadcast(0);
    for (int64_t i = 0; i < width; i += LANES) squares = add_product(squares, load(x + i), load(x + i));
    const float scale = 1 / std::sqrt(total(squares) / width + eps);
    for (int64_t i = 0; i < width; i += LANES) store(y + i, load(x + i) * broadcast(scale) * load(weight + i));
    return scale;
}

// One vector's gradient. With u = x * scale and g = dy * weight: dx = (g - u * mean(g * u)) * scale; sum += dy * u.
template <class Out, class In>
INLINE void one_back(const Out* dy, const In* x, const float* weight, float scale_of_x, In* dx, float* sum, int64_t width) {
    const Lanes scale = broadcast(scale_of_x);
    Lanes along = broadcast(0);
    for (int64_t i = 0; i < width; i += LANES) {
        const Lanes u = load(x + i) * scale, d = load(dy + i);
        store(sum + i, add_product(load(sum + i), d, u));
        along = add_product(along, d * load(weight + i), u);
    }
    const Lanes mean = broadcast(total(along) / width);
    for (int64_t i = 0; i < width; i += LANES)
        store(dx + i, (load(dy + i) * load(weight + i) - load(x + i) * scale * mean) * scale);
}

// The sums of all pieces, in their order.
inline void add_up(const std::vector<float>& sums, float* total, int64_t width) {
    memset(total, 0, width * sizeof(float));
    for (const float* sum = sums.data(); sum < sums.data() + sums.size(); sum += width)
        for (int64_t i = 0; i < width; i += LANES) store(total + i, load(total + i) + load(sum + i));
}

template <class In, class Out>
void forward(const In* x, const float* weight, Out* y, float* scales, int64_t rows, int64_t width, float eps, Threads threads) {
    threads.share((rows + ROWS - 1) / ROWS, [&](int64_t piece) {
        for (int64_t row = piece * ROWS; row < rows && row < (piece + 1) * ROWS; row++)
            scales[row] = one(x + row * width, weight, y + row * width, width, eps);
    });
}

template <class In, class Out>
void backward(
    const Out* dy, const In* x, const float* weight, const float* scales, In* dx, float* d_weight, int64_t rows,
    int64_t width, Threads threads) {
    const int64_t pieces = (rows + ROWS - 1) / ROWS;
    std::vector<float> sums(pieces * width, 0.0f);
    threads.share(pieces, [&](int64_t piece) {
        for (int64_t row = piece * ROWS; row < rows && row < (piece + 1) * ROWS; row++) {
            const int64_t start = row * width;
            one_back(dy + start, x + start, weight, scales[row], dx + start, sums.data() + piece * width, width);
        }
    });
    add_up(sums, d_weight, width);
}

}  // namespace norm
