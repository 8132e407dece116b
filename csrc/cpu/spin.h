#pragma once

#include <chrono>
#include <thread>

namespace kotodama::cpu {

inline void Pause() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Spins until done(), which it returns, or for a short while; the clock is read rarely.
template <typename Done>
bool SpinUntil(Done done) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::microseconds(200);
  do {
    for (int i = 0; i < 64; ++i) {
      if (done()) return true;
      Pause();
    }
  } while (std::chrono::steady_clock::now() < deadline);
  return done();
}

// Spins until done(), after a short while giving other threads of the machine their turns.
template <typename Done>
void WaitUntil(Done done) {
  while (!SpinUntil(done)) std::this_thread::yield();
}

}  // namespace kotodama::cpu
