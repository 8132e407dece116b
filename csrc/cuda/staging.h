#pragma once

#include <array>
#include <cstddef>

#include "cuda/context.h"

namespace kotodama::cuda {

// Moves bytes between the host's memory and the device through pinned buffers, so that copies to the device run beside
// the kernels: pinned buffer -> device buffer on the copy stream, device buffer -> target on the compute stream, in
// order with the operations.
class Staging {
 public:
  // Takes the device's buffers, so that what is free afterwards can be planned with.
  explicit Staging(Context& context);
  ~Staging();
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;

  void Upload(void* target, const void* source, size_t bytes);
  void Download(void* target, const void* source, size_t bytes);

 private:
  struct Slot {
    void* host = nullptr;
    void* device = nullptr;
    CUevent arrived = nullptr;  // in `device`
    CUevent done = nullptr;     // nobody reads `device` any more
  };

  Slot& NextSlot();

  Context& context_;
  std::array<Slot, 4> slots_;
  size_t next_ = 0;
};

}  // namespace kotodama::cuda
