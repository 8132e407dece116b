#pragma once

#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "backend.h"

// A test bench for operations: every tensor exists twice, on the float64 reference and on the CUDA device, with the
// same contents. An operation runs on both; what it wrote is compared.

namespace kotodama::test {

inline uint16_t RoundToBf16(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

inline float FromBf16(uint16_t value) {
  const uint32_t bits = static_cast<uint32_t>(value) << 16;
  float result;
  std::memcpy(&result, &bits, sizeof result);
  return result;
}

// How far a result may be from the reference: |got - want| <= relative * |want| + of_rms * (root mean square of want).
struct Tolerance {
  double relative = 0, of_rms = 0;
};

// Sums of about a thousand products in fp32; the same stored as bf16 (half a unit in the last of 8 bits, and as much
// again for what was rounded on the way).
constexpr Tolerance kFloat = {4e-6, 4e-6};
constexpr Tolerance kBf16 = {0.0045, 0.0045};

inline Tolerance ToleranceOf(DType type) {
  return type == DType::kBF16 ? kBf16 : kFloat;
}

// One tensor on both devices. The reference keeps results in fp32 even where the device stores bf16.
struct Pair {
  Tensor reference, device;
};

class Bench {
 public:
  Bench(Backend& reference, Backend& device, uint32_t seed) : reference_(reference), device_(device), random_(seed) {}
  ~Bench();
  Bench(const Bench&) = delete;
  Bench& operator=(const Bench&) = delete;

  std::mt19937& random() { return random_; }
  std::vector<float> Normal(int64_t count, float scale = 1);

  // An input: the same bits on both sides.
  Pair Input(DType type, std::initializer_list<int64_t> shape, const std::vector<float>& values);
  Pair Input(DType type, std::initializer_list<int64_t> shape, float scale = 1);
  Pair Integers(std::initializer_list<int64_t> shape, const std::vector<int32_t>& values);
  // An output with random contents before the operation.
  Pair Output(DType type, std::initializer_list<int64_t> shape);
  // `bytes` of a plain struct on both sides.
  std::pair<void*, void*> Raw(const void* value, size_t bytes);

  // Runs the operation on the reference, then twice on the device, which must give the same bits. `outputs` are reset
  // before each run.
  void Run(const std::function<void(Backend&, bool is_device)>& operation, const std::vector<Pair>& outputs);

  std::vector<float> Reference(const Pair& pair) const;
  std::vector<float> Device(const Pair& pair) const;

  // Records a failure when the tensor differs by more than the tolerance.
  void Expect(const std::string& what, const Pair& pair, Tolerance tolerance);
  void ExpectTrue(const std::string& what, bool holds);

  const std::vector<std::string>& failures() const { return failures_; }

 private:
  Pair Allocate(DType reference_type, DType type, std::initializer_list<int64_t> shape);
  std::vector<char> Bytes(const Tensor& tensor) const;

  Backend &reference_, &device_;
  std::mt19937 random_;
  std::vector<void*> reference_memory_, device_memory_;
  std::vector<std::string> failures_;
};

struct Case {
  std::string name;
  std::function<void(Bench&)> run;
};

std::vector<Case> SmallCases();
std::vector<Case> GemmCases();
std::vector<Case> AttentionCases();

inline const char* NameOf(DType type) {
  return type == DType::kBF16 ? "bf16" : "f32";
}

}  // namespace kotodama::test
