#pragma once

#include <cstdint>

namespace kotodama::bench {

// Multiplies and adds in registers for about 0.3 ms and returns the rate in GFLOP/s, for the instruction set of this
// name; 0 where the loop is not written for it.
double MeasureF32Peak(const char* isa);
double MeasureBF16Peak(const char* isa);

}  // namespace kotodama::bench
