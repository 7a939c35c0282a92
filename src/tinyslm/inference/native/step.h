// A decoder's step as a program: a list of operations on buffers of rows. Written by program.py.
#pragma once
#include "linear.h"

enum Kind { EMBED, NORM, LINEAR, TURN, STORE, ATTEND, ACT, SHAPE };
enum Activation { SILU, GELU, GELU_TANH };

struct Op {
    int32_t kind;
    int32_t source, other;          // buffers that are read; -1: none
    int32_t target, narrow_target;  // fp32 and bf16 buffers that are written; -1: none
    int32_t width, segments;        // values of a segment, segments in a row
    int32_t first, count;           // LINEAR: matrices
    int32_t layer;                  // STORE, ATTEND: whose keys and values
    int32_t mode;                   // NORM: 1 centres (LayerNorm); ACT: an Activation; EMBED: a Format
    int32_t adds;                   // NORM, LINEAR: add to the target, multiplied by `factor`
    int32_t wanted;                 // NORM, LINEAR, SHAPE: only the wanted rows, packed together
    int32_t window;                 // ATTEND: positions seen; 0: all
    float eps, factor, limit;
    const void *a, *b, *c;          // EMBED: table, scales, positions. NORM: weight, bias. TURN: cosines, sines
};

struct Program {
    const Op* ops;
    const Matrix* matrices;
    const int32_t* widths;  // of the buffers; negative: of bf16
    int32_t op_count, buffer_count, logits;  // the buffer that is the caller's
    int32_t depth, heads, kv_heads, head_dim, blocks, narrow_cache, threads;
};

struct Rows {
    const int32_t *ids, *positions, *sequences, *tables, *wanted;
    int32_t count, table_width, wanted_count;
};
