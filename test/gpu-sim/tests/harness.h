// A very small test frame: cases that register themselves, checks that print what differed, and helpers that run PTX.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "../src/api.h"
#include "driver.h"

namespace test {

struct Case {
  const char* group;
  const char* name;
  void (*run)();
};
std::vector<Case>& cases();
struct Register {
  Register(const char* group, const char* name, void (*run)()) { cases().push_back({group, name, run}); }
};

void fail(const char* file, int line, const std::string& message);

#define TEST(group, name)                                                           \
  static void group##_##name();                                                     \
  static ::test::Register register_##group##_##name(#group, #name, group##_##name); \
  static void group##_##name()

#define CHECK(condition)                                            \
  do {                                                              \
    if (!(condition)) ::test::fail(__FILE__, __LINE__, #condition); \
  } while (0)

template <class A, class B>
void check_equal(const char* file, int line, const char* what, const A& a, const B& b) {
  if (a == static_cast<A>(b)) return;
  fail(file, line, std::string(what) + ": found " + std::to_string(a) + ", expected " + std::to_string(b));
}
#define CHECK_EQ(found, expected) ::test::check_equal(__FILE__, __LINE__, #found, found, expected)

/// The last report of the simulator must contain `part`.
void check_report(const char* file, int line, const std::string& part);
#define CHECK_REPORT(part) ::test::check_report(__FILE__, __LINE__, part)

/// A device with a fresh context; reset when it goes out of scope, so that a fault in one case does not reach the next.
class Device {
 public:
  Device();
  ~Device();
  template <class T>
  CUdeviceptr upload(const std::vector<T>& v) {
    CUdeviceptr p = allocate(v.size() * sizeof(T));
    cuMemcpyHtoD_v2(p, v.data(), v.size() * sizeof(T));
    return p;
  }
  template <class T>
  std::vector<T> download(CUdeviceptr p, size_t n) {
    std::vector<T> v(n);
    cuMemcpyDtoH_v2(v.data(), p, n * sizeof(T));
    return v;
  }
  CUdeviceptr allocate(size_t bytes);
  /// Loads a module; fails the case if it does not load.
  CUmodule load(const std::string& ptx);
  CUfunction function(CUmodule m, const char* name = "k");
  /// Launches with pointer parameters, and waits where no stream is given; returns the first error, a fault included.
  CUresult launch(CUfunction f, unsigned grid, unsigned block, const std::vector<uint64_t>& params, unsigned shared = 0,
                  CUstream s = nullptr);
};

/// ".version", ".target" and so on before the text.
std::string module_text(const std::string& body);
/// An entry `k` with `params` 64-bit parameters (loaded into %p0, %p1...), registers %r, %rd, %f, %fd, %h (16 bits), %q
/// (predicates), and %r0 = tid.x.
std::string kernel_text(int params, const std::string& body, const std::string& before = "");

/// Runs one instruction (with registers d, a, b, c, e) on every element: inputs are 16-, 32- or 64-bit values as bits.

std::vector<uint64_t> apply_bits(const std::string& statement, int result_bytes,
                                 const std::vector<std::vector<uint64_t>>& inputs, const std::vector<int>& bytes);

inline uint32_t bits(float f) {
  uint32_t u;
  std::memcpy(&u, &f, 4);
  return u;
}
inline uint64_t bits(double f) {
  uint64_t u;
  std::memcpy(&u, &f, 8);
  return u;
}
inline float float_of(uint64_t u) {
  uint32_t v = static_cast<uint32_t>(u);
  float f;
  std::memcpy(&f, &v, 4);
  return f;
}
inline double double_of(uint64_t u) {
  double f;
  std::memcpy(&f, &u, 8);
  return f;
}

/// A small generator with a fixed seed per case, for inputs without a pattern.
struct Random {
  uint64_t state = 0x9e3779b97f4a7c15ull;
  uint64_t next() {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state * 0x2545f4914f6cdd1dull;
  }
  float uniform() { return static_cast<float>(next() >> 40) / static_cast<float>(1 << 23) - 1.0f; }  // [-1, 1)
};

}  // namespace test
