// Cross entropy, AdamW, and the small operations that touch every element once.
#pragma once

#include "cpu/kernels/layernorm-inl.h"

namespace kotodama::cpu {
namespace {

// `powers` (v) may be the logits themselves where the gradient overwrites them.
template <typename E>
float CrossEntropyOf(E* logits, int64_t v, int64_t vp, int64_t label, bool gradient, float* powers) {
  const F32 lowest = Set(-__builtin_inff());
  F32 tops[4] = {lowest, lowest, lowest, lowest};
  int64_t j = 0;
  for (; j + 4 * kWidth <= v; j += 4 * kWidth) {
    for (int q = 0; q < 4; ++q) tops[q] = Max(Load(logits + j + q * kWidth), tops[q]);
  }
  ForVectors(v - j,
             [&](int64_t i, int n) { tops[0] = Max(SelectFirst(n, LoadPartial(logits + j + i, n), lowest), tops[0]); });
  const float top = ReduceMax(Max(Max(tops[0], tops[1]), Max(tops[2], tops[3])));
  float at_label;
  StorePartial(&at_label, LoadPartial(logits + label, 1), 1);

  const F32 top_all = Set(top), to_powers_of_2 = Set(1.44269504f);
  const float sum = SumOver(v, [&](int64_t i, int n) {
    // The row behind this one, which the thread probably gets next.
    __builtin_prefetch(logits + vp + i, 0, 2);
    const F32 power = Exp2((LoadPartial(logits + i, n) - top_all) * to_powers_of_2);
    if (gradient) StorePartial(powers + i, power, n);
    return power;
  });
  const float loss = top - at_label + __builtin_logf(sum);
  if (gradient) {
    const float at = powers[label] / sum - 1;
    const F32 inverse = Set(1.0f / sum);
    ForVectors(v, [&](int64_t i, int n) { StorePartial(logits + i, LoadPartial(powers + i, n) * inverse, n); });
    StorePartial(logits + label, Set(at), 1);
    ForVectors(vp - v, [&](int64_t i, int n) { StorePartial(logits + v + i, Set(0.0f), n); });
  }
  return loss;
}

float CrossEntropyRow(Row logits, int64_t v, int64_t vp, int64_t label, bool gradient, float* powers) {
  if (logits.bf16) return CrossEntropyOf(static_cast<BF16*>(logits.data), v, vp, label, gradient, powers);
  float* floats = static_cast<float*>(logits.data);
  return CrossEntropyOf(floats, v, vp, label, gradient, floats);
}

// Loshchilov and Hutter, "Decoupled Weight Decay Regularization", ICLR 2019.
void AdamWElements(const AdamWRange& range) {
  const F32 beta1 = Set(range.beta1), rest1 = Set(1 - range.beta1);
  const F32 beta2 = Set(range.beta2), rest2 = Set(1 - range.beta2);
  const F32 factor = Set(range.gradient_factor), eps = Set(range.eps), decay = Set(range.decay_factor);
  const F32 step = Set(range.step_size), second_scale = Set(range.second_scale);
  ForVectors(range.count, [&](int64_t i, int n) {
    const F32 g = LoadPartial(range.grad + i, n) * factor;
    const F32 m = Fma(LoadPartial(range.exp_avg + i, n), beta1, g * rest1);
    const F32 v = Fma(LoadPartial(range.exp_avg_sq + i, n), beta2, g * g * rest2);
    StorePartial(range.exp_avg + i, m, n);
    StorePartial(range.exp_avg_sq + i, v, n);
    const F32 update = step * m / Fma(Sqrt(v), second_scale, eps);
    const F32 p = LoadPartial(range.param + i, n) * decay - update;
    StorePartial(range.param + i, p, n);
    if (range.compute != nullptr) StorePartial(range.compute + i, p, n);
  });
}

double SumOfSquares(const float* x, int64_t count) {
  constexpr int64_t kPiece = 4096;
  double total = 0;
  for (int64_t begin = 0; begin < count; begin += kPiece) {
    const int64_t piece = count - begin < kPiece ? count - begin : kPiece;
    total += SumOver(piece, [&](int64_t j, int n) {
      const F32 value = LoadPartial(x + begin + j, n);
      return value * value;
    });
  }
  return total;
}

void GeluElements(Row target, Row source, int64_t count) {
  // As exactly as in the products' epilogue, whose result this is.
  if (target.bf16) {
    ForVectors(count, [&](int64_t j, int n) { StoreRow(target, j, GeluOf<BF16>(LoadRow(source, j, n)), n); });
  } else {
    ForVectors(count, [&](int64_t j, int n) { StoreRow(target, j, GeluOf<float>(LoadRow(source, j, n)), n); });
  }
}

void CastElements(Row target, Row source, int64_t count) {
  ForVectors(count, [&](int64_t j, int n) { StoreRow(target, j, LoadRow(source, j, n), n); });
}

void RoundElements(BF16* target, const float* source, int64_t first, int64_t count, const RoundingFactors& rounding) {
  constexpr int64_t kPiece = 4 * kPhiloxLanes;
  for (int64_t begin = 0; begin < count; begin += kPiece) {
    const int64_t piece = count - begin < kPiece ? count - begin : kPiece;
    const uint64_t group = static_cast<uint64_t>(first + begin) / 4;
    uint32_t words[4][kPhiloxLanes];
    for (int i = 0; i < kPhiloxLanes; ++i) {
      words[0][i] = static_cast<uint32_t>(group + i);
      words[1][i] = static_cast<uint32_t>((group + i) >> 32);
      words[2][i] = rounding.step[0];
      words[3][i] = rounding.step[1];
    }
    Philox(words, rounding.key[0], rounding.key[1]);
    uint32_t noise[kPiece];
    for (int i = 0; i < kPhiloxLanes; ++i) {
      for (int w = 0; w < 4; ++w) noise[4 * i + w] = words[w][i] & 0xffff;
    }
    for (int64_t i = 0; i < piece; ++i) {
      uint32_t bits;
      __builtin_memcpy(&bits, source + begin + i, sizeof bits);
      const bool nan = (bits & 0x7fffffff) > 0x7f800000;  // which must not become a number by a carry
      const uint32_t rounded = nan ? bits | 0x00400000 : bits + noise[i];
      target[begin + i].bits = static_cast<uint16_t>(rounded >> 16);
    }
  }
}

void AddElements(float* target, const float* source, int64_t count) {
  ForVectors(count, [&](int64_t j, int n) {
    StorePartial(target + j, LoadPartial(target + j, n) + LoadPartial(source + j, n), n);
  });
}

void SumOfTwo(float* target, const float* a, const float* b, int64_t count) {
  ForVectors(count,
             [&](int64_t j, int n) { StorePartial(target + j, LoadPartial(a + j, n) + LoadPartial(b + j, n), n); });
}

void DropoutElements(float* target, const float* source, int64_t first, int64_t count, const DropoutFactors& dropout) {
  constexpr int64_t kPiece = 4 * kPhiloxLanes;
  float factors[kPiece];
  for (int64_t begin = 0; begin < count; begin += kPiece) {
    const int64_t piece = count - begin < kPiece ? count - begin : kPiece;
    FillDropout(dropout, first + begin, piece, factors);
    ForVectors(piece, [&](int64_t j, int n) {
      StorePartial(target + begin + j, LoadPartial(source + begin + j, n) * LoadPartial(factors + j, n), n);
    });
  }
}

void Exp2Elements(float* target, const float* source, int64_t count) {
  ForVectors(count, [&](int64_t j, int n) { StorePartial(target + j, Exp2(LoadPartial(source + j, n)), n); });
}

}  // namespace
}  // namespace kotodama::cpu
