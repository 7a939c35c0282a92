// Runs a decoder's program for rows of tokens, on all threads of a team.
//
// A row is a token at its position in a sequence. The program is a list of operations on buffers of rows, written by
// program.py; its structures are repeated there.
#include <algorithm>
#include <cstdlib>
#include <memory>
#include "rows.h"
#include "attention.h"
#include "draw.h"
#include "team.h"

namespace {

enum Kind { EMBED, NORM, LINEAR, TURN, NARROW, STORE, ATTEND, ACT, SHAPE };

struct Op {
    int32_t kind;
    int32_t source, other;           // buffers that are read; -1: none
    int32_t target, narrow_target;   // fp32 and bf16 buffers that are written; -1: none
    int32_t width, segments;         // values of a segment, segments in a row
    int32_t first, count;            // LINEAR: its matrices
    int32_t layer;                   // STORE, ATTEND: whose keys and values
    int32_t mode;                    // EMBED: FP32 or BF16. NORM: 1 centres. TURN: values turned. ACT: an Activation
    int32_t adds;                    // NORM, LINEAR: target += factor * result
    int32_t wanted;                  // NORM, LINEAR, SHAPE: only the wanted rows, close together in the target
    int32_t window;                  // ATTEND: positions seen; 0: all
    float eps, factor, limit;
    const void *a, *b;               // EMBED: table, positions. NORM: weight, bias. TURN: cosines, sines
};

struct Program {
    const Op* ops;
    const Matrix* matrices;
    const int32_t* widths;  // of the buffers; negative: of bf16
    char *keys, *values;
    int32_t op_count, matrix_count, buffer_count;
    int32_t result;  // the buffer that is the caller's: logits, or the last norm's output
    int32_t heads, kv_heads, head_dim, vocab_size, blocks, layers, narrow_cache, longest, threads, most_rows;
};

struct Rows {
    const int32_t *ids, *positions, *sequences, *tables, *wanted;
    int32_t count, table_width, wanted_count;
};

struct Free {
    void operator()(char* memory) const { free(memory); }
};
typedef std::unique_ptr<char, Free> Memory;

Memory allocate(size_t bytes) {
    bytes = (bytes + 4095) / 4096 * 4096;
    char* memory = (char*)aligned_alloc(4096, bytes);
    if (memory) memset(memory, 0, bytes);
    return Memory(memory);
}

// Rows are padded to whole lanes and pairs; what is beyond their width stays zero.
long padded(long width) { return (width + 31) / 32 * 32; }

struct Buffer {
    char* memory;
    long stride;
    bool narrow;
};

class Runner {
public:
    Runner(const Program& p)
        : program(p), ops(p.ops, p.ops + p.op_count), matrices(p.matrices, p.matrices + p.matrix_count),
          cache{p.heads, p.kv_heads, p.head_dim, p.blocks, p.layers, p.narrow_cache != 0, p.keys, p.values}, team(p.threads) {
        for (int i = 0; i < p.buffer_count; i++) {
            const long stride = padded(std::abs(p.widths[i]));
            const bool narrow = p.widths[i] < 0;
            char* memory = i == p.result ? nullptr : hold(p.most_rows * stride * (narrow ? 2 : 4));
            buffers.push_back({memory, stride, narrow});
        }
        long inputs = 0;
        for (const Matrix& m : matrices) inputs = std::max<long>(inputs, m.inputs);
        scores_stride = (p.longest + BLOCK - 1) / BLOCK * BLOCK + 4 * BLOCK;
        const size_t tiles = MOST_TILES * UnpackedTile::bytes(inputs);
        const size_t scores = MOST_HEADS * scores_stride * sizeof(float);
        for (int t = 0; t < p.threads; t++) scratch.push_back(hold(std::max(tiles, scores)));
        for (int i = 0; i < p.op_count; i++)
            if (!i || !follows(ops[i - 1], ops[i])) stages.push_back(i);
        stages.push_back(p.op_count);
        pieces = std::vector<Pieces>(stages.size());
    }

    bool complete() const {
        return std::all_of(memories.begin(), memories.end(), [](const Memory& memory) { return memory != nullptr; });
    }

    // Whether the rows are such as may be; if not, nothing is done.
    bool run(const Rows& some, float* result) {
        rows = some;
        if (!valid()) return false;
        buffers[program.result].memory = (char*)result;
        for (Pieces& one : pieces) one.reset();
        team.run([this](int thread) {
            for (size_t i = 0; i + 1 < stages.size(); i++)
                pieces[i].share(piece_count(i), [&](int piece) { perform(i, piece, thread); });
        });
        return true;
    }

