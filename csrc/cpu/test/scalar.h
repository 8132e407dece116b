#pragma once

#include <cstdint>
#include <cstring>

#include "backend.h"

namespace kotodama::test {

inline float FromBF16(uint16_t bits) {
  const uint32_t wide = static_cast<uint32_t>(bits) << 16;
  float value;
  std::memcpy(&value, &wide, 4);
  return value;
}

// Rounds to nearest even; NaN stays NaN.
inline uint16_t ToBF16(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>(bits >> 16 | 0x40);
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

inline float LoadAt(const Tensor& tensor, int64_t index) {
  return tensor.dtype == DType::kBF16 ? FromBF16(tensor.as<uint16_t>()[index]) : tensor.as<float>()[index];
}

inline void StoreAt(const Tensor& tensor, int64_t index, float value) {
  if (tensor.dtype == DType::kBF16) {
    tensor.as<uint16_t>()[index] = ToBF16(value);
  } else {
    tensor.as<float>()[index] = value;
  }
}

}  // namespace kotodama::test
