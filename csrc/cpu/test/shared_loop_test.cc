#include "cpu/shared_loop.h"

#include <atomic>
#include <chrono>
#include <thread>

#include "check.h"

namespace kotodama::test {
namespace {

// Helpers that come and go while loops of all lengths run: every turn is taken once, and its work is seen.
TEST(SharedLoopTakesEveryTurnOnce) {
  constexpr int kHelpers = 3;
  cpu::SharedLoop loop;
  std::atomic<bool> stop{false};
  std::vector<std::thread> helpers;
  for (int i = 0; i < kHelpers; ++i) {
    helpers.emplace_back([&] {
      while (!stop) loop.Help();
    });
  }
  std::string fault;
  for (int64_t round = 0; round < 3000 && fault.empty(); ++round) {
    std::vector<int> taken(round % 40, 0);
    loop.Run(static_cast<int64_t>(taken.size()), [&](int64_t turn, bool) { ++taken[turn]; });
    for (int times : taken) {
      if (times != 1) fault = Text("round", round, "times", times);
    }
  }
  stop = true;
  for (std::thread& helper : helpers) helper.join();
  CHECK(fault.empty(), fault);
}

// The owner's first turn ends only when another thread has taken all others.
TEST(SharedLoopIsHelped) {
  cpu::SharedLoop loop;
  std::atomic<bool> stop{false};
  std::thread helper([&] {
    while (!stop) loop.Help();
  });
  constexpr int64_t kTurns = 20;
  std::atomic<int64_t> by_helper{0};
  loop.Run(kTurns, [&](int64_t, bool owns) {
    if (!owns) {
      ++by_helper;
      return;
    }
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::minutes(1);
    while (by_helper < kTurns - 1 && std::chrono::steady_clock::now() < deadline) std::this_thread::yield();
  });
  stop = true;
  helper.join();
  CHECK(by_helper >= kTurns - 1, by_helper.load());
}

}  // namespace
}  // namespace kotodama::test
