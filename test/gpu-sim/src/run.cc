#include "run.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <map>
#include <mutex>
#include <thread>

#include "lanes.h"
#include "module.h"

namespace gpusim {

namespace {

using Clock = std::chrono::steady_clock;

constexpr uint32_t kSlice = 100000;               // instructions until another warp of the block has its turn
constexpr std::chrono::microseconds kAlone{500};  // one host thread works alone for so long
constexpr uint8_t kJunk = 0xcd;                   // registers hold this before their first write

// Storage that a host thread keeps from block to block.
struct Storage {
  std::vector<uint8_t> registers, shared, local, local_written;
  std::vector<Mask> predicates;
};

uint8_t* aligned(std::vector<uint8_t>& v, size_t bytes) {
  if (v.size() < bytes + 128) v.resize(bytes + 128);
  return reinterpret_cast<uint8_t*>((reinterpret_cast<uintptr_t>(v.data()) + 63) / 64 * 64);
}

struct Failure {
  uint64_t block = ~0ull;
  int code = 0;
  std::string report;
};

class Runner {
 public:
  Runner(const Launch& launch) : launch_(launch), kernel_(*launch.kernel) {
    blocks_ = static_cast<uint64_t>(launch.run_per_row()) * launch.grid.y * launch.grid.z;
    if (launch.sample != 0) issued_.resize(blocks_);
  }

  Outcome run(int threads) {
    Outcome out;
    out.executed.assign(kernel_.code.size(), 0);
    out.conflicts.assign(kernel_.code.size(), 0);
    if (static_cast<uint64_t>(threads) > blocks_) threads = static_cast<int>(blocks_);
    std::vector<Worker> workers(static_cast<size_t>(threads));
    for (Worker& w : workers) {
      w.executed.assign(kernel_.code.size(), 0);
      w.conflicts.assign(kernel_.code.size(), 0);
    }
    // Most launches of a test are over before another thread would have begun.
    work(workers[0], threads > 1 ? Clock::now() + kAlone : Clock::time_point::max());
    if (next_.load() < blocks_ && failed_at_.load() == ~0ull) {
      std::vector<std::thread> others;
      for (int t = 1; t < threads; ++t) {
        others.emplace_back([&, t] { work(workers[static_cast<size_t>(t)], Clock::time_point::max()); });
      }
      work(workers[0], Clock::time_point::max());
      for (auto& t : others) t.join();
    }
    for (const Worker& w : workers) {
      out.memory.add(w.memory);
      for (size_t i = 0; i < w.executed.size(); ++i) {
        out.executed[i] += w.executed[i];
        out.conflicts[i] += w.conflicts[i];
      }
    }
    out.code = failure_.code;
    out.report = failure_.report;
    out.blocks_run = blocks_;
    out.unlike = unlike();
    return out;
  }

 private:
  // Runs blocks until there are none left, one has failed, or the time is over.
  void work(Worker& worker, Clock::time_point until) {
    Storage storage;
    Block block;
    prepare(block, storage, worker);
    do {
      uint64_t index = next_.fetch_add(1);
      if (index >= blocks_ || index > failed_at_.load()) return;
      begin(block, index, storage);
      Warp* running = nullptr;
      try {
        run_block(block, &running);
        if (!issued_.empty()) {
          for (const Warp& w : block.warps) issued_[index] += w.issued;
        }
      } catch (const Fault& f) {
        record(index, block, *running, f);
      }
    } while (Clock::now() < until);
  }

  double unlike() const {
    double most = 0;
    const uint64_t per_row = launch_.run_per_row();
    for (size_t row = 0; row < issued_.size(); row += per_row) {
      const auto range = std::minmax_element(issued_.begin() + static_cast<int64_t>(row),
                                             issued_.begin() + static_cast<int64_t>(row + per_row));
      most = std::max(most, 1.0 - static_cast<double>(*range.first) / static_cast<double>(*range.second));
    }
    return most;
  }

