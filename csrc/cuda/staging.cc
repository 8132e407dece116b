#include "cuda/staging.h"

#include <algorithm>
#include <cstring>

namespace kotodama::cuda {
namespace {

constexpr size_t kSlotBytes = static_cast<size_t>(1) << 20;

CUdeviceptr Address(const void* data) {
  return reinterpret_cast<CUdeviceptr>(data);
}

}  // namespace

Staging::Staging(Context& context) : context_(context) {
  for (Slot& slot : slots_) slot.device = context_.Allocate(kSlotBytes);
}

Staging::~Staging() {
  const Driver& driver = GetDriver().driver;
  try {
    context_.Enter();
  } catch (...) {
    return;  // a failed device gives nothing back
  }
  driver.stream_synchronize(context_.copy());
  driver.stream_synchronize(context_.compute());
  for (Slot& slot : slots_) {
    if (slot.host != nullptr) driver.host_free(slot.host);
    if (slot.arrived != nullptr) driver.event_destroy(slot.arrived);
    if (slot.done != nullptr) driver.event_destroy(slot.done);
  }
}

// The least recently used slot, once the device has finished with it.
Staging::Slot& Staging::NextSlot() {
  Slot& slot = slots_[next_];
  next_ = (next_ + 1) % slots_.size();
  if (slot.host == nullptr) KOTODAMA_CUDA(host_allocate(&slot.host, kSlotBytes));
  if (slot.arrived == nullptr) KOTODAMA_CUDA(event_create(&slot.arrived, kEventDisableTiming));
  if (slot.done == nullptr) {
    KOTODAMA_CUDA(event_create(&slot.done, kEventDisableTiming));
    // The zeroing of the new buffer comes before the first copy into it.
    KOTODAMA_CUDA(event_record(slot.done, context_.compute()));
  }
  KOTODAMA_CUDA(event_synchronize(slot.done));
  return slot;
}

void Staging::Upload(void* target, const void* source, size_t bytes) {
  for (size_t first = 0; first < bytes; first += kSlotBytes) {
    const size_t part = std::min(kSlotBytes, bytes - first);
    Slot& slot = NextSlot();
    std::memcpy(slot.host, static_cast<const char*>(source) + first, part);
    KOTODAMA_CUDA(copy_to_device(Address(slot.device), slot.host, part, context_.copy()));
    KOTODAMA_CUDA(event_record(slot.arrived, context_.copy()));
    KOTODAMA_CUDA(stream_wait_event(context_.compute(), slot.arrived, 0));
    KOTODAMA_CUDA(copy_on_device(Address(target) + first, Address(slot.device), part, context_.compute()));
    KOTODAMA_CUDA(event_record(slot.done, context_.compute()));
  }
}

void Staging::Download(void* target, const void* source, size_t bytes) {
  if (bytes == 0) KOTODAMA_CUDA(stream_synchronize(context_.compute()));
  // Two parts are under way at a time: while one is copied out, the next one arrives.
  Slot* pending = nullptr;
  size_t pending_first = 0, pending_bytes = 0;
  for (size_t first = 0; first < bytes || pending != nullptr; first += kSlotBytes) {
    Slot* slot = nullptr;
    size_t part = 0;
    if (first < bytes) {
      slot = &NextSlot();
      part = std::min(kSlotBytes, bytes - first);
      KOTODAMA_CUDA(copy_to_host(slot->host, Address(source) + first, part, context_.compute()));
      KOTODAMA_CUDA(event_record(slot->done, context_.compute()));
    }
    if (pending != nullptr) {
      KOTODAMA_CUDA(event_synchronize(pending->done));
      std::memcpy(static_cast<char*>(target) + pending_first, pending->host, pending_bytes);
    }
    pending = slot;
    pending_first = first;
    pending_bytes = part;
  }
}

}  // namespace kotodama::cuda
