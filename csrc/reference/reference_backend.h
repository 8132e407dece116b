#pragma once

#include <memory>

#include "backend.h"

namespace kotodama {

// Every operation written down as plainly as backend.h states it: one thread, float64 sums, no blocking. Far too slow
// to train with; it is the yardstick that the tests hold the real backends against.
std::unique_ptr<Backend> MakeReferenceBackend();

// The same lines with all arithmetic in float32: what a plain program in the tensors' own precision computes. A device
// may be wrong by at most a small multiple of what this is.
std::unique_ptr<Backend> MakePlainBackend();

}  // namespace kotodama
