#include <algorithm>
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

constexpr int kDecodeChunk = 128;  // keys that a block of the decode kernel takes at a time

constexpr unsigned kMostBlocksY = 65535;  // of every CUDA device; x takes 2^31 - 1

// The plain kernels' grid and shared memory: `rows` rows of D floats and `chunks` chunks of 128.
Dim3 PlainGrid(const kernels::AttentionParams& p) {
  return {static_cast<unsigned>(p.b * p.h) * static_cast<unsigned>(p.t)};
}
size_t PlainShared(const kernels::AttentionParams& p, size_t rows, size_t chunks) {
  return (rows * static_cast<size_t>(p.d) + chunks * 128) * sizeof(float);
}

// ---- The tiled kernels: a block owns a tile of queries or keys of one head ----

struct Tiled {
  size_t width = 0;  // the head size that the kernel is made for: the true one rounded up. 0: no kernel
  size_t tile = 64;  // positions in a tile
  unsigned threads = 128;
  std::string suffix;

  std::string Name(const char* pass) const { return std::string("attention_") + pass + suffix; }
  Dim3 Grid(const kernels::AttentionParams& p) const {
    return {static_cast<unsigned>(p.b * p.h), Blocks(p.t, static_cast<int64_t>(tile))};
  }
  explicit operator bool() const { return width != 0; }
};

Tiled ChooseTiled(DType type, const kernels::AttentionParams& p) {
  Tiled tiled;
  const bool is_bf16 = type == DType::kBF16;
  const bool aligned = IsAligned(p.qkv, 16) && IsAligned(p.out, 16) && IsAligned(p.dout, 16) && IsAligned(p.dqkv, 16);
  if (p.d % (is_bf16 ? 8 : 4) != 0 || p.d > 128 || !aligned) return tiled;
  tiled.width = static_cast<size_t>(p.d + 31) / 32 * 32;
  if (!is_bf16) {
    tiled.tile = tiled.width > 64 ? 32 : 64;
    tiled.threads = 256;
  }
  if (tiled.Grid(p).y > kMostBlocksY) return {};
  tiled.suffix = ForType(type, "_f32_", "_bf16_") + std::to_string(tiled.width);
  if (is_bf16 && p.dropout.threshold != 0) tiled.suffix += "_dropout";
  return tiled;
}

// Bytes of shared memory of `tiles` tiles; the fp32 kernels have one more for the weights of a tile.
size_t TileBytes(DType type, const Tiled& tiled, size_t tiles) {
  if (type == DType::kBF16) return tiles * tiled.tile * tiled.width * 2;
  return tiled.tile * (tiles * (tiled.width + 4) + tiled.tile + 4) * sizeof(float);
}

// The bf16 kernel for keys keeps keys and values, and two stages of queries, output gradients and two numbers a query;
// wide heads take 32 queries at a time.
size_t KeysBytesBf16(const Tiled& tiled) {
  const size_t queries = tiled.width > 64 ? 32 : 64;
  return TileBytes(DType::kBF16, tiled, 2) + 2 * queries * (2 * tiled.width * 2 + 2 * sizeof(float));
}

}  // namespace

void CudaBackend::Run(const AttentionForward& op) {
  Guarded([&] {
    const kernels::AttentionParams p = ParamsOf(op);
    const DType type = op.qkv.dtype;
    if (const Tiled tiled = ChooseTiled(type, p)) {
      // Queries, keys and values; for bf16 two stages of the last two.
      const size_t shared_bytes = TileBytes(type, tiled, type == DType::kBF16 ? 5 : 3);
      context_.Launch(tiled.Name("forward").c_str(), tiled.Grid(p), {tiled.threads}, shared_bytes, p);
      return;
    }
    context_.Launch(ForType(op.qkv.dtype, "attention_plain_forward_f32", "attention_plain_forward_bf16"), PlainGrid(p),
                    {128}, PlainShared(p, 2, 1), p);
  });
}

// Of each query the sum of gradient times output.
WorkingMemory CudaBackend::WorkingMemoryOf(const AttentionBackward& op) const {
  return {0, Context::WorkspaceBeyondStart(op.lse.bytes())};
}

void CudaBackend::Run(const AttentionBackward& op) {
  Guarded([&] {
    kernels::AttentionParams p = ParamsOf(op);
    p.dout = op.dout.data;
    p.dqkv = op.dqkv.data;
    p.delta = static_cast<float*>(context_.Workspace(op.lse.bytes()));
    const DType type = op.qkv.dtype;
    if (const Tiled tiled = ChooseTiled(type, p)) {
      // Queries, output gradients, keys and values; for bf16 two stages of the last two.
      const bool is_bf16 = type == DType::kBF16;
      const size_t queries_bytes = TileBytes(type, tiled, is_bf16 ? 6 : 4);
      context_.Launch(tiled.Name("backward_queries").c_str(), tiled.Grid(p), {tiled.threads}, queries_bytes, p);
      const size_t keys_bytes = is_bf16 ? KeysBytesBf16(tiled) : TileBytes(type, tiled, 4);
      context_.Launch(tiled.Name("backward_keys").c_str(), tiled.Grid(p), {tiled.threads}, keys_bytes, p);
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
    // Few queries share their keys among blocks, so that the cache is read by the whole device.
    const int64_t queries = op.b * op.h * op.n, keys = op.past + op.n;
    const int64_t wanted = std::clamp<int64_t>(2 * context_.multiprocessors() / queries, 1, Blocks(keys, kDecodeChunk));
    p.keys_per_split = static_cast<int32_t>(Blocks(keys, wanted * kDecodeChunk)) * kDecodeChunk;
    p.splits = static_cast<int32_t>(Blocks(keys, p.keys_per_split));
    if (p.splits > 1) {
      p.partials = static_cast<float*>(context_.Workspace(queries * p.splits * (op.d + 2) * sizeof(float)));
    }
    const Dim3 grid = {static_cast<unsigned>(queries), static_cast<unsigned>(p.splits)};
    context_.Launch(ForType(op.qkv.dtype, "attention_decode_f32", "attention_decode_bf16"), grid, {128},
                    (2 * static_cast<size_t>(p.d) + 128) * sizeof(float), p);
    if (p.splits > 1) {
      context_.Launch(ForType(op.qkv.dtype, "attention_decode_join_f32", "attention_decode_join_bf16"), {grid.x}, {64},
                      0, p);
    }
  });
}

}  // namespace kotodama::cuda
