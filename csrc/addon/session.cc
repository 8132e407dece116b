#include "addon/session.h"

#include "error.h"

namespace kotodama {

Session::~Session() {
  ReportMemory(0);
}

void Session::Open(const Config& config, const ModelOptions& options) {
  Validate(config);  // before a device starts
  backend_ = MakeBackend(options.device, options.threads);
  device_ = {options.device, backend_->Info(), ""};
  model_ = std::make_unique<Model>(config, options.precision, options.seed, *backend_, options.start, options.rounding);
}

uint32_t Session::OpenDecoder(int64_t batch_size, int64_t capacity, bool int8) {
  decoders_[next_decoder_] = std::make_unique<Decoder>(*model_, batch_size, capacity, int8);
  return next_decoder_++;
}

void Session::RequireIdle() const {
  if (disposed_) throw Error(ErrorCode::kDisposed, "this model was disposed");
  if (busy_) {
    throw Error(ErrorCode::kBusy,
                "this model is busy with another call\n  hint: await each call before the next one on the same model");
  }
}

Decoder* Session::decoder(uint32_t id) {
  const auto found = decoders_.find(id);
  return found == decoders_.end() ? nullptr : found->second.get();
}

void Session::End() {
  busy_ = false;
  int64_t bytes = 0;
  if (model_ && device_.device == "cpu") {
    bytes = static_cast<int64_t>(model_->held_bytes());
    for (const auto& [id, decoder] : decoders_) bytes += static_cast<int64_t>(decoder->held_bytes());
  }
  ReportMemory(bytes);
  while (!busy_ && !waiting_.empty()) {
    const auto task = std::move(waiting_.front());
    waiting_.pop_front();
    task();
  }
}

void Session::WhenIdle(std::function<void()> task) {
  if (busy_) {
    waiting_.push_back(std::move(task));
  } else {
    task();
  }
}

void Session::Close() {
  decoders_.clear();
  model_.reset();
  backend_.reset();
}

void Session::ReportMemory(int64_t bytes) {
  if (bytes == reported_bytes_) return;
  // A failure leaves the collector with an old figure, nothing worse.
  int64_t now;
  if (napi_adjust_external_memory(env_, bytes - reported_bytes_, &now) == napi_ok) reported_bytes_ = bytes;
}

}  // namespace kotodama
