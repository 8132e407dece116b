// Attention with tile registers, forward: one head of one sequence.
#pragma once

#include "cpu/kernels/attention_amx_tiles-inl.h"

#ifdef __AMX_BF16__

namespace kotodama::cpu {
namespace {

constexpr int64_t kForwardPanels = 4;  // of keys in a tile: its scores fit the first-level cache

int64_t AttentionForwardTiles(const AttentionHead& head, Carver carver) {
  const PanelCounts panels(head.t, head.d);
  char* keys = TakeUnits(&carver, panels.positions * panels.elements);      // a: rows are keys
  char* values_t = TakeUnits(&carver, panels.positions * panels.elements);  // a: rows are elements
  char* queries = TakeUnits(&carver, panels.elements);                      // b: columns are queries
  char* probabilities = TakeUnits(&carver, kForwardPanels);                 // b
  float* scores = carver.Take(kForwardPanels * kBlock);
  float* out = carver.Take(panels.elements * kBlock);  // (d, 32 queries)
  float* factors = carver.Take(kBlock);
  if (carver.base == nullptr) return carver.used;

  const int64_t d = head.d, ld = 3 * head.c, end = head.first_query + head.queries;
  const F32 scale = Set(kLog2E / __builtin_sqrtf(static_cast<float>(d)));  // scores in powers of 2
  const F32 lowest = Set(-__builtin_inff());
  PackPositions(kPackA, At(head.qkv, head.c), ld, end, d, keys);
  PackElements(kPackA, At(head.qkv, 2 * head.c), ld, end, d, panels.positions, values_t);
  StartTiles();
  for (int64_t q0 = head.first_query; q0 < end; q0 += kPanel) {
    PackPositions(kPackB, At(head.qkv, q0 * ld), ld, end - q0 < kPanel ? end - q0 : kPanel, d, queries);
    F32 top[2] = {lowest, lowest}, sum[2] = {Set(0.0f), Set(0.0f)};
    const int64_t diagonal = q0 / kPanel;
    for (int64_t first = 0; first <= diagonal; first += kForwardPanels) {
      const int64_t count = diagonal + 1 - first < kForwardPanels ? diagonal + 1 - first : kForwardPanels;
      for (int64_t j = 0; j < count; ++j) {
        MultiplyPanels(keys + (first + j) * panels.elements * kUnitBytes, queries, panels.elements, nullptr, 0,
                       scores + j * kBlock, kPanel);
      }
      if (first + count > diagonal) {
        float* block = scores + (count - 1) * kBlock;
        for (int r = 1; r < kPanel; ++r) {
          for (int h = 0; h < 2; ++h) {
            float* at = block + r * kPanel + h * kWidth;
            Store(at, SelectFirst(LanesBefore(r, h * kWidth), lowest, Load(at)));
          }
        }
      }
      F32 best[4] = {lowest, lowest, lowest, lowest};
      for (int64_t i = 0; i < count * kBlock; i += 4 * kWidth) {
        for (int v = 0; v < 4; ++v) best[v] = Max(best[v], Load(scores + i + v * kWidth));
      }
      F32 negative_top[2], correction[2];
      for (int h = 0; h < 2; ++h) {
        const F32 new_top = Max(Max(best[h], best[h + 2]) * scale, top[h]);
        correction[h] = Exp2(top[h] - new_top);
        negative_top[h] = Set(0.0f) - new_top;
        top[h] = new_top;
        sum[h] = sum[h] * correction[h];
      }
      for (int64_t j = 0; j < count; ++j) {
        const float* block = scores + j * kBlock;
        char* target = probabilities + j * kUnitBytes;
        if (head.dropout.active) FillDropoutBlock(head, q0, (first + j) * kPanel, factors);
        for (int r = 0; r < kPanel; r += 2, target += 128) {
          for (int h = 0; h < 2; ++h) {
            const int64_t at = r * kPanel + h * kWidth;
            F32 e0 = Exp2(Fma(Load(block + at), scale, negative_top[h]));
            F32 e1 = Exp2(Fma(Load(block + at + kPanel), scale, negative_top[h]));
            sum[h] = sum[h] + (e0 + e1);
            if (head.dropout.active) e0 = e0 * Load(factors + at), e1 = e1 * Load(factors + at + kPanel);
            StoreStepOfB(target + h * 64, e0, e1);
          }
        }
      }
      for (int64_t i = 0; first > 0 && i < panels.elements * kBlock; i += kPanel) {
        for (int h = 0; h < 2; ++h) Store(out + i + h * kWidth, Load(out + i + h * kWidth) * correction[h]);
      }
      for (int64_t j = 0; j < panels.elements; ++j) {
        float* part = out + j * kBlock;
        MultiplyPanels(values_t + (j * panels.positions + first) * kUnitBytes, probabilities, count,
                       first > 0 ? part : nullptr, kPanel, part, kPanel);
      }
    }
    const F32 inverse[2] = {Set(1.0f) / sum[0], Set(1.0f) / sum[1]};
    const int64_t rows = end - q0 < kPanel ? end - q0 : kPanel;
    StoreTransposed(out, d, rows, inverse, At(head.out, q0 * head.c), head.c);
    float tops[kPanel], sums[kPanel];
    for (int h = 0; h < 2; ++h) Store(tops + h * kWidth, top[h]), Store(sums + h * kWidth, sum[h]);
    for (int64_t r = 0; r < rows; ++r) head.lse[q0 + r] = tops[r] * kLn2 + __builtin_logf(sums[r]);
  }
  StopTiles();
  return carver.used;
}

}  // namespace
}  // namespace kotodama::cpu

#endif
