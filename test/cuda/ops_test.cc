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
  for (void* data : reference_memory_) reference_.Free(data);
  for (void* data : device_memory_) device_.Free(data);
}

std::vector<float> Bench::Normal(int64_t count, float scale) {
  std::normal_distribution<float> normal(0, scale);
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) value = normal(random_);
  return values;
}

Pair Bench::Allocate(DType reference_type, DType type, std::initializer_list<int64_t> shape) {
  Pair pair = {Tensor(nullptr, reference_type, shape), Tensor(nullptr, type, shape)};
  pair.reference.data = reference_.Allocate(pair.reference.bytes());
  reference_memory_.push_back(pair.reference.data);
  pair.device.data = device_.Allocate(pair.device.bytes());
  device_memory_.push_back(pair.device.data);
  return pair;
}

Pair Bench::Input(DType type, std::initializer_list<int64_t> shape, const std::vector<float>& values) {
  const Pair pair = Allocate(type, type, shape);
  std::vector<uint16_t> narrow;
  const void* source = values.data();
  if (type == DType::kBF16) {
    for (float value : values) narrow.push_back(RoundToBf16(value));
    source = narrow.data();
  }
  reference_.Upload(pair.reference.data, source, pair.reference.bytes());
  device_.Upload(pair.device.data, source, pair.device.bytes());
  return pair;
}

Pair Bench::Input(DType type, std::initializer_list<int64_t> shape, float scale) {
  return Input(type, shape, Normal(Tensor(nullptr, type, shape).size(), scale));
}

Pair Bench::Integers(std::initializer_list<int64_t> shape, const std::vector<int32_t>& values) {
  const Pair pair = Allocate(DType::kI32, DType::kI32, shape);
  reference_.Upload(pair.reference.data, values.data(), pair.reference.bytes());
  device_.Upload(pair.device.data, values.data(), pair.device.bytes());
  return pair;
}

Pair Bench::Output(DType type, std::initializer_list<int64_t> shape) {
  const Pair pair = Allocate(DType::kF32, type, shape);
  std::vector<float> values = Normal(pair.reference.size());
  std::vector<uint16_t> narrow;
  for (float& value : values) {
    narrow.push_back(RoundToBf16(value));
    if (type == DType::kBF16) value = FromBf16(narrow.back());
  }
  reference_.Upload(pair.reference.data, values.data(), pair.reference.bytes());
  device_.Upload(pair.device.data, type == DType::kBF16 ? static_cast<const void*>(narrow.data()) : values.data(),
                 pair.device.bytes());
  return pair;
}

std::pair<void*, void*> Bench::Raw(const void* value, size_t bytes) {
  void* reference = reference_.Allocate(bytes);
  reference_memory_.push_back(reference);
  void* device = device_.Allocate(bytes);
  device_memory_.push_back(device);
  reference_.Upload(reference, value, bytes);
  device_.Upload(device, value, bytes);
  return {reference, device};
}

std::vector<char> Bench::Bytes(const Tensor& tensor) const {
  std::vector<char> bytes(tensor.bytes());
  device_.Download(bytes.data(), tensor.data, bytes.size());
  return bytes;
}

void Bench::Run(const std::function<void(Backend&, bool)>& operation, const std::vector<Pair>& outputs) {
  std::vector<std::vector<char>> before, first;
  for (const Pair& pair : outputs) before.push_back(Bytes(pair.device));
  operation(reference_, false);
  operation(device_, true);
  for (const Pair& pair : outputs) first.push_back(Bytes(pair.device));
  for (size_t i = 0; i < outputs.size(); ++i) {
    device_.Upload(outputs[i].device.data, before[i].data(), before[i].size());
  }
  operation(device_, true);
  for (size_t i = 0; i < outputs.size(); ++i) {
    ExpectTrue("output " + std::to_string(i) + " has the same bits in a second run",
               Bytes(outputs[i].device) == first[i]);
  }
}

std::vector<float> Bench::Reference(const Pair& pair) const {
  const Tensor& tensor = pair.reference;
  std::vector<float> values(static_cast<size_t>(tensor.size()));
  for (size_t i = 0; i < values.size(); ++i) {
    values[i] = tensor.dtype == DType::kBF16 ? FromBf16(tensor.as<uint16_t>()[i]) : tensor.as<float>()[i];
  }
  return values;
}

std::vector<float> Bench::Device(const Pair& pair) const {
  const std::vector<char> bytes = Bytes(pair.device);
  std::vector<float> values(static_cast<size_t>(pair.device.size()));
  for (size_t i = 0; i < values.size(); ++i) {
    if (pair.device.dtype == DType::kBF16) {
      uint16_t narrow;
      std::memcpy(&narrow, bytes.data() + 2 * i, 2);
      values[i] = FromBf16(narrow);
    } else {
      std::memcpy(&values[i], bytes.data() + 4 * i, 4);
    }
  }
  return values;
}

void Bench::Expect(const std::string& what, const Pair& pair, Tolerance tolerance) {
  const std::vector<float> want = Reference(pair), got = Device(pair);
  double squares = 0;
  for (float x : want) squares += static_cast<double>(x) * x;
  const double rms = std::sqrt(squares / static_cast<double>(want.size()));
  size_t worst = 0;
  double worst_excess = 0;
  size_t wrong = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    const double error = std::abs(static_cast<double>(got[i]) - want[i]);
    const double excess = error / (tolerance.relative * std::abs(want[i]) + tolerance.of_rms * rms + 1e-30);
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

void Bench::ExpectTrue(const std::string& what, bool holds) {
  if (!holds) failures_.push_back("not so: " + what);
}

namespace {

int RunAll(const std::string& filter) {
  const std::unique_ptr<Backend> reference = MakeReferenceBackend(), device = MakeCudaBackend(0);
  const char* chosen = std::getenv("KOTODAMA_TEST_SEED");
  const uint32_t seed = chosen != nullptr ? static_cast<uint32_t>(std::strtoul(chosen, nullptr, 10)) : 1;
  std::printf("TAP version 14\n# device %s, %s; seed %u (KOTODAMA_TEST_SEED)\n", device->Info().name.c_str(),
              device->Info().detail.c_str(), seed);
  std::vector<Case> cases = SmallCases();
  for (const auto& more : {GemmCases(), AttentionCases()}) cases.insert(cases.end(), more.begin(), more.end());
  int count = 0, failed = 0;
  for (const Case& test : cases) {
    if (test.name.find(filter) == std::string::npos) continue;
    const auto start = std::chrono::steady_clock::now();
    std::vector<std::string> failures;
    try {
      Bench bench(*reference, *device, seed);
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
