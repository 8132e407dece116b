#pragma once

#include <napi.h>

#include <memory>
#include <vector>

#include "addon/session.h"

namespace kotodama {

// What one JavaScript environment (the main thread or a worker) holds of the addon. There is no state beyond it.
class InstanceData {
 public:
  explicit InstanceData(Napi::Env env);

  std::shared_ptr<Session> NewSession(Napi::Env env);

  Napi::FunctionReference model_class;
  Napi::FunctionReference decoder_class;

 private:
  // Frees device memory while the environment and the driver are still alive.
  void FreeAll();

  std::vector<std::weak_ptr<Session>> sessions_;
};

}  // namespace kotodama
