#pragma once

#include <atomic>
#include <cstdint>

#include "cpu/spin.h"

namespace kotodama::cpu {

// A loop of one thread whose turns other threads take too while they have nothing else to do. Where items are few and
// long, the last thread to finish would else keep all others waiting.
class alignas(64) SharedLoop {
 public:
  // For the thread that owns the loop. Calls body(turn, owns) for every turn in [0, count), here or where Help is
  // called, `owns` being true here, and returns when all are done. What turns write is seen after it. `body` must not
  // throw.
  template <typename Body>
  void Run(int64_t count, const Body& body) {
    body_ = &body;
    call_ = [](const void* untyped, int64_t turn, bool owns) { (*static_cast<const Body*>(untyped))(turn, owns); };
    count_ = count;
    next_.store(0, std::memory_order_relaxed);
    gate_.store(kOpen, std::memory_order_release);
    TakeTurns(true);
    WaitUntil([&] { return gate_.load(std::memory_order_acquire) == 0; });
  }

  // For any other thread: takes turns of the loop, if it runs, until none is left.
  void Help() {
    uint32_t gate = gate_.load(std::memory_order_relaxed);
    do {
      if ((gate & kOpen) == 0) return;
    } while (!gate_.compare_exchange_weak(gate, gate + 1, std::memory_order_acquire, std::memory_order_relaxed));
    TakeTurns(false);
    gate_.fetch_sub(1, std::memory_order_release);
  }

 private:
  static constexpr uint32_t kOpen = 1u << 31;

  void TakeTurns(bool owns) {
    for (int64_t turn; (turn = next_.fetch_add(1, std::memory_order_relaxed)) < count_;) call_(body_, turn, owns);
    // Who comes now would find nothing. The owner opens the gate again only once all have left.
    gate_.fetch_and(~kOpen, std::memory_order_relaxed);
  }

  std::atomic<uint32_t> gate_{0};  // kOpen, and the number of helpers inside; the rest changes while it is 0
  std::atomic<int64_t> next_{0};
  int64_t count_ = 0;
  const void* body_ = nullptr;
  void (*call_)(const void*, int64_t, bool) = nullptr;
};

}  // namespace kotodama::cpu
