#pragma once

#include <cmath>

#include "attention_bf16_tiles.cuh"

// The backward pass. With P the probabilities, dP = dout V^T and delta = sum(dout * out): dS = P * (dP - delta),
// dQ = dS K, dK = dS^T Q, dV = P^T dout. Two kernels, so that every sum has one owner and one order.

namespace kotodama::kernels {

// A block owns 64 queries. Also writes delta for the other kernel.
template <int D, bool has_dropout>
__device__ __forceinline__ void AttentionBackwardQueriesBf16(const AttentionParams& p) {
  using T = Tile<D, kTile>;
  extern __shared__ __align__(128) unsigned char shared_bytes[];
  const uint32_t q_tile = SharedAddress(shared_bytes), dout_tile = q_tile + T::kBytes;
  const Head head(p);
  const DropoutMask mask(p.dropout);
  const bf16* q = static_cast<const bf16*>(p.qkv) + head.qkv;
  const bf16* dout = static_cast<const bf16*>(p.dout) + head.out;
  const int tile = gridDim.y - 1 - blockIdx.y, first = tile * kTile;
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  KeyStream<D> keys(q_tile + 2 * T::kBytes, q, head, p);
  TileCopy<D, kTile>(q, head.stride, first, p.t, p.d).Next(q_tile);
  TileCopy<D, kTile>(dout, head.c, first, p.t, p.d).Next(dout_tile);
  keys.Copy(0);

  // Two lanes share a row of dout * out.
  float delta = 0;
  const int own = first + 16 * warp + lane / 2;
  if (own < p.t) {
    const bf16* a = dout + static_cast<int64_t>(own) * head.c;
    const bf16* b = static_cast<const bf16*>(p.out) + head.out + static_cast<int64_t>(own) * head.c;
    for (int d = lane % 2 * 8; d < p.d; d += 16) {
      const uint4 x = *reinterpret_cast<const uint4*>(a + d), y = *reinterpret_cast<const uint4*>(b + d);
      delta += LowFloat(x.x) * LowFloat(y.x) + HighFloat(x.x) * HighFloat(y.x);
      delta += LowFloat(x.y) * LowFloat(y.y) + HighFloat(x.y) * HighFloat(y.y);
      delta += LowFloat(x.z) * LowFloat(y.z) + HighFloat(x.z) * HighFloat(y.z);
      delta += LowFloat(x.w) * LowFloat(y.w) + HighFloat(x.w) * HighFloat(y.w);
    }
  }
  delta += __shfl_xor_sync(kAllLanes, delta, 1);
  if (lane % 2 == 0 && own < p.t) p.delta[head.index * p.t + own] = delta;
  const float delta_low = __shfl_sync(kAllLanes, delta, lane / 4 * 2);
  const float delta_high = __shfl_sync(kAllLanes, delta, lane / 4 * 2 + 16);

  RowFragments<D> queries(16 * warp), douts(16 * warp);
  const FragmentReader<D> row_reader(false), column_reader(true);
  const int row = first + 16 * warp + lane / 4;
  const float* lse = p.lse + head.index * p.t;
  const float shift_low = row < p.t ? lse[row] * kLog2E : 0, shift_high = row + 8 < p.t ? lse[row + 8] * kLog2E : 0;
  const float scale = p.scale * kLog2E;
  float dq[D / 8][4] = {};
  const auto attend = [&](int j, auto diagonal) {
    float s[kTile / 8][4], dp[kTile / 8][4];
    MultiplyRows<D, kTile>(s, queries, keys.Keys(j), row_reader);
    MultiplyRows<D, kTile>(dp, douts, keys.Values(j), row_reader);
    if constexpr (has_dropout) {
      const uint64_t index = (static_cast<uint64_t>(head.index) * p.t + row) * p.t + j * kTile + lane % 4 * 2;
      DropOut(dp, mask, DroppedOfRows<kTile>(mask, p.t, index));
    }
#pragma unroll
    for (int n = 0; n < kTile / 8; ++n) {
      s[n][0] = Exp2(fmaf(s[n][0], scale, -shift_low)) * (dp[n][0] - delta_low);
      s[n][1] = Exp2(fmaf(s[n][1], scale, -shift_low)) * (dp[n][1] - delta_low);
      s[n][2] = Exp2(fmaf(s[n][2], scale, -shift_high)) * (dp[n][2] - delta_high);
      s[n][3] = Exp2(fmaf(s[n][3], scale, -shift_high)) * (dp[n][3] - delta_high);
    }
    if constexpr (decltype(diagonal)::value) MaskRows<kTile>(s, 16 * warp + lane / 4, 0.0f);
    MultiplyWeights<D, kTile>(dq, s, keys.Keys(j), column_reader);
  };
  WaitCopies<0>();
  __syncthreads();
  queries.Keep(q_tile);
  douts.Keep(dout_tile);
#pragma unroll 1
  for (int j = 0; j < tile; ++j) {
    keys.Copy(j + 1);
    attend(j, std::false_type{});
    WaitCopies<0>();
    __syncthreads();
  }
  attend(tile, std::true_type{});
  T::Stage(shared_bytes, dq, p.scale, p.scale);
  __syncwarp();
  T::StoreRows(shared_bytes, static_cast<bf16*>(p.dqkv) + head.qkv, head.stride, first, p.t, p.d);
}

// A block owns 64 keys and their values; wide heads take fewer queries at a time, to stay within the registers.
template <int D, bool has_dropout>
__device__ __forceinline__ void AttentionBackwardKeysBf16(const AttentionParams& p) {
  constexpr int kQueries = D > 64 ? 32 : 64;
  using T = Tile<D, kTile>;
  using Q = Tile<D, kQueries>;
  constexpr uint32_t kRowBytes = kQueries * sizeof(float), kStageBytes = 2 * Q::kBytes + 2 * kRowBytes;
  extern __shared__ __align__(128) unsigned char shared_bytes[];
  const uint32_t k_tile = SharedAddress(shared_bytes), v_tile = k_tile + T::kBytes, stages = k_tile + 2 * T::kBytes;
  const Head head(p);
  const DropoutMask mask(p.dropout);
  const bf16* q = static_cast<const bf16*>(p.qkv) + head.qkv;
  const bf16* dout = static_cast<const bf16*>(p.dout) + head.out;
  const int first = blockIdx.y * kTile, steps = (p.t - first + kQueries - 1) / kQueries;
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  TileCopy<D, kQueries> query_copy(q, head.stride, first, p.t, p.d), dout_copy(dout, head.c, first, p.t, p.d);
  const auto copy_queries = [&](int i) {
    const uint32_t stage = stages + i % 2 * kStageBytes;
    const int query = first + i * kQueries;
    query_copy.Next(stage);
    dout_copy.Next(stage + Q::kBytes);
    if (threadIdx.x < kQueries) {
      const bool inside = query + threadIdx.x < p.t;
      const int64_t from = head.index * p.t + (inside ? query + threadIdx.x : 0);
      const uint32_t to = stage + 2 * Q::kBytes + threadIdx.x * 4;
      CopyAsync4(to, p.lse + from, inside ? 4 : 0);
      CopyAsync4(to + kRowBytes, p.delta + from, inside ? 4 : 0);
    }
    CommitCopies();
  };
  TileCopy<D, kTile>(q + head.c, head.stride, first, p.t, p.d).Next(k_tile);
  TileCopy<D, kTile>(q + 2 * head.c, head.stride, first, p.t, p.d).Next(v_tile);
  copy_queries(0);

  RowFragments<D> keys(16 * warp), values(16 * warp);
  const FragmentReader<D> row_reader(false), column_reader(true);
  const float scale = p.scale * kLog2E;
  float dk[D / 8][4] = {}, dv[D / 8][4] = {};
  const auto attend = [&](int i, auto diagonal) {
    const uint32_t q_tile = stages + i % 2 * kStageBytes, dout_tile = q_tile + Q::kBytes;
    const float* rows = reinterpret_cast<const float*>(shared_bytes + (q_tile - k_tile) + 2 * Q::kBytes) + lane % 4 * 2;
    float s[kQueries / 8][4];
    MultiplyRows<D, kQueries>(s, keys, q_tile, row_reader);
#pragma unroll
    for (int n = 0; n < kQueries / 8; ++n) {
      const float2 lse = *reinterpret_cast<const float2*>(rows + 8 * n);
      s[n][0] = Exp2(fmaf(s[n][0], scale, -lse.x * kLog2E));
      s[n][1] = Exp2(fmaf(s[n][1], scale, -lse.y * kLog2E));
      s[n][2] = Exp2(fmaf(s[n][2], scale, -lse.x * kLog2E));
      s[n][3] = Exp2(fmaf(s[n][3], scale, -lse.y * kLog2E));
    }
    if constexpr (decltype(diagonal)::value) {
      MaskColumns<kQueries>(s, 16 * warp + lane / 4 - i * kQueries, 0.0f);
    }
    float dp[kQueries / 8][4];
    MultiplyRows<D, kQueries>(dp, values, dout_tile, row_reader);
    if constexpr (has_dropout) {
      const int key = first + 16 * warp + lane / 4, query = first + i * kQueries + lane % 4 * 2;
      const uint64_t index = (static_cast<uint64_t>(head.index) * p.t + query) * p.t + key;
      const uint32_t bits = DroppedOfColumns<kQueries>(mask, p.t, index);
      float dropped[kQueries / 8][4];
#pragma unroll
      for (int n = 0; n < kQueries / 8; ++n) {
#pragma unroll
        for (int e = 0; e < 4; ++e) dropped[n][e] = s[n][e];
      }
      DropOut(dropped, mask, bits);
      DropOut(dp, mask, bits);
      MultiplyWeights<D, kQueries>(dv, dropped, dout_tile, column_reader);
    } else {
      MultiplyWeights<D, kQueries>(dv, s, dout_tile, column_reader);
    }
#pragma unroll
    for (int n = 0; n < kQueries / 8; ++n) {
      const float2 delta = *reinterpret_cast<const float2*>(rows + kQueries + 8 * n);
      s[n][0] *= dp[n][0] - delta.x;
      s[n][1] *= dp[n][1] - delta.y;
      s[n][2] *= dp[n][2] - delta.x;
      s[n][3] *= dp[n][3] - delta.y;
    }
    MultiplyWeights<D, kQueries>(dk, s, q_tile, column_reader);
  };
  // Each step ends with the next one's queries in place.
  const auto step = [&](int i, auto diagonal) {
    if (i + 1 < steps) copy_queries(i + 1);
    attend(i, diagonal);
    WaitCopies<0>();
    __syncthreads();
  };
  WaitCopies<0>();
  __syncthreads();
  keys.Keep(k_tile);
  values.Keep(v_tile);
  constexpr int kDiagonalSteps = kTile / kQueries;
#pragma unroll 1
  for (int i = 0; i < min(steps, kDiagonalSteps); ++i) step(i, std::true_type{});
#pragma unroll 1
  for (int i = kDiagonalSteps; i < steps; ++i) step(i, std::false_type{});
  T::Stage(shared_bytes, dk, p.scale, p.scale);
  T::Stage(shared_bytes + T::kBytes, dv, 1.0f, 1.0f);
  __syncwarp();
  bf16* target = static_cast<bf16*>(p.dqkv) + head.qkv;
  T::StoreRows(shared_bytes, target + head.c, head.stride, first, p.t, p.d);
  T::StoreRows(shared_bytes + T::kBytes, target + 2 * head.c, head.stride, first, p.t, p.d);
}

}  // namespace kotodama::kernels
