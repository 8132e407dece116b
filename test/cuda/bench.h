#pragma once

#include <array>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "backend.h"

// A test bench for operations: every tensor exists three times, on the float64 reference, on the plain float32 backend
// and on the CUDA device, with the same contents. An operation runs on all of them; what the device wrote is compared.

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

enum class Side : uint8_t { kReference, kPlain, kDevice };
constexpr size_t kSides = 3;

// One tensor on all sides. The reference keeps results in fp32 even where the others store bf16.
struct Trio {
  std::array<Tensor, kSides> sides;
  const Tensor& on(Side side) const { return sides[static_cast<size_t>(side)]; }
};

// A plain struct on all sides.
template <typename T>
struct Structs {
  std::array<T*, kSides> sides;
  T* on(Side side) const { return sides[static_cast<size_t>(side)]; }
};

// What an operation under test is given: on(x) is x on the side that it runs on.
struct On {
  Side side;
  const Tensor& operator()(const Trio& tensor) const { return tensor.on(side); }
  template <typename T>
  T* operator()(const Structs<T>& structs) const {
    return structs.on(side);
  }
};

class Bench {
 public:
  using Operation = std::function<void(Backend&, const On&)>;

  Bench(std::array<Backend*, kSides> backends, uint32_t seed) : backends_(backends), random_(seed) {}
  ~Bench();
  Bench(const Bench&) = delete;
  Bench& operator=(const Bench&) = delete;

  std::mt19937& random() { return random_; }
  std::vector<float> Normal(int64_t count, float scale = 1);

  // An input: the same bits on all sides.
  Trio Input(DType type, std::initializer_list<int64_t> shape, const std::vector<float>& values);
  Trio Input(DType type, std::initializer_list<int64_t> shape, float scale = 1);
  Trio Integers(std::initializer_list<int64_t> shape, const std::vector<int32_t>& values);
  // An output with random contents before the operation.
  Trio Output(DType type, std::initializer_list<int64_t> shape);
  template <typename T>
  Structs<T> Struct(const T& value) {
    Structs<T> structs;
    for (size_t side = 0; side < kSides; ++side)
      structs.sides[side] = static_cast<T*>(Copy(side, &value, sizeof value));
    return structs;
  }

  // Runs the operation on every side, and on the device again, which must give the same bits. `outputs` are reset
  // before each run.
  void Run(const Operation& operation, const std::vector<Trio>& outputs);

  std::vector<float> Read(const Trio& tensor, Side side) const;

  // Records a failure when the device's tensor is further from the reference than the tolerance, element by element, or
  // than twice what the plain one is: flash-attention's rule, on the largest error and on the errors' root mean square.
  // `terms`: the size of what was added up, where the sums may be much smaller.
  void Expect(const std::string& what, const Trio& tensor, Tolerance tolerance, double terms = 0);
  void ExpectTrue(const std::string& what, bool holds);

  const std::vector<std::string>& failures() const { return failures_; }

 private:
  Backend& backend(size_t side) const { return *backends_[side]; }
  void* Copy(size_t side, const void* value, size_t bytes);
  Trio Copy(DType reference_type, DType type, std::initializer_list<int64_t> shape, const std::vector<float>& values);
  std::vector<char> DeviceBytes(const Trio& tensor) const;
  void ExpectNear(const std::string& what, const Trio& tensor, Tolerance tolerance);
  void ExpectTwice(const std::string& what, const Trio& tensor, double terms);

  std::array<Backend*, kSides> backends_;
  std::mt19937 random_;
  std::array<std::vector<void*>, kSides> memory_;
  std::vector<std::string> failures_;
};

struct Case {
  std::string name;
  std::function<void(Bench&)> run;
  bool only_by_name = false;  // run where a filter names it alone
};

std::vector<Case> SmallCases();
std::vector<Case> GemmCases();
std::vector<Case> AttentionCases();

inline const char* NameOf(DType type) {
  return type == DType::kBF16 ? "bf16" : "f32";
}

}  // namespace kotodama::test
