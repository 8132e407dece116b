#include <cmath>

#include "attention_head.cuh"
#include "mma.cuh"

// Flash attention in fp32 (the algorithm of attention_bf16_forward.cuh). 16 x 16 threads share square tiles of N
// positions; a thread owns N / 16 rows, y * N / 16 + r, of which it computes the columns x + 16 c of the scores and 2 x
// + 32 j of the results. The 16 threads of a row belong to one warp. p.d is a multiple of 4 and at most D.

namespace kotodama::kernels {

constexpr int kF32Threads = 256;

template <int D>
struct F32Attention {
  static constexpr int N = D > 64 ? 32 : 64;  // positions in a tile
  static constexpr int R = N / 16;            // rows and columns of scores of a thread
  static constexpr int J = D / 32;            // pairs of result columns of a thread
  static constexpr int kStride = D + 4;       // floats; rows start four banks apart
  static constexpr int kWeightStride = N + 4;
  static constexpr int kTileFloats = N * kStride, kWeightFloats = N * kWeightStride;

  using Scores = float[R][R];
  using Results = float[R][J][2];

  static __device__ __forceinline__ int X() { return threadIdx.x % 16; }
  static __device__ __forceinline__ int Row() { return threadIdx.x / 16 * R; }

  // Starts copying the positions from `first` on; what lies beyond t and d becomes zeros.
  static __device__ __forceinline__ void Copy(float* tile, const float* source, int64_t stride, int first, int t,
                                              int d) {
    constexpr int kPieces = D / 4;
#pragma unroll
    for (int i = 0; i < N * kPieces / kF32Threads; ++i) {
      const int piece = threadIdx.x + i * kF32Threads, row = piece / kPieces, column = piece % kPieces * 4;
      const bool inside = first + row < t && column < d;
      const float* from = source + (inside ? (first + row) * stride + column : 0);
      CopyAsync16<0>(SharedAddress(tile + row * kStride + column), from, inside ? 16 : 0);
    }
  }

  // s[r][c] = a's row of this thread times b's row x + 16 c.
  static __device__ __forceinline__ void Multiply(Scores& s, const float* a, const float* b) {
    const float *a_rows = a + Row() * kStride, *b_rows = b + X() * kStride;
#pragma unroll
    for (int r = 0; r < R; ++r) {
#pragma unroll
      for (int c = 0; c < R; ++c) s[r][c] = 0;
    }
#pragma unroll 2
    for (int d = 0; d < D; d += 4) {
      float4 u[R], v[R];
#pragma unroll
      for (int r = 0; r < R; ++r) u[r] = Load4(a_rows + r * kStride + d);
#pragma unroll
      for (int c = 0; c < R; ++c) v[c] = Load4(b_rows + 16 * c * kStride + d);
#pragma unroll
      for (int r = 0; r < R; ++r) {
#pragma unroll
        for (int c = 0; c < R; ++c) {
          s[r][c] += u[r].x * v[c].x;
          s[r][c] += u[r].y * v[c].y;
          s[r][c] += u[r].z * v[c].z;
          s[r][c] += u[r].w * v[c].w;
        }
      }
    }
  }

  // out += w b, where this thread's rows of w pass through `weights` to the threads that share them.
  static __device__ __forceinline__ void Accumulate(Results& out, const Scores& w, float* weights, const float* b) {
    float* rows = weights + Row() * kWeightStride;
    __syncwarp();  // what was in these rows has been read
#pragma unroll
    for (int r = 0; r < R; ++r) {
#pragma unroll
      for (int c = 0; c < R; ++c) rows[r * kWeightStride + X() + 16 * c] = w[r][c];
    }
    __syncwarp();
#pragma unroll 2
    for (int n = 0; n < N; n += 4) {
      float4 u[R];
#pragma unroll
      for (int r = 0; r < R; ++r) u[r] = Load4(rows + r * kWeightStride + n);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
#pragma unroll
        for (int j = 0; j < J; ++j) {
          const float2 v = *reinterpret_cast<const float2*>(b + (n + i) * kStride + 32 * j + 2 * X());
#pragma unroll
          for (int r = 0; r < R; ++r) {
            out[r][j][0] += At(u[r], i) * v.x;
            out[r][j][1] += At(u[r], i) * v.y;
          }
        }
      }
    }
  }

