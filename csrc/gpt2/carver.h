#pragma once

#include <cstddef>
#include <initializer_list>

#include "tensor.h"

namespace kotodama {

// Hands out consecutive, aligned pieces of an arena. Without an arena it only counts.
class Carver {
 public:
  explicit Carver(void* base) : base_(static_cast<char*>(base)) {}

  Tensor Take(DType dtype, std::initializer_list<int64_t> dims) {
    Tensor tensor(base_ == nullptr ? nullptr : base_ + bytes_, dtype, dims);
    bytes_ += (tensor.bytes() + 255) / 256 * 256;
    return tensor;
  }

  size_t bytes() const { return bytes_; }

 private:
  char* base_;
  size_t bytes_ = 0;
};

}  // namespace kotodama
