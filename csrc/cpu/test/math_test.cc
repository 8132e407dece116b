#include <algorithm>
#include <cstring>

#include "check.h"
#include "cpu/kernels.h"
#include "cpu/machine.h"

namespace kotodama::test {
namespace {

double Ulp(double exact) {
  const float rounded = static_cast<float>(std::abs(exact));
  return std::max<double>(std::nextafter(rounded, INFINITY) - rounded, 1.4e-45);
}

// The bound that kernels/math-inl.h states, over every 499th float of the range.
TEST(ExpAccuracy) {
  std::vector<float> x;
  for (uint32_t bits = 0x30000000; bits < 0x42b00000; bits += 499) {
    float value;
    std::memcpy(&value, &bits, 4);
    x.push_back(value);
    x.push_back(-value);
  }
  std::vector<float> y(x.size());
  const cpu::Kernels& kernels = cpu::KernelsOf(cpu::ChooseIsa());
  kernels.exp(y.data(), x.data(), static_cast<int64_t>(x.size()));
  for (size_t i = 0; i < x.size(); ++i) {
    const double exact = std::exp(static_cast<double>(x[i]));
    if (exact < 1.2e-38) continue;
    CHECK(std::abs(y[i] - exact) <= 1.5 * Ulp(exact), x[i], y[i], exact, std::abs(y[i] - exact) / Ulp(exact));
  }
  const std::vector<float> limits = {0, -200, -INFINITY, 100, INFINITY, NAN};
  std::vector<float> found(limits.size());
  kernels.exp(found.data(), limits.data(), static_cast<int64_t>(limits.size()));
  CHECK(found[0] == 1 && found[1] == 0 && found[2] == 0 && found[3] == INFINITY && found[4] == INFINITY);
  CHECK(std::isnan(found[5]), found[5]);
}

// GELU over the floats of the useful range, every 997th of them: a few ulp of the result.
TEST(GeluAccuracy) {
  std::vector<float> x;
  for (uint32_t bits = 0x20000000; bits < 0x42000000; bits += 997) {
    float value;
    std::memcpy(&value, &bits, 4);
    x.push_back(value);
    x.push_back(-value);
  }
  const int64_t n = static_cast<int64_t>(x.size());
  Device device(2);
  const Tensor source = device.Put(x, DType::kF32, {n}), target = device.Make(DType::kF32, {n});
  device->Gelu(target, source);
  const float* found = target.as<float>();
  for (int64_t i = 0; i < n; ++i) {
    const double u = 0.7978845608028653559 * (x[i] + 0.044715 * std::pow(static_cast<double>(x[i]), 3));
    const double exact = x[i] / (1 + std::exp(-2 * u));
    if (std::abs(exact) < 1e-30) {
      CHECK(std::abs(found[i]) <= 1e-29, x[i], found[i]);
      continue;
    }
    // The exponent's own rounding grows with it.
    const double error = std::abs(found[i] - exact) / Ulp(exact) / (4 + std::abs(2 * u));
    CHECK(error <= 3, x[i], found[i], exact, error);
  }
}

// Every bfloat16 up to 1e5, as 64 rows; zeros for the others.
std::vector<float> AllBFloat16() {
  std::vector<float> x;
  for (uint32_t upper = 0; upper < 0x10000; ++upper) {
    const uint32_t bits = upper << 16;
    float value;
    std::memcpy(&value, &bits, 4);
    x.push_back(std::abs(value) < 1e5f ? value : 0);
  }
  return x;
}

double UlpOfBFloat16(double exact) {
  return std::ldexp(1.0, std::max(-126, std::ilogb(exact)) - 7);
}

// Results in bfloat16 come from shorter formulas: a twentieth of a unit in the last place beside the rounding's half.
TEST(GeluAccuracyBFloat16) {
  const std::vector<float> x = AllBFloat16();
  Device device(2);
  const Tensor source = device.Put(x, DType::kBF16, {64, 1024}), target = device.Make(DType::kBF16, {64, 1024});
  device->Gelu(target, source);
  const auto found = Device::Get(target);
  for (size_t i = 0; i < x.size(); ++i) {
    const double v = x[i], exact = v / (1 + std::exp(-2 * 0.7978845608028653559 * (v + 0.044715 * v * v * v)));
    CHECK(std::abs(found[i] - exact) <= std::max(0.55 * UlpOfBFloat16(exact), 1e-29), x[i], found[i], exact);
  }
}

// The derivative likewise, but at its zeros, where its terms cancel: those are near 1/2.
TEST(GeluSlopeAccuracyBFloat16) {
  const std::vector<float> x = AllBFloat16();
  Device device(2);
  Gemm product;  // 1 times the slope
  product.m = 64;
  product.n = 1024;
  product.k = 1;
  product.a = device.Put(std::vector<float>(64, 1), DType::kBF16, {64, 1});
  product.b = device.Put(std::vector<float>(1024, 1), DType::kBF16, {1, 1024});
  product.c = device.Make(DType::kBF16, {64, 1024});
  product.aux = device.Put(x, DType::kBF16, {64, 1024});
  product.epilogue = Epilogue::kGeluBackward;
  device->Run(product);
  const auto found = Device::Get(product.c);
  for (size_t i = 0; i < x.size(); ++i) {
    const double v = std::clamp<double>(x[i], -50, 50), u = 0.7978845608028653559 * (v + 0.044715 * v * v * v);
    const double gate = 1 / (1 + std::exp(-2 * u)), rest = 1 / (1 + std::exp(2 * u));
    const double exact = gate + v * gate * rest * 2 * 0.7978845608028653559 * (1 + 3 * 0.044715 * v * v);
    CHECK(std::abs(found[i] - exact) <= 0.55 * UlpOfBFloat16(exact) + 1.5e-4, x[i], found[i], exact);
  }
}

TEST(GeluLimits) {
  const std::vector<float> x = {INFINITY, 1e30f, 40, 0, -0.0f, -40, -1e5f};
  Device device(1);
  const Tensor source = device.Put(x, DType::kF32, {7}), target = device.Make(DType::kF32, {7});
  device->Gelu(target, source);
  const auto y = Device::Get(target);
  CHECK(y[0] == INFINITY && y[1] == 1e30f && y[2] == 40 && y[3] == 0 && y[4] == 0);
  CHECK(std::abs(y[5]) < 1e-29 && std::abs(y[6]) < 1e-29, y[5], y[6]);
}

}  // namespace
}  // namespace kotodama::test
