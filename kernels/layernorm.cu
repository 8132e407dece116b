#include "common.cuh"

// LayerNorm, fused with the residual addition before it, and its backward pass (Ba et al. 2016). C is a multiple of 4.
// A warp holds a row in shared memory, so that every byte crosses the bus once; weight and bias are staged once a
// block. Rows that are too wide for that (kWide) are held in global memory.

namespace kotodama::kernels {

// What a block holds: `rows` rows of C floats.
template <bool kWide>
__device__ __forceinline__ float4* BlockRows(float* wide, int rows, int vectors) {
  extern __shared__ float4 shared[];
  if constexpr (kWide) return reinterpret_cast<float4*>(wide) + static_cast<int64_t>(blockIdx.x) * rows * vectors;
  return shared;
}

// Block: whole warps, a row each at a time.
template <typename X, bool kWide>
__device__ __forceinline__ void LayerNormForward(const LayerNormForwardParams& p) {
  __shared__ float means[kMostLayerNormRows], rstds[kMostLayerNormRows];
  const int vectors = p.c / 4;
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp, warps = blockDim.x / kWarp;
  float4* weight = BlockRows<kWide>(p.wide, 2 + warps, vectors);  // (C)
  float4* bias = weight + vectors;                                // (C)
  float4* row = bias + vectors + warp * vectors;                  // (C)
  for (int i = threadIdx.x; i < vectors; i += blockDim.x) {
    weight[i] = Load4(p.weight + 4 * i);
    bias[i] = Load4(p.bias + 4 * i);
  }
  __syncthreads();

  const DropoutMask dropout(p.dropout);
  const int first = blockIdx.x * p.rows_per_block, last = min(first + p.rows_per_block, p.n);
  for (int n = first + warp; n < last; n += warps) {
    const int64_t offset = static_cast<int64_t>(n) * p.c;
    const float* x = p.x + offset;
    const X* addend = static_cast<const X*>(p.addend) + offset;
    float total = 0;
    for (int i = lane; i < vectors; i += kWarp) {
      float4 v = Load4(x + 4 * i);
      if (p.addend != nullptr) {
        float4 a = Load4(addend + 4 * i);
        if (dropout.threshold != 0) a = ApplyDropout(dropout, offset + 4 * i, a);
        v = make_float4(v.x + a.x, v.y + a.y, v.z + a.z, v.w + a.w);
        Store4(p.sum + offset + 4 * i, v);
      }
      row[i] = v;
      total += (v.x + v.y) + (v.z + v.w);
    }
    const float mean = WarpSum(total) / p.c;
    float squares = 0;
    for (int i = lane; i < vectors; i += kWarp) {
      const float4 v = row[i];
      const float a = v.x - mean, b = v.y - mean, c = v.z - mean, d = v.w - mean;
      squares += (a * a + b * b) + (c * c + d * d);
    }
    const float rstd = 1.0f / sqrtf(WarpSum(squares) / p.c + p.eps);
    X* out = static_cast<X*>(p.out) + offset;
    for (int i = lane; i < vectors; i += kWarp) {
      const float4 v = row[i], w = weight[i], b = bias[i];
      Store4(out + 4 * i, make_float4((v.x - mean) * rstd * w.x + b.x, (v.y - mean) * rstd * w.y + b.y,
                                      (v.z - mean) * rstd * w.z + b.z, (v.w - mean) * rstd * w.w + b.w));
    }
    if (lane == 0) {
      means[n - first] = mean;
      rstds[n - first] = rstd;
    }
  }
  // Together, since a lone number costs a whole sector of memory.
  __syncthreads();
  for (int i = threadIdx.x; first + i < last; i += blockDim.x) {
    if (p.mean != nullptr) p.mean[first + i] = means[i];
    if (p.rstd != nullptr) p.rstd[first + i] = rstds[i];
  }
}

// With g = dout * weight and h = (x - mean) * rstd: dx = rstd * (g - mean(g) - h * mean(g * h)). Each block leaves the
// sums over its rows of dout * h and dout in `partials`; SumRows adds them up in order.
template <typename X, bool kWide>
__device__ __forceinline__ void LayerNormBackward(const LayerNormBackwardParams& p) {
  __shared__ float means[kMostLayerNormRows], rstds[kMostLayerNormRows];
  const int vectors = p.c / 4;
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp, warps = blockDim.x / kWarp;
  float4* weight = BlockRows<kWide>(p.wide, 3 + 2 * warps, vectors);  // (C)
  float4* dweight = weight + vectors;                                 // (C)
  float4* dbias = dweight + vectors;                                  // (C)
  float4* douts = dbias + vectors;                                    // (warps, C)
  float4* hats = douts + warps * vectors;                             // (warps, C)
  for (int i = threadIdx.x; i < vectors; i += blockDim.x) {
    weight[i] = Load4(p.weight + 4 * i);
    dweight[i] = dbias[i] = make_float4(0, 0, 0, 0);
  }
  const DropoutMask dropout(p.dropout);
  const int first = blockIdx.x * p.rows_per_block, last = min(first + p.rows_per_block, p.n);
  for (int i = threadIdx.x; first + i < last; i += blockDim.x) {
    means[i] = p.mean[first + i];
    rstds[i] = p.rstd[first + i];
  }
  __syncthreads();

  for (int base = first; base < last; base += warps) {
    const int n = base + warp;
    if (n < last) {
      const int64_t offset = static_cast<int64_t>(n) * p.c;
      const X* dout = static_cast<const X*>(p.dout) + offset;
      float4 *dout_row = douts + warp * vectors, *hat_row = hats + warp * vectors;
      const float mean = means[n - first], rstd = rstds[n - first];
      float sum = 0, sum_hat = 0;
      for (int i = lane; i < vectors; i += kWarp) {
        const float4 d = Load4(dout + 4 * i), x = Load4(p.x + offset + 4 * i), w = weight[i];
        const float4 h =
            make_float4((x.x - mean) * rstd, (x.y - mean) * rstd, (x.z - mean) * rstd, (x.w - mean) * rstd);
        dout_row[i] = d;
        hat_row[i] = h;
        sum += (d.x * w.x + d.y * w.y) + (d.z * w.z + d.w * w.w);
        sum_hat += (d.x * w.x * h.x + d.y * w.y * h.y) + (d.z * w.z * h.z + d.w * w.w * h.w);
      }
      const float mean_g = WarpSum(sum) / p.c, mean_gh = WarpSum(sum_hat) / p.c;
      X* daddend = static_cast<X*>(p.daddend) + offset;
      for (int i = lane; i < vectors; i += kWarp) {
        const float4 d = dout_row[i], h = hat_row[i], w = weight[i];
        float4 v =
            make_float4(rstd * (d.x * w.x - mean_g - h.x * mean_gh), rstd * (d.y * w.y - mean_g - h.y * mean_gh),
                        rstd * (d.z * w.z - mean_g - h.z * mean_gh), rstd * (d.w * w.w - mean_g - h.w * mean_gh));
        float* dx = p.dx + offset + 4 * i;
        if (p.accumulate_dx) {
          const float4 before = Load4(dx);
          v = make_float4(before.x + v.x, before.y + v.y, before.z + v.z, before.w + v.w);
        }
        Store4(dx, v);
        if (p.daddend != nullptr) {
          if (dropout.threshold != 0) v = ApplyDropout(dropout, offset + 4 * i, v);
          Store4(daddend + 4 * i, v);
        }
      }
    }
    __syncthreads();
    const int rows = min(warps, last - base);
    for (int i = threadIdx.x; i < vectors; i += blockDim.x) {
      float4 dw = dweight[i], db = dbias[i];
      for (int r = 0; r < rows; ++r) {
        const float4 d = douts[r * vectors + i], h = hats[r * vectors + i];
        dw = make_float4(dw.x + d.x * h.x, dw.y + d.y * h.y, dw.z + d.z * h.z, dw.w + d.w * h.w);
        db = make_float4(db.x + d.x, db.y + d.y, db.z + d.z, db.w + d.w);
      }
      dweight[i] = dw;
      dbias[i] = db;
    }
    __syncthreads();
  }
  float* partials = p.partials + static_cast<int64_t>(blockIdx.x) * 2 * p.c;
  for (int i = threadIdx.x; i < vectors; i += blockDim.x) {
    Store4(partials + 4 * i, dweight[i]);
    Store4(partials + p.c + 4 * i, dbias[i]);
  }
}

}  // namespace kotodama::kernels

using namespace kotodama::kernels;

extern "C" __global__ void layernorm_forward_f32(const LayerNormForwardParams p) {
  LayerNormForward<float, false>(p);
}
extern "C" __global__ void layernorm_forward_bf16(const LayerNormForwardParams p) {
  LayerNormForward<bf16, false>(p);
}
extern "C" __global__ void layernorm_forward_wide_f32(const LayerNormForwardParams p) {
  LayerNormForward<float, true>(p);
}
extern "C" __global__ void layernorm_forward_wide_bf16(const LayerNormForwardParams p) {
  LayerNormForward<bf16, true>(p);
}
extern "C" __global__ void layernorm_backward_f32(const LayerNormBackwardParams p) {
  LayerNormBackward<float, false>(p);
}
extern "C" __global__ void layernorm_backward_bf16(const LayerNormBackwardParams p) {
  LayerNormBackward<bf16, false>(p);
}
extern "C" __global__ void layernorm_backward_wide_f32(const LayerNormBackwardParams p) {
  LayerNormBackward<float, true>(p);
}
extern "C" __global__ void layernorm_backward_wide_bf16(const LayerNormBackwardParams p) {
  LayerNormBackward<bf16, true>(p);
}
