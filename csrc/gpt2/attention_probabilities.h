#pragma once

#include <cstdint>

#include "gpt2/activations.h"

namespace kotodama {

// What each position attends to, from what AttentionForward read and wrote, on the host: the probabilities
// exp(q k / sqrt(D) - lse) of one layer, 0 above the diagonal.
//
// qkv is (B, T, 3 H D), lse and probabilities are (B, H, T) and (B, H, T, T).
void AttentionProbabilities(BatchShape shape, int64_t heads, int64_t head_size, const float* qkv, const float* lse,
                            float* probabilities);

}  // namespace kotodama
