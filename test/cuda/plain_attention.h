#pragma once

#include "backend.h"

// Attention as an unfused program computes it: scores, probabilities and their gradients are whole matrices in the
// tensors' own type, sums are float32. Tensors are in the host's memory.

namespace kotodama::test {

void PlainAttention(const AttentionForward& op);
void PlainAttention(const AttentionBackward& op);

}  // namespace kotodama::test
