#include "simulator.h"

#include <dlfcn.h>

#include <cstdlib>

namespace kotodama::bench {

std::optional<Simulator> FindSimulator() {
  const char* chosen = std::getenv("KOTODAMA_CUDA_DRIVER");
  void* driver = dlopen(chosen != nullptr && chosen[0] != '\0' ? chosen : "libcuda.so.1", RTLD_NOW | RTLD_NOLOAD);
  if (driver == nullptr) return std::nullopt;
  Simulator simulator = {};
  const auto find = [&](auto& member, const char* name) {
    member = reinterpret_cast<std::remove_reference_t<decltype(member)>>(dlsym(driver, name));
    return member != nullptr;
  };
  const bool found = find(simulator.counters_json, "kotodama_sim_counters_json") &&
                     find(simulator.reset_counters, "kotodama_sim_reset_counters") &&
                     find(simulator.sample_blocks, "kotodama_sim_sample_blocks");
  dlclose(driver);  // it stays open where it was opened first
  if (!found) return std::nullopt;
  return simulator;
}

}  // namespace kotodama::bench
