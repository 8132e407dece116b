// Counters per kernel name over the process's life, and their JSON.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "run.h"

namespace gpusim {

class Counters {
 public:
  void add(const Launch& launch, const Outcome& outcome);
  void reset() { kernels_.clear(); }
  std::string json() const;

 private:
  struct LoopCount {
    uint32_t first_line, last_line;
    uint64_t by_kind[static_cast<int>(Kind::kCount)] = {};
    uint64_t conflicts = 0;
  };
  struct KernelCount {
    uint64_t launches = 0, blocks = 0, blocks_run = 0, warps = 0, instructions = 0;
    double unlike = 0;  // see Outcome
    uint64_t by_kind[static_cast<int>(Kind::kCount)] = {};
    MemoryCounters memory;
    std::vector<LoopCount> loops;
    uint32_t threads = 0, static_shared = 0, most_dynamic_shared = 0, local_bytes = 0, live_registers = 0;
  };
  std::map<std::string, KernelCount> kernels_;
};

}  // namespace gpusim
