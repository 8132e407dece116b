// Who last wrote and read each piece of a block's shared memory, to find races and reads of unwritten bytes.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

namespace gpusim {

/// What a warp knows of the others' progress: accesses of warp w at a time before known[w] happened before now.
///
/// Times are Lamport clocks in one count for the block: a barrier gives all that take part the same, later time;
/// warp-wide synchronisation moves the warp's own time on.
struct SyncClock {
  uint32_t now = 2;
  uint32_t oldest = 2;  // the smallest of known: everything before it is ordered before us, whoever did it
  std::array<uint32_t, 32> known;
  SyncClock() { reset(); }
  void reset() {
    now = oldest = 2;
    known.fill(2);
  }
};

/// One 32-bit tag for the last write and one for the reads since, per granule of the smallest access that the kernel
/// makes (1, 2 or 4 bytes, so that neighbours never share a granule):
///   bits 0-4 lane, 5-9 warp, 10 several lanes, 11 several warps, 12 atomic, 13-30 time, 31 cp.async has not arrived.
class SharedShadow {
 public:
  static constexpr uint32_t kLane = 31, kManyLanes = 1u << 10, kManyWarps = 1u << 11, kAtomic = 1u << 12,
                            kPending = 1u << 31;
  static constexpr int kTimeShift = 13;
  static constexpr uint32_t kLastTime = (1u << 18) - 2;

  void reset(uint32_t bytes, int granule_shift, bool races, bool uninitialised);
  bool enabled() const { return races_ || uninitialised_; }

  /// One lane reads [offset, offset + bytes). `many_lanes` for instructions that read for the whole warp (ldmatrix).
  void read(const SyncClock& clock, uint32_t warp, uint32_t lane, uint32_t offset, uint32_t bytes,
            bool many_lanes = false);
  /// One lane is about to write; `same` says that the write changes nothing (such a write-write race is harmless).
  void write(const SyncClock& clock, uint32_t warp, uint32_t lane, uint32_t offset, uint32_t bytes, bool same);
  void atomic(const SyncClock& clock, uint32_t warp, uint32_t lane, uint32_t offset, uint32_t bytes);
  /// cp.async: the write may land at any time from now until `arrive`.
  void begin_copy(const SyncClock& clock, uint32_t warp, uint32_t lane, uint32_t offset, uint32_t bytes);
  void arrive(const SyncClock& clock, uint32_t warp, uint32_t lane, uint32_t offset, uint32_t bytes);

  /// 32 lanes access 32 adjacent pieces of `bytes` each. False if the slow way (lane by lane) is needed; nothing is
  /// changed then.
  bool read_row(const SyncClock& clock, uint32_t warp, uint32_t offset, uint32_t bytes);
  /// ldmatrix: `count` rows of 16 bytes, each read for the whole warp. False as above.
  bool read_pieces(const SyncClock& clock, uint32_t warp, const uint64_t* offsets, int count);
  bool write_row(const SyncClock& clock, uint32_t warp, uint32_t offset, uint32_t bytes);

  /// Times are used up: forget the order of everything so far (it all counts as ordered).
  void rebase();

 private:
  void write_cell(const SyncClock& clock, uint32_t tag, uint32_t cell, bool same, bool atomic);
  [[noreturn]] void race(const char* what, uint32_t cell, uint32_t tag) const;
  uint32_t first_cell(uint32_t offset) const { return offset >> shift_; }
  uint32_t cells(uint32_t bytes) const { return bytes >> shift_ ? bytes >> shift_ : 1; }

  int shift_ = 2;
  bool races_ = false;
  bool uninitialised_ = false;
  std::vector<uint32_t> wrote_;
  std::vector<uint32_t> read_;
};

}  // namespace gpusim