    void draw(const Draws& draws, int32_t* ids) {
        drawers.resize(team.size);
        pieces[0].reset();
        team.run([&](int thread) {
            pieces[0].share(draws.count, [&](int row) { ids[row] = drawers[thread].draw(draws, row); });
        });
    }

private:
    Program program;
    std::vector<Op> ops;
    std::vector<Matrix> matrices;
    std::vector<Buffer> buffers;
    std::vector<Memory> memories;
    std::vector<char*> scratch;  // by thread
    std::vector<int> stages;  // the first operation of each, and the number of all: one is done before the next begins
    std::vector<Pieces> pieces;  // by stage
    std::vector<Drawer> drawers;  // by thread
    long scores_stride;
    Cache cache;
    Team team;
    Rows rows;

    char* hold(size_t bytes) {
        memories.push_back(allocate(bytes));
        return memories.back().get();
    }

    bool valid() const {
        if (rows.count > program.most_rows) return false;
        for (int row = 0; row < rows.count; row++) {
            const int id = rows.ids[row], position = rows.positions[row];
            if (id < 0 || id >= program.vocab_size || position < 0 || position >= program.longest) return false;
            if (position / BLOCK >= rows.table_width) return false;
            for (int i = 0; i <= position / BLOCK; i++)
                if (table(row)[i] < 0 || table(row)[i] >= cache.blocks) return false;
        }
        for (int i = 0; i < rows.wanted_count; i++)
            if (rows.wanted[i] < 0 || rows.wanted[i] >= rows.count) return false;
        return true;
    }

    static bool by_rows(const Op& op) { return op.kind != LINEAR && op.kind != ATTEND; }

    // Whether who has computed a row goes on with it, so that none need wait for another.
    static bool follows(const Op& before, const Op& op) {
        return by_rows(before) && by_rows(op) && before.wanted == op.wanted;
    }

    template <class Value> Value* place(int buffer, long row) const {
        return buffer < 0 ? nullptr : (Value*)buffers[buffer].memory + row * buffers[buffer].stride;
    }
    float* at(int buffer, long row) const { return place<float>(buffer, row); }
    bf16* narrow_at(int buffer, long row) const { return place<bf16>(buffer, row); }

    int count_of(const Op& op) const { return op.wanted ? rows.wanted_count : rows.count; }

    // In how many pieces a stage is done: a few for each thread, so that none waits long for the last one.
    int piece_count(int stage) const {
        const Op& op = ops[stages[stage]];
        const long count = count_of(op);
        if (team.size == 1) return 1;
        if (op.kind == LINEAR) return count ? linear_pieces(all_tiles(op)) : 0;
        return std::min<long>(op.kind == ATTEND ? count * cache.kv_heads : count, 4 * team.size);
    }

    // As many for each thread, and of as many tiles as keep a processor busy.
    long linear_pieces(long tiles) const {
        const long each = std::clamp(tiles / (6 * team.size), 1L, 4L);
        return std::min(each * team.size, (tiles + 1) / 2);
    }

    void perform(int stage, int piece, int thread) {
        const int pieces = piece_count(stage);
        const Op& first = ops[stages[stage]];
        if (first.kind == LINEAR) return linear(first, piece, pieces, thread);
        if (first.kind == ATTEND) return attend(first, piece, pieces, thread);
        const long count = count_of(first);
        const int from = count * piece / pieces, to = count * (piece + 1) / pieces;
        for (int i = stages[stage]; i < stages[stage + 1]; i++)
            for (int row = from; row < to; row++) perform_row(ops[i], row);
    }

    void perform_row(const Op& op, int row) {
        switch (op.kind) {
            case EMBED: return embed(op, row);
            case NORM: return norm(op, row);
            case TURN: return turn_row(op, row);
            case NARROW: return narrow(op, row);
            case STORE: return keep(op, row);
            case ACT: return act(op, row);
            case SHAPE: return shape(op, at(op.target, row));
        }
    }

    void embed(const Op& op, int row) {
        const long id = rows.ids[row], width = op.width;
        const float* positions = op.b ? (const float*)op.b + rows.positions[row] * width : nullptr;
        float* x = at(op.target, row);
        for (long i = 0; i < width; i++) {
            const long place = id * width + i;
            const float value = op.mode == FP32 ? ((const float*)op.a)[place] : widened(((const bf16*)op.a)[place]);
            x[i] = value * op.factor + (positions ? positions[i] : 0);
        }
    }

    void norm(const Op& op, int row) {
        const float *weight = (const float*)op.a, *bias = (const float*)op.b;
        const Norm norm{weight, bias, op.width, op.mode != 0, op.adds != 0, op.eps, op.factor};
        for (int segment = 0; segment < op.segments; segment++) {
            const long place = segment * op.width;
            const float* x = at(op.source, op.wanted ? rows.wanted[row] : row) + place;
            float* y = at(op.target, row);
            bf16* narrow = narrow_at(op.narrow_target, row);
            normalize(norm, x, y ? y + place : nullptr, narrow ? narrow + place : nullptr);
        }
    }

    void turn_row(const Op& op, int row) {
        const long half = op.mode / 2, place = rows.positions[row] * half;
        turn(at(op.source, row), op.segments, op.width, half, (const float*)op.a + place, (const float*)op.b + place);
    }

