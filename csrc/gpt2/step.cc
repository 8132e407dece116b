#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <limits>
#include <set>

#include "error.h"
#include "gpt2/model.h"

namespace kotodama {
namespace {

// All of them in fp32, as they are used: 1e39 is infinite there.
void Require(bool valid, const char* name, const char* expected, double value) {
  if (valid && std::isfinite(static_cast<float>(value))) return;
  char text[32];
  std::snprintf(text, sizeof(text), "%.9g", value);
  throw Error(ErrorCode::kOptions, std::string(name) + ": expected " + expected + " (in float32), received " + text);
}

bool IsBeta(double value) {
  return value >= 0 && static_cast<float>(value) < 1;
}

void Validate(const StepOptions& options) {
  Require(options.learning_rate >= 0, "learningRate", "a number of at least 0", options.learning_rate);
  Require(IsBeta(options.beta1), "beta1", "a number of at least 0 and below 1", options.beta1);
  Require(IsBeta(options.beta2), "beta2", "a number of at least 0 and below 1", options.beta2);
  // A device may take subnormal numbers for 0, and 0 would divide 0 by 0 where a gradient was never seen.
  Require(static_cast<float>(options.eps) >= std::numeric_limits<float>::min(), "eps",
          "a number of at least 1.17549435e-38", options.eps);
  Require(options.weight_decay >= 0, "weightDecay", "a number of at least 0", options.weight_decay);
  const bool clips = static_cast<float>(options.max_grad_norm) > 0;
  Require(clips || options.max_grad_norm == 0, "maxGradNorm", "a number of at least 0 (0: no clipping)",
          options.max_grad_norm);
}

}  // namespace

StepResult Model::Step(const StepOptions& options) {
  Validate(options);
  RequireGradients("step");
  Backend& backend = *network_.backend;
  const double t = static_cast<double>(counters_.step + 1);
  OptimizerScalars scalars;
  scalars.learning_rate = static_cast<float>(options.learning_rate);
  scalars.beta1 = static_cast<float>(options.beta1);
  scalars.beta2 = static_cast<float>(options.beta2);
  scalars.eps = static_cast<float>(options.eps);
  scalars.weight_decay = static_cast<float>(options.weight_decay);
  scalars.correction1 = static_cast<float>(1 - std::pow(options.beta1, t));
  scalars.correction2 = static_cast<float>(1 - std::pow(options.beta2, t));
  scalars.gradient_scale = static_cast<float>(1.0 / static_cast<double>(gradient_labels_));
  scalars.max_grad_norm = static_cast<float>(options.max_grad_norm);
  backend.Upload(&state()->scalars, &scalars, sizeof(scalars));
  if (rounding_ == CopyRounding::kStochastic) UploadRoundingKey(counters_.step + 1);

  // From here on the gradients are used up, and parameters may change even if the device fails half-way.
  ZeroGradients();
  ++network_.weight_version;
  backend.Record(RecordKey(Pass::kStep, {}), [&] {
    backend.GlobalNorm(Tensor(gradients_.data(), DType::kF32, {table_.total}), &state()->scalars);
    for (const Span& span : trained_) {
      AdamW update;
      update.param = PartOf(parameters_, span);
      update.grad = PartOf(gradients_, span);
      update.exp_avg = PartOf(exp_avg_, span);
      update.exp_avg_sq = PartOf(exp_avg_sq_, span);
      if (span.decay && compute_) {
        update.compute = CopyOf(span);
        update.rounding = RoundingFrom(span.first);
      }
      update.decay = span.decay;
      update.scalars = &state()->scalars;
      backend.Run(update);
    }
  });
  backend.Download(&scalars, &state()->scalars, sizeof(scalars));
  const bool applied = scalars.applied != 0;
  if (applied) ++counters_.step;
  return {scalars.grad_norm, applied};
}

TrainStepResult Model::TrainStep(const int32_t* ids, const int32_t* labels, BatchShape shape,
                                 const StepOptions& options, const NextBatch& next) {
  Validate(options);  // before the gradients change
  TrainStepResult result;
  result.loss = ForwardBackward(ids, labels, shape, next);
  if (!std::isfinite(result.loss.sum) || gradient_labels_ == 0) {
    ZeroGradients();
    result.step.grad_norm = std::numeric_limits<double>::quiet_NaN();
    return result;
  }
  const auto begin = std::chrono::steady_clock::now();
  result.step = Step(options);
  result.update_seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  return result;
}

double Model::GradientNorm() {
  RequireGradients("gradientNorm");
  Backend& backend = *network_.backend;
  OptimizerScalars scalars;
  scalars.gradient_scale = static_cast<float>(1.0 / static_cast<double>(gradient_labels_));
  backend.Upload(&state()->scalars, &scalars, sizeof(scalars));
  backend.Record(RecordKey(Pass::kNorm, {}), [&] {
    backend.GlobalNorm(Tensor(gradients_.data(), DType::kF32, {table_.total}), &state()->scalars);
  });
  backend.Download(&scalars, &state()->scalars, sizeof(scalars));
  return scalars.grad_norm;
}

void Model::RequireGradients(const std::string& call) const {
  if (gradient_passes_ == 0) {
    throw Error(ErrorCode::kOptions, call + ": there are no gradients; call forwardBackward first");
  }
  if (gradient_labels_ == 0) {
    throw Error(ErrorCode::kOptions, call + ": no label was counted since the last step; all of them are -100");
  }
}

void Model::Freeze(const std::vector<std::string>& names) {
  const std::set<std::string> frozen(names.begin(), names.end());
  for (const std::string& name : frozen) table_.Find(name);
  if (frozen.size() == table_.list.size()) {
    throw Error(ErrorCode::kOptions, "freeze: nothing is left to train");
  }
  std::vector<const Parameter*> in_order;
  for (const Parameter& parameter : table_.list) in_order.push_back(&parameter);
  std::sort(in_order.begin(), in_order.end(),
            [](const Parameter* a, const Parameter* b) { return a->offset < b->offset; });
  trained_.clear();
  frozen_.clear();
  for (size_t i = 0; i < in_order.size(); ++i) {
    const Parameter& parameter = *in_order[i];
    const int64_t end = i + 1 < in_order.size() ? in_order[i + 1]->offset : table_.total;
    std::vector<Span>& spans = frozen.count(parameter.name) > 0 ? frozen_ : trained_;
    // Neighbours become one: each span is a launch of its own on a device.
    if (!spans.empty() && spans.back().first + spans.back().count == parameter.offset &&
        spans.back().decay == parameter.decay) {
      spans.back().count = end - spans.back().first;
    } else {
      spans.push_back({parameter.offset, end - parameter.offset, parameter.decay});
    }
  }
  ForgetRecording(Pass::kStep, {});
  copy_is_current_ = false;
  if (gradient_passes_ > 0) ZeroFrozen();
}

void Model::ZeroFrozen() {
  for (const Span& span : frozen_) {
    network_.backend->Zero(static_cast<float*>(gradients_.data()) + span.first,
                           static_cast<size_t>(span.count) * sizeof(float));
  }
}

void Model::ZeroGradients() {
  gradient_passes_ = 0;
  gradient_labels_ = 0;
}

}  // namespace kotodama
