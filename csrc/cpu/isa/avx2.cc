#include "cpu/simd/avx2.h"
//
#include "cpu/kernels/table-inl.h"

namespace kotodama::cpu {

const Kernels& Avx2Kernels() {
  static constexpr Kernels kKernels = MakeKernels();
  return kKernels;
}

}  // namespace kotodama::cpu
