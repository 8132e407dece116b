// Attention's gradient with tile registers: one head of one sequence. Probabilities are computed again from lse.
#pragma once

#include "cpu/kernels/attention_amx_tiles-inl.h"

#ifdef __AMX_BF16__

namespace kotodama::cpu {
namespace {

constexpr int64_t kTilePanels = 4;  // of keys, and of queries, in a tile

// One block of probabilities p and of ds, the gradient of the scores before they are scaled, each in the layouts that
// the products want.
struct GradientBlock {
  const float* scores;          // (keys, queries)
  const float* dprobabilities;  // likewise
  const float* factors;         // dropout's, likewise, or null
  bool diagonal;
  char* p_rows;    // a: rows are keys
  char* ds_rows;   // a: rows are keys
  char* ds_steps;  // b: columns are queries
};

// negative_lse (in powers of 2) and delta are those of the block's queries.
inline void ComputeGradientBlock(const GradientBlock& block, F32 scale, const float* negative_lse, const float* delta) {
  const F32 lse[2] = {Load(negative_lse), Load(negative_lse + kWidth)};
  const F32 deltas[2] = {Load(delta), Load(delta + kWidth)};
  for (int r = 0; r < kPanel; r += 2) {
    F32 p[2][2], ds[2][2];  // of row r + i and half h
    for (int i = 0; i < 2; ++i) {
      for (int h = 0; h < 2; ++h) {
        const int64_t at = (r + i) * kPanel + h * kWidth;
        F32 probability = Exp2(Fma(Load(block.scores + at), scale, lse[h]));
        if (block.diagonal) probability = SelectFirst(LanesBefore(r + i, h * kWidth), Set(0.0f), probability);
        F32 gradient = Load(block.dprobabilities + at);
        p[i][h] = probability;
        if (block.factors != nullptr) {
          const F32 factor = Load(block.factors + at);
          p[i][h] = probability * factor;
          gradient = gradient * factor;
        }
        ds[i][h] = probability * (gradient - deltas[h]);
      }
      StoreRowOfA(block.p_rows + (r + i) * 64, p[i][0], p[i][1]);
      StoreRowOfA(block.ds_rows + (r + i) * 64, ds[i][0], ds[i][1]);
    }
    for (int h = 0; h < 2; ++h) StoreStepOfB(block.ds_steps + r * 64 + h * 64, ds[0][h], ds[1][h]);
  }
}

int64_t AttentionBackwardTiles(const AttentionHead& head, Carver carver) {
  const PanelCounts panels(head.t, head.d);
  const int64_t units = panels.positions * panels.elements;
  // For the scores, sums over d: rows are keys, columns are queries.
  char* keys = TakeUnits(&carver, units);
  char* values = TakeUnits(&carver, units);
  char* queries = TakeUnits(&carver, units);
  char* douts = TakeUnits(&carver, units);
  // For the gradients, sums over positions.
  char* keys_t = TakeUnits(&carver, units);  // a: rows are elements
  char* queries_by_d = TakeUnits(&carver, units);
  char* douts_by_d = TakeUnits(&carver, units);
  char* p_rows = TakeUnits(&carver, kTilePanels * kTilePanels);    // (keys, queries)
  char* ds_rows = TakeUnits(&carver, kTilePanels * kTilePanels);   // (keys, queries)
  char* ds_steps = TakeUnits(&carver, kTilePanels * kTilePanels);  // (queries, keys)
  float* scores = carver.Take(2 * kBlock);                         // two blocks take turns
  float* dprobabilities = carver.Take(2 * kBlock);
  float* factors = carver.Take(kBlock);
  float* dq = carver.Take(units * kBlock);                          // of each panel of queries (d, 32)
  float* dk = carver.Take(kTilePanels * panels.elements * kBlock);  // (keys, d)
  float* dv = carver.Take(kTilePanels * panels.elements * kBlock);
  float* delta = carver.Take(panels.positions * kPanel);
  float* negative_lse = carver.Take(panels.positions * kPanel);
  if (carver.base == nullptr) return carver.used;

  const int64_t t = head.t, d = head.d, ld = 3 * head.c, d_padded = panels.elements * kPanel;
  const Row k = At(head.qkv, head.c), v = At(head.qkv, 2 * head.c);
  PackPositions(kPackA, k, ld, t, d, keys);
  PackPositions(kPackA, v, ld, t, d, values);
  PackPositions(kPackB, head.qkv, ld, t, d, queries);
  PackPositions(kPackB, head.dout, head.c, t, d, douts);
  PackElements(kPackA, k, ld, t, d, panels.positions, keys_t);
  PackElements(kPackB, head.qkv, ld, t, d, panels.positions, queries_by_d);
  PackElements(kPackB, head.dout, head.c, t, d, panels.positions, douts_by_d);
  for (int64_t q = 0; q < panels.positions * kPanel; ++q) {
    // Queries behind the last one have probabilities of zero.
    negative_lse[q] = q < t ? -head.lse[q] * kLog2E : -__builtin_inff();
    delta[q] = q >= t ? 0 : SumOver(d, [&](int64_t j, int n) {
      return LoadRow(head.dout, q * head.c + j, n) * LoadRow(head.out, q * head.c + j, n);
    });
  }
  const float scale = 1.0f / __builtin_sqrtf(static_cast<float>(d));
  const F32 score_scale = Set(scale * kLog2E);
  const int64_t row = panels.elements * kUnitBytes;  // of a panel of positions

  StartTiles();
  for (int64_t j0 = 0; j0 < panels.positions; j0 += kTilePanels) {
    const int64_t j1 = j0 + kTilePanels < panels.positions ? j0 + kTilePanels : panels.positions;
    for (int64_t i0 = j0; i0 < panels.positions; i0 += kTilePanels) {
      const int64_t i1 = i0 + kTilePanels < panels.positions ? i0 + kTilePanels : panels.positions;
      // The next block is multiplied before the exponentials of the one at hand, so that the processor works on both.
      const auto multiply = [&](int64_t i, int64_t j, int turn) {
        MultiplyPanels(keys + j * row, queries + i * row, panels.elements, nullptr, 0, scores + turn * kBlock, kPanel);
        MultiplyPanels(values + j * row, douts + i * row, panels.elements, nullptr, 0, dprobabilities + turn * kBlock,
                       kPanel);
      };
      int turn = 0;
      multiply(i0, j0, turn);
      for (int64_t i = i0; i < i1; ++i) {
        const int64_t last = i < j1 - 1 ? i : j1 - 1;
        for (int64_t j = j0; j <= last; ++j, turn = 1 - turn) {
          if (j < last) {
            multiply(i, j + 1, 1 - turn);
          } else if (i + 1 < i1) {
            multiply(i + 1, j0, 1 - turn);
          }
          if (head.dropout.active) FillDropoutBlock(head, i * kPanel, j * kPanel, factors);
          const int64_t at = ((j - j0) * kTilePanels + i - i0) * kUnitBytes;
          const GradientBlock block = {scores + turn * kBlock,
                                       dprobabilities + turn * kBlock,
                                       head.dropout.active ? factors : nullptr,
                                       i == j,
                                       p_rows + at,
                                       ds_rows + at,
                                       ds_steps + ((i - i0) * kTilePanels + j - j0) * kUnitBytes};
          ComputeGradientBlock(block, score_scale, negative_lse + i * kPanel, delta + i * kPanel);
        }
      }
      for (int64_t j = j0; j < j1; ++j) {
        // Queries before these keys see none of them.
        const int64_t from = i0 < j ? j : i0;
        if (from >= i1) continue;
        const int64_t at = ((j - j0) * kTilePanels + from - i0) * kUnitBytes;
        for (int64_t e = 0; e < panels.elements; ++e) {
          const int64_t columns = (e * panels.positions + from) * kUnitBytes;
          float* dv_part = dv + (j - j0) * panels.elements * kBlock + e * kPanel;
          float* dk_part = dk + (j - j0) * panels.elements * kBlock + e * kPanel;
          MultiplyPanels(p_rows + at, douts_by_d + columns, i1 - from, from == j ? nullptr : dv_part, d_padded, dv_part,
                         d_padded);
          MultiplyPanels(ds_rows + at, queries_by_d + columns, i1 - from, from == j ? nullptr : dk_part, d_padded,
                         dk_part, d_padded);
        }
      }
      for (int64_t i = i0; i < i1; ++i) {
        const int64_t count = (i < j1 - 1 ? i : j1 - 1) + 1 - j0;
        if (count <= 0) continue;
        for (int64_t e = 0; e < panels.elements; ++e) {
          float* part = dq + (i * panels.elements + e) * kBlock;
          MultiplyPanels(keys_t + (e * panels.positions + j0) * kUnitBytes,
                         ds_steps + (i - i0) * kTilePanels * kUnitBytes, count, j0 == 0 ? nullptr : part, kPanel, part,
                         kPanel);
        }
      }
    }
    for (int64_t r = j0 * kPanel; r < j1 * kPanel && r < t; ++r) {
      const int64_t from = (r - j0 * kPanel) * d_padded;
      ForVectors(d, [&](int64_t j, int n) {
        StoreRow(head.dqkv, r * ld + head.c + j, Load(dk + from + j) * Set(scale), n);
        StoreRow(head.dqkv, r * ld + 2 * head.c + j, Load(dv + from + j), n);
      });
    }
  }
  StopTiles();
  const F32 scales[2] = {Set(scale), Set(scale)};
  for (int64_t i = 0; i < panels.positions; ++i) {
    const int64_t left = t - i * kPanel;
    StoreTransposed(dq + i * panels.elements * kBlock, d, left < kPanel ? left : kPanel, scales,
                    At(head.dqkv, i * kPanel * ld), ld);
  }
  return carver.used;
}

}  // namespace
}  // namespace kotodama::cpu

#endif