  static __device__ __forceinline__ void Store(const AttentionParams& p, float* target, int64_t stride, int first,
                                               const Results& out, const float (&factors)[R]) {
#pragma unroll
    for (int r = 0; r < R; ++r) {
      const int row = first + Row() + r;
#pragma unroll
      for (int j = 0; j < J; ++j) {
        const int column = 32 * j + 2 * X();
        if (row < p.t && column < p.d) {
          *reinterpret_cast<float2*>(target + row * stride + column) =
              make_float2(out[r][j][0] * factors[r], out[r][j][1] * factors[r]);
        }
      }
    }
  }
};

// Over the 16 threads of a row.
__device__ __forceinline__ float RowSum(float x) {
#pragma unroll
  for (int mask = 8; mask > 0; mask /= 2) x += __shfl_xor_sync(kAllLanes, x, mask);
  return x;
}
__device__ __forceinline__ float RowMax(float x) {
#pragma unroll
  for (int mask = 8; mask > 0; mask /= 2) x = fmaxf(x, __shfl_xor_sync(kAllLanes, x, mask));
  return x;
}

// Whether a thread's scores are dropped: bit R r + c. `index` is of element [0][0], the steps are those of r and c. The
// loop stays a loop, since the random numbers are long code that few runs use.
template <int R>
__device__ __forceinline__ uint32_t DroppedScores(const DropoutMask& dropout, uint64_t index, uint64_t row_step,
                                                  uint64_t column_step) {
  uint32_t bits = 0;
  if (dropout.threshold == 0) return bits;
#pragma unroll 1
  for (int i = 0; i < R * R; ++i) {
    const float factor = DropoutFactor(dropout, index + i / R * row_step + i % R * column_step);
    bits |= (factor == 0.0f ? 1u : 0u) << i;
  }
  return bits;
}

template <int D>
__device__ __forceinline__ void AttentionForwardF32(const AttentionParams& p) {
  using F = F32Attention<D>;
  extern __shared__ float4 shared[];
  float* const q_tile = reinterpret_cast<float*>(shared);
  float *const k_tile = q_tile + F::kTileFloats, *const v_tile = k_tile + F::kTileFloats;
  float* const weights = v_tile + F::kTileFloats;
  const Head head(p);
  const DropoutMask dropout(p.dropout);
  const float keep = dropout.threshold != 0 ? dropout.scale : 1.0f;
  const float* q = static_cast<const float*>(p.qkv) + head.qkv;
  const int tile = gridDim.y - 1 - blockIdx.y, first = tile * F::N;
  F::Copy(q_tile, q, head.stride, first, p.t, p.d);
  float max[F::R], sum[F::R];
  typename F::Results out = {};
#pragma unroll
  for (int r = 0; r < F::R; ++r) {
    max[r] = -INFINITY;
    sum[r] = 0;
  }
#pragma unroll 1
  for (int j = 0; j <= tile; ++j) {
    __syncthreads();
    F::Copy(k_tile, q + head.c, head.stride, j * F::N, p.t, p.d);
    F::Copy(v_tile, q + 2 * head.c, head.stride, j * F::N, p.t, p.d);
    CommitCopies();
    WaitCopies<0>();
    __syncthreads();
    typename F::Scores s;
    F::Multiply(s, q_tile, k_tile);
    const uint64_t index = (static_cast<uint64_t>(head.index) * p.t + first + F::Row()) * p.t + j * F::N + F::X();
    const uint32_t dropped = DroppedScores<F::R>(dropout, index, p.t, 16);
#pragma unroll
    for (int r = 0; r < F::R; ++r) {
      const int query = first + F::Row() + r;
      float top = max[r];
#pragma unroll
      for (int c = 0; c < F::R; ++c) {
        s[r][c] = j * F::N + F::X() + 16 * c > query ? -INFINITY : s[r][c] * p.scale;
        top = fmaxf(top, s[r][c]);
      }
      top = RowMax(top);
      const float shrink = expf(max[r] - top);
      max[r] = top;
      sum[r] *= shrink;
#pragma unroll
      for (int c = 0; c < F::R; ++c) {
        s[r][c] = expf(s[r][c] - top);
        sum[r] += s[r][c];
        s[r][c] = dropped >> (r * F::R + c) & 1 ? 0.0f : s[r][c] * keep;
      }
#pragma unroll
      for (int i = 0; i < F::J; ++i) {
        out[r][i][0] *= shrink;
        out[r][i][1] *= shrink;
      }
    }
    F::Accumulate(out, s, weights, v_tile);
  }
  float factors[F::R];
#pragma unroll
  for (int r = 0; r < F::R; ++r) {
    sum[r] = RowSum(sum[r]);
    factors[r] = 1.0f / sum[r];
    const int query = first + F::Row() + r;
    if (F::X() == 0 && query < p.t) p.lse[head.index * p.t + query] = max[r] + logf(sum[r]);
  }
  F::Store(p, static_cast<float*>(p.out) + head.out, head.c, first, out, factors);
}

