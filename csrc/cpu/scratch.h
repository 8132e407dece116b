#pragma once

#include <cstddef>
#include <cstdint>

#include "cpu/memory.h"

namespace kotodama::cpu {

// Memory that operations borrow while they run. It grows to the largest need and is kept, so that a step in its stride
// allocates nothing.
class Scratch {
 public:
  explicit Scratch(Memory* memory) : memory_(memory) {}
  ~Scratch() { memory_->Free(data_); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  // Throws Error(kMemory). What an earlier call gave is void.
  float* Floats(int64_t count) {
    const size_t bytes = static_cast<size_t>(count) * sizeof(float);
    if (bytes > size_) {
      memory_->Free(data_);
      data_ = nullptr;
      size_ = 0;
      data_ = memory_->Allocate(bytes);
      size_ = bytes;
    }
    return static_cast<float*>(data_);
  }

 private:
  Memory* memory_;
  void* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace kotodama::cpu
