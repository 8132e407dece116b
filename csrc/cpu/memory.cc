#include "cpu/memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>

#include "error.h"
#include "host_memory.h"

namespace kotodama::cpu {
namespace {

constexpr size_t kHugePage = size_t{2} << 20;
constexpr size_t kPage = 4096;

std::string Gibibytes(size_t bytes) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.2f GiB", static_cast<double>(bytes) / (size_t{1} << 30));
  return text;
}

[[noreturn]] void ThrowNoMemory(size_t bytes) {
  const size_t free = ReadHostMemory().free;
  const std::string found = free == HostMemory::kUnlimited ? "more than there is" : Gibibytes(free) + " are free";
  throw Error(ErrorCode::kMemory, "this needs " + Gibibytes(bytes) + " (" + std::to_string(bytes) + " bytes), " +
                                      found + "\n  hint: end other programs, or use a smaller batch, block or model");
}

}  // namespace

Memory::~Memory() {
  for (const auto& piece : mapped_) munmap(const_cast<void*>(piece.first), piece.second);
}

void* Memory::Allocate(size_t bytes) {
  const size_t unit = bytes >= kHugePage ? kHugePage : kPage;
  if (bytes > SIZE_MAX - 2 * kHugePage) ThrowNoMemory(bytes);
  const size_t length = std::max<size_t>(1, (bytes + unit - 1) / unit) * unit;
  if (length >= kHugePage && length > ReadHostMemory().free) ThrowNoMemory(bytes);

  // One huge page more than needed, so that the piece can start at a multiple of one.
  const size_t slack = length >= kHugePage ? kHugePage : 0;
  void* mapping = mmap(nullptr, length + slack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapping == MAP_FAILED) ThrowNoMemory(bytes);
  char* begin = static_cast<char*>(mapping);
  if (slack != 0) {
    const size_t before = (kHugePage - reinterpret_cast<uintptr_t>(begin) % kHugePage) % kHugePage;
    if (before != 0) munmap(begin, before);
    if (slack != before) munmap(begin + before + length, slack - before);
    begin += before;
#ifdef MADV_HUGEPAGE
    madvise(begin, length, MADV_HUGEPAGE);
#endif
  }
  Keep(begin, length);
  if (slack != 0) {
    pool_->Run(static_cast<int64_t>(length / kHugePage),
               [&](int64_t item, int) { std::memset(begin + item * kHugePage, 0, kHugePage); });
  }
  return begin;
}

void Memory::Keep(void* begin, size_t length) {
  try {
    std::lock_guard<std::mutex> lock(mutex_);
    mapped_[begin] = length;
  } catch (...) {
    munmap(begin, length);
    throw;
  }
}

void Memory::Free(void* data) noexcept {
  if (data == nullptr) return;
  std::lock_guard<std::mutex> lock(mutex_);
  const auto piece = mapped_.find(data);
  if (piece == mapped_.end()) return;
  munmap(data, piece->second);
  mapped_.erase(piece);
}

size_t Memory::BytesOf(const void* data) noexcept {
  std::lock_guard<std::mutex> lock(mutex_);
  const auto piece = mapped_.find(data);
  return piece == mapped_.end() ? 0 : piece->second;
}

}  // namespace kotodama::cpu
