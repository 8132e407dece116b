#include "addon/decoder_object.h"

#include <algorithm>
#include <vector>

#include "addon/arguments.h"
#include "addon/errors.h"
#include "addon/instance_data.h"
#include "addon/job.h"

namespace kotodama {
namespace {

// Into the caller's array only now: while the work ran, JavaScript may have transferred or shrunk what is behind it.
Napi::Value CopyToOwner(const Napi::Object& owner, const std::vector<float>& logits) {
  auto array = RequireRoom(owner, "logits", logits.size());
  std::copy(logits.begin(), logits.end(), array.Data());
  return array;
}

}  // namespace

Napi::Function DecoderObject::Define(Napi::Env env) {
  // Methods all, no accessors: Node-API checks the receiver's class of a method alone.
  return DefineClass(
      env, "NativeDecoder",
      {InstanceMethod<&DecoderObject::Length>("length"), InstanceMethod<&DecoderObject::Append>("append"),
       InstanceMethod<&DecoderObject::Reset>("reset"), InstanceMethod<&DecoderObject::Dispose>("dispose")});
}

Napi::Value DecoderObject::New(Napi::Env env, const std::shared_ptr<Session>& session, uint32_t id) {
  std::shared_ptr<Session> shared = session;
  return env.GetInstanceData<InstanceData>()->decoder_class.New(
      {Napi::External<std::shared_ptr<Session>>::New(env, &shared), Napi::Number::New(env, id)});
}

DecoderObject::DecoderObject(const Napi::CallbackInfo& info) : ObjectWrap(info) {
  if (!info[0].IsExternal()) throw Napi::TypeError::New(info.Env(), "use model.createDecoder()");
  session_ = *info[0].As<Napi::External<std::shared_ptr<Session>>>().Data();
  id_ = info[1].As<Napi::Number>().Uint32Value();
}

DecoderObject::~DecoderObject() {
  if (session_ && !disposed_) session_->WhenIdle([session = session_.get(), id = id_] { session->CloseDecoder(id); });
}

Decoder& DecoderObject::RequireDecoder() {
  if (disposed_) throw Error(ErrorCode::kDisposed, "this decoder was disposed");
  session_->RequireIdle();
  return *session_->decoder(id_);
}

Napi::Value DecoderObject::Length(const Napi::CallbackInfo& info) {
  return Sync(info.Env(), [&]() -> Napi::Value {
    return Napi::Number::New(info.Env(), static_cast<double>(RequireDecoder().length()));
  });
}

Napi::Value DecoderObject::Append(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return Async(env, [&]() -> Napi::Value {
    std::vector<int32_t> ids = RequireIds(info[0], "inputIds");
    Decoder& decoder = RequireDecoder();
    const size_t size = static_cast<size_t>(decoder.batch_size() * session_->model().config().vocab_size);
    auto logits = info[1].IsUndefined() ? NewFloats(env, size) : RequireRoom(info[1], "logits", size);
    return StartJob(
        env, session_, logits,
        [&decoder, ids = std::move(ids), size] {
          std::vector<float> values(size);
          decoder.Append(ids.data(), ids.size(), values.data());
          return values;
        },
        [&decoder, before = decoder.length()](const Napi::Object& owner, const std::vector<float>& values) {
          try {
            return CopyToOwner(owner, values);
          } catch (...) {
            decoder.Reset(before);
            throw;
          }
        });
  });
}

void DecoderObject::Reset(const Napi::CallbackInfo& info) {
  Sync(info.Env(), [&] { RequireDecoder().Reset(); });
}

Napi::Value DecoderObject::Dispose(const Napi::CallbackInfo& info) {
  const auto deferred = Napi::Promise::Deferred::New(info.Env());
  disposed_ = true;
  session_->WhenIdle([session = session_.get(), id = id_, deferred, env = info.Env()] {
    session->CloseDecoder(id);
    deferred.Resolve(env.Undefined());
  });
  return deferred.Promise();
}

}  // namespace kotodama
