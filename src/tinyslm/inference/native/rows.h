// What is computed within one row of values.
#pragma once
#include "lanes.h"

INLINE void store_narrow_some(bf16* to, Lanes x, int count) {
    if (count >= LANES) return store_narrow(to, x);
    bf16 y[LANES];
    store_narrow(y, x);
    for (int i = 0; i < count; i++) to[i] = y[i];
}

// x / rms(x) * weight, or with `centres` (x - mean) / deviation * weight + bias.
struct Norm {
    const float *weight, *bias;
    int width;
    bool centres, adds;  // adds: y += factor * result
    float eps, factor;
};

inline void normalize(const Norm& op, const float* x, float* y, bf16* narrow) {
    float mean = 0;
    Lanes sum = broadcast(0);
    if (op.centres) {
        for (int i = 0; i < op.width; i += LANES) sum = sum + load_some(x + i, op.width - i);
        mean = total(sum) / op.width;
        sum = broadcast(0);
    }
    for (int i = 0; i < op.width; i += LANES) {
        Lanes value = load_some(x + i, op.width - i, mean) - broadcast(mean);
        sum = add_product(sum, value, value);
    }
    const float factor = 1 / std::sqrt(total(sum) / op.width + op.eps);
    for (int i = 0; i < op.width; i += LANES) {
        const int left = op.width - i;
        Lanes value = (load_some(x + i, left) - broadcast(mean)) * factor * load_some(op.weight + i, left);
        if (op.bias) value = value + load_some(op.bias + i, left);
        if (op.adds) value = add_product(load_some(y + i, left), value, broadcast(op.factor));
        if (y) store_some(y + i, value, left);
        if (narrow) store_narrow_some(narrow + i, value, left);
    }
}

// Turns the first 2 * half values of each head: y = x * cos + (halves of x swapped) * (-sin, sin).
inline void turn(float* x, int heads, int head_dim, int half, const float* cosines, const float* sines) {
    for (int head = 0; head < heads; head++, x += head_dim)
        for (int i = 0; i < half; i++) {
            const float left = x[i], right = x[i + half];
            x[i] = left * cosines[i] - right * sines[i];
            x[i + half] = right * cosines[i] + left * sines[i];
        }
}

enum Activation { SILU, GELU, GELU_TANH, RELU };

INLINE Lanes silu(Lanes x) { return x / (exponential(broadcast(0) - x) + 1.0f); }

INLINE Lanes gelu_tanh(Lanes x) {  // x / 2 * (1 + tanh(z)) = x * sigmoid(2 z)
    Lanes z = (x + x * x * x * 0.044715f) * -1.5957691216057308f;
    return x / (exponential(z) + 1.0f);
}

INLINE Lanes gelu(Lanes x) {  // erf by Abramowitz and Stegun, 7.1.26: within 1.5e-7
    Lanes z = x * 0.70710678118654752f;
    const Lanes size = largest(z, broadcast(0) - z);
    const Lanes t = broadcast(1) / (size * 0.3275911f + 1.0f);
    Lanes y = broadcast(1.061405429f);
    const float terms[] = {-1.453152027f, 1.421413741f, -0.284496736f, 0.254829592f};
    UNROLL for (int i = 0; i < 4; i++) y = add_product(broadcast(terms[i]), y, t);
    const Lanes beyond = y * t * exponential(broadcast(0) - size * size);  // 1 - erf(size)
    Lanes half = x * 0.5f, positive = half * (broadcast(2) - beyond), negative = half * beyond;
    EACH_PART positive.part[i] = x.part[i] > 0 ? positive.part[i] : negative.part[i];
    return positive;
}

INLINE Lanes relu(Lanes x) { return largest(x, broadcast(0)); }

// activation(x), multiplied by `up` where there is one.
template <Lanes F(Lanes)>
INLINE void activate(const float* x, const float* up, float* y, bf16* narrow, int width) {
    for (int i = 0; i < width; i += LANES) {
        Lanes value = F(load(x + i));
        if (up) value = value * load(up + i);
        if (y) store(y + i, value);
        if (narrow) store_narrow(narrow + i, value);
    }
}
inline void activate(int kind, const float* x, const float* up, float* y, bf16* narrow, int width) {
    if (kind == SILU) activate<silu>(x, up, y, narrow, width);
    else if (kind == GELU) activate<gelu>(x, up, y, narrow, width);
    else if (kind == RELU) activate<relu>(x, up, y, narrow, width);
    else activate<gelu_tanh>(x, up, y, narrow, width);
}
