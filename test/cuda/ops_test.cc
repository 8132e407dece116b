#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>

#include "bench.h"
#include "cuda/cuda_backend.h"
#include "error.h"
#include "reference/reference_backend.h"

// Runs every case, or those whose name contains the first argument, and prints a line for each (TAP).

namespace kotodama::test {

Bench::~Bench() {
  for (size_t side = 0; side < kSides; ++side) {
    for (void* data : memory_[side]) backend(side).Free(data);
  }
}

std::vector<float> Bench::Normal(int64_t count, float scale) {
  std::normal_distribution<float> normal(0, scale);
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) value = normal(random_);
  return values;
}

void* Bench::Copy(size_t side, const void* value, size_t bytes) {
  void* data = backend(side).Allocate(bytes);
  memory_[side].push_back(data);
  backend(side).Upload(data, value, bytes);
  return data;
}

Trio Bench::Copy(DType reference_type, DType type, std::initializer_list<int64_t> shape,
                 const std::vector<float>& values) {
  std::vector<uint16_t> narrow;
  std::vector<float> wide = values;
  if (type == DType::kBF16) {
    for (float& value : wide) {
      narrow.push_back(RoundToBf16(value));
      value = FromBf16(narrow.back());
    }
  }
  Trio trio;
  for (size_t side = 0; side < kSides; ++side) {
    Tensor& tensor = trio.sides[side];
    tensor = Tensor(nullptr, side == 0 ? reference_type : type, shape);
    const void* source = tensor.dtype == DType::kBF16 ? static_cast<const void*>(narrow.data()) : wide.data();
    tensor.data = Copy(side, source, tensor.bytes());
  }
  return trio;
}

Trio Bench::Input(DType type, std::initializer_list<int64_t> shape, const std::vector<float>& values) {
  return Copy(type, type, shape, values);
}

Trio Bench::Input(DType type, std::initializer_list<int64_t> shape, float scale) {
  return Input(type, shape, Normal(Tensor(nullptr, type, shape).size(), scale));
}

Trio Bench::Integers(std::initializer_list<int64_t> shape, const std::vector<int32_t>& values) {
  Trio trio;
  for (size_t side = 0; side < kSides; ++side) {
    trio.sides[side] = Tensor(nullptr, DType::kI32, shape);
    trio.sides[side].data = Copy(side, values.data(), trio.sides[side].bytes());
  }
  return trio;
}

Trio Bench::Output(DType type, std::initializer_list<int64_t> shape) {
  return Copy(DType::kF32, type, shape, Normal(Tensor(nullptr, type, shape).size()));
}

std::vector<char> Bench::DeviceBytes(const Trio& tensor) const {
  const Tensor& device = tensor.on(Side::kDevice);
  std::vector<char> bytes(device.bytes());
  backends_.back()->Download(bytes.data(), device.data, bytes.size());
  return bytes;
}

void Bench::Run(const Operation& operation, const std::vector<Trio>& outputs) {
  std::vector<std::vector<char>> before, first;
  for (const Trio& output : outputs) before.push_back(DeviceBytes(output));
  for (Side side : {Side::kReference, Side::kPlain, Side::kDevice}) {
    operation(backend(static_cast<size_t>(side)), On{side});
  }
  for (const Trio& output : outputs) first.push_back(DeviceBytes(output));
  Backend& device = *backends_.back();
  for (size_t i = 0; i < outputs.size(); ++i) {
    device.Upload(outputs[i].on(Side::kDevice).data, before[i].data(), before[i].size());
  }
  operation(device, On{Side::kDevice});
  for (size_t i = 0; i < outputs.size(); ++i) {
    ExpectTrue("output " + std::to_string(i) + " has the same bits in a second run",
               DeviceBytes(outputs[i]) == first[i]);
  }
}

std::vector<float> Bench::Read(const Trio& trio, Side side) const {
  const Tensor& tensor = trio.on(side);
  std::vector<char> bytes(tensor.bytes());
  backend(static_cast<size_t>(side)).Download(bytes.data(), tensor.data, bytes.size());
  std::vector<float> values(static_cast<size_t>(tensor.size()));
  for (size_t i = 0; i < values.size(); ++i) {
    if (tensor.dtype == DType::kBF16) {
      uint16_t narrow;
      std::memcpy(&narrow, bytes.data() + 2 * i, 2);
      values[i] = FromBf16(narrow);
    } else {
      std::memcpy(&values[i], bytes.data() + 4 * i, 4);
    }
  }
  return values;
}

namespace {

// The largest value and the root mean square of some numbers; infinite when one of them is NaN.
struct Size {
  double largest = 0, rms = 0;

  explicit Size(size_t count) : count_(static_cast<double>(count)) {}
  void Add(double value) {
    value = std::isnan(value) ? INFINITY : std::abs(value);
    largest = std::max(largest, value);
    squares_ += value * value;
    rms = std::sqrt(squares_ / count_);
  }

