#include "cpu/simd/portable.h"
//
#include "cpu/kernels/table-inl.h"

namespace kotodama::cpu {

const Kernels& PortableKernels() {
  static constexpr Kernels kKernels = MakeKernels();
  return kKernels;
}

}  // namespace kotodama::cpu
