#include "gpt2/activations.h"

#include <algorithm>

#include "gpt2/carver.h"

namespace kotodama {
namespace {

LayerActivations TakeLayer(const Config& config, DType x, BatchShape shape, Carver& carver) {
  const int64_t n = shape.rows(), c = config.n_embd;
  LayerActivations layer;
  layer.sum_1 = carver.Take(DType::kF32, {n, c});
  layer.mean_1 = carver.Take(DType::kF32, {n});
  layer.rstd_1 = carver.Take(DType::kF32, {n});
  layer.qkv = carver.Take(x, {shape.b, shape.t, 3 * c});
  layer.attention = carver.Take(x, {shape.b, shape.t, c});
  layer.lse = carver.Take(DType::kF32, {shape.b, config.n_head, shape.t});
  layer.sum_2 = carver.Take(DType::kF32, {n, c});
  layer.mean_2 = carver.Take(DType::kF32, {n});
  layer.rstd_2 = carver.Take(DType::kF32, {n});
  layer.pre_gelu = carver.Take(x, {n, config.n_inner});
  return layer;
}

}  // namespace

int64_t LogitRows(const Config& config, DType compute_type, size_t logit_bytes, int64_t rows) {
  const int64_t row_bytes = config.padded_vocab() * static_cast<int64_t>(SizeOf(compute_type));
  const int64_t most = static_cast<int64_t>(logit_bytes) / row_bytes, tile = most < 1024 ? 64 : 128;
  // Two rows at least, so that a chunk of BF16 has room for one row of F32.
  return std::min(std::max<int64_t>(2, rows), std::max<int64_t>(64, most / tile * tile));
}

size_t LayOut(const Config& config, DType compute_type, size_t logit_bytes, BatchShape shape, bool training, Keep keep,
              void* base, Activations* activations) {
  const DType x = compute_type;
  const int64_t n = shape.rows(), c = config.n_embd;
  Carver carver(base);
  Activations a;
  a.shape = shape;
  a.keep = training ? keep : Keep::kLess;
  a.ids = carver.Take(DType::kI32, {shape.b, shape.t});
  a.labels = carver.Take(DType::kI32, {n});
  a.losses = carver.Take(DType::kF32, {n});
  for (int64_t l = 0; l < config.n_layer; ++l) {
    a.layers.push_back(training || l == 0 ? TakeLayer(config, x, shape, carver) : a.layers.front());
  }
  a.sum_f = carver.Take(DType::kF32, {n, c});
  a.mean_f = carver.Take(DType::kF32, {n});
  a.rstd_f = carver.Take(DType::kF32, {n});
  a.normed = carver.Take(x, {n, c});
  a.branch = carver.Take(x, {n, c});
  a.wide = carver.Take(x, {n, training ? std::max(config.n_inner, 3 * c) : config.n_inner});
  a.logits = carver.Take(x, {LogitRows(config, x, logit_bytes, n), config.padded_vocab()});
  for (LayerActivations& layer : a.layers) {
    const bool own = a.keep == Keep::kAll;
    layer.normed_1 = own ? carver.Take(x, {n, c}) : a.normed;
    layer.normed_2 = own ? carver.Take(x, {n, c}) : a.normed;
    layer.gelu = own ? carver.Take(x, {n, config.n_inner}) : a.Wide(config.n_inner);
  }
  if (training) {
    a.d_normed = carver.Take(x, {n, c});
    a.d_residual = carver.Take(DType::kF32, {n, c});
  }
  if (activations != nullptr) *activations = a;
  return carver.bytes();
}

}  // namespace kotodama