    void narrow(const Op& op, int row) {
        const float* x = at(op.source, row);
        bf16* y = narrow_at(op.narrow_target, row);
        for (long i = 0; i < padded(op.width); i += LANES) store_narrow(y + i, load(x + i));
    }

    void act(const Op& op, int row) {
        float* y = at(op.target, row);
        activate(op.mode, at(op.source, row), at(op.other, row), y, narrow_at(op.narrow_target, row), padded(op.width));
    }

    const int32_t* table(int row) const { return rows.tables + long(rows.sequences[row]) * rows.table_width; }

    void keep(const Op& op, int row) {
        const int position = rows.positions[row];
        cache.store(op.layer, table(row)[position / BLOCK], position % BLOCK, at(op.source, row), at(op.other, row));
    }

    void shape(const Op& op, float* x) {
        const Lanes divisor = broadcast(op.factor);
        for (int i = 0; i < op.width; i += LANES) store(x + i, load(x + i) / divisor);
        if (op.limit > 0) bend(x, op.width, op.limit);
    }

    long all_tiles(const Op& op) const {
        long tiles = 0;
        for (int i = 0; i < op.count; i++) tiles += tile_count(matrices[op.first + i]);
        return tiles;
    }

    // A piece is a share of the tiles of all matrices.
    void linear(const Op& op, int piece, int pieces, int thread) {
        const int count = count_of(op);
        if (!count) return;
        const long pairs = (all_tiles(op) + 1) / 2;
        long from = 2 * (pairs * piece / pieces), to = 2 * (pairs * (piece + 1) / pieces);
        for (int i = 0; i < op.count; i++) {
            const Matrix& m = matrices[op.first + i];
            const long own = tile_count(m);
            if (from < own && to > 0) apply(op, m, std::max(from, 0L), std::min(to, own), count, scratch[thread]);
            from -= own, to -= own;
        }
    }

    static long tile_count(const Matrix& m) { return (m.outputs + 15) / 16; }

    void apply(const Op& op, const Matrix& m, int from, int to, int count, char* room) {
        const Out out{at(m.target, 0), buffers[m.target].stride, op.adds != 0, op.factor};
        const Buffer& x = buffers[m.source];
        switch (m.format) {
            case FP32: return multiply<Fp32Tile>(m, from, to, count, {(const float*)x.memory, x.stride}, out, room);
            case BF16: return multiply<Bf16Tile>(m, from, to, count, {(const Input*)x.memory, x.stride}, out, room);
            case INT8: return multiply<Int8Tile>(m, from, to, count, {(const Input*)x.memory, x.stride}, out, room);
            case INT4: return multiply<Int4Tile>(m, from, to, count, {(const Input*)x.memory, x.stride}, out, room);
        }
    }

    // Rows of one kv_head after another, dealt to the pieces in turn: a long prompt's rows see more and more.
    void attend(const Op& op, int piece, int pieces, int thread) {
        const long count = long(rows.count) * cache.kv_heads;
        const int group = cache.heads / cache.kv_heads;
        for (long item = piece; item < count; item += pieces) {
            const int head = item / rows.count, row = item % rows.count, stop = rows.positions[row] + 1;
            const int start = op.window ? std::max(0, stop - op.window) : 0;
            const View view{cache, table(row), op.layer, head, start, stop, op.factor, op.limit};
            const long first = long(head) * group * cache.head_dim;
            float *y = at(op.target, row), *scores = (float*)scratch[thread];
            bf16* narrow = narrow_at(op.narrow_target, row);
            y = y ? y + first : nullptr, narrow = narrow ? narrow + first : nullptr;
            if (cache.narrow) {
                const Input* q = place<const Input>(op.source, row) + first;
                attend_group<Bf16Tile, true>(view, q, y, narrow, scores, scores_stride);
            } else {
                attend_group<Fp32Tile, false>(view, at(op.source, row) + first, y, narrow, scores, scores_stride);
            }
        }
    }
};

}  // namespace

extern "C" {

// Whether matrices in bf16 and packed ones read their inputs from buffers of bf16.
int tinyslm_narrow_inputs() { return sizeof(Input) == 2; }

// Null where memory is short.
void* tinyslm_open(const Program* program) {
    try {
        auto runner = std::make_unique<Runner>(*program);
        return runner->complete() ? runner.release() : nullptr;
    } catch (...) {
        return nullptr;
    }
}

void tinyslm_close(void* runner) { delete (Runner*)runner; }

// result: [wanted_count] rows of the program's result, padded to a multiple of 32 values.
// Says whether the rows were such as may be: known ids, positions and blocks.
int tinyslm_run(void* runner, const Rows* rows, float* result) { return ((Runner*)runner)->run(*rows, result); }

// Writes the ids of the tokens that were drawn.
void tinyslm_draw(void* runner, const Draws* draws, int32_t* ids) { ((Runner*)runner)->draw(*draws, ids); }
}
