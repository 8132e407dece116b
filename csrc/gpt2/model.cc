#include "gpt2/model.h"

#include <algorithm>
#include <iterator>
#include <vector>

#include "error.h"
#include "gpt2/attention_probabilities.h"
#include "gpt2/initialize.h"

namespace kotodama {
namespace {

const Config& Validated(const Config& config) {
  Validate(config);
  return config;
}

}  // namespace

Model::Model(const Config& config, Precision precision, uint64_t seed, Backend& backend, Start start,
             CopyRounding rounding)
    : table_(Validated(config)), precision_(precision), rounding_(rounding) {
  if (rounding == CopyRounding::kStochastic && precision != Precision::kBF16) {
    throw Error(ErrorCode::kOptions,
                "stochasticRounding: expected precision bf16, received fp32, which rounds no copy of the weights");
  }
  if (precision == Precision::kBF16 && !backend.SupportsBF16()) {
    throw Error(ErrorCode::kDevice, "this device cannot compute in bf16; use precision fp32");
  }
  backend.RequireWidth(config.n_embd);
  network_.config = config;
  network_.backend = &backend;
  network_.compute_type = precision == Precision::kBF16 ? DType::kBF16 : DType::kF32;
  dropout_.seed = seed;
  Freeze({});

  RequireFree(Plan({1, 1}).parameters, backend.Info().free_bytes,
              "a model of " + std::to_string(table_.total) + " parameters", "use a smaller model");
  state_ = DeviceBuffer(backend, sizeof(DeviceState));
  network_.dropout_key = &state()->dropout;
  parameters_ = DeviceBuffer(backend, static_cast<size_t>(table_.total) * sizeof(float));
  network_.master = ViewOf(table_, config, parameters_.data(), DType::kF32, table_.total);
  network_.compute = network_.master;
  if (precision == Precision::kBF16) {
    compute_ = DeviceBuffer(backend, static_cast<size_t>(table_.decayed) * SizeOf(DType::kBF16));
    network_.compute = ViewOf(table_, config, compute_.data(), DType::kBF16, table_.decayed);
  }
  if (start == Start::kZeros) {
    backend.Zero(parameters_.data(), parameters_.bytes());
    if (compute_) backend.Zero(compute_.data(), compute_.bytes());
    return;
  }
  for (size_t i = 0; i < table_.list.size(); ++i) {
    const Parameter& parameter = table_.list[i];
    float* target = ArenaOf(TensorKind::kParam) + parameter.offset;
    InitialValues(config, parameter, static_cast<uint32_t>(i), seed,
                  [&](int64_t first, const std::vector<float>& values) {
                    backend.Upload(target + first, values.data(), values.size() * sizeof(float));
                  });
    ParameterWritten(parameter);
  }
}

double Model::PeakFlops() const {
  return network_.backend->PeakFlops(network_.compute_type);
}

size_t Model::held_bytes() const {
  size_t bytes = 0;
  for (const DeviceBuffer* buffer :
       {&state_, &parameters_, &compute_, &gradients_, &exp_avg_, &exp_avg_sq_, &activations_}) {
    bytes += buffer->bytes();
  }
  return bytes;
}

uint64_t Model::RecordKey(Pass pass, BatchShape shape) {
  const auto [entry, is_new] = record_keys_.try_emplace({pass, shape.b, shape.t}, next_record_key_);
  if (is_new) ++next_record_key_;
  return entry->second;
}

void Model::ForgetRecording(Pass pass, BatchShape shape) {
  const auto entry = record_keys_.find({pass, shape.b, shape.t});
  if (entry == record_keys_.end()) return;
  network_.backend->Forget(entry->second);
  record_keys_.erase(entry);
}

void Model::ForgetBatchRecordings() {
  for (auto entry = record_keys_.begin(); entry != record_keys_.end();) {
    const bool has_batch = std::get<1>(entry->first) > 0;
    if (has_batch) network_.backend->Forget(entry->second);
    entry = has_batch ? record_keys_.erase(entry) : std::next(entry);
  }
}

// ---- What comes from outside ----

void Model::CheckShape(BatchShape shape) const {
  if (shape.b < 1 || shape.b > kMostRows) {
    throw Error(ErrorCode::kOptions, "batchSize: expected an integer from 1 to " + std::to_string(kMostRows) +
                                         ", received " + std::to_string(shape.b));
  }
  if (shape.t < 1 || shape.t > config().n_positions) {
    throw Error(ErrorCode::kOptions, "blockSize: expected an integer from 1 to nPositions " +
                                         std::to_string(config().n_positions) + ", received " +
                                         std::to_string(shape.t));
  }
  if (shape.rows() > kMostRows) {
    throw Error(ErrorCode::kOptions, Text(shape) + ": a batch holds at most 2^30 tokens");
  }
}

void Model::CheckLayer(int64_t layer) const {
  if (layer >= 0 && layer < config().n_layer) return;
  throw Error(ErrorCode::kOptions, "layer: expected an integer from 0 to " + std::to_string(config().n_layer - 1) +
                                       ", received " + std::to_string(layer));
}

void Model::CheckIds(const int32_t* ids, size_t count, int64_t columns) const {
  for (size_t i = 0; i < count; ++i) {
    if (ids[i] >= 0 && ids[i] < config().vocab_size) continue;
    throw Error(ErrorCode::kOptions, "inputIds: expected ids from 0 to " + std::to_string(config().vocab_size - 1) +
                                         " (vocabSize " + std::to_string(config().vocab_size) + "), received " +
                                         std::to_string(ids[i]) + " at sequence " +
                                         std::to_string(i / static_cast<size_t>(columns)) + ", position " +
                                         std::to_string(i % static_cast<size_t>(columns)));
  }
}

void Model::CheckBatch(const int32_t* ids, const int32_t* labels, BatchShape shape) const {
  CheckShape(shape);
  CheckIds(ids, static_cast<size_t>(shape.rows()), shape.t);
  if (labels == nullptr) return;
  for (int64_t i = 0; i < shape.rows(); ++i) {
    if ((labels[i] >= 0 && labels[i] < config().vocab_size) || labels[i] == kIgnoredLabel) continue;
    throw Error(ErrorCode::kOptions, "labels: expected ids from 0 to " + std::to_string(config().vocab_size - 1) +
                                         ", or -100 for none, received " + std::to_string(labels[i]) + " at sequence " +
                                         std::to_string(i / shape.t) + ", position " + std::to_string(i % shape.t));
  }
}

Activations Model::Prepare(const int32_t* ids, const int32_t* labels, BatchShape shape, bool training) {
  RefreshCopy();
  const DType x = network_.compute_type;
  const size_t logit_bytes = network_.backend->LogitBytes();
  // Training has reserved its memory.
  const Keep keep = training ? kept_.at({shape.b, shape.t}) : Keep::kLess;
  EnsureActivations(LayOut(config(), x, logit_bytes, shape, training, keep, nullptr, nullptr), shape);
  Activations activations;
  LayOut(config(), x, logit_bytes, shape, training, keep, activations_.data(), &activations);
  network_.backend->Upload(activations.ids.data, ids, activations.ids.bytes());
  if (labels != nullptr) network_.backend->Upload(activations.labels.data, labels, activations.labels.bytes());
  return activations;
}

void Model::Prefetch(const NextBatch& next) {
  if (next.count == 0) return;
  Backend& backend = *network_.backend;
  backend.Prefetch(next.ids, next.count * sizeof(int32_t));
  backend.Prefetch(next.labels, next.count * sizeof(int32_t));
  DropoutKey dropout = dropout_;
  ++dropout.micro_step;
  backend.Prefetch(&dropout, sizeof(dropout));
}

// ---- Passes ----

LossTotals Model::ForwardBackward(const int32_t* ids, const int32_t* labels, BatchShape shape, const NextBatch& next) {
  CheckBatch(ids, labels, shape);
  Reserve(shape);
  Backend& backend = *network_.backend;
  const Activations activations = Prepare(ids, labels, shape, true);
  dropout_.micro_step = static_cast<uint64_t>(counters_.micro_step);
  backend.Upload(&state()->dropout, &dropout_, sizeof(dropout_));

  const bool accumulate = gradient_passes_ > 0;
  LossTotals totals;
  try {
    backend.Record(RecordKey(accumulate ? Pass::kTrainAccumulate : Pass::kTrain, shape), [&] {
      RunForward(network_, activations, true);
      RunLoss(network_, activations, &gradient_views_, accumulate);
      RunBackward(network_, activations, gradient_views_, accumulate);
      backend.ReduceLoss(activations.losses, activations.labels, &state()->totals);
    });
    ZeroFrozen();
    Prefetch(next);  // while the device computes, and before this waits for it
    backend.Download(&totals, &state()->totals, sizeof(totals));
  } catch (...) {
    ZeroGradients();  // they may be half written
    throw;
  }
  worked_in_ = std::max(worked_in_, WorkingBytes(shape));
  ++counters_.micro_step;
  ++gradient_passes_;
  gradient_labels_ += totals.count;
  return totals;
}

LossTotals Model::Evaluate(const int32_t* ids, const int32_t* labels, BatchShape shape) {
  CheckBatch(ids, labels, shape);
  Backend& backend = *network_.backend;
  const Activations activations = Prepare(ids, labels, shape, false);
  backend.Record(RecordKey(Pass::kEvaluate, shape), [&] {
    RunForward(network_, activations, false);
    RunLoss(network_, activations, nullptr, false);
    backend.ReduceLoss(activations.losses, activations.labels, &state()->totals);
  });
  LossTotals totals;
  backend.Download(&totals, &state()->totals, sizeof(totals));
  return totals;
}

void Model::Forward(const int32_t* ids, BatchShape shape, float* logits) {
  CheckBatch(ids, nullptr, shape);
  Backend& backend = *network_.backend;
  const Activations activations = Prepare(ids, nullptr, shape, false);
  backend.Record(RecordKey(Pass::kForward, shape), [&] { RunForward(network_, activations, false); });

  const int64_t n = shape.rows(), v = config().vocab_size, vp = config().padded_vocab();
  const int64_t chunk = static_cast<int64_t>(activations.logits.bytes() / sizeof(float)) / vp;
  RequireRoomForResult(n * v + std::min(chunk, n) * vp, "forward with " + Text(shape));
  std::vector<float> padded(static_cast<size_t>(std::min(chunk, n) * vp));
  for (int64_t first = 0; first < n; first += chunk) {
    const int64_t rows = std::min(chunk, n - first);
    const Tensor out(activations.logits.data, DType::kF32, {rows, vp});
    RunHead(network_, activations.normed.rows(first, rows), out);
    backend.Download(padded.data(), out.data, out.bytes());
    for (int64_t row = 0; row < rows; ++row) {
      std::copy_n(padded.data() + row * vp, v, logits + (first + row) * v);
    }
  }
}

void Model::Attention(const int32_t* ids, BatchShape shape, int64_t layer, float* probabilities) {
  CheckBatch(ids, nullptr, shape);
  CheckLayer(layer);
  Backend& backend = *network_.backend;
  const Activations activations = Prepare(ids, nullptr, shape, false);
  // All layers share their memory here: after the layers up to the one that is asked for, it holds that one's.
  Network part = network_;
  part.config.n_layer = layer + 1;
  RunForward(part, activations, false);

  const LayerActivations& source = activations.layers.front();
  const DeviceBuffer wide(backend, static_cast<size_t>(source.qkv.size()) * sizeof(float));
  backend.Cast(Tensor(wide.data(), DType::kF32, {source.qkv.size()}), source.qkv);
  RequireRoomForResult(shape.rows() * shape.t * config().n_head + source.qkv.size() + source.lse.size(),
                       "attention with " + Text(shape));
  std::vector<float> qkv(static_cast<size_t>(source.qkv.size())), lse(static_cast<size_t>(source.lse.size()));
  backend.Download(qkv.data(), wide.data(), wide.bytes());
  backend.Download(lse.data(), source.lse.data, source.lse.bytes());
  AttentionProbabilities(shape, config().n_head, config().head_size(), qkv.data(), lse.data(), probabilities);
}

// ---- Tensors and counters ----

float* Model::ArenaOf(TensorKind kind) {
  switch (kind) {
    case TensorKind::kParam:
      return static_cast<float*>(parameters_.data());
    case TensorKind::kGrad:
      return static_cast<float*>(gradients_.data());
    case TensorKind::kExpAvg:
      return static_cast<float*>(exp_avg_.data());
    case TensorKind::kExpAvgSq:
      return static_cast<float*>(exp_avg_sq_.data());
  }
  return nullptr;
}

void Model::ReadTensor(TensorKind kind, const std::string& name, float* values) {
  const Parameter& parameter = table_.Find(name);
  if (kind == TensorKind::kGrad && gradient_passes_ == 0) {
    throw Error(ErrorCode::kOptions, "there are no gradients: none were computed since the last step");
  }
  const float* arena = ArenaOf(kind);
  if (arena == nullptr) {  // moments before the first use
    std::fill_n(values, parameter.size, 0.0f);
    return;
  }
  network_.backend->Download(values, arena + parameter.offset, static_cast<size_t>(parameter.size) * sizeof(float));
  if (kind == TensorKind::kGrad && gradient_labels_ > 0) {
    const float scale = static_cast<float>(1.0 / static_cast<double>(gradient_labels_));
    for (int64_t i = 0; i < parameter.size; ++i) values[i] *= scale;
  }
}

void Model::WriteTensor(TensorKind kind, const std::string& name, const float* values, size_t count) {
  const Parameter& parameter = table_.Find(name);
  if (count != static_cast<size_t>(parameter.size)) {
    throw Error(ErrorCode::kOptions,
                name + ": expected " + std::to_string(parameter.size) + " numbers, received " + std::to_string(count));
  }
  if (kind != TensorKind::kParam) EnsureTrainingState();
  Backend& backend = *network_.backend;
  std::vector<float> sums;
  if (kind == TensorKind::kGrad) {
    if (gradient_passes_ == 0) backend.Zero(gradients_.data(), gradients_.bytes());
    gradient_passes_ = std::max<int64_t>(gradient_passes_, 1);
    gradient_labels_ = std::max<int64_t>(gradient_labels_, 1);
    sums.assign(values, values + count);
    for (float& value : sums) value *= static_cast<float>(gradient_labels_);
    values = sums.data();
  }
  float* target = ArenaOf(kind) + parameter.offset;
  backend.Upload(target, values, count * sizeof(float));
  if (kind == TensorKind::kGrad) ZeroFrozen();
  if (kind == TensorKind::kParam) ParameterWritten(parameter);
}

void Model::ParameterWritten(const Parameter& parameter) {
  ++network_.weight_version;
  if (!compute_ || !parameter.decay) return;
  const Span span = {parameter.offset, parameter.size, parameter.decay};
  if (rounding_ == CopyRounding::kNearest) network_.backend->Cast(CopyOf(span), PartOf(parameters_, span));
  copy_is_current_ = false;
}

void Model::set_counters(const Counters& counters) {
  if (counters.step < 0 || counters.micro_step < 0) {
    throw Error(ErrorCode::kOptions, "counters: expected step and microStep of at least 0");
  }
  copy_is_current_ = copy_is_current_ && counters.step == counters_.step;
  counters_ = counters;
}

// ---- The bf16 copy ----

Tensor Model::PartOf(const DeviceBuffer& arena, const Span& span) const {
  return {static_cast<float*>(arena.data()) + span.first, DType::kF32, {span.count}};
}

Tensor Model::CopyOf(const Span& span) const {
  return {static_cast<uint16_t*>(compute_.data()) + span.first, DType::kBF16, {span.count}};
}

StochasticRounding Model::RoundingFrom(int64_t first) const {
  if (rounding_ == CopyRounding::kNearest) return {};
  return {first, &state()->rounding};
}

void Model::UploadRoundingKey(int64_t step) {
  // Dropout and the weights' starting values draw with the same generator; another key keeps them apart.
  const RoundingKey key = {dropout_.seed ^ 0x726F756E64696E67, static_cast<uint64_t>(step)};
  network_.backend->Upload(&state()->rounding, &key, sizeof(key));
}

void Model::RefreshCopy() {
  if (rounding_ == CopyRounding::kNearest || copy_is_current_) return;
  UploadRoundingKey(counters_.step);
  Backend& backend = *network_.backend;
  for (const Span& span : trained_) {
    if (span.decay) backend.Round(CopyOf(span), PartOf(parameters_, span), RoundingFrom(span.first));
  }
  // A copy of what no step changes must not depend on the step, or it would be another one after a resume.
  for (const Span& span : frozen_) {
    if (span.decay) backend.Cast(CopyOf(span), PartOf(parameters_, span));
  }
  ++network_.weight_version;
  copy_is_current_ = true;
}

}  // namespace kotodama
