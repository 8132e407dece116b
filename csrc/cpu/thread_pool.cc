#include "cpu/thread_pool.h"

#include <unistd.h>

#include <algorithm>
#include <exception>

#include "cpu/spin.h"

namespace kotodama::cpu {
namespace {

constexpr uint64_t kOpen = 1u << 16;
constexpr uint64_t kJoinedMask = kOpen - 1;
constexpr int kJobShift = 17;

// Stores that went past the caches are seen by other threads only after this.
inline void PublishStores() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_sfence();
#endif
}

// While it lives, this thread takes subnormal numbers for zero. Some processors take more than a hundred cycles for
// one, and the moments of a weight that gets no gradient die away into them.
class SubnormalsAreZero {
 public:
#if defined(__x86_64__)
  SubnormalsAreZero() : before_(__builtin_ia32_stmxcsr()) {
    __builtin_ia32_ldmxcsr(before_ | kFlush);
  }
  ~SubnormalsAreZero() {
    __builtin_ia32_ldmxcsr(before_);
  }

 private:
  static constexpr unsigned kFlush = 1u << 15 | 1u << 6;  // results, operands
  const unsigned before_;
#elif defined(__aarch64__)
  SubnormalsAreZero() {
    asm volatile("mrs %0, fpcr" : "=r"(before_));
    asm volatile("msr fpcr, %0" ::"r"(before_ | uint64_t{1} << 24));
  }
  ~SubnormalsAreZero() {
    asm volatile("msr fpcr, %0" ::"r"(before_));
  }

 private:
  uint64_t before_;
#endif
};

}  // namespace

ThreadPool::ThreadPool(int threads) : threads_(std::max(1, threads)), shares_(new Share[threads_]), bed_(new Bed) {}

ThreadPool::~ThreadPool() {
  if (workers_.empty()) return;
  if (owner_process_ != getpid()) {
    // The threads belong to the parent process; there is nothing here to join.
    new std::vector<std::thread>(std::move(workers_));
    bed_.release();
    return;
  }
  {
    std::lock_guard<std::mutex> lock(bed_->mutex);
    stop_ = true;
  }
  bed_->wake.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::Start() {
  workers_.reserve(threads_ - 1);
  owner_process_ = getpid();
  try {
    for (int worker = 1; worker < threads_; ++worker) workers_.emplace_back([this, worker] { WorkerLoop(worker); });
  } catch (const std::exception&) {
    // The system has no room for more threads. Those that there are do the work of the others.
  }
}

bool ThreadPool::TryJoin(uint64_t* seen) {
  uint64_t gate = gate_.load(std::memory_order_acquire);
  while ((gate & kOpen) && gate >> kJobShift != *seen) {
    if (gate_.compare_exchange_weak(gate, gate + 1, std::memory_order_acq_rel)) {
      *seen = gate >> kJobShift;
      return true;
    }
  }
  return false;
}

void ThreadPool::WorkerLoop(int worker) {
  uint64_t seen = 0;
  for (;;) {
    bool joined = SpinUntil([&] { return stop_.load(std::memory_order_relaxed) || TryJoin(&seen); });
    if (stop_) return;
    if (!joined) {
      std::unique_lock<std::mutex> lock(bed_->mutex);
      sleepers_.fetch_add(1);
      bed_->wake.wait(lock, [&] { return stop_ || TryJoin(&seen); });
      sleepers_.fetch_sub(1);
      if (stop_) return;
    }
    Work(worker);
    left_.fetch_add(1, std::memory_order_release);
  }
}

void ThreadPool::Work(int worker) {
  const SubnormalsAreZero subnormals;
  try {
    for (int turn = 0; turn < threads_; ++turn) {
      Share& share = shares_[(worker + turn) % threads_];
      while (!failed_.load(std::memory_order_relaxed)) {
        const int64_t item = share.next.fetch_add(1, std::memory_order_relaxed);
        if (item >= share.end) break;
        (*task_)(item, worker);
      }
    }
    if (*idle_ && !failed_.load(std::memory_order_relaxed)) (*idle_)(worker);
  } catch (...) {
    std::lock_guard<std::mutex> lock(error_mutex_);
    if (!error_) error_ = std::current_exception();
    failed_ = true;
  }
  PublishStores();
}

void ThreadPool::Run(int64_t count, const std::function<void(int64_t, int)>& task,
                     const std::function<void(int)>& idle) {
  if (count <= 0) return;
  const bool alone = threads_ == 1 || count == 1 || (owner_process_ != 0 && owner_process_ != getpid());
  if (alone) {
    const SubnormalsAreZero subnormals;
    for (int64_t item = 0; item < count; ++item) task(item, 0);
    return;
  }
  if (owner_process_ == 0) Start();

  task_ = &task;
  idle_ = &idle;
  for (int worker = 0; worker < threads_; ++worker) {
    shares_[worker].next.store(count * worker / threads_, std::memory_order_relaxed);
    shares_[worker].end = count * (worker + 1) / threads_;
  }
  left_.store(0, std::memory_order_relaxed);
  failed_.store(false, std::memory_order_relaxed);
  const uint64_t job = (gate_.load(std::memory_order_relaxed) >> kJobShift) + 1;
  gate_.store(job << kJobShift | kOpen);
  if (sleepers_.load() > 0) {
    std::lock_guard<std::mutex> lock(bed_->mutex);
    bed_->wake.notify_all();
  }
  Work(0);
  const int joined = static_cast<int>(gate_.fetch_and(~kOpen) & kJoinedMask);
  const auto all_left = [&] { return left_.load(std::memory_order_acquire) == joined; };
  WaitUntil(all_left);
  if (failed_) {
    std::exception_ptr error;
    std::swap(error, error_);
    std::rethrow_exception(error);
  }
}

}  // namespace kotodama::cpu
