// What Muon does to whole matrices beside their orthogonalisation, each in one pass over memory.
#pragma once
#include "lanes.h"
#include "parallel.h"

namespace update {

constexpr int64_t PIECE = 1 << 14;  // values of a piece of work

INLINE __mmask16 some(int64_t left) { return left >= LANES ? 0xFFFF : (1u << left) - 1; }

template <class Work> void each(int64_t count, Threads threads, Work work) {
    threads.share((count + PIECE - 1) / PIECE, [&](int64_t piece) {
        const int64_t stop = (piece + 1) * PIECE < count ? (piece + 1) * PIECE : count;
        for (int64_t i = piece * PIECE; i < stop; i += LANES) work(i, some(stop - i));
    });
}

// momentum = keep * momentum + (1 - keep) * gradient; direction = the same once more (Nesterov), in bf16.
inline void direction(const float* gradient, float* momentum, bf16* direction, int64_t count, float keep, Threads threads) {
    const Lanes kept = broadcast(keep), rest = broadcast(1 - keep);
    each(count, threads, [&](int64_t i, __mmask16 mask) {
        const Lanes g = _mm512_maskz_loadu_ps(mask, gradient + i) * rest;
        const Lanes m = _mm512_fmadd_ps(_mm512_maskz_loadu_ps(mask, momentum + i), kept, g);
        _mm512_mask_storeu_ps(momentum + i, mask, m);
        _mm256_mask_storeu_epi16(direction + i, mask, narrowed(_mm512_fmadd_ps(m, kept, g)));
    });
}

// weight = shrink * weight - step * change.
inline void apply(float* weight, const bf16* change, int64_t count, float shrink, float step, Threads threads) {
    const Lanes shrunk = broadcast(shrink), stepped = broadcast(step);
    each(count, threads, [&](int64_t i, __mmask16 mask) {
        const Lanes w = _mm512_maskz_loadu_ps(mask, weight + i) * shrunk;
        const Lanes c = widened(_mm256_maskz_loadu_epi16(mask, change + i));
        _mm512_mask_storeu_ps(weight + i, mask, _mm512_fnmadd_ps(c, stepped, w));
    });
}

}  // namespace update
