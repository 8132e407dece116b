#include "device_memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <new>

namespace gpusim {

namespace {

constexpr uint64_t kAlign = 256;
constexpr uint64_t kGap = 512;  // nobody's bytes after each allocation, so that one index too far is seen
constexpr uint64_t kPage = 4096;

uint64_t round_up(uint64_t n, uint64_t to) {
  return (n + to - 1) / to * to;
}

uint64_t reserve(uint64_t bytes) {
  void* p = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) throw std::bad_alloc();
  return reinterpret_cast<uint64_t>(p);
}

// Gives the whole pages of a range back; they read as zero afterwards.
void forget(uint64_t address, uint64_t size) {
  uint64_t first = round_up(address, kPage);
  uint64_t last = (address + size) / kPage * kPage;
  if (first >= last) {
    std::memset(reinterpret_cast<void*>(address), 0, size);
    return;
  }
  std::memset(reinterpret_cast<void*>(address), 0, first - address);
  madvise(reinterpret_cast<void*>(first), last - first, MADV_DONTNEED);
  std::memset(reinterpret_cast<void*>(last), 0, address + size - last);
}

}  // namespace

// Twice the capacity is reserved so that neither the gaps nor fragmentation cost a test any memory.
DeviceMemory::DeviceMemory(uint64_t capacity)
    : capacity_(capacity), reserved_(round_up(capacity * 2 + (64u << 20), kPage)) {
  base_ = reserve(reserved_);
  shadow_base_ = reserve(reserved_);
  shadow_delta_ = static_cast<int64_t>(shadow_base_ - base_);
}

DeviceMemory::~DeviceMemory() {
  munmap(reinterpret_cast<void*>(base_), reserved_);
  munmap(reinterpret_cast<void*>(shadow_base_), reserved_);
}

uint64_t DeviceMemory::allocate(uint64_t size) {
  uint64_t charged = round_up(size, kAlign);
  if (size == 0 || size > capacity_ || charged > free_bytes()) return 0;
  uint64_t at = base_ + kGap;
  size_t i = 0;
  for (; i < allocations_.size(); ++i) {
    if (at + size + kGap <= allocations_[i].begin) break;
    at = round_up(allocations_[i].begin + allocations_[i].size + kGap, kAlign);
  }
  if (at + size + kGap > base_ + reserved_) return 0;
  allocations_.insert(allocations_.begin() + static_cast<int64_t>(i), Allocation{at, size, false});
  used_ += charged;
  return at;
}

bool DeviceMemory::release(uint64_t address) {
  Allocation* a = find(address);
  if (!a || a->begin != address) return false;
  forget(a->begin, a->size);
  forget(a->begin + static_cast<uint64_t>(shadow_delta_), a->size);
  used_ -= round_up(a->size, kAlign);
  allocations_.erase(allocations_.begin() + (a - allocations_.data()));
  return true;
}

Allocation* DeviceMemory::find(uint64_t address, uint64_t size) {
  auto it = std::upper_bound(allocations_.begin(), allocations_.end(), address,
                             [](uint64_t x, const Allocation& a) { return x < a.begin; });
  if (it == allocations_.begin()) return nullptr;
  --it;
  uint64_t offset = address - it->begin;
  if (offset >= it->size || size > it->size - offset) return nullptr;
  return &*it;
}

void DeviceMemory::mark_written(uint64_t address, uint64_t size) {
  Allocation* a = find(address, size);
  if (!a) return;
  std::memset(shadow(address), 1, size);
  if (a->begin == address && a->size == size) a->all_written = true;
}

}  // namespace gpusim
