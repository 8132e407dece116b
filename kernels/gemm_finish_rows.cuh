#pragma once

#include "gemm_epilogue.cuh"

// The end of a bf16 GEMM: rows of c that a warp has left in shared memory are finished and stored, eight elements a
// lane. What to do is chosen once a block, not for every element: blocks spend their last microseconds here, with few
// warps to hide behind, so each path is short and asks for what it reads before it needs it.

namespace kotodama::kernels {

enum class FinishKind { kPartials, kFloat, kBf16, kBf16Gelu, kBf16GeluBackward, kByElement };

__device__ __forceinline__ FinishKind FinishKindOf(const GemmParams& p) {
  if (p.n % 8 != 0 || p.ldc % 8 != 0) return FinishKind::kByElement;
  if (p.partials != nullptr) return FinishKind::kPartials;
  if (p.c_is_float) return p.epilogue == kEpilogueNone ? FinishKind::kFloat : FinishKind::kByElement;
  if (p.epilogue == kEpilogueGelu) return FinishKind::kBf16Gelu;
  return p.epilogue == kEpilogueGeluBackward ? FinishKind::kBf16GeluBackward : FinishKind::kBf16;
}

// ---- Eight neighbours of a row ----

struct Eight {
  float4 low, high;
};

__device__ __forceinline__ Eight LoadEight(const float* p) {
  return {Load4(p), Load4(p + 4)};
}
__device__ __forceinline__ void StoreEight(float* p, const Eight& v) {
  Store4(p, v.low);
  Store4(p + 4, v.high);
}
__device__ __forceinline__ Eight Unpack(uint4 v) {
  return {make_float4(LowFloat(v.x), HighFloat(v.x), LowFloat(v.y), HighFloat(v.y)),
          make_float4(LowFloat(v.z), HighFloat(v.z), LowFloat(v.w), HighFloat(v.w))};
}
__device__ __forceinline__ uint4 Pack(const Eight& v) {
  return make_uint4(PackBf16(v.low.x, v.low.y), PackBf16(v.low.z, v.low.w), PackBf16(v.high.x, v.high.y),
                    PackBf16(v.high.z, v.high.w));
}

template <typename F>
__device__ __forceinline__ float4 Combine(float4 a, float4 b, F f) {
  return make_float4(f(a.x, b.x), f(a.y, b.y), f(a.z, b.z), f(a.w, b.w));
}
template <typename F>
__device__ __forceinline__ Eight Combine(const Eight& a, const Eight& b, F f) {
  return {Combine(a.low, b.low, f), Combine(a.high, b.high, f)};
}
__device__ __forceinline__ Eight operator+(const Eight& a, const Eight& b) {
  return Combine(a, b, [](float x, float y) { return x + y; });
}

// ---- Rows ----

// A warp's rows of a tile of c, staged in shared memory.
struct StagedRows {
  const float* values;  // of the first row; the next one is `stride` floats further
  int stride;
  int row, column;  // of the first in c
  int split;
};

template <FinishKind kind, int Rows, int Columns>
__device__ __forceinline__ void FinishRowsOf(const GemmParams& p, const StagedRows& staged) {
  constexpr int kLanesPerRow = Columns / 8, kRowsAtOnce = kWarp / kLanesPerRow, kAhead = 4;
  static_assert(Rows % (kAhead * kRowsAtOnce) == 0, "rows go in groups");
  const int lane = threadIdx.x % kWarp, lane_row = lane / kLanesPerRow, lane_column = lane % kLanesPerRow * 8;
  const int column = staged.column + lane_column;
  if (column >= p.n) return;
  Eight bias = {};
  if (kind != FinishKind::kPartials && p.bias != nullptr) bias = LoadEight(p.bias + column);
  // Half of the lanes read their second four first, so that eight lanes together meet no bank twice.
  const bool second_first = lane & 4;
  const float* const source = staged.values + lane_row * staged.stride + lane_column;

#pragma unroll 1
  for (int group = 0; group < Rows; group += kAhead * kRowsAtOnce) {
    const int row = staged.row + group + lane_row;
    const int64_t target = row * p.ldc + column;
    const int64_t dense = (kind == FinishKind::kPartials ? static_cast<int64_t>(staged.split) * p.m : 0) * p.n +
                          static_cast<int64_t>(row) * p.n + column;
    uint4 aux[kAhead] = {};
    Eight before[kAhead] = {};
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      const int step = i * kRowsAtOnce;
      if (row + step >= p.m) continue;
      if (kind == FinishKind::kBf16GeluBackward) {
        aux[i] = *reinterpret_cast<const uint4*>(static_cast<const bf16*>(p.aux) + dense + step * int64_t{p.n});
      }
      if (kind == FinishKind::kFloat && p.accumulate) {
        before[i] = LoadEight(static_cast<const float*>(p.c) + target + step * p.ldc);
      }
    }
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      const int step = i * kRowsAtOnce;
      const float* const values = source + (group + step) * staged.stride;
      const float4 first = Load4(values + (second_first ? 4 : 0)), second = Load4(values + (second_first ? 0 : 4));
      Eight v = second_first ? Eight{second, first} : Eight{first, second};
      if (row + step >= p.m) continue;
      if (kind == FinishKind::kPartials) {
        StoreEight(p.partials + dense + step * int64_t{p.n}, v);
        continue;
      }
      v = v + bias;
      if (kind == FinishKind::kFloat) {
        StoreEight(static_cast<float*>(p.c) + target + step * p.ldc, p.accumulate ? before[i] + v : v);
        continue;
      }
      if (kind == FinishKind::kBf16Gelu) {
        // From the rounded numbers, so that Gelu of aux gives the same bits.
        const uint4 rounded = Pack(v);
        *reinterpret_cast<uint4*>(static_cast<bf16*>(p.aux) + dense + step * int64_t{p.n}) = rounded;
        const Eight x = Unpack(rounded);
        v = Combine(x, x, [](float a, float) { return Gelu<bf16>(a); });
      }
      if (kind == FinishKind::kBf16GeluBackward) {
        v = Combine(v, Unpack(aux[i]), [](float a, float x) { return a * GeluDerivative<bf16>(x); });
      }
      *reinterpret_cast<uint4*>(static_cast<bf16*>(p.c) + target + step * p.ldc) = Pack(v);
    }
  }
}

