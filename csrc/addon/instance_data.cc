#include "addon/instance_data.h"

#include <algorithm>

namespace kotodama {

InstanceData::InstanceData(Napi::Env env) {
  env.AddCleanupHook([](InstanceData* data) { data->FreeAll(); }, this);
}

std::shared_ptr<Session> InstanceData::NewSession(Napi::Env env) {
  sessions_.erase(std::remove_if(sessions_.begin(), sessions_.end(), [](const auto& s) { return s.expired(); }),
                  sessions_.end());
  auto session = std::make_shared<Session>(env);
  sessions_.push_back(session);
  return session;
}

void InstanceData::FreeAll() {
  for (const std::weak_ptr<Session>& weak : sessions_) {
    if (const auto session = weak.lock()) {
      session->MarkDisposed();
      const std::lock_guard<std::mutex> lock(session->mutex());
      session->Close();
    }
  }
}

}  // namespace kotodama
