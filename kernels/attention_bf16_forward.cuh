#pragma once

#include <cmath>

#include "attention_bf16_tiles.cuh"

namespace kotodama::kernels {

// The last tile of keys, on the diagonal, is apart: the others need no mask.
template <int D, bool has_dropout>
__device__ __forceinline__ void AttentionForwardBf16(const AttentionParams& p) {
  using T = Tile<D, kTile>;
  extern __shared__ __align__(128) unsigned char shared_bytes[];
  const uint32_t q_tile = SharedAddress(shared_bytes);
  const Head head(p);
  const DropoutMask mask(p.dropout);
  const bf16* q = static_cast<const bf16*>(p.qkv) + head.qkv;
  // Later queries have more keys: they start first.
  const int tile = gridDim.y - 1 - blockIdx.y, first = tile * kTile;
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  KeyStream<D> keys(q_tile + T::kBytes, q, head, p);
  TileCopy<D, kTile>(q, head.stride, first, p.t, p.d).Next(q_tile);
  keys.Copy(0);

  RowFragments<D> queries(16 * warp);
  const FragmentReader<D> key_reader(false), value_reader(true);
  const float scale = p.scale * kLog2E;  // weights are powers of two
  const int row = first + 16 * warp + lane / 4;
  float out[D / 8][4] = {};
  float max_low = -INFINITY, max_high = -INFINITY, sum_low = 0, sum_high = 0;
  const auto attend = [&](int j, auto diagonal) {
    float s[kTile / 8][4];
    MultiplyRows<D, kTile>(s, queries, keys.Keys(j), key_reader);
    if constexpr (decltype(diagonal)::value) MaskRows<kTile>(s, 16 * warp + lane / 4, -INFINITY);
    float top_low = max_low, top_high = max_high;
#pragma unroll
    for (int n = 0; n < kTile / 8; ++n) {
      top_low = fmaxf(top_low, fmaxf(s[n][0], s[n][1]));
      top_high = fmaxf(top_high, fmaxf(s[n][2], s[n][3]));
    }
    // Every query sees key 0 in the first tile, so the maxima are finite.
    top_low = QuadMax(top_low);
    top_high = QuadMax(top_high);
    // The maxima only keep the weights in range, so that they may lag: by at most a factor of 2^8 in a weight, which
    // bf16 holds as exactly as one below 1 (the rule of FlashAttention-4). Rarely does one grow more.
    const bool grew = (top_low - max_low) * scale > kMostGrowth || (top_high - max_high) * scale > kMostGrowth;
    if (__any_sync(kAllLanes, grew)) {
      const float shrink_low = Exp2((max_low - top_low) * scale), shrink_high = Exp2((max_high - top_high) * scale);
      max_low = top_low;
      max_high = top_high;
      sum_low *= shrink_low;
      sum_high *= shrink_high;
#pragma unroll
      for (int n = 0; n < D / 8; ++n) {
        out[n][0] *= shrink_low;
        out[n][1] *= shrink_low;
        out[n][2] *= shrink_high;
        out[n][3] *= shrink_high;
      }
    }
    const float shift_low = max_low * scale, shift_high = max_high * scale;
#pragma unroll
    for (int n = 0; n < kTile / 8; ++n) {
      s[n][0] = Exp2(fmaf(s[n][0], scale, -shift_low));
      s[n][1] = Exp2(fmaf(s[n][1], scale, -shift_low));
      s[n][2] = Exp2(fmaf(s[n][2], scale, -shift_high));
      s[n][3] = Exp2(fmaf(s[n][3], scale, -shift_high));
      sum_low += s[n][0] + s[n][1];
      sum_high += s[n][2] + s[n][3];
    }
    if constexpr (has_dropout) {
      const uint64_t index = (static_cast<uint64_t>(head.index) * p.t + row) * p.t + j * kTile + lane % 4 * 2;
      DropOut(s, mask, DroppedOfRows<kTile>(mask, p.t, index));
    }
    MultiplyWeights<D, kTile>(out, s, keys.Values(j), value_reader);
  };
  WaitCopies<0>();
  __syncthreads();
  queries.Keep(q_tile);
#pragma unroll 1
  for (int j = 0; j < tile; ++j) {
    keys.Copy(j + 1);
    attend(j, std::false_type{});
    WaitCopies<0>();
    __syncthreads();
  }
  attend(tile, std::true_type{});

  sum_low = QuadSum(sum_low);
  sum_high = QuadSum(sum_high);
  T::Stage(shared_bytes, out, 1.0f / sum_low, 1.0f / sum_high);
  __syncwarp();
  T::StoreRows(shared_bytes, static_cast<bf16*>(p.out) + head.out, head.c, first, p.t, p.d);
  if (lane % 4 == 0) {
    float* lse = p.lse + head.index * p.t;
    if (row < p.t) lse[row] = max_low * p.scale + logf(sum_low);
    if (row + 8 < p.t) lse[row + 8] = max_high * p.scale + logf(sum_high);
  }
}

}  // namespace kotodama::kernels
