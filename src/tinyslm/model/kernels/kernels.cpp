// The parts of a training step that PyTorch is slow at on CPUs, in bf16 with fp32 sums; called from kernels.py.
#include "attention.h"
#include "gate.h"
#include "heads.h"
#include "loss.h"
#include "norm.h"
#include "orthogonal.h"
#include "update.h"

extern "C" {

void tinyslm_attention(const attention::Shape* shape, const bf16* q, const bf16* k, const bf16* v, bf16* y, float* logs, Threads* threads) {
    attention::forward(*shape, q, k, v, y, logs, *threads);
}

void tinyslm_attention_back(
    const attention::Shape* shape, const bf16* q, const bf16* k, const bf16* v, const bf16* y, const float* logs,
    const bf16* dy, bf16* dq, bf16* dk, bf16* dv, Threads* threads) {
    attention::backward(*shape, q, k, v, y, logs, dy, dq, dk, dv, *threads);
}

void tinyslm_norm(const float* x, const float* weight, bf16* y, float* scales, int64_t rows, int64_t width, float eps, Threads* threads) {
    norm::forward(x, weight, y, scales, rows, width, eps, *threads);
}

void tinyslm_norm_back(
    const bf16* dy, const float* x, const float* weight, const float* scales, float* dx, float* d_weight, int64_t rows,
    int64_t width, Threads* threads) {
    norm::backward(dy, x, weight, scales, dx, d_weight, rows, width, *threads);
}

void tinyslm_heads(
    const heads::Shape* shape, const bf16* x, const float* weight, const float* cos, const float* sin, bf16* y,
    float* scales, Threads* threads) {
    heads::forward(*shape, x, weight, cos, sin, y, scales, *threads);
}

void tinyslm_heads_back(
    const heads::Shape* shape, const bf16* dy, const bf16* x, const float* weight, const float* cos, const float* sin,
    const float* scales, bf16* dx, float* d_weight, Threads* threads) {
    heads::backward(*shape, dy, x, weight, cos, sin, scales, dx, d_weight, *threads);
}

void tinyslm_gate(const bf16* gates, const bf16* ups, bf16* y, int64_t count, Threads* threads) {
    gate::forward(gates, ups, y, count, *threads);
}

void tinyslm_gate_back(
    const bf16* dy, const bf16* gates, const bf16* ups, bf16* d_gates, bf16* d_ups, int64_t count, Threads* threads) {
    gate::backward(dy, gates, ups, d_gates, d_ups, count, *threads);
}

void tinyslm_cross_entropy(bf16* logits, const int64_t* targets, float* losses, int64_t rows, int64_t width, Threads* threads) {
    loss::cross_entropy(logits, targets, losses, rows, width, *threads);
}

void tinyslm_direction(const float* gradient, float* momentum, bf16* direction, int64_t count, float keep, Threads* threads) {
    update::direction(gradient, momentum, direction, count, keep, *threads);
}

void tinyslm_apply(float* weight, const bf16* change, int64_t count, float shrink, float step, Threads* threads) {
    update::apply(weight, change, count, shrink, step, *threads);
}

void tinyslm_orthogonal(
    const bf16* matrices, bf16* results, int64_t count, int64_t rows, int64_t columns, int64_t iterations, float a, float b,
    float c, Threads* threads) {
    orthogonal::all(matrices, results, count, rows, columns, iterations, {a, b, c}, *threads);
}

}
