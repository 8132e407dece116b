#pragma once

#include "common.cuh"

namespace kotodama::kernels {

// gelu(x) = x / 2 (1 + tanh(u)) = x / (1 + exp(-2u)) with u = sqrt(2 / pi) (x + 0.044715 x^3) (Hendrycks and Gimpel
// 2016, the tanh form). Written with named roundings: the GEMM epilogue and the kernel that recomputes it must give the
// same bits whatever the compiler fuses around them.

constexpr float kGeluScale = 0.7978845608028654f;  // sqrt(2 / pi)
constexpr float kGeluCube = 0.044715f;

// 1 / (1 + exp(-2u))
template <typename X>
__device__ __forceinline__ float GeluGate(float x) {
  const float square = __fmul_rn(x, x);
  const float u = __fmul_rn(__fmul_rn(x, kGeluScale), __fmaf_rn(square, kGeluCube, 1.0f));
  return Reciprocal<X>(__fadd_rn(1.0f, Exp<X>(__fmul_rn(-2.0f, u))));
}

template <typename X>
__device__ __forceinline__ float Gelu(float x) {
  return __fmul_rn(x, GeluGate<X>(x));
}

// gelu'(x) = gate + x * gate * (1 - gate) * 2 u'(x)
template <typename X>
__device__ __forceinline__ float GeluDerivative(float x) {
  const float gate = GeluGate<X>(x);
  const float slope = 2.0f * kGeluScale * __fmaf_rn(3.0f * kGeluCube, __fmul_rn(x, x), 1.0f);
  return __fmaf_rn(__fmul_rn(x, slope), __fmul_rn(gate, 1.0f - gate), gate);
}

}  // namespace kotodama::kernels
