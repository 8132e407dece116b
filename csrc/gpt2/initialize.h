#pragma once

#include <cstdint>
#include <vector>

#include "gpt2/config.h"
#include "gpt2/parameters.h"

namespace kotodama {

// The starting values of parameter number `index` of the table, (size). The same for the same seed on every machine and
// device: each element depends on seed, index and its own position alone. GPT-2's scheme (Radford et al. 2019).
std::vector<float> InitialValues(const Config& config, const Parameter& parameter, uint32_t index, uint64_t seed);

}  // namespace kotodama
