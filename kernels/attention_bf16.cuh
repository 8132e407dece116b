#pragma once

#include <cmath>

#include "attention_head.cuh"
#include "mma.cuh"

// Flash attention on tensor cores (Dao 2023, "FlashAttention-2"), forward and backward: tiles of 64 queries by 64 keys,
// four warps of 16 rows each. D is the head size rounded up to a multiple of 32; the true one, p.d, is a multiple of 8.

namespace kotodama::kernels {

constexpr int kTile = 64;
constexpr float kMostGrowth = 8;  // of a row's maximum until its sums are scaled anew, as a power of two
constexpr int kAttentionThreads = 128;

// A tile of `Rows` positions by D in shared memory.
template <int D, int Rows>
struct Tile {
  static constexpr int kChunks = D / 8;
  static constexpr uint32_t kBytes = Rows * D * 2;

  // Stores this warp's 16 rows of results, staged in its rows of the tile, as rows of 16-byte pieces.
  static __device__ __forceinline__ void StoreRows(const unsigned char* tile, bf16* target, int64_t stride, int first,
                                                   int t, int d) {
    const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
#pragma unroll
    for (int i = 0; i < 16 * kChunks / kWarp; ++i) {
      const int piece = lane + i * kWarp, row = 16 * warp + piece / kChunks, chunk = piece % kChunks;
      const uint4 v = *reinterpret_cast<const uint4*>(tile + SwizzledOffset<kChunks>(row, chunk));
      if (first + row < t && 8 * chunk < d) {
        *reinterpret_cast<uint4*>(target + (first + row) * stride + 8 * chunk) = v;
      }
    }
  }

  // Puts the accumulators of 16 rows by D, times the factors of rows g and g + 8, into this warp's rows of the tile.
  static __device__ __forceinline__ void Stage(unsigned char* tile, const float (&c)[D / 8][4], float low, float high) {
    const int lane = threadIdx.x % kWarp, row = 16 * (threadIdx.x / kWarp) + lane / 4;
    __syncwarp();  // other lanes have read what was in these rows
#pragma unroll
    for (int j = 0; j < D / 8; ++j) {
      const int inner = lane % 4 * 4;
      *reinterpret_cast<uint32_t*>(tile + SwizzledOffset<kChunks>(row, j) + inner) =
          PackBf16(c[j][0] * low, c[j][1] * low);
      *reinterpret_cast<uint32_t*>(tile + SwizzledOffset<kChunks>(row + 8, j) + inner) =
          PackBf16(c[j][2] * high, c[j][3] * high);
    }
  }
};

// Copies tiles of `Rows` positions one after the other. Positions from t on and columns from d on become zeros.
template <int D, int Rows>
class TileCopy {
 public:
  __device__ __forceinline__ TileCopy(const bf16* source, int64_t stride, int first, int t, int d) {
    const int row = threadIdx.x / kChunks, chunk = threadIdx.x % kChunks;
    source_ = source + (first + row) * stride + 8 * chunk;
    step_ = static_cast<uint32_t>(kRowStep * stride * 2);
    target_ = SwizzledOffset<kChunks>(row, chunk);
    left_ = t - first - row;
    bytes_ = 8 * chunk < d ? 16 : 0;
  }

  __device__ __forceinline__ void Next(uint32_t tile) {
    if (kActive < kAttentionThreads && threadIdx.x >= kActive) return;
    tile += target_;
    Unroll<kCopies>([&](auto index) {
      constexpr int i = decltype(index)::value;
      // The swizzle repeats every eight rows, so the target moves by whole steps.
      CopyAsync16<i * kStepBytes>(tile, Advance<i>(source_, step_), i * kRowStep < left_ ? bytes_ : 0);
    });
    source_ = Advance<kCopies>(source_, step_);
    left_ -= Rows;
  }

 private:
  static constexpr int kChunks = D / 8;
  static constexpr int kRowStep = kChunks == 12 ? 8 : kAttentionThreads / kChunks;  // rows that are copied at a time
  static constexpr int kActive = kRowStep * kChunks, kCopies = Rows / kRowStep;
  static constexpr int kStepBytes = kRowStep * kChunks * 16;
  static_assert(Rows % kRowStep == 0 && kRowStep % 8 == 0, "whole steps");

  int left_;  // positions from this thread's first row of the next tile to the end
  const bf16* source_;
  uint32_t step_;  // bytes
  uint32_t target_;
  int bytes_;
};

// Addresses for ldmatrix within tiles of D columns.
template <int D>
class FragmentReader {
 public:
  static constexpr int kRowBlock = 16 * D * 2;  // bytes from 16 rows to the next

