#include <napi.h>

#include <memory>
#include <string>
#include <vector>

#include "addon/arguments.h"
#include "addon/decoder_object.h"
#include "addon/device_check.h"
#include "addon/devices.h"
#include "addon/errors.h"
#include "addon/instance_data.h"
#include "addon/job.h"
#include "addon/model_object.h"
#include "cuda/cuda_backend.h"

// NativeAddon of lib/native.ts.

namespace kotodama {
namespace {

Napi::Value TextOrNull(Napi::Env env, const std::string& text) {
  return text.empty() ? env.Null() : Napi::Value(Napi::String::New(env, text));
}

// Off the event loop: the driver takes seconds to start where there are several GPUs.
Napi::Value ListDeviceNames(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return Async(env, [&]() -> Napi::Value {
    const auto to_array = [](const Napi::Object& owner, const std::vector<std::string>& names) -> Napi::Value {
      const Napi::Env env = owner.Env();
      auto array = Napi::Array::New(env, names.size());
      for (uint32_t i = 0; i < names.size(); ++i) array.Set(i, Napi::String::New(env, names[i]));
      return array;
    };
    return StartJob(env, std::make_shared<Session>(env), Napi::Object::New(env), DeviceNames, to_array);
  });
}

Napi::Value StartExamination(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return Async(env, [&]() -> Napi::Value {
    const std::string device = RequireString(info[0], "device");
    const auto to_object = [](const Napi::Object& owner, const NamedDevice& found) -> Napi::Value {
      const Napi::Object object = DeviceToObject(owner.Env(), found);
      object.Set("problem", TextOrNull(owner.Env(), found.problem));
      return object;
    };
    const auto work = [device] { return ExamineDevice(device); };
    return StartJob(env, std::make_shared<Session>(env), Napi::Object::New(env), work, to_object);
  });
}

Napi::Value DescribeCudaProblem(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return Sync(env, [&] { return TextOrNull(env, CudaProblem()); });
}

Napi::Value DescribeCuda(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return Sync(env, [&]() -> Napi::Value {
    auto object = Napi::Object::New(env);
    object.Set("kernels", TextOrNull(env, CudaKernels()));
    object.Set("driver", TextOrNull(env, CudaDriver()));
    object.Set("driverProblem", TextOrNull(env, CudaDriverProblem()));
    return object;
  });
}

Napi::Value StartDeviceCheck(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return Async(env, [&]() -> Napi::Value {
    const std::string device = RequireString(info[0], "device");
    const auto work = [device] {
      CheckDevice(device);
      return Nothing();
    };
    return StartJob(env, std::make_shared<Session>(env), Napi::Object::New(env), work, ToUndefined);
  });
}

Napi::Object Init(Napi::Env env, Napi::Object exports) {
  auto* data = new InstanceData(env);
  env.SetInstanceData(data);  // which deletes it
  data->model_class = Napi::Persistent(ModelObject::Define(env));
  data->decoder_class = Napi::Persistent(DecoderObject::Define(env));
  exports.Set("createModel", Napi::Function::New<&ModelObject::Create>(env, "createModel"));
  exports.Set("deviceNames", Napi::Function::New<&ListDeviceNames>(env, "deviceNames"));
  exports.Set("examineDevice", Napi::Function::New<&StartExamination>(env, "examineDevice"));
  exports.Set("cudaProblem", Napi::Function::New<&DescribeCudaProblem>(env, "cudaProblem"));
  exports.Set("cuda", Napi::Function::New<&DescribeCuda>(env, "cuda"));
  exports.Set("checkDevice", Napi::Function::New<&StartDeviceCheck>(env, "checkDevice"));
  return exports;
}

NODE_API_MODULE(kotodama, Init)

}  // namespace
}  // namespace kotodama
