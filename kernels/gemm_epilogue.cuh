#pragma once

#include "common.cuh"
#include "gelu.cuh"

// What happens to the elements of c after the sum over K; shared by the GEMM kernels and the reduction of split sums.

namespace kotodama::kernels {

// Finishes element (row, column) and stores it.
template <typename X>
__device__ __forceinline__ void FinishElement(const GemmParams& p, int row, int column, float value) {
  if (p.bias != nullptr) value += p.bias[column];
  X* aux = static_cast<X*>(p.aux) + static_cast<int64_t>(row) * p.n + column;
  if (p.epilogue == kEpilogueGelu) {
    // From the rounded number, so that Gelu of aux gives the same bits.
    *aux = FromFloat<X>(value);
    value = Gelu<X>(ToFloat(*aux));
  } else if (p.epilogue == kEpilogueGeluBackward) {
    value *= GeluDerivative<X>(ToFloat(*aux));
  }
  const int64_t target = row * p.ldc + column;
  if (p.c_is_float) {
    float* c = static_cast<float*>(p.c) + target;
    *c = p.accumulate ? *c + value : value;
  } else {
    static_cast<X*>(p.c)[target] = FromFloat<X>(value);
  }
}

// Finishes four neighbours of a row. Needs N and ldc in multiples of four and arrays aligned to four elements.
template <typename X>
__device__ __forceinline__ void FinishFour(const GemmParams& p, int row, int column, float4 v) {
  if (p.bias != nullptr) {
    const float4 bias = Load4(p.bias + column);
    v = make_float4(v.x + bias.x, v.y + bias.y, v.z + bias.z, v.w + bias.w);
  }
  X* aux = static_cast<X*>(p.aux) + static_cast<int64_t>(row) * p.n + column;
  if (p.epilogue == kEpilogueGelu) {
    v = make_float4(ToFloat(FromFloat<X>(v.x)), ToFloat(FromFloat<X>(v.y)), ToFloat(FromFloat<X>(v.z)),
                    ToFloat(FromFloat<X>(v.w)));
    Store4(aux, v);
    v = make_float4(Gelu<X>(v.x), Gelu<X>(v.y), Gelu<X>(v.z), Gelu<X>(v.w));
  } else if (p.epilogue == kEpilogueGeluBackward) {
    const float4 x = Load4(aux);
    v = make_float4(v.x * GeluDerivative<X>(x.x), v.y * GeluDerivative<X>(x.y), v.z * GeluDerivative<X>(x.z),
                    v.w * GeluDerivative<X>(x.w));
  }
  const int64_t target = row * p.ldc + column;
  if (p.c_is_float) {
    float* c = static_cast<float*>(p.c) + target;
    if (p.accumulate) {
      const float4 before = Load4(c);
      v = make_float4(before.x + v.x, before.y + v.y, before.z + v.z, before.w + v.w);
    }
    Store4(c, v);
  } else {
    Store4(static_cast<X*>(p.c) + target, v);
  }
}

// Stores four neighbours of a row, as far as they lie inside c: finished, or as one split's partial sum.
template <typename X>
__device__ __forceinline__ void StoreFour(const GemmParams& p, int split, int row, int column, float4 v) {
  if (row >= p.m || column >= p.n) return;
  if (p.partials != nullptr) {
    float* partial = p.partials + (static_cast<int64_t>(split) * p.m + row) * p.n + column;
    if (p.n % 4 == 0) {
      Store4(partial, v);
    } else {
      partial[0] = v.x;
      if (column + 1 < p.n) partial[1] = v.y;
      if (column + 2 < p.n) partial[2] = v.z;
      if (column + 3 < p.n) partial[3] = v.w;
    }
  } else if (p.n % 4 == 0 && p.ldc % 4 == 0) {
    FinishFour<X>(p, row, column, v);
  } else {
    if (column + 0 < p.n) FinishElement<X>(p, row, column + 0, v.x);
    if (column + 1 < p.n) FinishElement<X>(p, row, column + 1, v.y);
    if (column + 2 < p.n) FinishElement<X>(p, row, column + 2, v.z);
    if (column + 3 < p.n) FinishElement<X>(p, row, column + 3, v.w);
  }
}

}  // namespace kotodama::kernels
