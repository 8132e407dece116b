#include "gemm_finish_rows.cuh"
#include "gemm_tiles.cuh"
#include "mma.cuh"

// The bf16 GEMM on tensor cores. A block of four or eight warps computes a tile of c in steps of 32 along K; copies
// run two or three steps ahead of the arithmetic, as the device's shared memory allows. Leading dimensions are
// multiples of 8, a and b aligned to 16 bytes.

namespace kotodama::kernels {

constexpr int kGemmK = 32;  // depth of a step

// A value that the compiler cannot work out again: else it does so in every step, to spare a register.
__device__ __forceinline__ uint32_t Kept(uint32_t value) {
  asm("" : "+r"(value));
  return value;
}

// Waits until the copies of the oldest step that is not read yet have come.
__device__ __forceinline__ void WaitForStep(int stages) {
  if (stages == kMostGemmStages) {
    WaitCopies<kMostGemmStages - 2>();
  } else {
    WaitCopies<kFewestGemmStages - 2>();
  }
}

// Copies one operand's tiles to shared memory: `Rows` along M or N by 32 along K.
// K contiguous: a tile is (Rows, 32). Else it is (32, Rows), as stored.
template <bool k_contiguous, int Rows, int Threads>
class OperandCopy {
 public:
  static constexpr int kChunks = k_contiguous ? kGemmK / 8 : Rows / 8;  // of 16 bytes in a tile's row
  static constexpr int kCopies = Rows * kGemmK / 8 / Threads;           // of a thread
  static constexpr int kRowStep = Threads / kChunks;                    // tile rows between a thread's copies
  static constexpr int kStepBytes = kRowStep * kChunks * 16;
  static constexpr uint32_t kBytes = Rows * kGemmK * 2;

  // `first` is the tile's first row of the operand along M or N, `extent` their number.
  __device__ __forceinline__ OperandCopy(const void* data, int64_t stride, int first, int extent, int k)
      : row_(threadIdx.x / kChunks), chunk_(threadIdx.x % kChunks) {
    target_ = Kept(SwizzledOffset<kChunks>(row_, chunk_));
    const bf16* base = static_cast<const bf16*>(data);
    if (k_contiguous) {
      source_ = base + first * stride + k;
      step_ = kGemmK;
      // Rows beyond the operand repeat its last one: what they give is never stored.
#pragma unroll
      for (int i = 0; i < kCopies; ++i) {
        offsets_[i] = static_cast<uint32_t>(2 * (min(row_ + i * kRowStep, extent - 1 - first) * stride + 8 * chunk_));
      }
    } else {
      // So do pieces of eight columns beyond it. The last one of the operand may be read to its end, since rows are a
      // multiple of eight long.
      const int column = min(8 * chunk_, (extent - 1 - first) / 8 * 8);
      source_ = base + k * stride + first;
      step_ = kGemmK * stride;
#pragma unroll
      for (int i = 0; i < kCopies; ++i) {
        offsets_[i] = static_cast<uint32_t>(2 * ((row_ + i * kRowStep) * stride + column));
      }
    }
  }

  // Copies the next tile, all of whose 32 steps along K exist.
  __device__ __forceinline__ void Next(uint32_t tile) {
    tile += target_;
    Unroll<kCopies>([&](auto index) {
      constexpr int i = decltype(index)::value;
      CopyAsync16<i * kStepBytes>(tile, Source(i));
    });
    source_ += step_;
  }

  // Copies the tile `ahead` of the next one, of which only `depth` steps along K exist, and fills it up with zeros.
  __device__ __forceinline__ void Partial(uint32_t tile, int ahead, int depth) {
    const bf16* const next = source_;
    source_ += ahead * step_;
    tile += target_;
    Unroll<kCopies>([&](auto index) {
      constexpr int i = decltype(index)::value;
      const int left = k_contiguous ? 2 * (depth - 8 * chunk_) : depth > row_ + i * kRowStep ? 16 : 0;
      const int bytes = max(0, min(16, left));
      // Where nothing is read, the address still is one of the operand.
      CopyAsync16<i * kStepBytes>(tile, bytes > 0 ? Source(i) : next, bytes);
    });
    source_ = next;
  }

