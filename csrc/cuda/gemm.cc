#include <algorithm>

#include "csrc/cuda/backend_impl.h"

// Which GEMM kernel takes a shape, and how the sum over K is split.

namespace kotodama::cuda {

// target = sums over K of op(b), by way of partial sums of chunks of rows.
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

  kernels::SumRowsParams sum = {};
  sum.partials = p.partials;
  sum.target = op.bias_gradient.as<float>();
  sum.rows = static_cast<int32_t>(chunks);
  sum.columns = sum.split = p.columns;
  sum.accumulate = op.accumulate;
  context_.Launch("sum_rows", {Blocks(sum.columns, 32)}, {32, 8}, 0, sum);
}

void CudaBackend::Run(const ::kotodama::Gemm& op) {
  Guarded([&] {
    if (op.bias_gradient) BiasGradient(op);
    if (op.m == 0 || op.n == 0) return;
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
    context_.Launch(ForType(op.a.dtype, "gemm_plain_f32", "gemm_plain_bf16"), {Blocks(op.n, 16), Blocks(op.m, 16)},
                    {16, 16}, 0, p);
  });
}

}  // namespace kotodama::cuda
