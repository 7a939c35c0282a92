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

// `size` threads, the caller's included. The others wait for work busily for a short time, then asleep.
class Team {
public:
    const int size;

    explicit Team(int size) : size(size) { start(); }

    ~Team() {
        if (process == getpid()) stop();
        else abandon();
    }

    // Calls work(number) in all threads at once, numbers 0 to size - 1; returns when all are done.
    void run(const std::function<void(int)>& work) {
        if (size == 1) return work(0);
        if (process != getpid()) {  // threads do not live on in a forked process
            abandon();
            start();
        }
        task = &work;
        done.store(0, std::memory_order_relaxed);
        call();
        work(0);
        wait([&] { return done.load(std::memory_order_acquire) == size - 1; });
    }

    // Returns when all threads have come here.
    void meet() {
        if (size == 1) return;
        const unsigned now = phase.load(std::memory_order_relaxed);
        if (arrived.fetch_add(1, std::memory_order_acq_rel) == size - 1) {
            arrived.store(0, std::memory_order_relaxed);
            phase.store(now + 1, std::memory_order_release);
        } else {
            wait([&] { return phase.load(std::memory_order_acquire) != now; });
        }
    }

private:
    static constexpr int PATIENCE = 20000;  // looks before a thread lets others have its processor

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
    alignas(64) std::atomic<int> done{0};
    alignas(64) std::atomic<int> arrived{0};
    alignas(64) std::atomic<unsigned> phase{0};
    bool ends = false;

    template <class Condition> static void wait(Condition met) {
        for (long looks = 0; !met(); looks++) {
            if (looks < PATIENCE) relax();
            else std::this_thread::yield();
        }
    }

    void start() {
        process = getpid();
        sleepers = new Sleepers;
        sleeping = 0, arrived = 0, ends = false;
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
            seen++;
            if (ends) return;
            (*task)(number);
            done.fetch_add(1, std::memory_order_release);
        }
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
