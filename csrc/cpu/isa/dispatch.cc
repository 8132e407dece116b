#include "cpu/kernels.h"
#include "cpu/machine.h"

namespace kotodama::cpu {

const Kernels& KernelsOf(Isa isa) {
  switch (isa) {
#ifdef __x86_64__
    case Isa::kAvx2:
      return Avx2Kernels();
    case Isa::kAvx512:
      return Avx512Kernels();
    case Isa::kAvx512Bf16:
      return Avx512Bf16Kernels();
#ifdef KOTODAMA_AMX
    case Isa::kAmx:
      return AmxKernels();
#endif
#endif
    default:
      return PortableKernels();
  }
}

}  // namespace kotodama::cpu
