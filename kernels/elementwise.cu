#include "common.cuh"
#include "gelu.cuh"

// A thread owns four elements; the last one takes the rest. Arrays are aligned to four elements.

namespace kotodama::kernels {

template <typename To, typename From, typename F>
__device__ __forceinline__ void Map(const ElementwiseParams& p, F f) {
  const From* source = static_cast<const From*>(p.source);
  To* target = static_cast<To*>(p.target);
  const int64_t i = 4 * (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x);
  if (i + 4 <= p.n) {
    const float4 v = Load4(source + i);
    Store4(target + i, make_float4(f(v.x), f(v.y), f(v.z), f(v.w)));
    return;
  }
  for (int64_t j = i; j < p.n; ++j) target[j] = FromFloat<To>(f(ToFloat(source[j])));
}

}  // namespace kotodama::kernels

using namespace kotodama::kernels;

extern "C" __global__ void gelu_f32(const ElementwiseParams p) {
  Map<float, float>(p, [](float x) { return Gelu<float>(x); });
}
extern "C" __global__ void gelu_bf16(const ElementwiseParams p) {
  Map<bf16, bf16>(p, [](float x) { return Gelu<bf16>(x); });
}
extern "C" __global__ void cast_f32_to_bf16(const ElementwiseParams p) {
  Map<bf16, float>(p, [](float x) { return x; });
}
extern "C" __global__ void cast_bf16_to_f32(const ElementwiseParams p) {
  Map<float, bf16>(p, [](float x) { return x; });
}
