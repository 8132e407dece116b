#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>

namespace kotodama {

enum class DType : uint8_t { kF32, kBF16, kI32, kI8 };

constexpr size_t SizeOf(DType dtype) {
  switch (dtype) {
    case DType::kBF16:
      return 2;
    case DType::kI8:
      return 1;
    default:
      return 4;
  }
}

// A view of device memory: dense, row-major, owned by somebody else. `data` is an address on the device and may only be
// dereferenced by the backend that gave it out. A default-constructed Tensor is "none".
struct Tensor {
  void* data = nullptr;
  DType dtype = DType::kF32;
  int rank = 0;
  std::array<int64_t, 4> shape = {1, 1, 1, 1};
  float* scale = nullptr;  // of an I8 matrix, on the device, for all of its rows; see Backend::Quantize

  Tensor() = default;
  Tensor(void* data, DType dtype, std::initializer_list<int64_t> dims) : data(data), dtype(dtype) {
    for (int64_t dim : dims) shape[rank++] = dim;
  }

  explicit operator bool() const { return data != nullptr; }
  int64_t size() const { return shape[0] * shape[1] * shape[2] * shape[3]; }
  size_t bytes() const { return static_cast<size_t>(size()) * SizeOf(dtype); }
  // Elements of one step along the first dimension.
  int64_t stride0() const { return shape[1] * shape[2] * shape[3]; }

  template <typename T>
  T* as() const {
    return static_cast<T*>(data);
  }

  // `count` rows from row `first` of the first dimension.
  Tensor rows(int64_t first, int64_t count) const {
    Tensor part = *this;
    part.data = static_cast<char*>(data) + static_cast<size_t>(first * stride0()) * SizeOf(dtype);
    part.shape[0] = count;
    return part;
  }
};

}  // namespace kotodama
