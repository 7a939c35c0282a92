// Cross-entropy of rows of logits, and its gradient in their place: softmax(logits) - one_hot(target).
#pragma once
#include <cmath>
#include "numbers.h"
#include "parallel.h"

namespace loss {

constexpr int64_t ROWS = 8;  // of a piece of work

// logits [rows][width] become gradients; targets below zero do not count. losses [rows], in nats.
inline void cross_entropy(Number* logits, const int64_t* targets, float* losses, int64_t rows, int64_t width, Threads threads) {
    threads.share((rows + ROWS - 1) / ROWS, [&](int64_t piece) {
        for (int64_t row = piece * ROWS; row < rows && row < (piece + 1) * ROWS; row++) {
            Number* x = logits + row * width;
            losses[row] = 0;
            if (targets[row] < 0) {
                memset(x, 0, width * sizeof(Number));
                continue;
            }
            Lanes highest_of = broadcast(-INFINITY);
            for (int64_t i = 0; i < width; i += LANES)
                highest_of = largest(highest_of, first_of(load_some(x + i, width - i), width - i, -INFINITY));
            const Lanes highest = broadcast(most(highest_of));
            Lanes sums = broadcast(0);
            for (int64_t i = 0; i < width; i += LANES)
                sums += first_of(exponential(load_some(x + i, width - i) - highest), width - i);
            const float sum = total(sums);
            losses[row] = std::log(sum) - (wide(x[targets[row]]) - most(highest_of));
            const Lanes inverse = broadcast(1 / sum);
            for (int64_t i = 0; i < width; i += LANES) {
                Lanes p = exponential(load_some(x + i, width - i) - highest) * inverse;
                const int64_t place = targets[row] - i;
                if (place >= 0 && place < LANES) p = p - (first_of(broadcast(1), place + 1) - first_of(broadcast(1), place));
                store_some(x + i, p, width - i);
            }
        }
    });
}

}  // namespace loss
