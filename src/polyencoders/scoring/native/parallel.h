// Pieces of work shared among threads that are started for it and gone when it is done.
//
// Knows nothing of what the work is. No pool outlives a call, so that a process may fork, change its number of threads,
// or be killed between any two calls; starting a thread costs tens of microseconds.
#pragma once

#include <atomic>
#include <cstdint>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

namespace polyencoders {

// Calls work(thread, piece) for every piece in [0, pieces), each taken by whichever thread is free.
// What a piece throws is thrown here, when all threads have stopped.
template <typename Work>
void parallel(int threads, std::int64_t pieces, const Work& work) {
    std::atomic<std::int64_t> next{0};
    std::exception_ptr failure;
    std::mutex guard;
    const auto run = [&](int thread) {
        try {
            for (std::int64_t piece = next++; piece < pieces; piece = next++) work(thread, piece);
        } catch (...) {
            next = pieces;
            const std::lock_guard<std::mutex> lock(guard);
            failure = std::current_exception();
        }
    };
    std::vector<std::thread> others;
    for (int thread = 1; thread < threads && thread < pieces; ++thread) {
        try {
            others.emplace_back(run, thread);
        } catch (const std::system_error&) {
            break;  // the machine gives no more threads: the ones there are do the work
        }
    }
    run(0);
    for (std::thread& other : others) other.join();
    if (failure) std::rethrow_exception(failure);
}

}  // namespace polyencoders
