// Runs a launch.
#pragma once

#include <string>
#include <vector>

#include "warp.h"

namespace gpusim {

/// What a launch did, or how it failed.
struct Outcome {
  int code = 0;                     // CUresult
  std::string report;               // why, if code is not 0
  std::vector<uint64_t> executed;   // per instruction: warps that issued it
  std::vector<uint64_t> conflicts;  // per instruction
  MemoryCounters memory;
  uint64_t blocks_run = 0;
  // The largest difference between two blocks of one row of the grid, as a share of the larger one's instructions.
  double unlike = 0;
};

/// Executes all blocks on `threads` host threads.
Outcome run_launch(const Launch& launch, int threads);

}  // namespace gpusim
