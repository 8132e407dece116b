// LayerNorm with the residual addition before it, and its gradient.
#pragma once

#include "cpu/kernels/gemm_skinny-inl.h"
#include "cpu/kernels/philox-inl.h"

namespace kotodama::cpu {
namespace {

// Lanes beyond the end count as zero.
template <typename Value>
__attribute__((always_inline)) inline float SumOver(int64_t count, Value value) {
  F32 sum[4] = {Set(0.0f), Set(0.0f), Set(0.0f), Set(0.0f)};
  int64_t j = 0;
  for (; j + 4 * kWidth <= count; j += 4 * kWidth) {
    for (int q = 0; q < 4; ++q) sum[q] = sum[q] + value(j + q * kWidth, kWidth);
  }
  for (; j < count; j += kWidth) {
    const int n = static_cast<int>(count - j < kWidth ? count - j : kWidth);
    sum[0] = sum[0] + SelectFirst(n, value(j, n), Set(0.0f));
  }
  return ReduceAdd((sum[0] + sum[1]) + (sum[2] + sum[3]));
}

// sum = x + factor * addend
template <typename E>
void AddResidual(const float* x, const E* addend, int64_t first, int64_t c, const DropoutFactors& dropout, float* sum) {
  if (!dropout.active) {
    ForVectors(c,
               [&](int64_t j, int n) { StorePartial(sum + j, LoadPartial(x + j, n) + LoadPartial(addend + j, n), n); });
    return;
  }
  constexpr int64_t kPiece = 4 * kPhiloxLanes;
  float factors[kPiece];
  for (int64_t begin = 0; begin < c; begin += kPiece) {
    const int64_t piece = c - begin < kPiece ? c - begin : kPiece;
    FillDropout(dropout, first + begin, piece, factors);
    ForVectors(piece, [&](int64_t j, int n) {
      const F32 added = LoadPartial(addend + begin + j, n) * LoadPartial(factors + j, n);
      StorePartial(sum + begin + j, LoadPartial(x + begin + j, n) + added, n);
    });
  }
}

template <typename E>
void NormaliseRow(const float* x, int64_t c, float eps, const float* weight, const float* bias, E* out, float* mean_out,
                  float* rstd_out) {
  const float mean = SumOver(c, [&](int64_t j, int n) { return LoadPartial(x + j, n); }) / static_cast<float>(c);
  const F32 mean_v = Set(mean);
  const float squares = SumOver(c, [&](int64_t j, int n) {
    const F32 d = LoadPartial(x + j, n) - mean_v;
    return d * d;
  });
  const float rstd = 1.0f / __builtin_sqrtf(squares / static_cast<float>(c) + eps);
  const F32 rstd_v = Set(rstd);
  ForVectors(c, [&](int64_t j, int n) {
    const F32 normal = (LoadPartial(x + j, n) - mean_v) * rstd_v;
    StorePartial(out + j, Fma(normal, LoadPartial(weight + j, n), LoadPartial(bias + j, n)), n);
  });
  if (mean_out != nullptr) *mean_out = mean;
  if (rstd_out != nullptr) *rstd_out = rstd;
}

void LayerNormForwardRows(const LayerNormRows& rows) {
  const int64_t c = rows.c;
  for (int64_t r = 0; r < rows.rows; ++r) {
    const float* x = rows.x + r * c;
    if (rows.addend.data != nullptr) {
      float* sum = rows.sum + r * c;
      const int64_t first = rows.first + r * c;
      if (rows.addend.bf16) {
        AddResidual(x, static_cast<const BF16*>(rows.addend.data) + r * c, first, c, rows.dropout, sum);
      } else {
        AddResidual(x, static_cast<const float*>(rows.addend.data) + r * c, first, c, rows.dropout, sum);
      }
      x = sum;
    }
    float* mean = rows.mean == nullptr ? nullptr : rows.mean + r;
    float* rstd = rows.rstd == nullptr ? nullptr : rows.rstd + r;
    if (rows.out.bf16) {
      NormaliseRow(x, c, rows.eps, rows.weight, rows.bias, static_cast<BF16*>(rows.out.data) + r * c, mean, rstd);
    } else {
      NormaliseRow(x, c, rows.eps, rows.weight, rows.bias, static_cast<float*>(rows.out.data) + r * c, mean, rstd);
    }
  }
}

// dx = rstd (dn - mean(dn) - xhat mean(dn xhat)) with dn = dout * weight, xhat = (x - mean) rstd.
template <typename E>
void LayerNormGradientRow(const E* dout, const float* x, int64_t c, const float* weight, float mean, float rstd,
                          bool accumulate_dx, float* dx, float* dweight, float* dbias) {
  const F32 mean_v = Set(mean), rstd_v = Set(rstd);
  F32 total = Set(0.0f), dot = Set(0.0f);
  ForVectors(c, [&](int64_t j, int n) {
    const F32 d = LoadPartial(dout + j, n);
    const F32 dn = d * LoadPartial(weight + j, n);
    const F32 normal = (LoadPartial(x + j, n) - mean_v) * rstd_v;
    total = total + dn;
    dot = Fma(dn, normal, dot);  // lanes beyond the end have dn = 0
    StorePartial(dweight + j, Fma(d, normal, LoadPartial(dweight + j, n)), n);
    StorePartial(dbias + j, d + LoadPartial(dbias + j, n), n);
  });
  const float inverse = 1.0f / static_cast<float>(c);
  const F32 mean_dn = Set(ReduceAdd(total) * inverse), mean_dot = Set(ReduceAdd(dot) * inverse);
  ForVectors(c, [&](int64_t j, int n) {
    const F32 dn = LoadPartial(dout + j, n) * LoadPartial(weight + j, n);
    const F32 normal = (LoadPartial(x + j, n) - mean_v) * rstd_v;
    F32 d = (dn - mean_dn - normal * mean_dot) * rstd_v;
    if (accumulate_dx) d = d + LoadPartial(dx + j, n);
    StorePartial(dx + j, d, n);
  });
}

void LayerNormBackwardRows(const LayerNormGradientRows& rows) {
  const int64_t c = rows.c;
  for (int64_t j = 0; j < c; ++j) rows.dweight[j] = rows.dbias[j] = 0;
  for (int64_t r = 0; r < rows.rows; ++r) {
    const float* x = rows.x + r * c;
    float* dx = rows.dx + r * c;
    if (rows.dout.bf16) {
      LayerNormGradientRow(static_cast<const BF16*>(rows.dout.data) + r * c, x, c, rows.weight, rows.mean[r],
                           rows.rstd[r], rows.accumulate_dx, dx, rows.dweight, rows.dbias);
    } else {
      LayerNormGradientRow(static_cast<const float*>(rows.dout.data) + r * c, x, c, rows.weight, rows.mean[r],
                           rows.rstd[r], rows.accumulate_dx, dx, rows.dweight, rows.dbias);
    }
    if (rows.daddend.data == nullptr) continue;
    if (!rows.dropout.active) {
      ForVectors(c, [&](int64_t j, int n) { StoreRow(rows.daddend, r * c + j, LoadPartial(dx + j, n), n); });
      continue;
    }
    constexpr int64_t kPiece = 4 * kPhiloxLanes;
    float factors[kPiece];
    for (int64_t begin = 0; begin < c; begin += kPiece) {
      const int64_t piece = c - begin < kPiece ? c - begin : kPiece;
      FillDropout(rows.dropout, rows.first + r * c + begin, piece, factors);
      ForVectors(piece, [&](int64_t j, int n) {
        StoreRow(rows.daddend, r * c + begin + j, LoadPartial(dx + begin + j, n) * LoadPartial(factors + j, n), n);
      });
    }
  }
}

}  // namespace
}  // namespace kotodama::cpu