  // `rows_first`: the matrices go down the tile's rows first (A, and B stored K by N), else along its columns first
  // (B stored N by K).
  __device__ __forceinline__ explicit FragmentReader(bool rows_first, int first_row = 0) {
    const int lane = threadIdx.x % kWarp, low = lane / 8 % 2, high = lane / 16;
    const int row = first_row + lane % 8 + 8 * (rows_first ? low : high);
#pragma unroll
    for (int i = 0; i < D / 16; ++i) {
      // Chunks that are permuted by exclusive or move by exclusive or.
      const int chunk = Swizzle<D / 8>(row, rows_first ? high : low) ^ (2 * i);
      offsets_[i] = static_cast<uint32_t>(row * D * 2 + chunk * 16);
    }
  }

  // The first 16 rows of the 16 columns `column`.
  __device__ __forceinline__ uint32_t At(uint32_t tile, int column) const {
    return tile + offsets_[column];
  }

 private:
  uint32_t offsets_[D / 16];
};

// 16 rows of a tile as A, D wide. Narrow ones stay in registers; wide ones would push the accumulators out.
template <int D>
class RowFragments {
 public:
  __device__ __forceinline__ explicit RowFragments(int first_row) : reader_(true, first_row) {}

  // Call once the tile has arrived.
  __device__ __forceinline__ void Keep(uint32_t tile) {
    tile_ = tile;
    if constexpr (kKept) {
#pragma unroll
      for (int k = 0; k < D / 16; ++k) LoadMatrices<0>(kept_[k], reader_.At(tile, k));
    }
  }
  __device__ __forceinline__ void Get(uint32_t (&a)[4], int k) const {
    if constexpr (kKept) {
#pragma unroll
      for (int i = 0; i < 4; ++i) a[i] = kept_[k][i];
    } else {
      LoadMatrices<0>(a, reader_.At(tile_, k));
    }
  }

 private:
  static constexpr bool kKept = D <= 64;
  FragmentReader<D> reader_;
  uint32_t tile_ = 0;
  uint32_t kept_[kKept ? D / 16 : 1][4];
};

// c = a b^T: b has `Rows` rows.
template <int D, int Rows>
__device__ __forceinline__ void MultiplyRows(float (&c)[Rows / 8][4], const RowFragments<D>& a_rows, uint32_t b_tile,
                                             const FragmentReader<D>& b_reader) {
#pragma unroll
  for (int k = 0; k < D / 16; ++k) {
    uint32_t a[4];
    a_rows.Get(a, k);
    const uint32_t column = b_reader.At(b_tile, k);
    Unroll<Rows / 16>([&](auto index) {
      constexpr int n = decltype(index)::value;
      uint32_t b[4];
      LoadMatrices<n * FragmentReader<D>::kRowBlock>(b, column);
      if (k == 0) {
        MmaFirst(c[2 * n], a, b[0], b[1]);
        MmaFirst(c[2 * n + 1], a, b[2], b[3]);
      } else {
        Mma(c[2 * n], a, b[0], b[1]);
        Mma(c[2 * n + 1], a, b[2], b[3]);
      }
    });
  }
}

// c += w b: w is 16 rows by `Rows` in accumulators, rounded to bf16; b has `Rows` rows, D wide.
template <int D, int Rows>
__device__ __forceinline__ void MultiplyWeights(float (&c)[D / 8][4], const float (&w)[Rows / 8][4], uint32_t b_tile,
                                                const FragmentReader<D>& b_reader) {
  uint32_t columns[D / 16];
#pragma unroll
  for (int n = 0; n < D / 16; ++n) columns[n] = b_reader.At(b_tile, n);
  Unroll<Rows / 16>([&](auto index) {
    constexpr int k = decltype(index)::value;
    const uint32_t a[4] = {PackBf16(w[2 * k][0], w[2 * k][1]), PackBf16(w[2 * k][2], w[2 * k][3]),
                           PackBf16(w[2 * k + 1][0], w[2 * k + 1][1]), PackBf16(w[2 * k + 1][2], w[2 * k + 1][3])};
#pragma unroll
    for (int n = 0; n < D / 16; ++n) {
      uint32_t b[4];
      LoadMatricesTransposed<k * FragmentReader<D>::kRowBlock>(b, columns[n]);
      Mma(c[2 * n], a, b[0], b[1]);
      Mma(c[2 * n + 1], a, b[2], b[3]);
    }
  });
}

// Sums and maxima over the four lanes that share a row of accumulators.
__device__ __forceinline__ float QuadSum(float x) {
  x += __shfl_xor_sync(kAllLanes, x, 1);
  return x + __shfl_xor_sync(kAllLanes, x, 2);
}
__device__ __forceinline__ float QuadMax(float x) {
  x = fmaxf(x, __shfl_xor_sync(kAllLanes, x, 1));
  return fmaxf(x, __shfl_xor_sync(kAllLanes, x, 2));
}

// ---- The diagonal tile: columns beyond their row, which is `row` for the elements 0 and 1 and 8 more for 2 and 3 ----

template <int Columns>
__device__ __forceinline__ void MaskRows(float (&c)[Columns / 8][4], int row, float value) {
  const int column = threadIdx.x % 4 * 2;
#pragma unroll
  for (int n = 0; n < Columns / 8; ++n) {
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      if (column + 8 * n + e % 2 > row + e / 2 * 8) c[n][e] = value;
    }
  }
}

