// Threads that work on one step together.
#pragma once
#include <atomic>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>
#include <unistd.h>

static inline void relax() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

// Looks again and again until something is so; after a short time others may have the processor between looks.
constexpr int PATIENCE = 20000;
template <class Condition> void wait_until(Condition met) {
    for (long looks = 0; !met(); looks++) {
        if (looks < PATIENCE) relax();
        else std::this_thread::yield();
    }
}

// Pieces of work that threads take one after another. Whoever is free takes the next, so that a thread that the system
// has put aside holds up nobody, unless it is in the middle of a piece.
class Pieces {
public:
    void reset() {
        next.store(0, std::memory_order_relaxed);
        done.store(0, std::memory_order_relaxed);
    }

    // Calls work(piece) for pieces that nobody has taken; returns when all `count` are done.
    template <class Work> void share(int count, Work work) {
        for (int piece; (piece = next.fetch_add(1, std::memory_order_relaxed)) < count;) {
            work(piece);
            done.fetch_add(1, std::memory_order_release);
        }
        wait_until([&] { return done.load(std::memory_order_acquire) >= count; });
    }

private:
    alignas(64) std::atomic<int> next{0};
    alignas(64) std::atomic<int> done{0};
};

// `size` threads, the caller's included. The others wait for work busily for a short time, then asleep.
class Team {
public:
    const int size;

    explicit Team(int size) : size(size) { start(); }

    ~Team() {
        if (process == getpid()) stop();
        else abandon();
    }

    // Calls work(number) in this thread (0) and in those that come in time; returns when all who came are done. So any
    // of them must do all that there is to do together with whoever else is there, as with `Pieces`.
    void run(const std::function<void(int)>& work) {
        if (size == 1) return work(0);
        if (process != getpid()) {  // threads do not live on in a forked process
            abandon();
            start();
        }
        task = &work;
        inside.store(OPEN, std::memory_order_release);
        call();
        work(0);
        inside.fetch_sub(OPEN, std::memory_order_acq_rel);
        wait_until([&] { return inside.load(std::memory_order_acquire) == 0; });
    }

private:
    static constexpr int OPEN = 1 << 20;  // of `inside`: threads may come in

    struct Sleepers {
        std::mutex mutex;
        std::condition_variable woken;
    };

    std::vector<std::thread> threads;
    Sleepers* sleepers = nullptr;
    const std::function<void(int)>* task = nullptr;
    pid_t process = 0;
    alignas(64) std::atomic<unsigned> calls{0};
    alignas(64) std::atomic<int> sleeping{0};
    alignas(64) std::atomic<int> inside{0};  // threads that are at work
    bool ends = false;

    void start() {
        process = getpid();
        sleepers = new Sleepers;
        sleeping = 0, inside = 0, ends = false;
        const unsigned now = calls;
        for (int number = 1; number < size; number++) threads.emplace_back([this, number, now] { live(number, now); });
    }

    void call() {
        calls.fetch_add(1);
        if (sleeping.load()) {
            std::lock_guard<std::mutex> lock(sleepers->mutex);
            sleepers->woken.notify_all();
        }
    }

    void live(int number, unsigned seen) {
        for (;;) {
            for (int looks = 0; calls.load() == seen && looks < PATIENCE; looks++) relax();
            if (calls.load() == seen) {
                std::unique_lock<std::mutex> lock(sleepers->mutex);
                sleeping.fetch_add(1);
                sleepers->woken.wait(lock, [&] { return calls.load() != seen; });
                sleeping.fetch_sub(1);
            }
            seen = calls.load();
            if (ends) return;
            if (!come_in()) continue;
            (*task)(number);
            inside.fetch_sub(1, std::memory_order_release);
        }
    }

    // Whether there is still something to do; who comes in is waited for.
    bool come_in() {
        int count = inside.load(std::memory_order_acquire);
        while (count >= OPEN)
            if (inside.compare_exchange_weak(count, count + 1, std::memory_order_acq_rel)) return true;
        return false;
    }

    void stop() {
        ends = true;
        call();
        for (auto& thread : threads) thread.join();
        threads.clear();
        delete sleepers;
    }

    // In a forked process: forget threads that are not there, and what they may hold.
    void abandon() {
        for (auto& thread : threads) new (&thread) std::thread();
        threads.clear();
        sleepers = nullptr;
    }
};
