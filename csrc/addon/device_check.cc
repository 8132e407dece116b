#include "addon/device_check.h"

#include <cstdio>
#include <memory>
#include <vector>

#include "addon/devices.h"
#include "error.h"
#include "gpt2/device_buffer.h"

namespace kotodama {
namespace {

constexpr int64_t kSize = 64;  // what the tiled kernels take

// Whole numbers so small that both types hold them and the sums of their products exactly.
float Left(int64_t row, int64_t column) {
  return static_cast<float>((row + 2 * column) % 5 - 2);
}
float Right(int64_t row, int64_t column) {
  return static_cast<float>((3 * row + column) % 7 - 3);
}

Tensor Square(const DeviceBuffer& buffer, DType type) {
  return Tensor(buffer.data(), type, {kSize, kSize});
}

DeviceBuffer Matrix(Backend& backend, DType type, float (*value)(int64_t, int64_t)) {
  std::vector<float> values;
  for (int64_t i = 0; i < kSize; ++i) {
    for (int64_t j = 0; j < kSize; ++j) values.push_back(value(i, j));
  }
  DeviceBuffer wide(backend, values.size() * sizeof(float));
  backend.Upload(wide.data(), values.data(), wide.bytes());
  if (type == DType::kF32) return wide;
  DeviceBuffer narrow(backend, values.size() * SizeOf(type));
  backend.Cast(Square(narrow, type), Square(wide, DType::kF32));
  return narrow;
}

void CheckProduct(Backend& backend, DType type) {
  const DeviceBuffer a = Matrix(backend, type, Left), b = Matrix(backend, type, Right);
  const DeviceBuffer c(backend, kSize * kSize * sizeof(float));
  Gemm product;
  product.m = product.n = product.k = kSize;
  product.a = Square(a, type);
  product.b = Square(b, type);
  product.c = Square(c, DType::kF32);
  backend.Run(product);
  std::vector<float> found(kSize * kSize);
  backend.Download(found.data(), c.data(), c.bytes());

  for (int64_t i = 0; i < kSize; ++i) {
    for (int64_t j = 0; j < kSize; ++j) {
      float expected = 0;
      for (int64_t k = 0; k < kSize; ++k) expected += Left(i, k) * Right(k, j);
      const float value = found[static_cast<size_t>(i * kSize + j)];
      if (value == expected) continue;
      char text[128];
      std::snprintf(text, sizeof(text), "a product of %s matrices is wrong: expected %g, received %g at (%d, %d)",
                    type == DType::kF32 ? "fp32" : "bf16", static_cast<double>(expected), static_cast<double>(value),
                    static_cast<int>(i), static_cast<int>(j));
      throw Error(ErrorCode::kDevice, text);
    }
  }
}

}  // namespace

void CheckDevice(const std::string& device) {
  const std::unique_ptr<Backend> backend = MakeBackend(device, 1);
  CheckProduct(*backend, DType::kF32);
  if (backend->SupportsBF16()) CheckProduct(*backend, DType::kBF16);
}

}  // namespace kotodama
