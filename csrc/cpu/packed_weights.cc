#include "cpu/packed_weights.h"

#include "error.h"
#include "host_memory.h"

namespace kotodama::cpu {
namespace {

// Nobody asked for copies that were earned, and no plan counts them: others are left a gibibyte that is known to be
// free.
bool HasRoomFor(size_t bytes) {
  const size_t free = ReadHostMemory().free;
  return free != HostMemory::kUnlimited && free >= bytes + (size_t{1} << 30);
}

}  // namespace

PackedWeights::~PackedWeights() {
  for (const auto& [key, copy] : copies_) memory_->Free(copy.data);
}

PackedWeights::Place PackedWeights::Find(const Key& key, uint64_t version, size_t bytes, bool reused) {
  Copy& copy = copies_[key];
  const bool earned = copy.version == version;
  if (copy.data == nullptr && (reused || (earned && HasRoomFor(bytes)))) {
    try {
      copy.data = memory_->Allocate(bytes);
    } catch (const Error&) {
      return {nullptr, false};  // it goes without
    }
  }
  copy.version = version;
  if (copy.data == nullptr) return {nullptr, false};
  const bool valid = copy.packed_version == version;
  if (!valid) copy.packed_version = 0;
  return {copy.data, valid};
}

void PackedWeights::Forget(const void* begin, size_t bytes) noexcept {
  const char* first = static_cast<const char*>(begin);
  for (auto entry = copies_.begin(); entry != copies_.end();) {
    const char* weight = static_cast<const char*>(entry->first.weight);
    if (weight < first || weight >= first + bytes) {
      ++entry;
      continue;
    }
    memory_->Free(entry->second.data);
    entry = copies_.erase(entry);
  }
}

}  // namespace kotodama::cpu
