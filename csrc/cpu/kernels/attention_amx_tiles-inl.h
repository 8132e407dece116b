// Attention with tile registers, in bfloat16: what its two directions share.
//
// Scores are computed transposed: a row is a key, its 32 columns are queries. So every query has a lane of its own, and
// maxima, sums and corrections go lane by lane, with nothing to add up across a vector; and two rows of probabilities
// are just what the next product takes as two steps of its K.
#pragma once

#include "cpu/kernels/attention_tiles-inl.h"
#include "cpu/kernels/gemm_amx-inl.h"

#ifdef __AMX_BF16__

namespace kotodama::cpu {
namespace {

constexpr int64_t kBlock = kPanel * kPanel;  // floats of a product of two panels

// A head's positions and elements in panels of 32, one unit wide each.
struct PanelCounts {
  int64_t positions, elements;
  PanelCounts(int64_t t, int64_t d) : positions((t + kPanel - 1) / kPanel), elements((d + kPanel - 1) / kPanel) {}
};

inline char* TakeUnits(Carver* carver, int64_t units) {
  return carver->Take<char>(units * kUnitBytes / 4);
}

using PackFunction = void (*)(const void* source, int64_t ld, bool along_k, int64_t k, int64_t count, void* out);
constexpr PackFunction kPackA = PackPanel<UnitOfA, UnitOfTransposedA>, kPackB = PackPanel<UnitOfTransposedB, UnitOfB>;

// (positions, d) as panels of 32 positions; the products sum over d.
inline void PackPositions(PackFunction pack, Row source, int64_t ld, int64_t positions, int64_t d, char* out) {
  const int64_t units = PanelCounts(positions, d).elements;
  for (int64_t at = 0; at < positions; at += kPanel, out += units * kUnitBytes) {
    pack(At(source, at * ld).data, ld, /*along_k=*/true, d, positions - at, out);
  }
}

// The same as panels of 32 elements of d, `stride` units apart; the products sum over positions.
inline void PackElements(PackFunction pack, Row source, int64_t ld, int64_t positions, int64_t d, int64_t stride,
                         char* out) {
  for (int64_t at = 0; at < d; at += kPanel, out += stride * kUnitBytes) {
    pack(At(source, at).data, ld, /*along_k=*/false, positions, d - at, out);
  }
}

// 16 columns of one row after the other 16 of it, in bfloat16: a row of a unit of a.
inline void StoreRowOfA(char* out, F32 left, F32 right) {
  _mm512_storeu_si512(out, TwoToBits16(left, right));
}

// 16 columns of two rows: half a step of a unit of b.
inline void StoreStepOfB(char* out, F32 first, F32 second) {
  const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21,
                                         5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
  const __m512i both = TwoToBits16(first, second);
  _mm512_storeu_si512(out, _mm512_permutexvar_epi16(order, both));
}

// Of a block on the diagonal, lanes of queries before the key `row`: how many of the 16 from `column`.
inline int LanesBefore(int row, int column) {
  const int lanes = row - column;
  return lanes < 0 ? 0 : lanes > kWidth ? kWidth : lanes;
}

// Dropout's factors of a block, transposed like the scores.
inline void FillDropoutBlock(const AttentionHead& head, int64_t query, int64_t key, float* out) {
  float rows[kPanel][kPanel];
  for (int r = 0; r < kPanel; ++r) {
    FillDropout(head.dropout, head.first_element + (query + r) * head.t + key, kPanel, rows[r]);
  }
  for (int r = 0; r < kPanel; r += kWidth) {
    for (int c = 0; c < kPanel; c += kWidth) {
      F32 square[kWidth];
      for (int i = 0; i < kWidth; ++i) square[i] = Load(rows[r + i] + c);
      Transpose(square);
      for (int i = 0; i < kWidth; ++i) Store(out + (c + i) * kPanel + r, square[i]);
    }
  }
}

// block (d, 32 positions), of which the first `elements` and `positions` count, times the factors of the positions,
// into rows of target.
inline void StoreTransposed(const float* block, int64_t elements, int64_t positions, const F32 (&factors)[2],
                            Row target, int64_t ld) {
  for (int64_t half = 0; half * kWidth < positions; ++half) {
    for (int64_t j = 0; j < elements; j += kWidth) {
      const int n = static_cast<int>(elements - j < kWidth ? elements - j : kWidth);
      F32 square[kWidth];
      for (int i = 0; i < kWidth; ++i) square[i] = Load(block + (j + i) * kPanel + half * kWidth) * factors[half];
      Transpose(square);
      for (int i = 0; i < kWidth && half * kWidth + i < positions; ++i) {
        StoreRow(target, (half * kWidth + i) * ld + j, square[i], n);
      }
    }
  }
}

}  // namespace
}  // namespace kotodama::cpu

#endif
