#include <cmath>

#include "cuda/backend_impl.h"

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

// ---- The tiled kernels for bf16: 64 queries or keys a block ----

constexpr size_t kTile = 64;

// The head size that a kernel is made for: the true one rounded up. 0: none is.
size_t TiledWidth(DType type, const kernels::AttentionParams& p) {
  const bool aligned = IsAligned(p.qkv, 16) && IsAligned(p.out, 16) && IsAligned(p.dout, 16) && IsAligned(p.dqkv, 16);
  if (type != DType::kBF16 || p.d % 8 != 0 || p.d > 128 || !aligned) return 0;
  return static_cast<size_t>(p.d + 31) / 32 * 32;
}

std::string TiledName(const char* pass, size_t width) {
  return std::string("attention_") + pass + "_bf16_" + std::to_string(width);
}

Dim3 TiledGrid(const kernels::AttentionParams& p) {
  return {static_cast<unsigned>(p.b * p.h), Blocks(p.t, kTile)};
}

}  // namespace

void CudaBackend::Run(const AttentionForward& op) {
  Guarded([&] {
    const kernels::AttentionParams p = ParamsOf(op);
    if (const size_t width = TiledWidth(op.qkv.dtype, p)) {
      // Queries, and two stages of keys and values.
      context_.Launch(TiledName("forward", width).c_str(), TiledGrid(p), {128}, 5 * kTile * width * 2, p);
      return;
    }
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
    if (const size_t width = TiledWidth(op.qkv.dtype, p)) {
      // Queries, output gradients, and two stages of keys and values.
      context_.Launch(TiledName("backward_queries", width).c_str(), TiledGrid(p), {128}, 6 * kTile * width * 2, p);
      // Keys, values, and two stages of queries, output gradients and two numbers a query.
      const size_t queries = width > 64 ? 32 : 64, stage = queries * (2 * width * 2 + 2 * sizeof(float));
      context_.Launch(TiledName("backward_keys", width).c_str(), TiledGrid(p), {128}, 2 * kTile * width * 2 + 2 * stage,
                      p);
      return;
    }
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
