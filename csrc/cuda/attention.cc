#include <cmath>

#include "csrc/cuda/backend_impl.h"

// Which attention kernel takes a head size.

namespace kotodama::cuda {
namespace {

template <typename Op>
kernels::AttentionParams ParamsOf(const Op& op) {
  kernels::AttentionParams p = {};
  p.qkv = op.qkv.data;
  p.out = op.out.data;
  p.lse = op.lse.template as<float>();
  p.b = static_cast<int32_t>(op.b);
  p.t = static_cast<int32_t>(op.t);
  p.h = static_cast<int32_t>(op.h);
  p.d = static_cast<int32_t>(op.d);
  p.scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(op.d)));
  p.dropout = ToParams(op.dropout);
  return p;
}

// The plain kernels' grid and shared memory: `rows` rows of D floats and `chunks` chunks of 128.
Dim3 PlainGrid(const kernels::AttentionParams& p) {
  return {static_cast<unsigned>(p.b * p.h), static_cast<unsigned>(p.t)};
}
size_t PlainShared(const kernels::AttentionParams& p, size_t rows, size_t chunks) {
  return (rows * static_cast<size_t>(p.d) + chunks * 128) * sizeof(float);
}

}  // namespace

void CudaBackend::Run(const AttentionForward& op) {
  Guarded([&] {
    const kernels::AttentionParams p = ParamsOf(op);
    context_.Launch(ForType(op.qkv.dtype, "attention_plain_forward_f32", "attention_plain_forward_bf16"), PlainGrid(p),
                    {128}, PlainShared(p, 2, 1), p);
  });
}

void CudaBackend::Run(const AttentionBackward& op) {
  Guarded([&] {
    kernels::AttentionParams p = ParamsOf(op);
    p.dout = op.dout.data;
    p.dqkv = op.dqkv.data;
    p.delta = static_cast<float*>(context_.Workspace(op.lse.bytes()));
    context_.Launch(
        ForType(op.qkv.dtype, "attention_plain_backward_queries_f32", "attention_plain_backward_queries_bf16"),
        PlainGrid(p), {128}, PlainShared(p, 3, 1), p);
    context_.Launch(ForType(op.qkv.dtype, "attention_plain_backward_keys_f32", "attention_plain_backward_keys_bf16"),
                    PlainGrid(p), {128}, PlainShared(p, 4, 2), p);
  });
}

void CudaBackend::Run(const AttentionCached& op) {
  Guarded([&] {
    kernels::AttentionDecodeParams p = {};
    p.qkv = op.qkv.data;
    p.keys = op.keys.data;
    p.values = op.values.data;
    p.out = op.out.data;
    p.b = static_cast<int32_t>(op.b);
    p.n = static_cast<int32_t>(op.n);
    p.h = static_cast<int32_t>(op.h);
    p.d = static_cast<int32_t>(op.d);
    p.past = static_cast<int32_t>(op.past);
    p.capacity = static_cast<int32_t>(op.capacity);
    p.scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(op.d)));
    context_.Launch(ForType(op.qkv.dtype, "append_to_cache_f32", "append_to_cache_bf16"),
                    {Blocks(op.b * op.n * op.h * op.d, kThreads)}, {kThreads}, 0, p);
    context_.Launch(ForType(op.qkv.dtype, "attention_decode_f32", "attention_decode_bf16"),
                    {static_cast<unsigned>(p.b * p.h), static_cast<unsigned>(p.n)}, {128},
                    (2 * static_cast<size_t>(p.d) + 128) * sizeof(float), p);
  });
}

}  // namespace kotodama::cuda
