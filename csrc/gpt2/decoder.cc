#include "gpt2/decoder.h"

#include <algorithm>

#include "error.h"
#include "gpt2/carver.h"
#include "gpt2/working_memory.h"

namespace kotodama {
namespace {

constexpr int64_t kChunk = 128;

// Calls body(a matrix of `master`, the one of `other` in the same place, whether its product transposes it).
template <typename Body>
void ForMatrices(const Weights& master, Weights& other, Body body) {
  for (size_t l = 0; l < master.layers.size(); ++l) {
    const LayerWeights& from = master.layers[l];
    LayerWeights& to = other.layers[l];
    body(from.c_attn_weight, to.c_attn_weight, false);
    body(from.c_proj_weight, to.c_proj_weight, false);
    body(from.c_fc_weight, to.c_fc_weight, false);
    body(from.mlp_proj_weight, to.mlp_proj_weight, false);
  }
  body(master.head, other.head, true);
}

}  // namespace

Decoder::Decoder(Model& model, int64_t batch_size, int64_t capacity, bool int8)
    : model_(model),
      batch_size_(batch_size),
      capacity_(capacity),
      int8_(int8 && batch_size <= model.network().backend->MostInt8Rows()),
      chunk_(std::min(capacity, kChunk)) {
  const int64_t most = model.config().n_positions;
  if (batch_size < 1 || batch_size > (1 << 20)) {
    throw Error(ErrorCode::kOptions,
                "batchSize: expected an integer from 1 to 1048576, received " + std::to_string(batch_size));
  }
  if (capacity < 1 || capacity > most) {
    throw Error(ErrorCode::kOptions, "capacity: expected an integer from 1 to nPositions " + std::to_string(most) +
                                         ", received " + std::to_string(capacity));
  }
  Backend& backend = *model.network().backend;
  if (int8 && backend.MostInt8Rows() == 0) {
    throw Error(ErrorCode::kOptions, "int8: expected a model on the CPU, found one on the device '" +
                                         backend.Info().type +
                                         "'\n  hint: leave int8 out, or load the model on the CPU");
  }
  if (int8_) {
    int8_network_ = model.network();
    int8_network_.weight_version = 0;
    int8_network_.compute = {};
    int8_network_.compute.layers.resize(int8_network_.master.layers.size());
  }
  // What training's operations worked in is there already, for these too.
  const size_t working = WorkingBytes(), bytes = LayOut(nullptr);
  RequireFree(bytes + working - std::min(working, model.worked_in()), backend.Info().free_bytes,
              "a decoder of " + std::to_string(batch_size) + " sequences, " + std::to_string(capacity) + " positions",
              std::string("use fewer sequences or a smaller capacity") + (int8_ ? ", or leave int8 out" : ""));
  memory_ = DeviceBuffer(backend, bytes);
  LayOut(memory_.data());
}

size_t Decoder::LayOut(void* base) {
  const Config& config = model_.config();
  const DType x = model_.network().compute_type;
  const int64_t rows = batch_size_ * chunk_, c = config.n_embd;
  Carver carver(base);
  keys_.clear();
  values_.clear();
  for (int64_t l = 0; l < config.n_layer; ++l) {
    keys_.push_back(carver.Take(x, {batch_size_, config.n_head, capacity_, config.head_size()}));
    values_.push_back(carver.Take(x, {batch_size_, config.n_head, capacity_, config.head_size()}));
  }
  ids_ = carver.Take(DType::kI32, {batch_size_, chunk_});
  residual_ = carver.Take(DType::kF32, {rows, c});
  normed_ = carver.Take(x, {rows, c});
  attention_ = carver.Take(x, {rows, c});
  branch_ = carver.Take(x, {rows, c});
  qkv_ = carver.Take(x, {rows, 3 * c});
  gelu_ = carver.Take(x, {rows, config.n_inner});
  pre_gelu_ = carver.Take(x, {rows, config.n_inner});
  last_ = carver.Take(x, {batch_size_, c});
  logits_ = carver.Take(DType::kF32, {batch_size_, config.padded_vocab()});
  if (int8_) {
    ForMatrices(int8_network_.master, int8_network_.compute, [&](const Tensor& from, Tensor& to, bool transposed) {
      to = carver.Take(DType::kI8, {from.shape[0], from.shape[1]});
      to.scale = carver.Take(DType::kF32, {from.shape[transposed ? 0 : 1]}).as<float>();
    });
  }
  return carver.bytes();
}

// For the most positions that are run at once and for the fewest, where the vocabulary's logits are most of it.
size_t Decoder::WorkingBytes() {
  LayOut(AddressForAsking());
  Network dry = model_.network();
  return WorkingMemoryOf(*dry.backend, [&](Backend& asking) {
    dry.backend = &asking;
    for (int64_t n : {int64_t{1}, chunk_}) RunPositions(dry, {}, n, true);
  });
}

void Decoder::RefreshInt8() {
  const uint64_t version = model_.network().weight_version;
  if (int8_network_.weight_version == version) return;
  ForMatrices(int8_network_.master, int8_network_.compute, [&](const Tensor& from, const Tensor& to, bool transposed) {
    int8_network_.backend->Quantize(to, from, transposed);
  });
  int8_network_.weight_version = version;
}

void Decoder::Append(const int32_t* ids, size_t count, float* logits) {
  if (count == 0 || count % static_cast<size_t>(batch_size_) != 0) {
    throw Error(ErrorCode::kOptions, "inputIds: expected as many ids for each of the " + std::to_string(batch_size_) +
                                         " sequences, at least one, received " + std::to_string(count) + " in all");
  }
  const int64_t n = static_cast<int64_t>(count) / batch_size_;
  if (n > capacity_ - length_) {
    throw Error(ErrorCode::kOptions, "the decoder holds " + std::to_string(length_) + " of " +
                                         std::to_string(capacity_) + " positions: no room for " + std::to_string(n) +
                                         " more");
  }
  model_.CheckIds(ids, count, n);
  model_.RefreshCopy();

  const int64_t before = length_;
  const bool int8 = int8_ && before > 0 && n == 1;
  if (int8) RefreshInt8();
  const Network& network = int8 ? int8_network_ : model_.network();
  try {
    for (int64_t first = 0; first < n; first += chunk_) {
      const int64_t part = std::min(chunk_, n - first);
      std::vector<int32_t> part_ids(static_cast<size_t>(batch_size_ * part));
      for (int64_t b = 0; b < batch_size_; ++b) std::copy_n(ids + b * n + first, part, part_ids.data() + b * part);
      RunPositions(network, part_ids, part, first + part == n);
      length_ += part;
    }
    const int64_t v = model_.config().vocab_size, vp = model_.config().padded_vocab();
    for (int64_t b = 0; b < batch_size_; ++b) {
      model_.network().backend->Download(logits + b * v, logits_.as<float>() + b * vp, sizeof(float) * v);
    }
  } catch (...) {
    length_ = before;
    throw;
  }
}

void Decoder::RunPositions(const Network& network, const std::vector<int32_t>& ids, int64_t n, bool last) {
  const Config& config = network.config;
  Backend& backend = *network.backend;
  const int64_t rows = batch_size_ * n, c = config.n_embd;
  const Tensor residual = residual_.rows(0, rows), normed = normed_.rows(0, rows), branch = branch_.rows(0, rows),
               qkv = qkv_.rows(0, rows), attended = attention_.rows(0, rows), gelu = gelu_.rows(0, rows),
               pre_gelu = pre_gelu_.rows(0, rows);

  EmbeddingForward embedding;
  embedding.ids = Tensor(ids_.data, DType::kI32, {batch_size_, n});
  embedding.wte = network.master.wte;
  embedding.wpe = network.master.wpe;
  embedding.out = Tensor(residual.data, DType::kF32, {batch_size_, n, c});
  embedding.position = length_;
  backend.Upload(embedding.ids.data, ids.data(), embedding.ids.bytes());
  backend.Run(embedding);

  LayerNormForward norm;
  norm.x = residual;
  norm.sum = residual;
  norm.out = normed;
  norm.eps = config.layer_norm_epsilon;
  for (int64_t l = 0; l < config.n_layer; ++l) {
    const LayerWeights& master = network.master.layers[l];
    const LayerWeights& compute = network.compute.layers[l];
    norm.weight = master.ln_1_weight;
    norm.bias = master.ln_1_bias;
    backend.Run(norm);
    Linear(network, normed, compute.c_attn_weight, master.c_attn_bias, qkv);
    AttentionCached attention;
    attention.b = batch_size_;
    attention.n = n;
    attention.h = config.n_head;
    attention.d = config.head_size();
    attention.past = length_;
    attention.capacity = capacity_;
    attention.qkv = qkv;
    attention.keys = keys_[l];
    attention.values = values_[l];
    attention.out = attended;
    backend.Run(attention);
    Linear(network, attended, compute.c_proj_weight, master.c_proj_bias, branch);

    norm.addend = branch;
    norm.weight = master.ln_2_weight;
    norm.bias = master.ln_2_bias;
    backend.Run(norm);
    Linear(network, normed, compute.c_fc_weight, master.c_fc_bias, gelu, Epilogue::kGelu, pre_gelu);
    Linear(network, gelu, compute.mlp_proj_weight, master.mlp_proj_bias, branch);
  }
  if (!last) return;

  norm.weight = network.master.ln_f_weight;
  norm.bias = network.master.ln_f_bias;
  for (int64_t b = 0; b < batch_size_; ++b) {
    const int64_t row = b * n + n - 1;
    norm.x = residual.rows(row, 1);
    norm.sum = norm.x;
    norm.addend = branch.rows(row, 1);
    norm.out = last_.rows(b, 1);
    backend.Run(norm);
  }
  RunHead(network, last_, logits_);
}

}  // namespace kotodama
