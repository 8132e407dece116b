#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "check.h"
#include "scalar.h"

namespace kotodama::test {
namespace {

uint64_t Seed() {
  const char* given = std::getenv("KOTODAMA_TEST_SEED");
  static const uint64_t seed = given != nullptr ? std::strtoull(given, nullptr, 10) : 1;
  return seed;
}

}  // namespace

std::vector<Case>& Cases() {
  static std::vector<Case> cases;
  return cases;
}

void Fail(const char* file, int line, const char* condition, const std::string& detail) {
  const char* name = std::strrchr(file, '/');
  throw std::runtime_error(Text(name == nullptr ? file : name + 1, line, condition, "|", detail));
}

std::mt19937_64& Random() {
  static std::mt19937_64 random(Seed());
  return random;
}

std::vector<float> RandomFloats(int64_t count, float scale) {
  std::normal_distribution<float> normal(0, scale);
  std::vector<float> values(count);
  for (float& value : values) value = normal(Random());
  return values;
}

Tensor Device::Make(DType dtype, std::initializer_list<int64_t> shape) {
  Tensor tensor(nullptr, dtype, shape);
  tensor.data = backend_->Allocate(tensor.bytes());
  return tensor;
}

Tensor Device::Put(const std::vector<float>& values, DType dtype, std::initializer_list<int64_t> shape) {
  const Tensor tensor = Make(dtype, shape);
  for (int64_t i = 0; i < tensor.size(); ++i) StoreAt(tensor, i, values[i]);
  return tensor;
}

Tensor Device::PutInts(const std::vector<int32_t>& values, std::initializer_list<int64_t> shape) {
  const Tensor tensor = Make(DType::kI32, shape);
  backend_->Upload(tensor.data, values.data(), tensor.bytes());
  return tensor;
}

std::vector<float> Device::Get(const Tensor& tensor) {
  std::vector<float> values(tensor.size());
  for (int64_t i = 0; i < tensor.size(); ++i) values[i] = LoadAt(tensor, i);
  return values;
}

std::vector<float> As(const std::vector<float>& values, DType dtype) {
  std::vector<float> result = values;
  if (dtype == DType::kBF16) {
    for (float& value : result) value = FromBF16(ToBF16(value));
  }
  return result;
}

double WorstError(const std::vector<float>& found, const std::vector<double>& expected, double least) {
  double worst = 0, largest = least;
  for (double value : expected) largest = std::max(largest, std::abs(value));
  for (size_t i = 0; i < expected.size(); ++i) {
    const double error = std::abs(found[i] - expected[i]);
    if (!(error <= worst)) worst = std::isnan(error) ? INFINITY : error;
  }
  return worst / largest;
}

double RelativeL2(const std::vector<float>& found, const std::vector<double>& expected) {
  double error = 0, total = 1e-60;
  for (size_t i = 0; i < expected.size(); ++i) {
    error += (found[i] - expected[i]) * (found[i] - expected[i]);
    total += expected[i] * expected[i];
  }
  return std::isnan(error) ? INFINITY : std::sqrt(error / total);
}

constexpr int kSkipped = 77;  // what CMakeLists.txt tells ctest

// The engine takes a lower instruction set where the machine lacks the one asked for: that would test nothing new.
bool HasTheIsaAskedFor(const std::string& detail) {
  const char* wanted = std::getenv("KOTODAMA_CPU_ISA");
  if (wanted == nullptr || *wanted == '\0') return true;
  if (std::strcmp(wanted, "portable") == 0) return true;  // everywhere, on arm64 by the name of neon
  return detail.rfind(std::string(wanted) + ",", 0) == 0;
}

int RunAll(const char* filter) {
  const std::string detail = MakeCpuBackend(2)->Info().detail;
  if (!HasTheIsaAskedFor(detail)) {
    std::printf("# skipped: KOTODAMA_CPU_ISA=%s, and this machine has %s\n", std::getenv("KOTODAMA_CPU_ISA"),
                detail.c_str());
    return kSkipped;
  }
#ifdef KOTODAMA_SOFTWARE_TILES
  const char* const note = ", tile registers in software";
#else
  const char* const note = "";
#endif
  std::printf("# KOTODAMA_TEST_SEED=%llu, %s%s\n", static_cast<unsigned long long>(Seed()), detail.c_str(), note);
  int ran = 0, failed = 0;
  for (const Case& test : Cases()) {
    if (filter != nullptr && test.name.find(filter) == std::string::npos) continue;
    ++ran;
    try {
      test.body();
      std::printf("ok %s\n", test.name.c_str());
    } catch (const std::exception& error) {
      ++failed;
      std::printf("not ok %s: %s\n", test.name.c_str(), error.what());
    }
    std::fflush(stdout);
  }
  if (ran == 0) {
    std::printf("not ok: no case has '%s' in its name\n", filter);
    return 1;
  }
  std::printf("# %d failed\n", failed);
  return failed == 0 ? 0 : 1;
}

}  // namespace kotodama::test

int main(int argc, char** argv) {
  return kotodama::test::RunAll(argc > 1 ? argv[1] : nullptr);
}
