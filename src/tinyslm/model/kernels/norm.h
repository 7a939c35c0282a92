// RMSNorm for training (Zhang and Sennrich, 2019): y = x * scale * weight with scale = 1 / sqrt(mean(x^2) + eps).
#pragma once
#include <cmath>
#include <vector>
#include "lanes.h"
#include "parallel.h"

namespace norm {

constexpr int64_t ROWS = 64;  // rows of a piece of work; fixed, so that sums do not depend on the number of threads

template <class In, class Out>
void forward(const In* x, const float* weight, Out* y, float* scales, int64_t rows, int64_t width, float eps, Threads threads) {
    threads.share((rows + ROWS - 1) / ROWS, [&](int64_t piece) {
        for (int64_t row = piece * ROWS; row < rows && row < (piece + 1) * ROWS; row++) {
            const In* from = x + row * width;
            Lanes squares = broadcast(0);
            for (int64_t i = 0; i < width; i += LANES) squares = _mm512_fmadd_ps(load(from + i), load(from + i), squares);
            const float scale = 1 / std::sqrt(_mm512_reduce_add_ps(squares) / width + eps);
            scales[row] = scale;
            for (int64_t i = 0; i < width; i += LANES)
                store(y + row * width + i, load(from + i) * broadcast(scale) * load(weight + i));
        }
    });
}

// With u = x * scale and g = dy * weight: dx = (g - u * mean(g * u)) * scale, dweight = sum over rows of dy * u.
template <class In, class Out>
void backward(
    const Out* dy, const In* x, const float* weight, const float* scales, In* dx, float* d_weight, int64_t rows,
    int64_t width, Threads threads) {
    const int64_t pieces = (rows + ROWS - 1) / ROWS;
    std::vector<float> sums(pieces * width, 0.0f);
    threads.share(pieces, [&](int64_t piece) {
        float* sum = sums.data() + piece * width;
        for (int64_t row = piece * ROWS; row < rows && row < (piece + 1) * ROWS; row++) {
            const Out* d_to = dy + row * width;
            const In* from = x + row * width;
            const Lanes scale = broadcast(scales[row]);
            Lanes along = broadcast(0);
            for (int64_t i = 0; i < width; i += LANES) {
                const Lanes u = load(from + i) * scale, d = load(d_to + i);
                store(sum + i, _mm512_fmadd_ps(d, u, load(sum + i)));
                along = _mm512_fmadd_ps(d * load(weight + i), u, along);
            }
            const Lanes mean = broadcast(_mm512_reduce_add_ps(along) / width);
            for (int64_t i = 0; i < width; i += LANES) {
                const Lanes u = load(from + i) * scale, g = load(d_to + i) * load(weight + i);
                store(dx + row * width + i, (g - u * mean) * scale);
            }
        }
    });
    memset(d_weight, 0, width * sizeof(float));
    for (int64_t piece = 0; piece < pieces; piece++)
        for (int64_t i = 0; i < width; i += LANES)
            store(d_weight + i, load(d_weight + i) + load(sums.data() + piece * width + i));
}

}  // namespace norm
