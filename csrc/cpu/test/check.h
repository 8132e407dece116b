#pragma once

#include <cmath>
#include <cstdint>
#include <functional>
#include <random>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "backend.h"
#include "cpu/cpu_backend.h"

// A small test helper: tests register themselves, CHECK throws with what was found.

namespace kotodama::test {

struct Case {
  std::string name;
  std::function<void()> body;
};
std::vector<Case>& Cases();

struct Registration {
  Registration(const char* name, std::function<void()> body) { Cases().push_back({name, std::move(body)}); }
};

#define TEST(name)                                                  \
  static void name();                                               \
  static const ::kotodama::test::Registration name##_(#name, name); \
  static void name()

#define CHECK(condition, ...)                                                                                      \
  do {                                                                                                             \
    if (!(condition)) ::kotodama::test::Fail(__FILE__, __LINE__, #condition, ::kotodama::test::Text(__VA_ARGS__)); \
  } while (false)

[[noreturn]] void Fail(const char* file, int line, const char* condition, const std::string& detail);

template <typename... Parts>
std::string Text(const Parts&... parts) {
  std::ostringstream out;
  ((out << parts << ' '), ...);
  return out.str();
}

// Random numbers whose seed is printed when the tests start.
std::mt19937_64& Random();
std::vector<float> RandomFloats(int64_t count, float scale = 1);

// A backend with tensors that live as long as it.
class Device {
 public:
  explicit Device(int threads) : backend_(MakeCpuBackend(threads)) {}

  Backend& operator*() { return *backend_; }
  Backend* operator->() { return backend_.get(); }

  Tensor Make(DType dtype, std::initializer_list<int64_t> shape);
  Tensor Put(const std::vector<float>& values, DType dtype, std::initializer_list<int64_t> shape);
  Tensor PutInts(const std::vector<int32_t>& values, std::initializer_list<int64_t> shape);
  static std::vector<float> Get(const Tensor& tensor);

 private:
  std::unique_ptr<Backend> backend_;
};

// `values` as a tensor of this type would hold them.
std::vector<float> As(const std::vector<float>& values, DType dtype);

// The largest |found - expected| over max(|expected|, least); NaN counts as infinite.
double WorstError(const std::vector<float>& found, const std::vector<double>& expected, double least = 1e-30);
// ||found - expected|| / ||expected||
double RelativeL2(const std::vector<float>& found, const std::vector<double>& expected);

}  // namespace kotodama::test
