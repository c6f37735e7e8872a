// Threads for the kernels: those of the OpenMP runtime that torch has loaded, so that two pools never compete for the
// same cores. The library is not linked with OpenMP, because a second runtime in the process breaks faiss.
#pragma once

#include <dlfcn.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <new>
#include <system_error>
#include <thread>
#include <vector>

namespace vmr {

// A 64-byte aligned array for one task; `data` is null if there was no memory.
template <class T>
class Buffer {
 public:
  explicit Buffer(int64_t count) {
    if (posix_memalign(&memory_, 64, sizeof(T) * (count > 0 ? count : 1)) != 0) memory_ = nullptr;
  }
  ~Buffer() { std::free(memory_); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  T* data() const { return static_cast<T*>(memory_); }

 private:
  void* memory_ = nullptr;
};

using GompParallel = void (*)(void (*)(void*), void*, unsigned, unsigned);

// The process that loaded the library. A forked child must not use OpenMP: the pool's threads, which torch may have
// started before the fork, exist in the parent only, and the child would wait for them forever.
inline const pid_t loaded_in = getpid();

// Every OpenMP runtime that comes with torch exports GCC's entry point.
inline GompParallel openmp() {
  static const auto gomp_parallel = reinterpret_cast<GompParallel>(dlsym(RTLD_DEFAULT, "GOMP_parallel"));
  return getpid() == loaded_in ? gomp_parallel : nullptr;
}

// Calls body(i) for every i in [0, count) on up to `threads` threads. A task's result must not depend on its thread or
// on the order. Returns false if any task did.
template <class Body>
bool parallel_for(int threads, int64_t count, const Body& body) {
  struct Job {
    const Body& body;
    const int64_t count;
    std::atomic<int64_t> next{0};
    std::atomic<bool> ok{true};
    static void work(void* self) {
      auto& job = *static_cast<Job*>(self);
      for (int64_t i; (i = job.next.fetch_add(1)) < job.count;)
        if (!job.body(i)) job.ok = false;
    }
  } job{body, count};

  if (threads > count) threads = static_cast<int>(count);
  if (threads <= 1) {
    Job::work(&job);
  } else if (GompParallel gomp_parallel = openmp()) {
    gomp_parallel(Job::work, &job, static_cast<unsigned>(threads), 0);
  } else {
    std::vector<std::thread> workers;
    try {
      for (int i = 1; i < threads; i++) workers.emplace_back(Job::work, &job);
    } catch (const std::system_error&) {  // no more threads can be started: go on with those that run
    }
    Job::work(&job);
    for (auto& worker : workers) worker.join();
  }
  return job.ok;
}

}  // namespace vmr
