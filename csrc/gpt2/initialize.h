#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "gpt2/config.h"
#include "gpt2/parameters.h"

namespace kotodama {

// Gives `take` the starting values of parameter number `index` of the table, piece by piece, so that a large one does
// not need its memory twice: elements `first` and following. The same for the same seed on every machine and device:
// each element depends on seed, index and its own position alone. GPT-2's scheme (Radford et al. 2019).
void InitialValues(const Config& config, const Parameter& parameter, uint32_t index, uint64_t seed,
                   const std::function<void(int64_t first, const std::vector<float>& values)>& take);

}  // namespace kotodama
