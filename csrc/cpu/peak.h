#pragma once

#include "cpu/machine.h"
#include "cpu/thread_pool.h"
#include "tensor.h"

namespace kotodama::cpu {

// The FLOP/s at which all threads of the pool together multiply and add in registers, with the instructions that the
// kernels of this set have for this type (kF32 or kBF16): the best of `rounds` of about 0.2 ms, each timed by the
// processor's time of its thread, or by the clock where that time is counted in ticks longer than a loop. 0 for an
// instruction set that no such loop is written for.
double PeakFlops(ThreadPool& pool, Isa isa, DType type, int rounds);

}  // namespace kotodama::cpu
