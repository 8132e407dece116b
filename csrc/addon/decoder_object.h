#pragma once

#include <napi.h>

#include <cstdint>
#include <memory>

#include "addon/session.h"

namespace kotodama {

// NativeDecoder of lib/native.ts.
class DecoderObject : public Napi::ObjectWrap<DecoderObject> {
 public:
  static Napi::Function Define(Napi::Env env);
  // The object for decoder `id` of the session.
  static Napi::Value New(Napi::Env env, const std::shared_ptr<Session>& session, uint32_t id);

  // Only the addon constructs: with an External of a session and the decoder's number.
  explicit DecoderObject(const Napi::CallbackInfo& info);
  ~DecoderObject() override;

 private:
  Napi::Value Length(const Napi::CallbackInfo& info);
  Napi::Value Append(const Napi::CallbackInfo& info);
  void Reset(const Napi::CallbackInfo& info);
  Napi::Value Dispose(const Napi::CallbackInfo& info);

  // Throws Error(kBusy) or Error(kDisposed).
  Decoder& RequireDecoder();

  std::shared_ptr<Session> session_;
  uint32_t id_ = 0;
  bool disposed_ = false;
};

}  // namespace kotodama