// The same where rows are keys and columns are queries: rows beyond their column.
template <int Columns>
__device__ __forceinline__ void MaskColumns(float (&c)[Columns / 8][4], int row, float value) {
  const int column = threadIdx.x % 4 * 2;
#pragma unroll
  for (int n = 0; n < Columns / 8; ++n) {
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      if (row + e / 2 * 8 > column + 8 * n + e % 2) c[n][e] = value;
    }
  }
}

// ---- Dropout of a lane's accumulators: bit 4 n + e stands for element [n][e]. The random numbers come in groups of
// four neighbouring keys. Where rows of T start with a group, lanes that need the same groups draw one each and share
// them, a word of all n at a time. The loops stay loops, since the random numbers are long code. ----

// Accumulators whose rows are queries; `index` is of element [0][0].
template <int Columns>
__device__ __forceinline__ uint32_t DroppedOfRows(const DropoutMask& dropout, int t, uint64_t index) {
  uint32_t bits = 0;
  if (t % 4 != 0) {
#pragma unroll 1
    for (int n = 0; n < Columns / 8; ++n) {
      const uint32_t low = DroppedPair(dropout, index + 8 * n);
      const uint32_t high = DroppedPair(dropout, index + 8 * n + 8 * static_cast<uint64_t>(t));
      bits |= (low | high << 2) << (4 * n);
    }
    return bits;
  }
  // Two lanes share four keys: the even one draws for the low row, the odd one for the high row.
  const int lane = threadIdx.x % kWarp, half = lane % 2 * 2;
  const uint64_t group = (index - half + (half != 0 ? 8 * static_cast<uint64_t>(t) : 0)) / 4;
#pragma unroll 1
  for (int n = 0; n < Columns / 8; ++n) bits |= DroppedFour(dropout, group + 2 * n) << (4 * n);
  const uint32_t others = __shfl_xor_sync(kAllLanes, bits, 1);
  const uint32_t low = half == 0 ? bits : others, high = half == 0 ? others : bits;
  return (low >> half & 0x33333333u) | (high >> half & 0x33333333u) << 2;
}

// Accumulators whose columns are queries.
template <int Columns>
__device__ __forceinline__ uint32_t DroppedOfColumns(const DropoutMask& dropout, int t, uint64_t index) {
  uint32_t bits = 0;
  if (t % 4 != 0) {
#pragma unroll 1
    for (int i = 0; i < Columns / 2; ++i) {
      const uint64_t element = index + static_cast<uint64_t>(8 * (i / 4) + i % 2) * t + i % 4 / 2 * 8;
      bits |= (DropoutFactor(dropout, element) == 0.0f ? 1u : 0u) << i;
    }
    return bits;
  }
  // Four lanes share four keys: the one with key `own` draws for all elements [n][own].
  const int own = threadIdx.x / 4 % 4;
  const uint64_t group = (index - own + static_cast<uint64_t>(own % 2) * t + own / 2 * 8) / 4;
  uint32_t drawn = 0;
#pragma unroll 1
  for (int n = 0; n < Columns / 8; ++n) {
    drawn |= DroppedFour(dropout, group + static_cast<uint64_t>(2 * n) * t) << (4 * n);
  }
#pragma unroll
  for (int other = 0; other < 4; ++other) {
    const uint32_t theirs = other == 0 ? drawn : __shfl_xor_sync(kAllLanes, drawn, 4 * other);
    bits |= (theirs >> own & 0x11111111u) << (own ^ other);
  }
  return bits;
}

template <int Tiles>
__device__ __forceinline__ void DropOut(float (&c)[Tiles][4], const DropoutMask& dropout, uint32_t bits) {
#pragma unroll
  for (int n = 0; n < Tiles; ++n) {
#pragma unroll
    for (int e = 0; e < 4; ++e) c[n][e] = bits >> (4 * n + e) & 1 ? 0.0f : c[n][e] * dropout.scale;
  }
}

// ---- Forward ----

