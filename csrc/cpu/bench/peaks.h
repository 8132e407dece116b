#pragma once

#include <cstdint>

namespace kotodama::bench {

// Multiplies and adds in registers for about 0.3 ms and returns the rate in GFLOP/s, for the instruction set of this
// name; 0 where the loop is not written for it.
double MeasureF32Peak(const char* isa);
double MeasureBF16Peak(const char* isa);

// Reads `bytes` (a multiple of 1024) once, as fast as memory gives them; returns something that depends on all of them.
uint64_t ReadAll(const void* data, int64_t bytes);

}  // namespace kotodama::bench
