// Global memory of one simulated device: allocations, and which of their bytes have been written.
#pragma once

#include <cstdint>
#include <vector>

namespace gpusim {

struct Allocation {
  uint64_t begin;
  uint64_t size;
  bool all_written;  // every byte has been written: no need to look at the shadow
};

/// A reserved range of this process's addresses serves as device memory, so a device address is a host address. Beside
/// it lies one shadow byte per byte: 0 never written, 1 written. Allocations keep a gap that belongs to nobody between
/// them.
class DeviceMemory {
 public:
  explicit DeviceMemory(uint64_t capacity);
  ~DeviceMemory();
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;

  /// Address of `size` fresh bytes (256-byte aligned), or 0 if they do not fit.
  uint64_t allocate(uint64_t size);
  /// False if `address` is not the begin of an allocation.
  bool release(uint64_t address);
  /// The allocation that holds [address, address + size), or null.
  Allocation* find(uint64_t address, uint64_t size = 1);
  bool owns(uint64_t address) const { return address >= base_ && address < base_ + reserved_; }
  uint8_t* shadow(uint64_t address) const { return reinterpret_cast<uint8_t*>(address) + shadow_delta_; }
  int64_t shadow_delta() const { return shadow_delta_; }
  /// The host has written these bytes.
  void mark_written(uint64_t address, uint64_t size);
  uint64_t capacity() const { return capacity_; }
  uint64_t free_bytes() const { return capacity_ - used_; }

 private:
  uint64_t capacity_;
  uint64_t reserved_;
  uint64_t base_ = 0;
  uint64_t shadow_base_ = 0;
  int64_t shadow_delta_ = 0;
  uint64_t used_ = 0;
  std::vector<Allocation> allocations_;  // by address
};

}  // namespace gpusim
