#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace kotodama::cpu {

// A few threads that stay warm between the operations of a step: a worker spins for a short while when it runs out of
// work, then sleeps. The threads start with the first job; where the system lets fewer start, fewer do all the work.
// One caller at a time.
//
// A job is a number of independent items. Which thread runs an item is not fixed, so items must not depend on it: what
// is summed over items goes to one slot per item and is added in the order of the items.
class ThreadPool {
 public:
  explicit ThreadPool(int threads);  // the caller's own thread included; at least 1
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const { return threads_; }
  // Those that do the work; fewer than threads() where the system let fewer start.
  int running() const { return owner_process_ == 0 ? threads_ : 1 + static_cast<int>(workers_.size()); }

  // Calls task(item, worker) for every item in [0, count), worker in [0, threads()), and returns when all are done.
  // Every thread begins with its own contiguous share and then helps the others. The first exception of a task is
  // thrown again here, once no task runs any more. After fork, the child runs everything in its only thread. Tasks take
  // subnormal numbers for zero. `idle`, if given, is called by a thread that finds no item left while others may still
  // be at theirs; it must return once they are done. Not where one thread runs everything, nor after an exception.
  void Run(int64_t count, const std::function<void(int64_t item, int worker)>& task,
           const std::function<void(int worker)>& idle = nullptr);

 private:
  struct alignas(64) Share {
    std::atomic<int64_t> next{0};
    int64_t end = 0;
  };

  void Start();
  void WorkerLoop(int worker);
  void Work(int worker);
  bool TryJoin(uint64_t* seen);

  const int threads_;
  int owner_process_ = 0;             // the process whose threads these are; 0 before they start
  std::vector<std::thread> workers_;  // threads_ - 1, or fewer
  std::unique_ptr<Share[]> shares_;
  const std::function<void(int64_t, int)>* task_ = nullptr;
  const std::function<void(int)>* idle_ = nullptr;

  // Number of the job << 17 | open << 16 | number of workers that joined. A worker joins only while the job is open, so
  // that the caller never waits for one that still sleeps.
  std::atomic<uint64_t> gate_{0};
  std::atomic<int> left_{0};
  std::atomic<bool> failed_{false};
  std::exception_ptr error_;
  std::mutex error_mutex_;

  std::atomic<int> sleepers_{0};
  std::atomic<bool> stop_{false};
  // On the heap because a forked child must not destroy it: that would wait for sleepers the child does not have.
  struct Bed {
    std::mutex mutex;
    std::condition_variable wake;
  };
  std::unique_ptr<Bed> bed_;
};

}  // namespace kotodama::cpu
