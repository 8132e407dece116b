#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <tuple>

#include "cpu/memory.h"

namespace kotodama::cpu {

// Packed copies of weights that several products read before they change: the head's, once per chunk of rows, and all
// of them when a step has several micro-batches. Where nothing says so before, a weight earns its copy the second time
// that the same bits of it are packed, if enough memory is left to others; from then on it is kept for it.
class PackedWeights {
 public:
  explicit PackedWeights(Memory* memory) : memory_(memory) {}
  ~PackedWeights();
  PackedWeights(const PackedWeights&) = delete;
  PackedWeights& operator=(const PackedWeights&) = delete;

  // Which weight, and how it is packed. `layout` tells apart the kernels and the two forms.
  struct Key {
    const void* weight;
    int64_t rows, columns, ld;
    int layout;
    bool operator<(const Key& other) const {
      return std::tie(weight, rows, columns, ld, layout) <
             std::tie(other.weight, other.rows, other.columns, other.ld, other.layout);
    }
  };
  struct Place {
    void* data;  // null: no copy is kept
    bool valid;  // the copy is that of `version`; else the caller packs it there now, and says so
  };
  // `reused`: the caller says that it packs these bits again.
  Place Find(const Key& key, uint64_t version, size_t bytes, bool reused);
  // The copy is whole: without this, after a failure for instance, it counts for nothing.
  void Packed(const Key& key, uint64_t version) { copies_.at(key).packed_version = version; }

  // The memory from `begin` is given back: what was packed of it says nothing any more.
  void Forget(const void* begin, size_t bytes) noexcept;

 private:
  struct Copy {
    uint64_t version = 0;
    void* data = nullptr;
    uint64_t packed_version = 0;  // 0: none
  };

  Memory* memory_;
  std::map<Key, Copy> copies_;
};

}  // namespace kotodama::cpu