// Also writes delta for the other kernel.
template <int D>
__device__ __forceinline__ void AttentionBackwardQueriesF32(const AttentionParams& p) {
  using F = F32Attention<D>;
  extern __shared__ float4 shared[];
  float* const q_tile = reinterpret_cast<float*>(shared);
  float *const dout_tile = q_tile + F::kTileFloats, *const k_tile = dout_tile + F::kTileFloats;
  float *const v_tile = k_tile + F::kTileFloats, *const weights = v_tile + F::kTileFloats;
  const Head head(p);
  const DropoutMask dropout(p.dropout);
  const float keep = dropout.threshold != 0 ? dropout.scale : 1.0f;
  const float* q = static_cast<const float*>(p.qkv) + head.qkv;
  const float *dout = static_cast<const float*>(p.dout) + head.out,
              *saved = static_cast<const float*>(p.out) + head.out;
  const int tile = gridDim.y - 1 - blockIdx.y, first = tile * F::N;
  F::Copy(q_tile, q, head.stride, first, p.t, p.d);
  F::Copy(dout_tile, dout, head.c, first, p.t, p.d);
  float delta[F::R], lse[F::R], factors[F::R];
#pragma unroll
  for (int r = 0; r < F::R; ++r) {
    const int query = first + F::Row() + r;
    delta[r] = lse[r] = 0;
    factors[r] = p.scale;
    if (query < p.t) {
      lse[r] = p.lse[head.index * p.t + query];
      for (int d = F::X() * 4; d < p.d; d += 64) {
        const int64_t at = static_cast<int64_t>(query) * head.c + d;
        const float4 a = Load4(dout + at), b = Load4(saved + at);
        delta[r] += (a.x * b.x + a.y * b.y) + (a.z * b.z + a.w * b.w);
      }
    }
    delta[r] = RowSum(delta[r]);
    if (F::X() == 0 && query < p.t) p.delta[head.index * p.t + query] = delta[r];
  }
  typename F::Results dq = {};
#pragma unroll 1
  for (int j = 0; j <= tile; ++j) {
    __syncthreads();
    F::Copy(k_tile, q + head.c, head.stride, j * F::N, p.t, p.d);
    F::Copy(v_tile, q + 2 * head.c, head.stride, j * F::N, p.t, p.d);
    CommitCopies();
    WaitCopies<0>();
    __syncthreads();
    typename F::Scores s, dp;
    F::Multiply(s, q_tile, k_tile);
    F::Multiply(dp, dout_tile, v_tile);
    const uint64_t index = (static_cast<uint64_t>(head.index) * p.t + first + F::Row()) * p.t + j * F::N + F::X();
    const uint32_t dropped = DroppedScores<F::R>(dropout, index, p.t, 16);
#pragma unroll
    for (int r = 0; r < F::R; ++r) {
      const int query = first + F::Row() + r;
#pragma unroll
      for (int c = 0; c < F::R; ++c) {
        const int key = j * F::N + F::X() + 16 * c;
        dp[r][c] = dropped >> (r * F::R + c) & 1 ? 0.0f : dp[r][c] * keep;
        s[r][c] = key > query ? 0.0f : expf(s[r][c] * p.scale - lse[r]) * (dp[r][c] - delta[r]);
      }
    }
    F::Accumulate(dq, s, weights, k_tile);
  }
  F::Store(p, static_cast<float*>(p.dqkv) + head.qkv, head.stride, first, dq, factors);
}

