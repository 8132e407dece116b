#pragma once

#include <memory>

#include "backend.h"

namespace kotodama {

// Every operation written down as plainly as backend.h states it: one thread, float64 sums, no blocking. Far too slow
// to train with; it is the yardstick that the tests hold the real backends against.
std::unique_ptr<Backend> MakeReferenceBackend();

}  // namespace kotodama
