#include <algorithm>
#include <vector>

#include "cuda/backend_impl.h"

// Which GEMM kernel takes a shape, and how the sum over K is split.

namespace kotodama::cuda {
namespace {

// A tiled kernel, but for its layout.
struct TiledKernel {
  const char* suffix;
  int32_t rows, columns, step;  // of its tiles of c; what parts of K are multiples of
  unsigned threads;
  size_t stage_bytes;  // of a and b in shared memory, for one step along K
  int32_t resident;    // blocks that a multiprocessor works on at a time, and needs for its full rate
  double products;     // of a multiprocessor at that rate, a clock: at capability 8.0, less what small tiles lose
};

// Of two that should take equally long the first is chosen: the wide tile, which reads its operands less often, where
// one round of blocks is enough. Where there are more, blocks of 128 x 128 begin and end beside one another.
const std::vector<TiledKernel> kBf16Kernels = {{"_128x256", 128, 256, 32, 256, 2 * 32 * (128 + 256), 1, 1024},
                                               {"_128x128", 128, 128, 32, 128, 2 * 32 * (128 + 128), 2, 1024},
                                               {"_64x64", 64, 64, 32, 128, 2 * 32 * (64 + 64), 4, 640}};
const std::vector<TiledKernel> kF32Kernels = {{"_128x128", 128, 128, 8, 256, 0, 1, 64},
                                              {"_64x64", 64, 64, 16, 256, 0, 1, 48}};
constexpr int64_t kMostPartials = int64_t{1} << 24;  // elements of the partial sums of a split K

// The bf16 tiles of this layout sum the columns of b beside the product.
bool SumsInKernel(const ::kotodama::Gemm& op) {
  return op.bias_gradient && op.a.dtype == DType::kBF16 && op.transpose_a && !op.transpose_b;
}

struct Choice {
  TiledKernel kernel = {};
  int64_t tiles_m = 0, tiles_n = 0, splits = 0;
  double clocks = 0;
};

// Of device memory, a clock and multiprocessor: an A100's.
constexpr double kBytesPerClock = 13;
// From a block's launch to its first product, and from its last one to its end, beside what it writes.
constexpr double kBlockClocks = 2500;

// Clocks of the multiprocessor with the most blocks, which takes `resident` of them at a time. One alone of two or more
// reaches less than their rate, and while one block begins or ends, the others go on: in what proportion was fitted to
// the times of all tiles and splits for GPT-2's products on an H200.
double ClocksOf(const TiledKernel& kernel, int64_t blocks, int64_t depth, int multiprocessors) {
  const double area = static_cast<double>(kernel.rows) * kernel.columns;
  const int64_t busiest = Blocks(blocks, multiprocessors), rest = busiest % kernel.resident;
  const double last = rest == 0 ? 0 : (2.0 + static_cast<double>(rest) / kernel.resident) / 3;
  const double products = kernel.resident * area * static_cast<double>(depth) / kernel.products;
  const double written = 2 * area * static_cast<double>(std::min<int64_t>(busiest, kernel.resident));
  const double others = static_cast<double>(Blocks(busiest, kernel.resident) - 1) / kernel.resident;
  return products * (static_cast<double>(busiest / kernel.resident) + last) +
         (kBlockClocks + written / kBytesPerClock) * (1 + others);
}

// The kernel and in how many parts K is summed, so that the blocks fill the device evenly. Counted are the clocks of
// the multiprocessor with the most blocks (rates: CUDA C++ programming guide, "Arithmetic instructions") and what it
// takes to write the partial sums and read them again.
Choice Choose(const ::kotodama::Gemm& op, int multiprocessors) {
  const int64_t most_splits = std::min({op.k / 128, kMostPartials / (op.m * op.n), int64_t{64}});
  const double traffic = 2.0 * sizeof(float) * static_cast<double>(op.m * op.n) / (kBytesPerClock * multiprocessors);
  Choice best;
  for (const TiledKernel& kernel : op.a.dtype == DType::kBF16 ? kBf16Kernels : kF32Kernels) {
    const int64_t tiles_m = Blocks(op.m, kernel.rows), tiles_n = Blocks(op.n, kernel.columns);
    for (int64_t splits = 1; splits <= std::max<int64_t>(1, most_splits); ++splits) {
      const double clocks = ClocksOf(kernel, tiles_m * tiles_n * splits, Blocks(op.k, splits), multiprocessors) +
                            (splits > 1 ? static_cast<double>(splits) * traffic : 0);
      if (best.splits == 0 || clocks < best.clocks) best = {kernel, tiles_m, tiles_n, splits, clocks};
    }
  }
  return best;
}

// The most where all blocks that share a multiprocessor find room for them.
int32_t StagesOf(const TiledKernel& kernel, size_t shared_bytes) {
  const size_t block = kernels::kMostGemmStages * kernel.stage_bytes + Context::kSharedOfBlock;
  return kernel.resident * block <= shared_bytes ? kernels::kMostGemmStages : kernels::kFewestGemmStages;
}

std::string NameOf(const ::kotodama::Gemm& op, const TiledKernel& kernel) {
  const char* const layout = op.transpose_a ? "tn" : op.transpose_b ? "nt" : "nn";
  return std::string(ForType(op.a.dtype, "gemm_f32_", "gemm_bf16_")) + layout + kernel.suffix;
}

// The bf16 tiles count the bytes from a tile's first row in 32 bits: 255 rows of so many elements fit.
constexpr int64_t kMostStrideBf16 = int64_t{1} << 23;

// Four or eight neighbours of c, aux, bias and the partial sums move at once where rows are multiples of as many.
bool CanTile(const ::kotodama::Gemm& op, const kernels::GemmParams& p) {
  const int64_t piece = 16 / static_cast<int64_t>(SizeOf(op.a.dtype));
  if (op.a.dtype == DType::kBF16 && std::max(p.lda, p.ldb) > kMostStrideBf16) return false;
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
    static_assert(static_cast<int32_t>(Epilogue::kNone) == kernels::kEpilogueNone &&
                  static_cast<int32_t>(Epilogue::kGelu) == kernels::kEpilogueGelu &&
                  static_cast<int32_t>(Epilogue::kGeluBackward) == kernels::kEpilogueGeluBackward);
    p.epilogue = static_cast<int32_t>(op.epilogue);
    p.c_is_float = op.c.dtype == DType::kF32;
    p.accumulate = op.accumulate;
    p.transpose_a = op.transpose_a;
    p.transpose_b = op.transpose_b;
    const bool can_tile = op.m > 0 && CanTile(op, p), sums_in_kernel = can_tile && SumsInKernel(op);
    if (op.bias_gradient && !sums_in_kernel) BiasGradient(op);
    if (op.m == 0) return;
    if (!can_tile) {
      p.tiles_n = static_cast<int32_t>(Blocks(op.n, 16));
      context_.Launch(ForType(op.a.dtype, "gemm_plain_f32", "gemm_plain_bf16"), {Blocks(op.n, 16) * Blocks(op.m, 16)},
                      {16, 16}, 0, p);
      return;
    }
    const Choice choice = Choose(op, context_.multiprocessors());
    const TiledKernel& kernel = choice.kernel;
    p.stages = StagesOf(kernel, context_.shared_bytes());
    p.tiles_m = static_cast<int32_t>(choice.tiles_m);
    p.tiles_n = static_cast<int32_t>(choice.tiles_n);
    p.k_per_split = static_cast<int32_t>(Blocks(op.k, choice.splits * kernel.step)) * kernel.step;
    const unsigned splits = Blocks(op.k, p.k_per_split);
    const size_t sums = sums_in_kernel ? splits * static_cast<size_t>(op.n) : 0;
    const size_t partials = splits > 1 ? splits * static_cast<size_t>(op.m * op.n) : 0;
    float* const workspace =
        sums + partials > 0 ? static_cast<float*>(context_.Workspace((sums + partials) * sizeof(float))) : nullptr;
    // Partial sums first: they move 16 bytes at a time.
    if (partials > 0) p.partials = workspace;
    if (sums > 0) p.b_sums = workspace + partials;
    context_.Launch(NameOf(op, kernel).c_str(), {static_cast<unsigned>(choice.tiles_m * choice.tiles_n), splits},
                    {kernel.threads}, p.stages * kernel.stage_bytes, p);
    if (sums_in_kernel) SumBiasGradient(op, p.b_sums, splits);
    if (splits == 1) return;
    p.k_per_split = static_cast<int32_t>(splits);
    const int64_t width = op.n % 4 == 0 && p.ldc % 4 == 0 ? 4 : 1;
    context_.Launch(ForType(op.a.dtype, "gemm_finish_splits_f32", "gemm_finish_splits_bf16"),
                    {Blocks(op.m * op.n / width, kThreads)}, {kThreads}, 0, p);
  });
}

}  // namespace kotodama::cuda
