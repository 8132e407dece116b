#pragma once

#include <cstddef>
#include <mutex>
#include <unordered_map>

#include "cpu/thread_pool.h"

namespace kotodama::cpu {

// Zeroed memory for tensors: large pieces come from the system in huge pages and are touched once by all threads, so
// that no page fault falls into a step.
class Memory {
 public:
  explicit Memory(ThreadPool* pool) : pool_(pool) {}
  ~Memory();
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  // Aligned to 256 bytes or better. Throws Error(kMemory) with the bytes needed and free.
  void* Allocate(size_t bytes);
  void Free(void* data) noexcept;
  // Of a piece that Allocate gave; 0 for any other address.
  size_t BytesOf(const void* data) noexcept;

 private:
  // Enters a mapping, so that it is given back whatever fails from here on.
  void Keep(void* begin, size_t length);

  ThreadPool* pool_;
  std::mutex mutex_;
  std::unordered_map<const void*, size_t> mapped_;  // start to length
};

}  // namespace kotodama::cpu
