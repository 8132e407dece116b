#pragma once

#include <napi.h>

#include <memory>

#include "addon/session.h"

namespace kotodama {

// NativeModel of lib/native.ts.
class ModelObject : public Napi::ObjectWrap<ModelObject> {
 public:
  static Napi::Function Define(Napi::Env env);
  // createModel(config, options)
  static Napi::Value Create(const Napi::CallbackInfo& info);

  // Only the addon constructs: with an External of a session.
  explicit ModelObject(const Napi::CallbackInfo& info);

 private:
  Napi::Value Device(const Napi::CallbackInfo& info);
  Napi::Value Tensors(const Napi::CallbackInfo& info);
  Napi::Value Plan(const Napi::CallbackInfo& info);
  Napi::Value PeakFlops(const Napi::CallbackInfo& info);
  Napi::Value Reserve(const Napi::CallbackInfo& info);
  Napi::Value ForwardBackward(const Napi::CallbackInfo& info);
  Napi::Value Step(const Napi::CallbackInfo& info);
  Napi::Value TrainStep(const Napi::CallbackInfo& info);
  Napi::Value GradientNorm(const Napi::CallbackInfo& info);
  Napi::Value ZeroGradients(const Napi::CallbackInfo& info);
  void Freeze(const Napi::CallbackInfo& info);
  Napi::Value Evaluate(const Napi::CallbackInfo& info);
  Napi::Value Forward(const Napi::CallbackInfo& info);
  Napi::Value Attention(const Napi::CallbackInfo& info);
  Napi::Value HiddenStates(const Napi::CallbackInfo& info);
  Napi::Value ReadTensor(const Napi::CallbackInfo& info);
  Napi::Value WriteTensor(const Napi::CallbackInfo& info);
  Napi::Value GetCounters(const Napi::CallbackInfo& info);
  void SetCounters(const Napi::CallbackInfo& info);
  Napi::Value CreateDecoder(const Napi::CallbackInfo& info);
  Napi::Value Dispose(const Napi::CallbackInfo& info);

  template <typename Size, typename Work>
  Napi::Value FillFrom(const Napi::CallbackInfo& info, const char* what, Size size_of, Work work);

  Napi::Object This() { return Value().As<Napi::Object>(); }

  std::shared_ptr<Session> session_;
};

// {device, name, detail, totalBytes, freeBytes}
Napi::Object DeviceToObject(Napi::Env env, const NamedDevice& device);

}  // namespace kotodama
