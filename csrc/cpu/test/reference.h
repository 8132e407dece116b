#pragma once

#include "check.h"

namespace kotodama::test {

// One Philox4x32-10 block, written from the paper, apart from the kernels' version.
std::array<uint32_t, 4> PhiloxReference(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key);

// The factor of one element, by the definition in backend.h.
double DropoutReference(const Dropout& dropout, uint64_t index);

}  // namespace kotodama::test