// The last tile of keys, on the diagonal, is apart: the others need no mask.
template <int D, bool has_dropout>
__device__ __forceinline__ void AttentionForwardBf16(const AttentionParams& p) {
  using T = Tile<D, kTile>;
  extern __shared__ __align__(1024) unsigned char shared_bytes[];
  const uint32_t q_tile = SharedAddress(shared_bytes), kv_tiles = q_tile + T::kBytes;
  const Head head(p);
  const DropoutMask mask(p.dropout);
  const bf16* q = static_cast<const bf16*>(p.qkv) + head.qkv;
  // Later queries have more keys: they start first.
  const int tile = gridDim.y - 1 - blockIdx.y, first = tile * kTile;
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  TileCopy<D, kTile> key_copy(q + head.c, head.stride, 0, p.t, p.d);
  TileCopy<D, kTile> value_copy(q + 2 * head.c, head.stride, 0, p.t, p.d);
  const auto copy_keys = [&](int j) {
    const uint32_t k_tile = kv_tiles + j % 2 * 2 * T::kBytes;
    key_copy.Next(k_tile);
    value_copy.Next(k_tile + T::kBytes);
    CommitCopies();
  };
  TileCopy<D, kTile>(q, head.stride, first, p.t, p.d).Next(q_tile);
  copy_keys(0);

  RowFragments<D> queries(16 * warp);
  const FragmentReader<D> key_reader(false), value_reader(true);
  const float scale = p.scale * kLog2E;  // weights are powers of two
  const int row = first + 16 * warp + lane / 4;
  float out[D / 8][4] = {};
  float max_low = -INFINITY, max_high = -INFINITY, sum_low = 0, sum_high = 0;
  const auto attend = [&](int j, auto diagonal) {
    const uint32_t k_tile = kv_tiles + j % 2 * 2 * T::kBytes;
    float s[kTile / 8][4];
    MultiplyRows<D, kTile>(s, queries, k_tile, key_reader);
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
    MultiplyWeights<D, kTile>(out, s, k_tile + T::kBytes, value_reader);
  };
  WaitCopies<0>();
  __syncthreads();
  queries.Keep(q_tile);
#pragma unroll 1
  for (int j = 0; j < tile; ++j) {
    copy_keys(j + 1);
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

// ---- Backward. With P the probabilities, dP = dout V^T and delta = sum(dout * out): dS = P * (dP - delta),
// dQ = dS K, dK = dS^T Q, dV = P^T dout. Two kernels, so that every sum has one owner and one order. ----

// A block owns 64 queries. Also writes delta for the other kernel.
template <int D, bool has_dropout>
__device__ __forceinline__ void AttentionBackwardQueriesBf16(const AttentionParams& p) {
  using T = Tile<D, kTile>;
  extern __shared__ __align__(1024) unsigned char shared_bytes[];
  const uint32_t q_tile = SharedAddress(shared_bytes), dout_tile = q_tile + T::kBytes,
                 kv_tiles = q_tile + 2 * T::kBytes;
  const Head head(p);
  const DropoutMask mask(p.dropout);
  const bf16* q = static_cast<const bf16*>(p.qkv) + head.qkv;
  const bf16* dout = static_cast<const bf16*>(p.dout) + head.out;
  const int tile = gridDim.y - 1 - blockIdx.y, first = tile * kTile;
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  TileCopy<D, kTile> key_copy(q + head.c, head.stride, 0, p.t, p.d);
  TileCopy<D, kTile> value_copy(q + 2 * head.c, head.stride, 0, p.t, p.d);
  const auto copy_keys = [&](int j) {
    const uint32_t k_tile = kv_tiles + j % 2 * 2 * T::kBytes;
    key_copy.Next(k_tile);
    value_copy.Next(k_tile + T::kBytes);
    CommitCopies();
  };
  TileCopy<D, kTile>(q, head.stride, first, p.t, p.d).Next(q_tile);
  TileCopy<D, kTile>(dout, head.c, first, p.t, p.d).Next(dout_tile);
  copy_keys(0);

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
    const uint32_t k_tile = kv_tiles + j % 2 * 2 * T::kBytes;
    float s[kTile / 8][4], dp[kTile / 8][4];
    MultiplyRows<D, kTile>(s, queries, k_tile, row_reader);
    MultiplyRows<D, kTile>(dp, douts, k_tile + T::kBytes, row_reader);
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
    MultiplyWeights<D, kTile>(dq, s, k_tile, column_reader);
  };
  WaitCopies<0>();
  __syncthreads();
  queries.Keep(q_tile);
  douts.Keep(dout_tile);
#pragma unroll 1
  for (int j = 0; j < tile; ++j) {
    copy_keys(j + 1);
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
  extern __shared__ __align__(1024) unsigned char shared_bytes[];
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
