// Cross-entropy of rows of logits, and its gradient in their place: softmax(logits) - one_hot(target).
#pragma once
#include <cmath>
#include "lanes.h"
#include "parallel.h"

namespace loss {

constexpr int64_t ROWS = 8;  // of a piece of work

INLINE __mmask16 left(int64_t count) { return count >= LANES ? 0xFFFF : (1u << count) - 1; }
INLINE Lanes load_some(const bf16* from, __mmask16 mask) { return widened(_mm256_maskz_loadu_epi16(mask, from)); }

// logits [rows][width] become gradients; targets below zero do not count. losses [rows], in nats.
inline void cross_entropy(bf16* logits, const int64_t* targets, float* losses, int64_t rows, int64_t width, Threads threads) {
    threads.share((rows + ROWS - 1) / ROWS, [&](int64_t piece) {
        for (int64_t row = piece * ROWS; row < rows && row < (piece + 1) * ROWS; row++) {
            bf16* x = logits + row * width;
            losses[row] = 0;
            if (targets[row] < 0) {
                memset(x, 0, width * sizeof(bf16));
                continue;
            }
            Lanes most = broadcast(-INFINITY);
            for (int64_t i = 0; i < width; i += LANES)
                most = _mm512_mask_max_ps(most, left(width - i), most, load_some(x + i, left(width - i)));
            const Lanes highest = broadcast(_mm512_reduce_max_ps(most));
            Lanes total = broadcast(0);
            for (int64_t i = 0; i < width; i += LANES) {
                const __mmask16 mask = left(width - i);
                total += _mm512_maskz_mov_ps(mask, exponential(load_some(x + i, mask) - highest));
            }
            const float sum = _mm512_reduce_add_ps(total);
            const Lanes target = load_some(x + targets[row], 1);
            losses[row] = std::log(sum) - _mm512_cvtss_f32(target - highest);
            const Lanes inverse = broadcast(1 / sum);
            for (int64_t i = 0; i < width; i += LANES) {
                const __mmask16 mask = left(width - i);
                Lanes p = exponential(load_some(x + i, mask) - highest) * inverse;
                const int64_t place = targets[row] - i;
                if (place >= 0 && place < LANES) p = _mm512_mask_sub_ps(p, 1u << place, p, broadcast(1));
                _mm256_mask_storeu_epi16(x + i, mask, narrowed(p));
            }
        }
    });
}

}  // namespace loss