  void prepare(Block& b, Storage& s, Worker& worker) {
    const Launch& l = launch_;
    b.launch = &l;
    b.kernel = &kernel_;
    b.threads = l.block.x * l.block.y * l.block.z;
    b.shared_size = kernel_.shared_bytes + l.dynamic_shared;
    b.shared = aligned(s.shared, b.shared_size);
    const size_t n = (b.threads + kLanes - 1) / kLanes;
    b.warps.resize(n);
    uint8_t* registers = aligned(s.registers, n * kernel_.register_bytes);
    s.predicates.resize(n * kernel_.predicate_count);
    const size_t local = static_cast<size_t>(kernel_.local_bytes) * kLanes;
    uint8_t* local_memory = aligned(s.local, n * local);
    uint8_t* local_written = aligned(s.local_written, n * local);
    for (size_t i = 0; i < n; ++i) {
      Warp& w = b.warps[i];
      w.id = static_cast<uint32_t>(i);
      w.block = &b;
      w.worker = &worker;
      w.bank[0] = registers + i * kernel_.register_bytes;
      w.bank[1] = kernel_.constants;
      w.pred = &s.predicates[i * kernel_.predicate_count];
      w.local = local_memory + i * local;
      w.local_written = local_written + i * local;
      const uint32_t left = b.threads - static_cast<uint32_t>(i) * kLanes;
      w.exist = left >= kLanes ? kFull : (1u << left) - 1;
    }
  }

  void begin(Block& b, uint64_t index, Storage& s) {
    // Of a row that is not run in full, one block of each of equal parts, at changing places, so that a kernel that
    // does something else in every n-th block is not always met in the same one.
    const uint64_t per_row = launch_.run_per_row(), row = index / per_row, part = index % per_row;
    const uint64_t first = part * launch_.grid.x / per_row, end = (part + 1) * launch_.grid.x / per_row;
    b.index.x = static_cast<uint32_t>(first + part * 0x9e3779b97f4a7c15ull % (end - first));
    b.index.y = static_cast<uint32_t>(row % launch_.grid.y);
    b.index.z = static_cast<uint32_t>(row / launch_.grid.y);
    std::memset(b.shared, kJunk, b.shared_size);
    b.shadow.reset(b.shared_size, kernel_.shared_granule_shift, launch_.checks.races, launch_.checks.uninitialised);
    for (Barrier& bar : b.barriers) bar = Barrier();
    std::fill(s.predicates.begin(), s.predicates.end(), 0);
    for (Warp& w : b.warps) {
      std::memset(w.bank[0], kJunk, kernel_.register_bytes);
      if (kernel_.local_bytes) std::memset(w.local_written, 0, static_cast<size_t>(kernel_.local_bytes) * kLanes);
      w.pred[0] = kFull;
      w.active = w.alive = w.exist;
      w.pc = 0;
      w.rpc = static_cast<uint32_t>(kernel_.code.size());
      w.state = WarpState::kReady;
      w.stack.clear();
      w.copies.clear();
      std::memset(w.committed, 0, sizeof(w.committed));
      w.carry = 0;
      w.barrier = -1;
      w.waiting = nullptr;
      w.issued = 0;
      w.clock.reset();
      for (size_t i = b.warps.size(); i < w.clock.known.size(); ++i) w.clock.known[i] = ~0u;
    }
  }

  void run_block(Block& b, Warp** running) {
    for (;;) {
      bool moved = false, done = true;
      for (Warp& w : b.warps) {
        if (w.state == WarpState::kReady) {
          *running = &w;
          run_warp(w);
          moved = true;
        }
        done = done && w.state == WarpState::kDone;
      }
      if (done) return;
      if (!moved) stuck(b, running);
    }
  }