template <int Rows, int Columns>
__device__ __forceinline__ void FinishRows(const GemmParams& p, FinishKind kind, const StagedRows& staged) {
  switch (kind) {
    case FinishKind::kPartials:
      return FinishRowsOf<FinishKind::kPartials, Rows, Columns>(p, staged);
    case FinishKind::kFloat:
      return FinishRowsOf<FinishKind::kFloat, Rows, Columns>(p, staged);
    case FinishKind::kBf16:
      return FinishRowsOf<FinishKind::kBf16, Rows, Columns>(p, staged);
    case FinishKind::kBf16Gelu:
      return FinishRowsOf<FinishKind::kBf16Gelu, Rows, Columns>(p, staged);
    case FinishKind::kBf16GeluBackward:
      return FinishRowsOf<FinishKind::kBf16GeluBackward, Rows, Columns>(p, staged);
    case FinishKind::kByElement:
      break;
  }
  constexpr int kLanesPerRow = Columns / 4;
  const int lane = threadIdx.x % kWarp, column = lane % kLanesPerRow * 4;
#pragma unroll 1
  for (int r = lane / kLanesPerRow; r < Rows; r += kWarp / kLanesPerRow) {
    StoreFour<bf16>(p, staged.split, staged.row + r, staged.column + column,
                    Load4(staged.values + r * staged.stride + column));
  }
}

}  // namespace kotodama::kernels
