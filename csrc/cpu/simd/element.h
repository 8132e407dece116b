#pragma once

#include <cstdint>

namespace kotodama::cpu {

// A bfloat16 number as stored: the upper half of a float.
struct BF16 {
  uint16_t bits;
};

enum class Element : uint8_t { kF32, kBF16, kI8 };

// 1.5 * 2^23. Added to a float below 2^22 it rounds it to an integer, which the lowest bits of the sum hold.
constexpr float kShiftOfInteger = 12582912.0f;

}  // namespace kotodama::cpu
