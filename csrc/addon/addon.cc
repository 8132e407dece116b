#include <napi.h>

#include <memory>
#include <string>

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
Napi::Value ListDevices(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return Async(env, [&]() -> Napi::Value {
    const auto to_array = [](const Napi::Object& owner, const std::vector<NamedDevice>& devices) -> Napi::Value {
      const Napi::Env env = owner.Env();
      auto array = Napi::Array::New(env, devices.size());
      for (uint32_t i = 0; i < devices.size(); ++i) {
        const Napi::Object device = DeviceToObject(env, devices[i]);
        device.Set("problem", TextOrNull(env, devices[i].problem));
        array.Set(i, device);
      }
      return array;
    };
    return StartJob(env, std::make_shared<Session>(env), Napi::Object::New(env), Devices, to_array);
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
  exports.Set("devices", Napi::Function::New<&ListDevices>(env, "devices"));
  exports.Set("cudaProblem", Napi::Function::New<&DescribeCudaProblem>(env, "cudaProblem"));
  exports.Set("cuda", Napi::Function::New<&DescribeCuda>(env, "cuda"));
  exports.Set("checkDevice", Napi::Function::New<&StartDeviceCheck>(env, "checkDevice"));
  return exports;
}

NODE_API_MODULE(kotodama, Init)

}  // namespace
}  // namespace kotodama
