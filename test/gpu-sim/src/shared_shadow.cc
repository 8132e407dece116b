#include "shared_shadow.h"

#include <string>

#include "warp.h"

namespace gpusim {

namespace {

uint32_t tag_of(uint32_t time, uint32_t warp, uint32_t lane) {
  return time << SharedShadow::kTimeShift | warp << 5 | lane;
}
uint32_t warp_of(uint32_t tag) {
  return tag >> 5 & 31;
}
uint32_t time_of(uint32_t tag) {
  return (tag & ~SharedShadow::kPending) >> SharedShadow::kTimeShift;
}
uint32_t thread_of(uint32_t tag) {
  return tag & 1023;
}

// The tag after one more read. Without branches, so that rows of tags are merged together.
inline uint32_t merge_read(uint32_t old, uint32_t mine, uint32_t before) {
  constexpr uint32_t kBoth = SharedShadow::kManyLanes | SharedShadow::kManyWarps;
  const uint32_t differ = old ^ mine;
  const uint32_t many = ((differ & 0x3e0u) || (old & SharedShadow::kManyWarps)) ? kBoth : 0;
  const uint32_t lanes = (differ & 31u) ? SharedShadow::kManyLanes : (old & SharedShadow::kManyLanes);
  return mine | (old < before ? 0 : many | lanes);
}

// Did the access behind `tag` (one thread's) happen at the same time as ours, as far as any synchronisation tells?
bool unordered(const SyncClock& clock, uint32_t tag, uint32_t mine) {
  if (tag & SharedShadow::kManyWarps) return time_of(tag) >= clock.oldest;
  if (thread_of(tag) == thread_of(mine) && !(tag & SharedShadow::kManyLanes)) return false;
  return time_of(tag) >= clock.known[warp_of(tag)];
}

}  // namespace

void SharedShadow::reset(uint32_t bytes, int granule_shift, bool races, bool uninitialised) {
  shift_ = granule_shift;
  races_ = races;
  uninitialised_ = uninitialised;
  if (!enabled()) return;
  size_t n = (bytes >> shift_) + 1;
  wrote_.assign(n, 0);
  read_.assign(n, 0);
}

void SharedShadow::race(const char* what, uint32_t cell, uint32_t tag) const {
  std::string other =
      tag & kManyWarps ? std::string("several threads")
                       : "thread " + std::to_string(thread_of(tag)) + (tag & kManyLanes ? " and its neighbours" : "");
  fault(kLaunchFailed, -1,
        std::string("shared-memory race: ") + what + " at shared offset " + std::to_string(cell << shift_) + ", with " +
            other + ", and nothing orders the two");
}

void SharedShadow::read(const SyncClock& clock, uint32_t warp, uint32_t lane, uint32_t offset, uint32_t bytes,
                        bool many_lanes) {
  const uint32_t mine = tag_of(clock.now, warp, lane) | (many_lanes ? kManyLanes : 0);
  const uint32_t before = clock.oldest << kTimeShift;
  for (uint32_t c = first_cell(offset), e = c + cells(bytes); c < e; ++c) {
    uint32_t w = wrote_[c];
    if (w == 0 && uninitialised_) {
      fault(kLaunchFailed, static_cast<int>(lane),
            "read of shared memory that nobody wrote, at shared offset " + std::to_string(c << shift_));
    }
    if (!races_) continue;
    if (w & kPending) {
      fault(kLaunchFailed, static_cast<int>(lane),
            "read of a cp.async destination before its wait, at shared offset " + std::to_string(c << shift_));
    }
    if (w >= before &&
        (unordered(clock, w, mine) || (many_lanes && warp_of(w) == warp && time_of(w) >= clock.known[warp]))) {
      race("read after write", c, w);
    }
    read_[c] = merge_read(read_[c], mine, before);
  }
}

void SharedShadow::write_cell(const SyncClock& clock, uint32_t tag, uint32_t cell, bool same, bool atomic) {
  if (races_) {
    const uint32_t before = clock.oldest << kTimeShift;
    uint32_t w = wrote_[cell];
    uint32_t r = read_[cell];
    if (w & kPending) race("write into a cp.async destination before its wait", cell, w & ~kPending);
    bool both_atomic = atomic && (w & kAtomic);
    if (w >= before && !same && !both_atomic && unordered(clock, w, tag)) race("write after write", cell, w);
    if (r >= before && unordered(clock, r, tag)) race("write after read", cell, r);
    if (!atomic) read_[cell] = 0;
  }
  wrote_[cell] = tag | (atomic ? kAtomic : 0);
}

void SharedShadow::write(const SyncClock& clock, uint32_t warp, uint32_t lane, uint32_t offset, uint32_t bytes,
                         bool same) {
  const uint32_t tag = tag_of(clock.now, warp, lane);
  for (uint32_t c = first_cell(offset), e = c + cells(bytes); c < e; ++c) write_cell(clock, tag, c, same, false);
}

void SharedShadow::atomic(const SyncClock& clock, uint32_t warp, uint32_t lane, uint32_t offset, uint32_t bytes) {
  const uint32_t tag = tag_of(clock.now, warp, lane);
  for (uint32_t c = first_cell(offset), e = c + cells(bytes); c < e; ++c) {
    if (uninitialised_ && wrote_[c] == 0) {
      fault(kLaunchFailed, static_cast<int>(lane),
            "atomic on shared memory that nobody wrote, at shared offset " + std::to_string(c << shift_));
    }
    write_cell(clock, tag, c, false, true);
  }
}

void SharedShadow::begin_copy(const SyncClock& clock, uint32_t warp, uint32_t lane, uint32_t offset, uint32_t bytes) {
  const uint32_t tag = tag_of(clock.now, warp, lane);
  for (uint32_t c = first_cell(offset), e = c + cells(bytes); c < e; ++c) {
    write_cell(clock, tag, c, false, false);
    if (races_) wrote_[c] |= kPending;
  }
}

void SharedShadow::arrive(const SyncClock& clock, uint32_t warp, uint32_t lane, uint32_t offset, uint32_t bytes) {
  const uint32_t tag = tag_of(clock.now, warp, lane);
  for (uint32_t c = first_cell(offset), e = c + cells(bytes); c < e; ++c) wrote_[c] = tag;
}

bool SharedShadow::read_row(const SyncClock& clock, uint32_t warp, uint32_t offset, uint32_t bytes) {
  const uint32_t per_lane = cells(bytes), n = per_lane * 32, before = clock.oldest << kTimeShift;
  const uint32_t* w = &wrote_[first_cell(offset)];
  uint32_t* r = &read_[first_cell(offset)];
  // Unwritten (0) wraps to the top; pending and recent tags are above anyway.
  const uint32_t low = uninitialised_ ? 1 : 0, limit = races_ ? before : kPending;
  uint32_t bad = 0;
  for (uint32_t i = 0; i < n; ++i) bad |= w[i] - low >= limit - low;
  if (bad) return false;
  if (!races_) return true;
  const uint32_t mine = tag_of(clock.now, warp, 0);
  const int shift = __builtin_ctz(per_lane);
  for (uint32_t i = 0; i < n; ++i) r[i] = merge_read(r[i], mine + (i >> shift), before);
  return true;
}

namespace {

template <int kCells>
bool read_pieces_of(const uint32_t* wrote, uint32_t* read, const uint64_t* offsets, int count, int shift, uint32_t low,
                    uint32_t limit, uint32_t mine, uint32_t before, bool races) {
  uint32_t bad = 0;
  for (int i = 0; i < count; ++i) {
    const uint32_t* w = wrote + (offsets[i] >> shift);
    for (int c = 0; c < kCells; ++c) bad |= w[c] - low >= limit - low;
  }
  if (bad) return false;
  if (!races) return true;
  for (int i = 0; i < count; ++i) {
    uint32_t* r = read + (offsets[i] >> shift);
    for (int c = 0; c < kCells; ++c) r[c] = merge_read(r[c], mine + static_cast<uint32_t>(i), before);
  }
  return true;
}

}  // namespace

bool SharedShadow::read_pieces(const SyncClock& clock, uint32_t warp, const uint64_t* offsets, int count) {
  const uint32_t before = clock.oldest << kTimeShift, low = uninitialised_ ? 1 : 0, limit = races_ ? before : kPending;
  const uint32_t mine = tag_of(clock.now, warp, 0) | kManyLanes;
  auto run = shift_ == 2 ? read_pieces_of<4> : shift_ == 1 ? read_pieces_of<8> : read_pieces_of<16>;
  return run(wrote_.data(), read_.data(), offsets, count, shift_, low, limit, mine, before, races_);
}

bool SharedShadow::write_row(const SyncClock& clock, uint32_t warp, uint32_t offset, uint32_t bytes) {
  const uint32_t per_lane = cells(bytes), n = per_lane * 32, before = clock.oldest << kTimeShift;
  uint32_t* w = &wrote_[first_cell(offset)];
  uint32_t* r = &read_[first_cell(offset)];
  uint32_t bad = 0;
  if (races_) {
    for (uint32_t i = 0; i < n; ++i) bad |= (w[i] >= before) | (r[i] >= before);
  }
  if (bad) return false;
  const uint32_t mine = tag_of(clock.now, warp, 0);
  const int shift = __builtin_ctz(per_lane);
  for (uint32_t i = 0; i < n; ++i) w[i] = mine + (i >> shift);
  for (uint32_t i = 0; i < n; ++i) r[i] = 0;
  return true;
}

void SharedShadow::rebase() {
  for (auto& w : wrote_) {
    if (w && !(w & kPending)) w = 1u << kTimeShift;
  }
  read_.assign(read_.size(), 0);
}

}  // namespace gpusim