 private:
  __device__ __forceinline__ const bf16* Source(int i) const {
    return Advance<1>(source_, offsets_[i]);
  }

  int row_, chunk_;
  uint32_t target_;
  const bf16* source_;  // the same for all threads: addresses are this and a thread's own 32 bits
  int64_t step_;
  uint32_t offsets_[kCopies];  // in bytes
};

// Reads `Count` fragments, of 16 rows of A or 16 columns of B each, from a tile.
template <bool k_contiguous, int Rows, bool is_a, int Count>
class OperandFragments {
 public:
  static constexpr int kChunks = k_contiguous ? kGemmK / 8 : Rows / 8;

  // `first`: the warp's first row within the tile.
  __device__ __forceinline__ explicit OperandFragments(int first) {
    const int lane = threadIdx.x % kWarp;
    // The order of the four 8 x 8 matrices: A goes down M first, B goes down K first.
    const bool m_first = is_a;
    const int inner = lane % 8, low = lane / 8 % 2, high = lane / 16;
    const int row = inner + 8 * (m_first ? low : high);  // along M or N
    const int k = inner + 8 * (m_first ? high : low);    // along K, where that is the tile's row
    const uint32_t offset = k_contiguous ? SwizzledOffset<kChunks>(first + row, m_first ? high : low)
                                         : SwizzledOffset<kChunks>(k, first / 8 + (m_first ? low : high));
    // Tiles begin where none of these bits is set, so that an address is a tile's and one of these.
#pragma unroll
    for (int i = 0; i < kOffsets; ++i) offsets_[i] = Kept(offset ^ (i * 32));
  }

  // All fragments at step `k` of 16 along K. Permuted pieces move by exclusive or, rows of pieces by a constant.
  template <int k>
  __device__ __forceinline__ void Load(uint32_t (&r)[Count][4], uint32_t tile) const {
    constexpr int kRowBlock = 16 * kChunks * 16;
    Unroll<Count>([&](auto i) {
      constexpr int index = decltype(i)::value;
      if constexpr (k_contiguous) {
        LoadMatrices<index * kRowBlock>(r[index], tile + offsets_[k]);
      } else {
        LoadMatricesTransposed<k * kRowBlock>(r[index], tile + offsets_[index]);
      }
    });
  }

 private:
  static constexpr int kOffsets = k_contiguous ? kGemmK / 16 : Count;
  uint32_t offsets_[kOffsets];
};

// The sums over K of b, added up beside the tensor cores from the fragments that they take. Of the two warps that
// share columns each takes half of its tiles of 8 columns.
template <int Tiles, int WarpsN>
class SumsOfB {
 public:
  __device__ __forceinline__ void Add(const uint32_t (&b)[Tiles / 2][4], int warp_row) {
    if (warp_row == 0) {
      AddTiles<0>(b);
    } else {
      AddTiles<Tiles / 2>(b);
    }
  }

  // Writes the block's sums of `columns` columns from `target` on.
  __device__ __forceinline__ void Store(float* target, int columns) const {
    const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
#pragma unroll
    for (int i = 0; i < Tiles / 2; ++i) {
      // Four lanes have the same column, each its rows of the fragments.
      float sum = sums_[i];
      sum += __shfl_xor_sync(kAllLanes, sum, 1);
      sum += __shfl_xor_sync(kAllLanes, sum, 2);
      const int column = warp % WarpsN * 8 * Tiles + (warp / WarpsN * (Tiles / 2) + i) * 8 + lane / 4;
      if (lane % 4 == 0 && column < columns) target[column] = sum;
    }
  }

 private:
  template <int first>
  __device__ __forceinline__ void AddTiles(const uint32_t (&b)[Tiles / 2][4]) {
#pragma unroll
    for (int i = 0; i < Tiles / 2; ++i) {
      const int j = first + i;
      const uint32_t low = b[j / 2][j % 2 * 2], high = b[j / 2][j % 2 * 2 + 1];
      sums_[i] += (LowFloat(low) + HighFloat(low)) + (LowFloat(high) + HighFloat(high));
    }
  }

