#pragma once

#include <napi.h>

#include <cstdint>
#include <string>
#include <vector>

#include "addon/session.h"

// Reads the arguments of NativeModel's calls (lib/native.ts). As those of addon/arguments.h, every function throws
// Error(kOptions).

namespace kotodama {

constexpr int64_t kMostInt32 = (int64_t{1} << 31) - 1;

Config RequireConfig(const Napi::Value& value);
ModelOptions RequireModelOptions(const Napi::Object& object);
StepOptions RequireStepOptions(const Napi::Value& value);
TensorKind RequireKind(const Napi::Value& value);
BatchShape RequireShape(const Napi::Value& batch_size, const Napi::Value& block_size);
std::vector<int32_t> RequireBatch(const Napi::Value& value, const std::string& name, BatchShape shape);

struct LabelledBatch {
  std::vector<int32_t> ids, labels;
  BatchShape shape;
};

// The first four arguments of forwardBackward, trainStep and evaluate.
LabelledBatch RequireLabelledBatch(const Napi::CallbackInfo& info);
// What may be announced of the next batch, from this argument on; its shape is not known yet.
LabelledBatch RequireNext(const Napi::CallbackInfo& info, size_t argument);

}  // namespace kotodama
