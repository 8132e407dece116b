#pragma once

#include <memory>

#include "backend.h"

namespace kotodama {

// The backend that computes on this machine's processor. `threads`: how many may work at once, the caller's included;
// 0: the physical cores of the affinity mask within the control group's limit. Kernels are those of the best
// instruction set found at run time; KOTODAMA_CPU_ISA=portable|avx2|avx512|avx512bf16|amx, on arm64 portable|neon, can
// lower it.
// Throws Error(kOptions) on a negative `threads` or an unknown KOTODAMA_CPU_ISA.
std::unique_ptr<Backend> MakeCpuBackend(int threads);

}  // namespace kotodama
