#pragma once

#include <array>
#include <cstddef>

#include "cuda/context.h"

namespace kotodama::cuda {

// Moves bytes between the host's memory and the device through pinned buffers, so that copies to the device run beside
// the kernels: pinned buffer -> device buffer on the copy stream, device buffer -> target on the compute stream, in
// order with the operations. What is announced is copied to the device early, while kernels compute.
class Staging {
 public:
  // Takes all memory, so that what is free afterwards can be planned with.
  explicit Staging(Context& context);
  ~Staging() { Release(); }
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;

  void Upload(void* target, const void* source, size_t bytes);
  // Begins to copy what an Upload will ask for. What does not fit a slot is left to that Upload, and so is what was
  // announced before too many others.
  void Prefetch(const void* source, size_t bytes);
  void Download(void* target, const void* source, size_t bytes);

 private:
  struct Slot {
    char* host = nullptr;  // pinned
    CUdeviceptr device = 0;
    size_t ahead = 0;           // bytes in it that no Upload has taken yet
    CUevent arrived = nullptr;  // in `device`
    CUevent done = nullptr;     // nobody reads `device` any more
  };
  // Used in turn.
  template <size_t kCount>
  struct Ring {
    std::array<Slot, kCount> slots;
    size_t next = 0;
  };

  // The least recently used slot, once the device has finished with it.
  template <size_t kCount>
  Slot& Next(Ring<kCount>& ring);
  Slot* FindAhead(const void* source, size_t bytes);
  void Send(Slot& slot, const void* source, size_t bytes);
  void Deliver(Slot& slot, CUdeviceptr target, size_t bytes);
  void Release() noexcept;

  Context& context_;
  char* host_ = nullptr;  // pinned; holds the slots, as does the memory on the device
  Ring<4> ring_;
  // Of their own, since much may happen before they are taken: a save, an evaluation. Two micro-steps: ids, labels and
  // dropout key of the one whose copies the device may still read, and of the next one.
  Ring<6> ahead_;
};

}  // namespace kotodama::cuda
