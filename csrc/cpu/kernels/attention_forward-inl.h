// Attention, forward: one head of one sequence.
#pragma once

#include "cpu/kernels/attention_tiles-inl.h"

namespace kotodama::cpu {
namespace {

template <typename Steps>
int64_t AttentionForwardHead(const AttentionHead& head, Carver carver) {
  using Element = typename ElementOf<Steps>::Type;
  const HeadLayout<Steps> layout(head.t, head.d);
  float* keys = carver.Take(layout.keys_units());
  float* values = carver.Take(layout.values_units());
  float* q_room = carver.Take(kTileRows * layout.d_steps);
  float* scores = carver.Take(kTileRows * kForwardKeyTile);
  Element* probabilities = carver.Take<Element>(kTileRows * kForwardKeyTile / Steps::kElements);
  float* out = carver.Take(kTileRows * layout.d_padded);
  float* factors = carver.Take(kForwardKeyTile);
  if (carver.base == nullptr) return carver.used;

  const int64_t ld = 3 * head.c, end = head.first_query + head.queries;
  PackB<Steps>(At(head.qkv, head.c), ld, true, head.d, end, keys, layout.key_panel);
  PackValues(At(head.qkv, 2 * head.c), ld, end, layout, values);
  const F32 scale = Set(kLog2E / __builtin_sqrtf(static_cast<float>(head.d)));  // scores in powers of 2
  const F32 lowest = Set(-__builtin_inff());

  for (int64_t q0 = head.first_query; q0 < end; q0 += kTileRows) {
    const int rows = static_cast<int>(end - q0 < kTileRows ? end - q0 : kTileRows);
    const RowsOfSteps q = FindRows<Steps>(At(head.qkv, q0 * ld), ld, rows, head.d, q_room);
    FetchRows(head.out, head.c, q0, rows, head.d);
    F32 top[kTileRows];
    float sum[kTileRows];
    for (int r = 0; r < rows; ++r) top[r] = lowest, sum[r] = 0;

    for (int64_t k0 = 0; k0 < q0 + rows; k0 += kForwardKeyTile) {
      const int64_t count = q0 + rows - k0 < kForwardKeyTile ? q0 + rows - k0 : kForwardKeyTile;
      const int64_t padded = RoundUp(count, kWidth);
      Scores<Steps>(rows, q.first, q.stride, keys, layout, k0, count, scores, kForwardKeyTile);
      for (int r = 0; r < rows; ++r) {
        float* row = scores + r * kForwardKeyTile;
        Element* p = probabilities + r * kForwardKeyTile;
        const int64_t valid = q0 + r + 1 - k0 < count ? q0 + r + 1 - k0 : count;
        if (valid <= 0) {
          for (int64_t j = 0; j < padded; j += kWidth) StoreElements(p, j, Set(0.0f));
          continue;
        }
        F32 best = lowest;
        ForVectors(valid, [&](int64_t j, int n) { best = Max(SelectFirst(n, Load(row + j), lowest), best); });
        const F32 new_top = Max(Set(ReduceMax(best)) * scale, top[r]);
        // Before the first keys there is nothing to correct.
        const F32 correction = k0 == 0 ? Set(0.0f) : Exp2(top[r] - new_top);
        top[r] = new_top;
        F32 total = Set(0.0f);
        if (head.dropout.active) {
          FillDropout(head.dropout, head.first_element + (q0 + r) * head.t + k0, valid, factors);
        }
        for (int64_t j = 0; j < padded; j += kWidth) {
          F32 e = Exp2(Fma(Load(row + j), scale, Set(0.0f) - new_top));
          // Behind the last valid key there are neither scores nor factors.
          const bool cut = j + kWidth > valid;
          const int inside = static_cast<int>(valid > j ? valid - j : 0);
          if (cut) e = SelectFirst(inside, e, Set(0.0f));
          total = total + e;
          if (head.dropout.active) {
            const F32 factor = Load(factors + j);
            e = e * (cut ? SelectFirst(inside, factor, Set(0.0f)) : factor);
          }
          StoreElements(p, j, e);
        }
        float factor[kWidth];
        Store(factor, correction);
        sum[r] = sum[r] * factor[0] + ReduceAdd(total);
        for (int64_t j = 0; k0 > 0 && j < layout.d; j += kWidth) {
          Store(out + r * layout.d_padded + j, Load(out + r * layout.d_padded + j) * correction);
        }
      }
      const int64_t steps = (count + Steps::kElements - 1) / Steps::kElements;
      Product<Steps>(rows, steps, probabilities, kForwardKeyTile * static_cast<int64_t>(sizeof(Element)), 4,
                     values + k0 / Steps::kElements * layout.columns, layout, /*add=*/k0 > 0, out);
    }
    for (int r = 0; r < rows; ++r) {
      const F32 inverse = Set(1.0f / sum[r]);
      const int64_t target = (q0 + r) * head.c;
      ForVectors(head.d, [&](int64_t j, int n) {
        StoreRow(head.out, target + j, Load(out + r * layout.d_padded + j) * inverse, n);
      });
      float top_value[kWidth];
      Store(top_value, top[r]);
      head.lse[q0 + r] = top_value[0] * kLn2 + __builtin_logf(sum[r]);
    }
  }
  return carver.used;
}

}  // namespace
}  // namespace kotodama::cpu
