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
  const CurrentContext current = context_.Enter();
  const size_t bytes = (ring_.slots.size() + ahead_.slots.size()) * kSlotBytes;
  CUdeviceptr device = Address(context_.Allocate(bytes));
  try {
    host_ = static_cast<char*>(context_.AllocateHost(bytes));
    char* host = host_;
    const auto set_up = [&](Slot& slot) {
      slot.host = host;
      slot.device = device;
      host += kSlotBytes;
      device += kSlotBytes;
      KOTODAMA_CUDA(event_create(&slot.arrived, kEventDisableTiming));
      KOTODAMA_CUDA(event_create(&slot.done, kEventDisableTiming));
      // The zeroing of the new buffer comes before the first copy into it.
      KOTODAMA_CUDA(event_record(slot.done, context_.compute()));
    };
    for (Slot& slot : ring_.slots) set_up(slot);
    for (Slot& slot : ahead_.slots) set_up(slot);
  } catch (...) {
    Release();
    throw;
  }
}

void Staging::Release() noexcept {
  context_.GiveBack([&] {
    const Driver& driver = GetDriver().driver;
    driver.stream_synchronize(context_.copy());
    driver.stream_synchronize(context_.compute());
    const auto release = [&](Slot& slot) {
      if (slot.arrived != nullptr) driver.event_destroy(slot.arrived);
      if (slot.done != nullptr) driver.event_destroy(slot.done);
    };
    for (Slot& slot : ring_.slots) release(slot);
    for (Slot& slot : ahead_.slots) release(slot);
    if (host_ != nullptr) driver.host_free(host_);
  });
}

template <size_t kCount>
Staging::Slot& Staging::Next(Ring<kCount>& ring) {
  Slot& slot = ring.slots[ring.next];
  ring.next = (ring.next + 1) % kCount;
  // What nobody took may still be on its way out of the pinned buffer.
  KOTODAMA_CUDA(event_synchronize(slot.ahead > 0 ? slot.arrived : slot.done));
  slot.ahead = 0;
  return slot;
}

Staging::Slot* Staging::FindAhead(const void* source, size_t bytes) {
  for (Slot& slot : ahead_.slots) {
    if (slot.ahead > 0 && slot.ahead == bytes && std::memcmp(slot.host, source, bytes) == 0) return &slot;
  }
  return nullptr;
}

void Staging::Send(Slot& slot, const void* source, size_t bytes) {
  std::memcpy(slot.host, source, bytes);
  KOTODAMA_CUDA(copy_to_device(slot.device, slot.host, bytes, context_.copy()));
  KOTODAMA_CUDA(event_record(slot.arrived, context_.copy()));
}

void Staging::Deliver(Slot& slot, CUdeviceptr target, size_t bytes) {
  KOTODAMA_CUDA(stream_wait_event(context_.compute(), slot.arrived, 0));
  KOTODAMA_CUDA(copy_on_device(target, slot.device, bytes, context_.compute()));
  KOTODAMA_CUDA(event_record(slot.done, context_.compute()));
}

void Staging::Upload(void* target, const void* source, size_t bytes) {
  if (Slot* const slot = FindAhead(source, bytes)) {
    slot->ahead = 0;
    Deliver(*slot, Address(target), bytes);
    return;
  }
  for (size_t first = 0; first < bytes; first += kSlotBytes) {
    const size_t part = std::min(kSlotBytes, bytes - first);
    Slot& slot = Next(ring_);
    Send(slot, static_cast<const char*>(source) + first, part);
    Deliver(slot, Address(target) + first, part);
  }
}

void Staging::Prefetch(const void* source, size_t bytes) {
  if (bytes == 0 || bytes > kSlotBytes) return;
  Slot& slot = Next(ahead_);
  Send(slot, source, bytes);
  slot.ahead = bytes;
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
      slot = &Next(ring_);
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
