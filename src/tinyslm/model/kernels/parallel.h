// Work in pieces, on the threads that PyTorch has already: threads of our own would fight with them for the cores.
#pragma once
#include <atomic>
#include <cstdint>

// Runs a function on `threads` threads and waits for all: GOMP_parallel of PyTorch's OpenMP, or null for one thread.
typedef void (*Fork)(void (*function)(void*), void* data, unsigned threads, unsigned flags);

struct Threads {
    Fork fork;
    int64_t count;

    // Calls work(piece) once for each piece below `pieces`; whoever is free takes the next.
    template <class Work> void share(int64_t pieces, Work work) const {
        struct Shared {
            std::atomic<int64_t> next{0};
            int64_t pieces;
            Work* work;
        } shared;
        shared.pieces = pieces, shared.work = &work;
        auto run = [](void* data) {
            Shared& mine = *(Shared*)data;
            for (int64_t piece; (piece = mine.next.fetch_add(1)) < mine.pieces;) (*mine.work)(piece);
        };
        if (fork && count > 1 && pieces > 1) fork(run, &shared, (unsigned)(count < pieces ? count : pieces), 0);
        else run(&shared);
    }
};
