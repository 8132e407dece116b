// Attention: the entry points, and the cache of generation.
#pragma once

#include "cpu/kernels/attention_amx_backward-inl.h"
#include "cpu/kernels/attention_amx_forward-inl.h"
#include "cpu/kernels/attention_backward-inl.h"
#include "cpu/kernels/attention_forward-inl.h"

namespace kotodama::cpu {
namespace {

// Memory in bfloat16 is multiplied in tile registers or as pairs where the processor can, else as floats.
template <bool kBackward>
int64_t AttentionOf(const AttentionHead& head, bool bf16, Carver carver) {
#if defined(__AMX_BF16__)
  if (bf16) return kBackward ? AttentionBackwardTiles(head, carver) : AttentionForwardTiles(head, carver);
#elif defined(KOTODAMA_BF16_DOT)
  if (bf16) {
    return kBackward ? AttentionBackwardHead<PairSteps>(head, carver) : AttentionForwardHead<PairSteps>(head, carver);
  }
#endif
  (void)bf16;
  return kBackward ? AttentionBackwardHead<F32Steps>(head, carver) : AttentionForwardHead<F32Steps>(head, carver);
}

int64_t AttentionScratch(int64_t t, int64_t d, bool bf16, bool backward) {
  AttentionHead head = {};
  head.t = t;
  head.d = d;
  return backward ? AttentionOf<true>(head, bf16, {nullptr}) : AttentionOf<false>(head, bf16, {nullptr});
}

void AttentionForward(const AttentionHead& head) {
  AttentionOf<false>(head, head.qkv.bf16, {head.scratch});
}

void AttentionBackward(const AttentionHead& head) {
  AttentionOf<true>(head, head.qkv.bf16, {head.scratch});
}

// Positions one after another: each appends its key and value, then attends to all before it.
void AttentionCached(const AttentionCachedHead& head) {
  const int64_t d = head.d;
  const float scale = kLog2E / __builtin_sqrtf(static_cast<float>(d));  // scores in powers of 2
  for (int64_t r = 0; r < head.n; ++r) {
    const int64_t at = r * 3 * head.c, last = head.past + r;
    ForVectors(d, [&](int64_t j, int n) {
      StorePartial(head.q + j, LoadRow(head.qkv, at + j, n), n);
      StoreRow(head.keys, last * d + j, LoadRow(head.qkv, at + head.c + j, n), n);
      StoreRow(head.values, last * d + j, LoadRow(head.qkv, at + 2 * head.c + j, n), n);
    });
    const int64_t count = last + 1;
    SkinnyDots(head.q, 1, d, FactorOf(head.keys, d), d, count, head.scores, count);
    const F32 lowest = Set(-__builtin_inff());
    F32 best = lowest;
    ForVectors(count,
               [&](int64_t j, int n) { best = Max(SelectFirst(n, LoadPartial(head.scores + j, n), lowest), best); });
    const F32 negative_top = Set(-ReduceMax(best) * scale);
    const float sum = SumOver(count, [&](int64_t j, int n) {
      const F32 e = Exp2(Fma(LoadPartial(head.scores + j, n), Set(scale), negative_top));
      StorePartial(head.scores + j, e, n);
      return e;
    });
    SkinnyRows(head.scores, 1, count, FactorOf(head.values, d), count, d, head.mix);
    const F32 inverse = Set(1.0f / sum);
    ForVectors(
        d, [&](int64_t j, int n) { StoreRow(head.out, r * head.c + j, LoadPartial(head.mix + j, n) * inverse, n); });
  }
}

}  // namespace
}  // namespace kotodama::cpu
