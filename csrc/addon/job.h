#pragma once

#include <napi.h>

#include <memory>
#include <mutex>
#include <optional>
#include <type_traits>
#include <utility>

#include "addon/errors.h"
#include "addon/session.h"

namespace kotodama {

// The result of work that has none.
struct Nothing {};

// One call on a session, off the event loop: `work()` runs on a thread of libuv's pool and touches no JavaScript, then
// `finish(owner, result)` makes the promise's value on the JavaScript thread. The session is busy until that is done.
// `owner` (the object of the call, or an array for its result) is kept alive until then. Only an array that JavaScript
// has not seen yet may be filled by the work itself: JavaScript can take the memory of its own arrays away at any time.
template <typename Work, typename Finish>
class Job final : public Napi::AsyncWorker {
 public:
  Job(Napi::Env env, std::shared_ptr<Session> session, Napi::Object owner, Work work, Finish finish)
      : AsyncWorker(env, "kotodama"),
        session_(std::move(session)),
        owner_(Napi::Persistent(owner)),
        work_(std::move(work)),
        finish_(std::move(finish)),
        deferred_(Napi::Promise::Deferred::New(env)) {}

  Napi::Promise promise() const { return deferred_.Promise(); }

  void Execute() override {
    try {
      const std::lock_guard<std::mutex> lock(session_->mutex());
      result_ = work_();
    } catch (...) {
      failure_ = CurrentFailure();
    }
  }

  void OnOK() override {
    // A worker thread that was terminated meanwhile can run no JavaScript: nobody waits for the promise any more, and
    // the cleanup hook frees the session.
    if (!CanRunJavaScript(Env())) return;
    Settle();
    session_->End();
  }

 private:
  void Settle() {
    if (!failure_) {
      try {
        deferred_.Resolve(finish_(owner_.Value(), *result_));
        return;
      } catch (const Napi::Error& error) {
        deferred_.Reject(error.Value());
        return;
      } catch (...) {
        failure_ = CurrentFailure();
      }
    }
    deferred_.Reject(ErrorOf(Env(), *failure_).Value());
  }

  static bool CanRunJavaScript(napi_env env) {
    napi_value probe;
    return napi_create_object(env, &probe) == napi_ok && napi_set_named_property(env, probe, "probe", probe) == napi_ok;
  }

  std::shared_ptr<Session> session_;
  Napi::ObjectReference owner_;
  Work work_;
  Finish finish_;
  Napi::Promise::Deferred deferred_;
  std::optional<std::invoke_result_t<Work>> result_;
  std::optional<Failure> failure_;
};

// Starts a job whatever the session's state; the caller knows that nothing else runs on it.
template <typename Work, typename Finish>
Napi::Value QueueJob(Napi::Env env, const std::shared_ptr<Session>& session, Napi::Object owner, Work work,
                     Finish finish) {
  auto job = std::make_unique<Job<Work, Finish>>(env, session, owner, std::move(work), std::move(finish));
  const Napi::Promise promise = job->promise();
  job->Queue();
  session->Begin();
  job.release();  // it deletes itself
  return promise;
}

// Starts a job on an idle session. Throws Error(kBusy) or Error(kDisposed).
template <typename Work, typename Finish>
Napi::Value StartJob(Napi::Env env, const std::shared_ptr<Session>& session, Napi::Object owner, Work work,
                     Finish finish) {
  session->RequireIdle();
  return QueueJob(env, session, owner, std::move(work), std::move(finish));
}

// Finish of calls that give nothing, and of calls that fill their owner.
inline Napi::Value ToUndefined(const Napi::Object& owner, const Nothing&) {
  return owner.Env().Undefined();
}
inline Napi::Value ToOwner(const Napi::Object& owner, const Nothing&) {
  return owner;
}

}  // namespace kotodama
