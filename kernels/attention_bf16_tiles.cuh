#pragma once

#include <cmath>

#include "attention_head.cuh"
#include "mma.cuh"

// Flash attention on tensor cores (Dao 2023, "FlashAttention-2"), what forward and backward share: tiles of 64 queries
// by 64 keys, four warps of 16 rows each. D is the head size rounded up to a multiple of 32; the true one, p.d, is a
// multiple of 8.

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

// Tiles of 64 keys with their values, one pair after the other, in two stages.
template <int D>
class KeyStream {
 public:
  __device__ __forceinline__ KeyStream(uint32_t tiles, const bf16* q, const Head& head, const AttentionParams& p)
      : tiles_(tiles), keys_(q + head.c, head.stride, 0, p.t, p.d), values_(q + 2 * head.c, head.stride, 0, p.t, p.d) {}

  __device__ __forceinline__ uint32_t Keys(int j) const { return tiles_ + j % 2 * 2 * Tile<D, kTile>::kBytes; }
  __device__ __forceinline__ uint32_t Values(int j) const { return Keys(j) + Tile<D, kTile>::kBytes; }
  // Begins to copy pair j, after all before it.
  __device__ __forceinline__ void Copy(int j) {
    keys_.Next(Keys(j));
    values_.Next(Values(j));
    CommitCopies();
  }

 private:
  uint32_t tiles_;
  TileCopy<D, kTile> keys_, values_;
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

}  // namespace kotodama::kernels
