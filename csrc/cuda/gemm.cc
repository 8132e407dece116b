#include <algorithm>

#include "cuda/backend_impl.h"

// Which GEMM kernel takes a shape, and how the sum over K is split.

namespace kotodama::cuda {
namespace {

// A tiled kernel: "nn", "nt" or "tn" by which of a and b are transposed, and the side of its tiles of c.
struct TiledKernel {
  const char* name;
  int32_t side, step;  // step: what parts of K are multiples of
  unsigned threads;
  size_t shared_bytes;
};

constexpr size_t kBf16Shared = 3 * 2 * 128 * 32 * 2;  // three stages of a and b, 128 x 32 bf16
constexpr int64_t kMostPartials = int64_t{1} << 24;   // elements of the partial sums of a split K

// The tn kernel of bf16 has a variant that sums the columns of b beside the product.
bool SumsInKernel(const ::kotodama::Gemm& op) {
  return op.bias_gradient && op.a.dtype == DType::kBF16 && op.transpose_a && !op.transpose_b;
}

TiledKernel ChooseKernel(const ::kotodama::Gemm& op, int multiprocessors) {
  const int layout = op.transpose_a ? 2 : op.transpose_b ? 1 : 0;
  if (op.a.dtype == DType::kBF16) {
    constexpr const char* kNames[] = {"gemm_bf16_nn", "gemm_bf16_nt", "gemm_bf16_tn"};
    return {SumsInKernel(op) ? "gemm_bf16_tn_sums" : kNames[layout], 128, 32, 128, kBf16Shared};
  }
  const int64_t large_tiles = static_cast<int64_t>(Blocks(op.m, 128)) * Blocks(op.n, 128);
  if (large_tiles >= multiprocessors) {
    constexpr const char* kNames[] = {"gemm_f32_nn_128x128", "gemm_f32_nt_128x128", "gemm_f32_tn_128x128"};
    return {kNames[layout], 128, 8, 256, 0};
  }
  constexpr const char* kNames[] = {"gemm_f32_nn_64x64", "gemm_f32_nt_64x64", "gemm_f32_tn_64x64"};
  return {kNames[layout], 64, 16, 256, 0};
}

// In how many parts K is summed, so that the blocks fill the device evenly: what the waves of blocks take on compute
// capability 8.0 (CUDA C++ programming guide, "Arithmetic instructions"), two blocks to a multiprocessor, and what it
// takes to write the partial sums and read them again at about 13 bytes a clock and multiprocessor (an A100's memory).
int64_t ChooseSplits(const ::kotodama::Gemm& op, const TiledKernel& kernel, int64_t tiles, int multiprocessors) {
  const int64_t slots = 2 * multiprocessors;
  const int64_t most = std::min({op.k / 128, kMostPartials / (op.m * op.n), int64_t{64}});
  const double products = op.a.dtype == DType::kBF16 ? 1024 : 64;  // a clock
  const double depth_clocks = 2.0 * kernel.side * kernel.side / products;
  const double traffic_clocks = 2.0 * sizeof(float) * static_cast<double>(op.m * op.n) / (13.0 * multiprocessors);
  int64_t best = 1;
  double best_clocks = 0;
  for (int64_t splits = 1; splits <= std::max<int64_t>(1, most); ++splits) {
    const double waves = static_cast<double>((tiles * splits + slots - 1) / slots);
    const double depth = static_cast<double>((op.k + splits - 1) / splits);
    const double clocks =
        waves * depth * depth_clocks + (splits > 1 ? static_cast<double>(splits) * traffic_clocks : 0);
    if (splits == 1 || clocks < best_clocks) {
      best = splits;
      best_clocks = clocks;
    }
  }
  return best;
}

// Four neighbours of c, aux, bias and the partial sums move at once where rows are multiples of four.
bool CanTile(const ::kotodama::Gemm& op, const kernels::GemmParams& p) {
  const int64_t piece = 16 / static_cast<int64_t>(SizeOf(op.a.dtype));
  return !(op.transpose_a && op.transpose_b) && p.lda % piece == 0 && p.ldb % piece == 0 && IsAligned(p.a, 16) &&
         IsAligned(p.b, 16) && IsAligned(p.c, 16) && IsAligned(p.aux, 16) && IsAligned(p.bias, 16) && p.k > 0;
}

}  // namespace

// bias_gradient = the sum of rows of partial sums.
void CudaBackend::SumBiasGradient(const ::kotodama::Gemm& op, const float* partials, unsigned rows) {
  kernels::SumRowsParams sum = {};
  sum.partials = partials;
  sum.target = op.bias_gradient.as<float>();
  sum.rows = static_cast<int32_t>(rows);
  sum.columns = sum.split = static_cast<int32_t>(op.n);
  sum.accumulate = op.accumulate;
  context_.Launch("sum_rows", {Blocks(sum.columns, 32)}, {32, 8}, 0, sum);
}

// For kernels that do not sum the columns of b themselves.
void CudaBackend::BiasGradient(const ::kotodama::Gemm& op) {
  if (op.transpose_b) {
    throw Error(ErrorCode::kOptions, "bias_gradient: a transposed b is not supported");
  }
  kernels::ColumnSumsParams p = {};
  p.source = op.b.data;
  p.stride = op.ldb != 0 ? op.ldb : op.n;
  p.rows = static_cast<int32_t>(op.k);
  p.columns = static_cast<int32_t>(op.n);
  p.rows_per_chunk = std::max(32, static_cast<int32_t>(Blocks(op.k, 128)));
  const unsigned chunks = Blocks(p.rows, p.rows_per_chunk);
  p.partials = static_cast<float*>(context_.Workspace(static_cast<size_t>(chunks) * p.columns * sizeof(float)));
  context_.Launch(ForType(op.b.dtype, "column_sums_f32", "column_sums_bf16"), {Blocks(p.columns, 128), chunks}, {128},
                  0, p);
  SumBiasGradient(op, p.partials, chunks);
}

void CudaBackend::Run(const ::kotodama::Gemm& op) {
  Guarded([&] {
    if (op.n == 0) return;
    kernels::GemmParams p = {};
    p.a = op.a.data;
    p.b = op.b.data;
    p.c = op.c.data;
    p.bias = op.bias.as<float>();
    p.aux = op.aux.data;
    p.m = static_cast<int32_t>(op.m);
    p.n = static_cast<int32_t>(op.n);
    p.k = static_cast<int32_t>(op.k);
    p.lda = op.lda != 0 ? op.lda : op.transpose_a ? op.m : op.k;
    p.ldb = op.ldb != 0 ? op.ldb : op.transpose_b ? op.k : op.n;
    p.ldc = op.ldc != 0 ? op.ldc : op.n;
    p.epilogue = static_cast<int32_t>(op.epilogue);
    p.c_is_float = op.c.dtype == DType::kF32;
    p.accumulate = op.accumulate;
    p.transpose_a = op.transpose_a;
    p.transpose_b = op.transpose_b;
    const bool can_tile = op.m > 0 && CanTile(op, p), sums_in_kernel = can_tile && SumsInKernel(op);
    if (op.bias_gradient && !sums_in_kernel) BiasGradient(op);
    if (op.m == 0) return;
    if (!can_tile) {
      context_.Launch(ForType(op.a.dtype, "gemm_plain_f32", "gemm_plain_bf16"), {Blocks(op.n, 16), Blocks(op.m, 16)},
                      {16, 16}, 0, p);
      return;
    }
    const TiledKernel kernel = ChooseKernel(op, context_.multiprocessors());
    p.tiles_m = static_cast<int32_t>(Blocks(op.m, kernel.side));
    p.tiles_n = static_cast<int32_t>(Blocks(op.n, kernel.side));
    const int64_t tiles = static_cast<int64_t>(p.tiles_m) * p.tiles_n;
    const int64_t wanted = ChooseSplits(op, kernel, tiles, context_.multiprocessors());
    p.k_per_split = static_cast<int32_t>(Blocks(op.k, wanted * kernel.step)) * kernel.step;
    const unsigned splits = Blocks(op.k, p.k_per_split);
    const size_t sums = sums_in_kernel ? splits * static_cast<size_t>(op.n) : 0;
    const size_t partials = splits > 1 ? splits * static_cast<size_t>(op.m * op.n) : 0;
    float* const workspace =
        sums + partials > 0 ? static_cast<float*>(context_.Workspace((sums + partials) * sizeof(float))) : nullptr;
    // Partial sums first: they move four at a time.
    if (partials > 0) p.partials = workspace;
    p.b_sums = workspace + partials;
    context_.Launch(kernel.name, {static_cast<unsigned>(tiles), splits}, {kernel.threads}, kernel.shared_bytes, p);
    if (sums_in_kernel) SumBiasGradient(op, p.b_sums, splits);
    if (splits == 1) return;
    p.k_per_split = static_cast<int32_t>(splits);
    const int64_t width = op.n % 4 == 0 && p.ldc % 4 == 0 ? 4 : 1;
    context_.Launch(ForType(op.a.dtype, "gemm_finish_splits_f32", "gemm_finish_splits_bf16"),
                    {Blocks(op.m * op.n / width, kThreads)}, {kThreads}, 0, p);
  });
}

}  // namespace kotodama::cuda
