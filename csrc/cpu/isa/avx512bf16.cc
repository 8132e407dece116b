#include "cpu/simd/avx512.h"
//
#include "cpu/kernels/table-inl.h"

namespace kotodama::cpu {

const Kernels& Avx512Bf16Kernels() {
  static constexpr Kernels kKernels = MakeKernels();
  return kKernels;
}

}  // namespace kotodama::cpu
