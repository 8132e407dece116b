#include "addon/model_arguments.h"

#include "addon/arguments.h"
#include "error.h"

namespace kotodama {
namespace {

Precision RequirePrecision(const std::string& text) {
  if (text == "fp32") return Precision::kF32;
  if (text == "bf16") return Precision::kBF16;
  throw Error(ErrorCode::kOptions, "options.precision: expected 'fp32' or 'bf16', received '" + text + "'");
}

Start RequireStart(const std::string& text) {
  if (text == "random") return Start::kRandom;
  if (text == "zeros") return Start::kZeros;
  throw Error(ErrorCode::kOptions, "options.weights: expected 'random' or 'zeros', received '" + text + "'");
}

}  // namespace

Config RequireConfig(const Napi::Value& value) {
  const std::string name = "config";
  const Napi::Object object = RequireObject(value, name);
  const auto integer = [&](const char* key) { return IntegerIn(object, name, key, 0, kMostInt32); };
  const auto number = [&](const char* key) { return NumberIn(object, name, key); };
  Config config;
  config.vocab_size = integer("vocabSize");
  config.n_positions = integer("nPositions");
  config.n_embd = integer("nEmbd");
  config.n_layer = integer("nLayer");
  config.n_head = integer("nHead");
  config.n_inner = integer("nInner");
  config.layer_norm_epsilon = static_cast<float>(number("layerNormEpsilon"));
  config.initializer_range = number("initializerRange");
  config.embd_pdrop = static_cast<float>(number("embdPdrop"));
  config.attn_pdrop = static_cast<float>(number("attnPdrop"));
  config.resid_pdrop = static_cast<float>(number("residPdrop"));
  return config;
}

ModelOptions RequireModelOptions(const Napi::Object& object) {
  const std::string name = "options";
  ModelOptions options;
  options.device = StringIn(object, name, "device");
  options.threads = static_cast<int>(IntegerIn(object, name, "threads", 0, 1024));
  options.precision = RequirePrecision(StringIn(object, name, "precision"));
  const bool stochastic = BooleanIn(object, name, "stochasticRounding");
  options.rounding = stochastic ? CopyRounding::kStochastic : CopyRounding::kNearest;
  options.seed = static_cast<uint64_t>(IntegerIn(object, name, "seed", 0, kMaxSafeInteger));
  options.start = RequireStart(StringIn(object, name, "weights"));
  return options;
}

TensorKind RequireKind(const Napi::Value& value) {
  const std::string text = RequireString(value, "kind");
  if (text == "param") return TensorKind::kParam;
  if (text == "grad") return TensorKind::kGrad;
  if (text == "exp_avg") return TensorKind::kExpAvg;
  if (text == "exp_avg_sq") return TensorKind::kExpAvgSq;
  throw Error(ErrorCode::kOptions,
              "kind: expected 'param', 'grad', 'exp_avg' or 'exp_avg_sq', received '" + text + "'");
}

BatchShape RequireShape(const Napi::Value& batch_size, const Napi::Value& block_size) {
  return {RequireInteger(batch_size, "batchSize", 1, kMostRows),
          RequireInteger(block_size, "blockSize", 1, kMostInt32)};
}

std::vector<int32_t> RequireBatch(const Napi::Value& value, const std::string& name, BatchShape shape) {
  std::vector<int32_t> ids = RequireIds(value, name);
  if (ids.size() != static_cast<size_t>(shape.rows())) {
    throw Error(ErrorCode::kOptions, name + ": expected batchSize x blockSize = " + std::to_string(shape.b) + " x " +
                                         std::to_string(shape.t) + " ids, received " + std::to_string(ids.size()));
  }
  return ids;
}

LabelledBatch RequireLabelledBatch(const Napi::CallbackInfo& info) {
  LabelledBatch batch;
  batch.shape = RequireShape(info[2], info[3]);
  batch.ids = RequireBatch(info[0], "inputIds", batch.shape);
  batch.labels = RequireBatch(info[1], "labels", batch.shape);
  return batch;
}

LabelledBatch RequireNext(const Napi::CallbackInfo& info, size_t argument) {
  LabelledBatch next;
  if (info[argument].IsUndefined()) return next;
  next.ids = RequireIds(info[argument], "nextInputIds");
  next.labels = RequireIds(info[argument + 1], "nextLabels");
  if (next.ids.size() != next.labels.size()) {
    throw Error(ErrorCode::kOptions, "nextLabels: expected as many as nextInputIds, " +
                                         std::to_string(next.ids.size()) + ", received " +
                                         std::to_string(next.labels.size()));
  }
  return next;
}

StepOptions RequireStepOptions(const Napi::Value& value) {
  const std::string name = "options";
  const Napi::Object object = RequireObject(value, name);
  StepOptions options;
  options.learning_rate = NumberIn(object, name, "learningRate");
  options.beta1 = NumberIn(object, name, "beta1");
  options.beta2 = NumberIn(object, name, "beta2");
  options.eps = NumberIn(object, name, "eps");
  options.weight_decay = NumberIn(object, name, "weightDecay");
  options.max_grad_norm = NumberIn(object, name, "maxGradNorm");
  return options;
}

}  // namespace kotodama