 private:
  double count_, squares_ = 0;
};

Size ErrorOf(const std::vector<float>& got, const std::vector<float>& want) {
  Size size(want.size());
  for (size_t i = 0; i < want.size(); ++i) size.Add(got[i] == want[i] ? 0 : static_cast<double>(got[i]) - want[i]);
  return size;
}

}  // namespace

void Bench::Expect(const std::string& what, const Trio& tensor, Tolerance tolerance, double terms) {
  ExpectNear(what, tensor, tolerance);
  ExpectTwice(what, tensor, terms);
}

void Bench::ExpectNear(const std::string& what, const Trio& tensor, Tolerance tolerance) {
  const std::vector<float> want = Read(tensor, Side::kReference), got = Read(tensor, Side::kDevice);
  Size wanted(want.size());
  for (float x : want) wanted.Add(x);
  size_t worst = 0;
  double worst_excess = 0;
  size_t wrong = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    const double error = std::abs(static_cast<double>(got[i]) - want[i]);
    const double excess = error / (tolerance.relative * std::abs(want[i]) + tolerance.of_rms * wanted.rms + 1e-30);
    const bool is_wrong = !(excess <= 1);
    wrong += is_wrong;
    if (is_wrong && !(excess <= worst_excess)) {
      worst = i;
      worst_excess = std::isnan(excess) ? 1e30 : excess;
    }
  }
  if (wrong == 0) return;
  char text[256];
  std::snprintf(text, sizeof text,
                "%s: %zu of %zu differ; worst at %zu: expected %.9g, received %.9g (%.3g times too far)", what.c_str(),
                wrong, want.size(), worst, static_cast<double>(want[worst]), static_cast<double>(got[worst]),
                worst_excess);
  failures_.push_back(text);
}

void Bench::ExpectTwice(const std::string& what, const Trio& tensor, double terms) {
  const std::vector<float> want = Read(tensor, Side::kReference);
  const Size error = ErrorOf(Read(tensor, Side::kDevice), want), allowed = ErrorOf(Read(tensor, Side::kPlain), want);
  Size wanted(want.size());
  for (float x : want) wanted.Add(x);
  // Half a unit in the last place for the reference, which is stored in fp32 itself, and half a one for luck of the
  // plain result's.
  constexpr double kSlack = 1.0 / (1 << 23);
  const auto check = [&](const char* kind, double found, double own, double size) {
    if (found <= 2 * own + kSlack * std::max(size, terms)) return;
    char text[256];
    std::snprintf(text, sizeof text, "%s: the %s error is %.3g, more than twice the plain one's %.3g", what.c_str(),
                  kind, found, own);
    failures_.push_back(text);
  };
  check("largest", error.largest, allowed.largest, wanted.largest);
  check("mean", error.rms, allowed.rms, wanted.rms);
}

void Bench::ExpectTrue(const std::string& what, bool holds) {
  if (!holds) failures_.push_back("not so: " + what);
}

namespace {

int RunAll(const std::string& filter) {
  const std::unique_ptr<Backend> reference = MakeReferenceBackend(), plain = MakePlainBackend(),
                                 device = MakeCudaBackend(0);
  const char* chosen = std::getenv("KOTODAMA_TEST_SEED");
  const uint32_t seed = chosen != nullptr ? static_cast<uint32_t>(std::strtoul(chosen, nullptr, 10)) : 1;
  std::printf("TAP version 14\n# device %s, %s; seed %u (KOTODAMA_TEST_SEED)\n", device->Info().name.c_str(),
              device->Info().detail.c_str(), seed);
  std::vector<Case> cases = SmallCases();
  for (const auto& more : {GemmCases(), AttentionCases()}) cases.insert(cases.end(), more.begin(), more.end());
  int count = 0, failed = 0;
  for (const Case& test : cases) {
    if (test.name.find(filter) == std::string::npos || (test.only_by_name && filter.empty())) continue;
    const auto start = std::chrono::steady_clock::now();
    std::vector<std::string> failures;
    try {
      Bench bench({reference.get(), plain.get(), device.get()}, seed);
      test.run(bench);
      failures = bench.failures();
    } catch (const Error& error) {
      failures.push_back(error.what());
    }
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    std::printf("%s %d - %s # %.2f s\n", failures.empty() ? "ok" : "not ok", ++count, test.name.c_str(), seconds);
    for (const std::string& failure : failures) std::printf("#   %s\n", failure.c_str());
    std::fflush(stdout);
    failed += !failures.empty();
  }
  std::printf("1..%d\n", count);
  return failed == 0 && count > 0 ? 0 : 1;
}

}  // namespace
}  // namespace kotodama::test

int main(int argc, char** argv) {
  try {
    return kotodama::test::RunAll(argc > 1 ? argv[1] : "");
  } catch (const std::exception& error) {
    std::printf("Bail out! %s\n", error.what());
    return 1;
  }
}
