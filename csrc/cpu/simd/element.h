#pragma once

#include <cstdint>

namespace kotodama::cpu {

// A bfloat16 number as stored: the upper half of a float.
struct BF16 {
  uint16_t bits;
};

}  // namespace kotodama::cpu
