// SwiGLU's gate (Shazeer, 2020): y = silu(gate) * up, with silu(x) = x / (1 + e^-x).
#pragma once
#include "numbers.h"
#include "parallel.h"

namespace gate {

constexpr int64_t PIECE = 1 << 14;  // values of a piece of work

template <class Work> void each(int64_t count, Threads threads, Work work) {
    threads.share((count + PIECE - 1) / PIECE, [&](int64_t piece) {
        const int64_t stop = (piece + 1) * PIECE < count ? (piece + 1) * PIECE : count;
        for (int64_t i = piece * PIECE; i < stop; i += LANES) work(i);
    });
}

inline void forward(const Number* gates, const Number* ups, Number* y, int64_t count, Threads threads) {
    each(count, threads, [&](int64_t i) {
        const Lanes gate = load(gates + i);
        store(y + i, gate * sigmoid(gate) * load(ups + i));
    });
}

// silu'(x) = s + x s (1 - s) with s = 1 / (1 + e^-x).
inline void backward(const Number* dy, const Number* gates, const Number* ups, Number* d_gates, Number* d_ups, int64_t count, Threads threads) {
    each(count, threads, [&](int64_t i) {
        const Lanes gate = load(gates + i), s = sigmoid(gate), silu = gate * s, d = load(dy + i);
        store(d_ups + i, d * silu);
        store(d_gates + i, d * load(ups + i) * (s + silu * (broadcast(1) - s)));
    });
}

}  // namespace gate