// Rows are keys here, columns are queries.
template <int D>
__device__ __forceinline__ void AttentionBackwardKeysF32(const AttentionParams& p) {
  using F = F32Attention<D>;
  extern __shared__ float4 shared[];
  float* const k_tile = reinterpret_cast<float*>(shared);
  float *const v_tile = k_tile + F::kTileFloats, *const q_tile = v_tile + F::kTileFloats;
  float *const dout_tile = q_tile + F::kTileFloats, *const weights = dout_tile + F::kTileFloats;
  const Head head(p);
  const DropoutMask dropout(p.dropout);
  const float keep = dropout.threshold != 0 ? dropout.scale : 1.0f;
  const float* q = static_cast<const float*>(p.qkv) + head.qkv;
  const float* dout = static_cast<const float*>(p.dout) + head.out;
  const int first = blockIdx.y * F::N;
  F::Copy(k_tile, q + head.c, head.stride, first, p.t, p.d);
  F::Copy(v_tile, q + 2 * head.c, head.stride, first, p.t, p.d);
  typename F::Results dk = {}, dv = {};
#pragma unroll 1
  for (int start = first; start < p.t; start += F::N) {
    __syncthreads();
    F::Copy(q_tile, q, head.stride, start, p.t, p.d);
    F::Copy(dout_tile, dout, head.c, start, p.t, p.d);
    CommitCopies();
    WaitCopies<0>();
    __syncthreads();
    float lse[F::R], delta[F::R];
#pragma unroll
    for (int c = 0; c < F::R; ++c) {
      const int query = start + F::X() + 16 * c;
      lse[c] = query < p.t ? p.lse[head.index * p.t + query] : 0.0f;
      delta[c] = query < p.t ? p.delta[head.index * p.t + query] : 0.0f;
    }
    typename F::Scores s, dp, weight;
    F::Multiply(s, k_tile, q_tile);
    F::Multiply(dp, v_tile, dout_tile);
    const uint64_t index = (static_cast<uint64_t>(head.index) * p.t + start + F::X()) * p.t + first + F::Row();
    const uint32_t dropped = DroppedScores<F::R>(dropout, index, 1, 16 * static_cast<uint64_t>(p.t));
#pragma unroll
    for (int r = 0; r < F::R; ++r) {
      const int key = first + F::Row() + r;
#pragma unroll
      for (int c = 0; c < F::R; ++c) {
        const int query = start + F::X() + 16 * c;
        s[r][c] = key > query ? 0.0f : expf(s[r][c] * p.scale - lse[c]);
        const float factor = dropped >> (r * F::R + c) & 1 ? 0.0f : keep;
        weight[r][c] = s[r][c] * factor;
        s[r][c] *= dp[r][c] * factor - delta[c];
      }
    }
    F::Accumulate(dv, weight, weights, dout_tile);
    F::Accumulate(dk, s, weights, q_tile);
  }
  float scales[F::R], ones[F::R];
#pragma unroll
  for (int r = 0; r < F::R; ++r) {
    scales[r] = p.scale;
    ones[r] = 1;
  }
  float* target = static_cast<float*>(p.dqkv) + head.qkv;
  F::Store(p, target + head.c, head.stride, first, dk, scales);
  F::Store(p, target + 2 * head.c, head.stride, first, dv, ones);
}

}  // namespace kotodama::kernels

using namespace kotodama::kernels;

#define KOTODAMA_ATTENTION(D)                                                                                        \
  extern "C" __global__ void __launch_bounds__(256, 1) attention_forward_f32_##D(const AttentionParams p) {          \
    AttentionForwardF32<D>(p);                                                                                       \
  }                                                                                                                  \
  extern "C" __global__ void __launch_bounds__(256, 1) attention_backward_queries_f32_##D(const AttentionParams p) { \
    AttentionBackwardQueriesF32<D>(p);                                                                               \
  }                                                                                                                  \
  extern "C" __global__ void __launch_bounds__(256, 1) attention_backward_keys_f32_##D(const AttentionParams p) {    \
    AttentionBackwardKeysF32<D>(p);                                                                                  \
  }

KOTODAMA_ATTENTION(32)
KOTODAMA_ATTENTION(64)
KOTODAMA_ATTENTION(96)
KOTODAMA_ATTENTION(128)

#undef KOTODAMA_ATTENTION
