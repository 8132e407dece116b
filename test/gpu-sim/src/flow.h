// Control flow, liveness and register places of a kernel.
#pragma once

#include <vector>

#include "decoder.h"
#include "ir.h"

namespace gpusim {

/// Turns a draft into an unconditional (or guarded) jump.
void decode_jump(Draft* d);

/// Fills in branch targets, reconvergence points (immediate post-dominators), loops and register places.
void build_code(std::vector<Draft>& drafts, const std::vector<int>& register_bytes, Kernel* kernel);

}  // namespace gpusim
