// What Muon does to whole matrices beside their orthogonalisation, each in one pass over memory.
#pragma once
#include "numbers.h"
#include "parallel.h"

namespace update {

constexpr int64_t PIECE = 1 << 14;  // values of a piece of work

template <class Work> void each(int64_t count, Threads threads, Work work) {
    threads.share((count + PIECE - 1) / PIECE, [&](int64_t piece) {
        const int64_t stop = (piece + 1) * PIECE < count ? (piece + 1) * PIECE : count;
        for (int64_t i = piece * PIECE; i < stop; i += LANES) work(i, stop - i);
    });
}

// momentum = keep * momentum + (1 - keep) * gradient; direction = the same once more (Nesterov).
inline void direction(const float* gradient, float* momentum, Number* direction, int64_t count, float keep, Threads threads) {
    const Lanes kept = broadcast(keep), rest = broadcast(1 - keep);
    each(count, threads, [&](int64_t i, int64_t left) {
        const Lanes g = load_some(gradient + i, left) * rest;
        const Lanes m = add_product(g, load_some(momentum + i, left), kept);
        store_some(momentum + i, m, left);
        store_some(direction + i, add_product(g, m, kept), left);
    });
}

// weight = shrink * weight - step * change.
inline void apply(float* weight, const Number* change, int64_t count, float shrink, float step, Threads threads) {
    const Lanes shrunk = broadcast(shrink), stepped = broadcast(-step);
    each(count, threads, [&](int64_t i, int64_t left) {
        const Lanes w = load_some(weight + i, left) * shrunk;
        store_some(weight + i, add_product(w, load_some(change + i, left), stepped), left);
    });
}

}  // namespace update