  float sums_[Tiles / 2] = {};
};

// Two rows of warps, each warp for 64 columns or, in small tiles, 32. The gradient of a weight, a^T b, comes with that
// of its bias: where it is asked for, the blocks of the first rows of c also leave the sums over K of b. Another kernel
// would read all of b again.
template <bool transpose_a, bool transpose_b, int BlockM, int BlockN>
__device__ __forceinline__ void GemmBf16(const GemmParams& p) {
  constexpr int kWarpM = BlockM / 2, kWarpN = kWarpM, kWarpsN = BlockN / kWarpN, kWarps = 2 * kWarpsN;
  constexpr int kTilesM = kWarpM / 16, kTilesN = kWarpN / 8;
  using CopyA = OperandCopy<!transpose_a, BlockM, kWarps * kWarp>;
  using CopyB = OperandCopy<transpose_b, BlockN, kWarps * kWarp>;
  constexpr uint32_t kStageBytes = CopyA::kBytes + CopyB::kBytes;
  extern __shared__ __align__(128) unsigned char shared_bytes[];
  const uint32_t shared = SharedAddress(shared_bytes);

  const GemmTile tile = TileOfBlock(p);
  const int split = blockIdx.y, k_first = split * p.k_per_split, k_end = min(p.k, k_first + p.k_per_split);
  const int full_steps = (k_end - k_first) / kGemmK, rest = (k_end - k_first) % kGemmK;
  const int steps = full_steps + (rest > 0 ? 1 : 0);
  CopyA copy_a(p.a, p.lda, tile.m * BlockM, p.m, k_first);
  CopyB copy_b(p.b, p.ldb, tile.n * BlockN, p.n, k_first);
  // A part of a step at the end of K comes first, so that the loop knows whole ones alone.
  const auto copy = [&](uint32_t stage) {
    copy_a.Next(stage);
    copy_b.Next(stage + CopyA::kBytes);
  };

  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  const int warp_m = warp / kWarpsN * kWarpM, warp_n = warp % kWarpsN * kWarpN;
  const OperandFragments<!transpose_a, BlockM, true, kTilesM> fragments_a(warp_m);
  const OperandFragments<transpose_b, BlockN, false, kTilesN / 2> fragments_b(warp_n);
  float c[kTilesM][kTilesN][4] = {};

  uint32_t write = shared, read = shared;
  const uint32_t last = shared + (p.stages - 1) * kStageBytes;
#pragma unroll 1
  for (int step = 0; step < p.stages - 1; ++step) {
    if (step == 0 && rest > 0) {
      copy_a.Partial(write, full_steps, rest);
      copy_b.Partial(write + CopyA::kBytes, full_steps, rest);
    } else if (step < steps) {
      copy(write);
    }
    CommitCopies();
    write += kStageBytes;
  }
  SumsOfB<kTilesN, kWarpsN> sums;
  // The fragments of one half of a step are read while the other half is multiplied; those of the next step's first
  // half as soon as it has come, so that no product waits for shared memory.
  const auto multiply = [&](auto summing) {
    uint32_t a[2][kTilesM][4], b[2][kTilesN / 2][4];
    const auto load = [&](auto k) {
      constexpr int half = decltype(k)::value;
      fragments_a.template Load<half>(a[half], read);
      fragments_b.template Load<half>(b[half], read + CopyA::kBytes);
    };
    const auto product = [&](int half) {
      if constexpr (decltype(summing)::value) sums.Add(b[half], warp / kWarpsN);
#pragma unroll
      for (int i = 0; i < kTilesM; ++i) {
#pragma unroll
        for (int j = 0; j < kTilesN; ++j) {
          Mma(c[i][j], a[half][i], b[half][j / 2][j % 2 * 2], b[half][j / 2][j % 2 * 2 + 1]);
        }
      }
    };
    static_assert(kGemmK == 32, "a step has two halves");
    WaitForStep(p.stages);
    __syncthreads();
    load(std::integral_constant<int, 0>{});
#pragma unroll 1
    for (int step = 0; step < steps; ++step) {
      load(std::integral_constant<int, 1>{});
      if (step + p.stages - 1 < steps) copy(write);
      CommitCopies();
      write = write == last ? shared : write + kStageBytes;
      product(0);
      WaitForStep(p.stages);
      __syncthreads();
      read = read == last ? shared : read + kStageBytes;
      if (step + 1 < steps) load(std::integral_constant<int, 0>{});
      product(1);
    }
    // No copy is under way any more, and behind the last barrier nobody reads what the end of the block writes over.
  };
  constexpr bool kCanSum = transpose_a && !transpose_b;
  if (kCanSum && p.b_sums != nullptr && tile.m == 0) {
    multiply(std::true_type{});
    sums.Store(p.b_sums + static_cast<int64_t>(split) * p.n + tile.n * BlockN, p.n - tile.n * BlockN);
  } else {
    multiply(std::false_type{});
  }

  // Each warp passes its rows through shared memory, so that it stores whole rows of its tile.
  // In floats: rows start 8 banks apart, so that the four rows to which half a warp stores eight floats each meet no
  // bank twice. A store of 8 bytes a lane goes by half warps.
  constexpr int kStride = kWarpN + 8, kRowsAtOnce = 32, kTilesAtOnce = kRowsAtOnce / 16;
  static_assert(kWarps * kRowsAtOnce * kStride * sizeof(float) <= kFewestGemmStages * kStageBytes, "the rows fit");
  float* const staged = reinterpret_cast<float*>(shared_bytes) + warp * kRowsAtOnce * kStride;
  const FinishKind kind = FinishKindOf(p);
  // A loop in the machine code too, for what FinishRows does is long; which rows are in which registers is not.
#pragma unroll 1
  for (int first = 0; first < kTilesM; first += kTilesAtOnce) {
    Unroll<kTilesM>([&](auto index) {
      constexpr int i = decltype(index)::value;
      if (i / kTilesAtOnce * kTilesAtOnce != first) return;
#pragma unroll
      for (int j = 0; j < kTilesN; ++j) {
        const float(&v)[4] = c[i][j];
        float* const target = staged + (16 * (i % kTilesAtOnce) + lane / 4) * kStride + 8 * j + lane % 4 * 2;
        *reinterpret_cast<float2*>(target) = make_float2(v[0], v[1]);
        *reinterpret_cast<float2*>(target + 8 * kStride) = make_float2(v[2], v[3]);
      }
    });
    __syncwarp();
    FinishRows<kRowsAtOnce, kWarpN>(
        p, kind, {staged, kStride, tile.m * BlockM + warp_m + 16 * first, tile.n * BlockN + warp_n, split});
    __syncwarp();
  }
}

}  // namespace kotodama::kernels

using namespace kotodama::kernels;

// Names: whether a and b are as they are (n) or transposed (t), and the tile of c. Small tiles spread a small c over
// more multiprocessors; wide ones read less for each product.
#define KOTODAMA_GEMM(name, transpose_a, transpose_b)                                                   \
  extern "C" __global__ void __launch_bounds__(128, 2) gemm_bf16_##name##_128x128(const GemmParams p) { \
    GemmBf16<transpose_a, transpose_b, 128, 128>(p);                                                    \
  }                                                                                                     \
  extern "C" __global__ void __launch_bounds__(256, 1) gemm_bf16_##name##_128x256(const GemmParams p) { \
    GemmBf16<transpose_a, transpose_b, 128, 256>(p);                                                    \
  }                                                                                                     \
  extern "C" __global__ void __launch_bounds__(128, 4) gemm_bf16_##name##_64x64(const GemmParams p) {   \
    GemmBf16<transpose_a, transpose_b, 64, 64>(p);                                                      \
  }

KOTODAMA_GEMM(nn, false, false)
KOTODAMA_GEMM(nt, false, true)
KOTODAMA_GEMM(tn, true, false)

#undef KOTODAMA_GEMM