  [[noreturn]] void stuck(Block& b, Warp** running) {
    std::string waiting, gone;
    Warp* first = nullptr;
    for (Warp& w : b.warps) {
      std::string& list = w.state == WarpState::kDone ? gone : waiting;
      list += (list.empty() ? "" : ",") + std::to_string(w.id);
      if (w.state == WarpState::kAtBarrier) {
        if (!first) first = &w;
        list += " (barrier " + std::to_string(w.barrier) + ", PTX line " + std::to_string(w.waiting->line) + ")";
      }
    }
    *running = first;
    fault(kLaunchFailed, 0,
          "barrier that not all threads reach: warps " + waiting + " wait" +
              (gone.empty() ? "" : ", warps " + gone + " have ended"));
  }

  void run_warp(Warp& w) {
    const Instr* code = kernel_.code.data();
    uint64_t* executed = w.worker->executed.data();
    uint32_t n = 0;
    for (; n < kSlice && w.state == WarpState::kReady; ++n) {
      while (w.pc == w.rpc) {
        pop_path(w);
        if (w.state == WarpState::kDone) return;
      }
      const Instr& in = code[w.pc];
      ++executed[w.pc];
      ++w.pc;
      const Mask m = w.active & (w.pred[in.guard.index] ^ (in.guard.negated ? kFull : 0));
      if (!m) continue;
      w.current = &in;
      in.fn(w, in, m);
    }
    w.issued += n;
    if (launch_.instruction_limit && w.issued > launch_.instruction_limit) {
      fault(kLaunchTimeout, -1,
            "a warp has executed " + std::to_string(w.issued) + " instructions: does this kernel end?");
    }
  }

  void record(uint64_t index, const Block& b, const Warp& w, const Fault& f) {
    const Instr& in = *w.current;
    std::string s = "kernel " + kernel_.name + ", block (" + std::to_string(b.index.x) + "," +
                    std::to_string(b.index.y) + "," + std::to_string(b.index.z) + "), ";
    const uint32_t lane = f.lane >= 0 ? static_cast<uint32_t>(f.lane) : static_cast<uint32_t>(first_lane(w.exist));
    const uint32_t t = w.id * kLanes + lane;
    const Dim3& n = launch_.block;
    s += f.lane >= 0 ? "thread (" + std::to_string(t % n.x) + "," + std::to_string(t / n.x % n.y) + "," +
                           std::to_string(t / n.x / n.y) + ")"
                     : "warp " + std::to_string(w.id);
    s += ": " + f.message + "\n  at PTX line " + std::to_string(in.line) + ": " + kernel_.module->line(in.line);
    if (in.source_line) {
      const auto& files = kernel_.module->ast.files;
      auto it = files.find(in.source_file);
      s += "\n  source " + (it == files.end() ? "file " + std::to_string(in.source_file) : it->second) + ":" +
           std::to_string(in.source_line);
    }
    std::lock_guard<std::mutex> lock(mutex_);
    if (index >= failure_.block) return;
    failure_ = {index, f.code, s};
    failed_at_.store(index);
  }

  const Launch& launch_;
  const Kernel& kernel_;
  uint64_t blocks_;               // to run
  std::vector<uint64_t> issued_;  // per block that is run, in a sample
  std::atomic<uint64_t> next_{0};
  std::atomic<uint64_t> failed_at_{~0ull};  // blocks above this one need not run any more
  std::mutex mutex_;
  Failure failure_;
};

}  // namespace

void MemoryCounters::add(const MemoryCounters& o) {
  global_sectors += o.global_sectors;
  global_sectors_fewest += o.global_sectors_fewest;
  global_read_sectors += o.global_read_sectors;
  global_write_sectors += o.global_write_sectors;
  global_read_bytes += o.global_read_bytes;
  global_write_bytes += o.global_write_bytes;
  shared_wavefronts += o.shared_wavefronts;
  shared_conflicts += o.shared_conflicts;
  shared_read_bytes += o.shared_read_bytes;
  shared_write_bytes += o.shared_write_bytes;
  local_bytes += o.local_bytes;
}

Outcome run_launch(const Launch& launch, int threads) {
  return Runner(launch).run(threads);
}

}  // namespace gpusim
