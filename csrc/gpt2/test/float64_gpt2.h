#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "gpt2/config.h"

namespace kotodama {

// Parameters by Hugging Face's names.
using Float64Weights = std::unordered_map<std::string, std::vector<double>>;

// The mean loss of GPT-2 over the labels that are not ignored: a second, independent writing of the network in float64,
// position by position, so that its finite differences are derivatives to nine digits. No dropout.
double Float64Loss(const Config& config, const Float64Weights& weights, const std::vector<int32_t>& ids,
                   const std::vector<int32_t>& labels, int64_t b, int64_t t);

}  // namespace kotodama
