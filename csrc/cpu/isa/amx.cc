#include "cpu/simd/avx512.h"
//
#include "cpu/kernels/table-inl.h"

namespace kotodama::cpu {

const Kernels& AmxKernels() {
  static constexpr Kernels kKernels = MakeKernels();
  return kKernels;
}

}  // namespace kotodama::cpu
