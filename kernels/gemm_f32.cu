#include "gemm_epilogue.cuh"
#include "gemm_tiles.cuh"

// The fp32 GEMM: 16 x 16 threads, each with a square of c in registers; the next step's numbers are on their way from
// global memory while this step's are used. Leading dimensions are multiples of 4, a and b aligned to 16 bytes.

namespace kotodama::kernels {

// Reads the tile (Depth along K, Rows along M or N) of one operand, four numbers of a thread, and stores it K first.
template <bool k_contiguous, int Rows, int Depth>
class F32Operand {
 public:
  static_assert(Rows * Depth == 1024, "256 threads copy four numbers each");
  static constexpr int kStride = Rows + 4;

  __device__ __forceinline__ F32Operand(const void* data, int64_t stride, int first, int extent)
      : data_(static_cast<const float*>(data)), stride_(stride), first_(first), extent_(extent) {
    row_ = k_contiguous ? threadIdx.x / (Depth / 4) : threadIdx.x % (Rows / 4) * 4;
    k_ = k_contiguous ? threadIdx.x % (Depth / 4) * 4 : threadIdx.x / (Rows / 4);
  }

  __device__ __forceinline__ void Read(int k, int k_end) {
    const int row = first_ + row_;
    k += k_;
    const int valid = k_contiguous ? (row < extent_ ? k_end - k : 0) : (k < k_end ? extent_ - row : 0);
    value_ = make_float4(0, 0, 0, 0);
    if (valid <= 0) return;
    const float* source = data_ + (k_contiguous ? row * stride_ + k : k * stride_ + row);
    if (valid >= 4) {
      value_ = Load4(source);
      return;
    }
    value_.x = source[0];
    if (valid > 1) value_.y = source[1];
    if (valid > 2) value_.z = source[2];
  }

  __device__ __forceinline__ void Store(float* tile) const {
    float* target = tile + k_ * kStride + row_;
    if (k_contiguous) {
      target[0] = value_.x;
      target[kStride] = value_.y;
      target[2 * kStride] = value_.z;
      target[3 * kStride] = value_.w;
    } else {
      Store4(target, value_);
    }
  }

 private:
  const float* data_;
  int64_t stride_;
  int first_, extent_, row_, k_;
  float4 value_;
};

// Block (256). A thread owns kSquares x kSquares squares of 4 x 4 elements, 64 apart.
template <bool transpose_a, bool transpose_b, int Block>
__device__ __forceinline__ void GemmF32(const GemmParams& p) {
  constexpr int kDepth = 1024 / Block, kSquares = Block / 64, kSide = 4 * kSquares;
  using A = F32Operand<!transpose_a, Block, kDepth>;
  using B = F32Operand<transpose_b, Block, kDepth>;
  constexpr int kTileFloats = kDepth * A::kStride, kStagedFloats = 64 * A::kStride;
  __shared__ float4 shared[(kStagedFloats > 4 * kTileFloats ? kStagedFloats : 4 * kTileFloats) / 4];
  float* const floats = reinterpret_cast<float*>(shared);  // (2 stages, a and b, kDepth, Block + 4)

  const GemmTile tile = TileOfBlock(p);
  const int split = blockIdx.y, k_first = split * p.k_per_split, k_end = min(p.k, k_first + p.k_per_split);
  const int x = threadIdx.x % 16 * 4, y = threadIdx.x / 16 * 4;
  A a(p.a, p.lda, tile.m * Block, p.m);
  B b(p.b, p.ldb, tile.n * Block, p.n);
  float c[kSide][kSide] = {};
  a.Read(k_first, k_end);
  b.Read(k_first, k_end);
  int stage = 0;
#pragma unroll 1
  for (int k = k_first; k < k_end; k += kDepth) {
    float *const tile_a = floats + 2 * stage * kTileFloats, *const tile_b = tile_a + kTileFloats;
    a.Store(tile_a);
    b.Store(tile_b);
    __syncthreads();
    a.Read(k + kDepth, k_end);
    b.Read(k + kDepth, k_end);
#pragma unroll
    for (int i = 0; i < kDepth; ++i) {
      float row[kSide], column[kSide];
#pragma unroll
      for (int s = 0; s < kSquares; ++s) {
        *reinterpret_cast<float4*>(row + 4 * s) = Load4(tile_a + i * A::kStride + 64 * s + y);
        *reinterpret_cast<float4*>(column + 4 * s) = Load4(tile_b + i * B::kStride + 64 * s + x);
      }
#pragma unroll
      for (int r = 0; r < kSide; ++r) {
#pragma unroll
        for (int s = 0; s < kSide; ++s) c[r][s] += row[r] * column[s];
      }
    }
    stage ^= 1;
  }
  // 64 rows at a time pass through shared memory, so that a warp stores whole rows.
#pragma unroll
  for (int square = 0; square < kSquares; ++square) {
    __syncthreads();
#pragma unroll
    for (int r = 0; r < 4; ++r) {
#pragma unroll
      for (int s = 0; s < kSquares; ++s) {
        const float* v = c[4 * square + r] + 4 * s;
        Store4(floats + (y + r) * A::kStride + 64 * s + x, make_float4(v[0], v[1], v[2], v[3]));
      }
    }
    __syncthreads();
#pragma unroll 1
    for (int i = threadIdx.x; i < 16 * Block; i += 256) {
      const int row = i / (Block / 4), column = i % (Block / 4) * 4;
      StoreFour<float>(p, split, tile.m * Block + 64 * square + row, tile.n * Block + column,
                       Load4(floats + row * A::kStride + column));
    }
  }
}

}  // namespace kotodama::kernels

using namespace kotodama::kernels;

extern "C" __global__ void __launch_bounds__(256, 2) gemm_f32_nn_128x128(const GemmParams p) {
  GemmF32<false, false, 128>(p);
}
extern "C" __global__ void __launch_bounds__(256, 2) gemm_f32_nt_128x128(const GemmParams p) {
  GemmF32<false, true, 128>(p);
}
extern "C" __global__ void __launch_bounds__(256, 2) gemm_f32_tn_128x128(const GemmParams p) {
  GemmF32<true, false, 128>(p);
}
extern "C" __global__ void __launch_bounds__(256, 2) gemm_f32_nn_64x64(const GemmParams p) {
  GemmF32<false, false, 64>(p);
}
extern "C" __global__ void __launch_bounds__(256, 2) gemm_f32_nt_64x64(const GemmParams p) {
  GemmF32<false, true, 64>(p);
}
extern "C" __global__ void __launch_bounds__(256, 2) gemm_f32_tn_64x64(const GemmParams p) {
  GemmF32<true, false, 64>(p);
}
