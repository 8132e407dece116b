#pragma once

#include <napi.h>

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "addon/devices.h"
#include "backend.h"
#include "gpt2/decoder.h"
#include "gpt2/model.h"

namespace kotodama {

// Where and how a model computes.
struct ModelOptions {
  std::string device;
  int threads = 0;  // 0: all cores
  Precision precision = Precision::kF32;
  CopyRounding rounding = CopyRounding::kNearest;
  uint64_t seed = 0;
  Start start = Start::kRandom;
};

// One model on one device with its decoders, shared by the JavaScript objects and the running job. Its state flags
// belong to the JavaScript thread. The engine itself belongs to the running job and, while none runs, to the JavaScript
// thread, which needs no mutex for it. The mutex is for the end of an environment alone: it frees the engine once a job
// that still runs is done.
class Session {
 public:
  explicit Session(Napi::Env env) : env_(env) {}
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // On the thread of the work, which holds the mutex.
  void Open(const Config& config, const ModelOptions& options);
  uint32_t OpenDecoder(int64_t batch_size, int64_t capacity, bool int8);
  // Frees the model and its decoders.
  void Close();
  Model& model() { return *model_; }

  // On the JavaScript thread.
  void MarkDisposed() { disposed_ = true; }
  const NamedDevice& device() const { return device_; }
  // Throws Error(kDisposed) or Error(kBusy): no call may begin now.
  void RequireIdle() const;
  // nullptr when it was disposed.
  Decoder* decoder(uint32_t id);
  void CloseDecoder(uint32_t id) { decoders_.erase(id); }
  void Begin() { busy_ = true; }
  // Ends a call, tells the garbage collector what memory is held, and runs what waited.
  void End();
  // Runs `task` now, or once the running call has ended.
  void WhenIdle(std::function<void()> task);

  std::mutex& mutex() { return mutex_; }

 private:
  void ReportMemory(int64_t bytes);

  const napi_env env_;
  bool busy_ = false;
  bool disposed_ = false;
  std::deque<std::function<void()>> waiting_;
  int64_t reported_bytes_ = 0;
  NamedDevice device_;

  std::mutex mutex_;
  // Decoders use the model, and both the backend: the order of these members is the order of their lives.
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<Model> model_;
  std::map<uint32_t, std::unique_ptr<Decoder>> decoders_;
  uint32_t next_decoder_ = 0;
};

}  // namespace kotodama
