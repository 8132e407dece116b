#pragma once

#include <cstdint>
#include <optional>

namespace kotodama::bench {

// What test/gpu-sim has beyond the driver API.
struct Simulator {
  const char* (*counters_json)();
  void (*reset_counters)();
  void (*sample_blocks)(uint32_t count);
};

// The simulator, if it is the driver that this process uses. Call it once a device is open.
std::optional<Simulator> FindSimulator();

}  // namespace kotodama::bench
