#include <napi.h>

#include "addon/decoder_object.h"
#include "addon/devices.h"
#include "addon/errors.h"
#include "addon/instance_data.h"
#include "addon/model_object.h"
#include "cuda/cuda_backend.h"

// NativeAddon of lib/native.ts.

namespace kotodama {
namespace {

Napi::Value ListDevices(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return Sync(env, [&]() -> Napi::Value {
    const std::vector<NamedDevice> devices = Devices();
    auto array = Napi::Array::New(env, devices.size());
    for (uint32_t i = 0; i < devices.size(); ++i) array.Set(i, DeviceToObject(env, devices[i]));
    return array;
  });
}

Napi::Value DescribeCudaProblem(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return Sync(env, [&]() -> Napi::Value {
    const std::string problem = CudaProblem();
    return problem.empty() ? env.Null() : Napi::Value(Napi::String::New(env, problem));
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
  return exports;
}

NODE_API_MODULE(kotodama, Init)

}  // namespace
}  // namespace kotodama
