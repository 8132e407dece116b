#pragma once

#include <napi.h>

#include <exception>
#include <new>
#include <string>
#include <utility>

#include "error.h"

namespace kotodama {

// What a JavaScript error will say. Made on any thread.
struct Failure {
  std::string code;
  std::string message;
};

// Of the exception being handled.
inline Failure CurrentFailure() {
  try {
    throw;
  } catch (const Error& error) {
    return {NameOf(error.code()), error.what()};
  } catch (const std::bad_alloc&) {
    return {NameOf(ErrorCode::kMemory), "out of memory"};
  } catch (const std::exception& error) {
    return {NameOf(ErrorCode::kDevice), error.what()};
  } catch (...) {
    return {NameOf(ErrorCode::kDevice), "an unknown native failure"};
  }
}

inline Napi::Error ErrorOf(Napi::Env env, const Failure& failure) {
  Napi::Error error = Napi::Error::New(env, failure.message);
  error.Set("code", Napi::String::New(env, failure.code));
  return error;
}

// Runs the body of a synchronous function; its failure becomes a JavaScript exception.
template <typename Body>
auto Sync(Napi::Env env, Body&& body) {
  try {
    return body();
  } catch (const Napi::Error&) {
    throw;
  } catch (...) {
    throw ErrorOf(env, CurrentFailure());
  }
}

// Runs the body of a function that gives a promise; its failure becomes a rejection, never an exception.
template <typename Body>
Napi::Value Async(Napi::Env env, Body&& body) {
  const auto reject = [env](const Napi::Error& error) -> Napi::Value {
    const auto deferred = Napi::Promise::Deferred::New(env);
    deferred.Reject(error.Value());
    return deferred.Promise();
  };
  try {
    return body();
  } catch (const Napi::Error& error) {
    return reject(error);
  } catch (...) {
    return reject(ErrorOf(env, CurrentFailure()));
  }
}

}  // namespace kotodama
