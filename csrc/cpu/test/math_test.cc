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

// The bound that kernels/math-inl.h states, over every 37th float of the range.
TEST(Exp2Accuracy) {
  std::vector<float> x;
  for (uint32_t bits = 0x30000000; bits < 0x43180000; bits += 37) {
    float value;
    std::memcpy(&value, &bits, 4);
    x.push_back(-value);
    if (value < 0.5f) x.push_back(value);
  }
  std::vector<float> y(x.size());
  const cpu::Kernels& kernels = cpu::KernelsOf(cpu::ChooseIsa());
  kernels.exp2(y.data(), x.data(), static_cast<int64_t>(x.size()));
  for (size_t i = 0; i < x.size(); ++i) {
    const double exact = std::exp2(static_cast<double>(x[i]));
    if (exact < 1.2e-38) continue;
    CHECK(std::abs(y[i] - exact) <= 1.5 * Ulp(exact), x[i], y[i], exact, std::abs(y[i] - exact) / Ulp(exact));
  }
  const std::vector<float> limits = {0, -200, -INFINITY, NAN};
  std::vector<float> found(limits.size());
  kernels.exp2(found.data(), limits.data(), static_cast<int64_t>(limits.size()));
  CHECK(found[0] == 1 && found[1] == 0 && found[2] == 0, found[0], found[1], found[2]);
  CHECK(std::isnan(found[3]), found[3]);
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

Tensor SlopeOf(Device& device, const Tensor& x) {
  Gemm product;  // 1 times the slope
  product.m = x.shape[0];
  product.n = x.shape[1];
  product.k = 1;
  product.a = device.Put(std::vector<float>(product.m, 1), x.dtype, {product.m, 1});
  product.b = device.Put(std::vector<float>(product.n, 1), x.dtype, {1, product.n});
  product.c = device.Make(x.dtype, {product.m, product.n});
  product.aux = x;
  product.epilogue = Epilogue::kGeluBackward;
  device->Run(product);
  return product.c;
}

// The derivative likewise, counted against the two terms that cancel near its zero.
TEST(GeluSlopeAccuracyBFloat16) {
  const std::vector<float> x = AllBFloat16();
  Device device(2);
  const auto found = Device::Get(SlopeOf(device, device.Put(x, DType::kBF16, {64, 1024})));
  for (size_t i = 0; i < x.size(); ++i) {
    const double v = std::clamp<double>(x[i], -50, 50), u = 0.7978845608028653559 * (v + 0.044715 * v * v * v);
    const double gate = 1 / (1 + std::exp(-2 * u)), rest = 1 / (1 + std::exp(2 * u));
    const double term = v * gate * rest * 2 * 0.7978845608028653559 * (1 + 3 * 0.044715 * v * v);
    const double exact = gate + term, bound = 0.5 * UlpOfBFloat16(exact) + 2e-4 * (gate + std::abs(term)) + 1e-29;
    CHECK(std::abs(found[i] - exact) <= bound, x[i], found[i], exact, bound);
  }
}

TEST(GeluLimits) {
  const std::vector<float> x = {INFINITY, 1e30f, 40, 0, -0.0f, -40, -1e5f, -1e30f, -INFINITY, NAN};
  for (DType type : {DType::kF32, DType::kBF16}) {
    Device device(1);
    const Tensor source = device.Put(x, type, {1, 10}), target = device.Make(type, {1, 10});
    device->Gelu(target, source);
    const auto y = Device::Get(target), held = As(x, type);
    for (int i = 0; i < 5; ++i) CHECK(y[i] == held[i], x[i], y[i]);
    for (int i = 5; i < 9; ++i) CHECK(std::abs(y[i]) < 1e-29, x[i], y[i]);
    CHECK(std::isnan(y[9]), y[9]);

    const auto slope = Device::Get(SlopeOf(device, source));
    for (int i = 0; i < 3; ++i) CHECK(slope[i] == 1, x[i], slope[i]);
    for (int i = 3; i < 5; ++i) CHECK(slope[i] == 0.5f, x[i], slope[i]);
    for (int i = 5; i < 9; ++i) CHECK(std::abs(slope[i]) < 1e-29, x[i], slope[i]);
    CHECK(std::isnan(slope[9]), slope[9]);
  }
}

}  // namespace
}  // namespace kotodama::test
