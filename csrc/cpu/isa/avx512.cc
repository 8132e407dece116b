#include "cpu/simd/avx512.h"
//
#include "cpu/kernels/table-inl.h"

namespace kotodama::cpu {

const Kernels& Avx512Kernels() {
  static constexpr Kernels kKernels = MakeKernels();
  return kKernels;
}

}  // namespace kotodama::cpu
