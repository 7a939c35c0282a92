// The parts of a training step that PyTorch is slow at on CPUs; called from library.py. Compiled apart for bf16 and for
// fp32 (numbers.h).
#include "attention.h"
#include "gate.h"
#include "heads.h"
#include "loss.h"
#include "norm.h"
#include "orthogonal.h"
#include "update.h"

extern "C" {

void tinyslm_attention(const attention::Shape* shape, const Number* q, const Number* k, const Number* v, Number* y, float* logs, Threads* threads) {
    attention::forward(*shape, q, k, v, y, logs, *threads);
}

void tinyslm_attention_back(
    const attention::Shape* shape, const Number* q, const Number* k, const Number* v, const Number* y, const float* logs,
    const Number* dy, Number* dq, Number* dk, Number* dv, Threads* threads) {
    attention::backward(*shape, q, k, v, y, logs, dy, dq, dk, dv, *threads);
}

void tinyslm_norm(const float* x, const float* weight, Number* y, float* scales, int64_t rows, int64_t width, float eps, Threads* threads) {
    norm::forward(x, weight, y, scales, rows, width, eps, *threads);
}

void tinyslm_norm_back(
    const Number* dy, const float* x, const float* weight, const float* scales, float* dx, float* d_weight, int64_t rows,
    int64_t width, Threads* threads) {
    norm::backward(dy, x, weight, scales, dx, d_weight, rows, width, *threads);
}

void tinyslm_heads(
    const heads::Shape* shape, const Number* x, const float* weight, const float* cos, const float* sin, Number* y,
    float* scales, Threads* threads) {
    heads::forward(*shape, x, weight, cos, sin, y, scales, *threads);
}

void tinyslm_heads_back(
    const heads::Shape* shape, const Number* dy, const Number* x, const float* weight, const float* cos, const float* sin,
    const float* scales, Number* dx, float* d_weight, Threads* threads) {
    heads::backward(*shape, dy, x, weight, cos, sin, scales, dx, d_weight, *threads);
}

void tinyslm_gate(const Number* gates, const Number* ups, Number* y, int64_t count, Threads* threads) {
    gate::forward(gates, ups, y, count, *threads);
}

void tinyslm_gate_back(
    const Number* dy, const Number* gates, const Number* ups, Number* d_gates, Number* d_ups, int64_t count, Threads* threads) {
    gate::backward(dy, gates, ups, d_gates, d_ups, count, *threads);
}

void tinyslm_cross_entropy(Number* logits, const int64_t* targets, float* losses, int64_t rows, int64_t width, Threads* threads) {
    loss::cross_entropy(logits, targets, losses, rows, width, *threads);
}

void tinyslm_direction(const float* gradient, float* momentum, Number* direction, int64_t count, float keep, Threads* threads) {
    update::direction(gradient, momentum, direction, count, keep, *threads);
}

void tinyslm_apply(float* weight, const Number* change, int64_t count, float shrink, float step, Threads* threads) {
    update::apply(weight, change, count, shrink, step, *threads);
}

void tinyslm_orthogonal(
    const Number* matrices, Number* results, int64_t count, int64_t rows, int64_t columns, int64_t iterations, float a, float b,
    float c, Threads* threads) {
    orthogonal::all(matrices, results, count, rows, columns, iterations, {a, b, c}, *threads);
}

}
