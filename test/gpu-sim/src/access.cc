#include "access.h"

#include <algorithm>
#include <cstdio>

#include "lanes.h"

namespace gpusim {

namespace {

std::string hex(uint64_t v) {
  char s[32];
  std::snprintf(s, sizeof(s), "0x%llx", static_cast<unsigned long long>(v));
  return s;
}

[[noreturn]] void outside(Warp& w, uint64_t address, uint32_t bytes, int lane, bool is_write) {
  std::string s = std::string(is_write ? "write" : "read") + " of " + std::to_string(bytes) + " bytes at " +
                  hex(address) + ", which is in no allocation";
  DeviceMemory& mem = *w.block->launch->memory;
  for (uint64_t back = 1; back <= 4096; ++back) {
    if (Allocation* a = mem.find(address + bytes - 1 - back)) {
      s += "; " + std::to_string(address - std::min(address, a->begin + a->size)) +
           " bytes past the end of an allocation of " + std::to_string(a->size) + " bytes";
      break;
    }
  }
  fault(kIllegalAddress, lane, s);
}

[[noreturn]] void unwritten(const DeviceMemory& mem, uint64_t address, uint32_t bytes, int lane) {
  uint32_t first = 0;
  while (first < bytes && *mem.shadow(address + first)) ++first;
  std::string s = "read of global memory that nobody wrote, at " + hex(address + first);
  if (Allocation* a = const_cast<DeviceMemory&>(mem).find(address)) {
    s += ", byte " + std::to_string(address + first - a->begin) + " of an allocation of " + std::to_string(a->size) +
         " bytes";
  }
  fault(kLaunchFailed, lane, s);
}

bool all_ones(const uint8_t* p, uint32_t n) {
  uint8_t v = 1;
  for (uint32_t i = 0; i < n; ++i) v &= p[i];
  return v;
}

bool written(const uint8_t* s, uint32_t bytes) {
  switch (bytes) {
    case 4: {
      uint32_t v;
      std::memcpy(&v, s, 4);
      return v == 0x01010101u;
    }
    case 8: {
      uint64_t v;
      std::memcpy(&v, s, 8);
      return v == 0x0101010101010101ull;
    }
    case 16: {
      uint64_t v[2];
      std::memcpy(v, s, 16);
      return (v[0] & v[1]) == 0x0101010101010101ull;
    }
    default:
      return all_ones(s, bytes);
  }
}

template <class F>
inline void each(Mask m, F f) {
  for (; m; m &= m - 1) f(__builtin_ctz(m));
}

}  // namespace

Windows classify(const uint64_t* a, Mask m) {
  Windows w{0, 0, 0, 0};
  each(m, [&](int i) {
    Mask bit = 1u << i;
    if (a[i] - kSharedWindow < kWindowSize)
      w.shared |= bit;
    else if (a[i] - kLocalWindow < kWindowSize)
      w.local |= bit;
    else if (a[i] - kParamWindow < kWindowSize)
      w.param |= bit;
    else
      w.global |= bit;
  });
  return w;
}

void check_alignment(const uint64_t* a, Mask m, uint32_t bytes) {
  uint64_t low = 0;
  for (int i = 0; i < kLanes; ++i) low |= (m >> i & 1) ? a[i] : 0;
  if ((low & (bytes - 1)) == 0) return;
  each(m, [&](int i) {
    if (a[i] & (bytes - 1))
      fault(kMisaligned, i,
            "access of " + std::to_string(bytes) + " bytes at " + hex(a[i]) + ", which is not a multiple of " +
                std::to_string(bytes));
  });
}

bool is_row(const uint64_t* a, Mask m, uint32_t bytes) {
  if (m != kFull) return false;
  uint64_t differ = 0;
  for (uint32_t i = 0; i < kLanes; ++i) differ |= a[i] ^ (a[0] + i * bytes);
  return differ == 0;
}

void check_global(Warp& w, const uint64_t* a, Mask m, uint32_t bytes, bool row, bool is_write) {
  const Launch& launch = *w.block->launch;
  DeviceMemory& mem = *launch.memory;
  RangeCache& cache = w.worker->cache;
  const bool look = launch.checks.uninitialised;
  if (row) {
    const uint64_t end = a[0] + static_cast<uint64_t>(bytes) * kLanes;
    if (a[0] < cache.begin || end > cache.end || end < a[0]) {
      Allocation* x = mem.find(a[0], end - a[0]);
      if (!x) {
        each(m, [&](int i) {
          if (!mem.find(a[i], bytes)) outside(w, a[i], bytes, i, is_write);
        });
      }
      cache = {x->begin, x->begin + x->size, x->all_written};
    }
    if (cache.all_written || !look) return;
    uint8_t* s = mem.shadow(a[0]);
    if (is_write) {
      std::memset(s, 1, bytes * kLanes);
    } else if (!all_ones(s, bytes * kLanes)) {
      each(m, [&](int i) {
        if (!written(mem.shadow(a[i]), bytes)) unwritten(mem, a[i], bytes, i);
      });
    }
    return;
  }
  each(m, [&](int i) {
    if (a[i] < cache.begin || a[i] > cache.end || cache.end - a[i] < bytes) {
      Allocation* x = mem.find(a[i], bytes);
      if (!x) outside(w, a[i], bytes, i, is_write);
      cache = {x->begin, x->begin + x->size, x->all_written};
    }
    if (cache.all_written || !look) return;
    uint8_t* s = mem.shadow(a[i]);
    if (is_write) {
      std::memset(s, 1, bytes);
    } else if (!written(s, bytes)) {
      unwritten(mem, a[i], bytes, i);
    }
  });
}

void count_global(Warp& w, const uint64_t* a, Mask m, uint32_t bytes, bool row, bool is_write) {
  MemoryCounters& c = w.worker->memory;
  uint64_t sectors, fewest, distinct;
  if (row) {
    sectors = ((a[0] + bytes * kLanes - 1) >> 5) - (a[0] >> 5) + 1;
    distinct = kLanes;
  } else {
    // Pieces are aligned to their size, so each lies in one sector and two of them are the same or apart.
    uint64_t v[kLanes];
    int n = 0;
    bool sorted = true;
    each(m, [&](int i) {
      sorted = sorted && (n == 0 || v[n - 1] <= a[i]);
      v[n++] = a[i];
    });
    if (!sorted) std::sort(v, v + n);
    sectors = distinct = 1;
    for (int i = 1; i < n; ++i) {
      sectors += v[i] >> 5 != v[i - 1] >> 5;
      distinct += v[i] != v[i - 1];
    }
  }
  fewest = (distinct * bytes + 31) / 32;
  c.global_sectors += sectors;
  c.global_sectors_fewest += fewest;
  (is_write ? c.global_write_sectors : c.global_read_sectors) += sectors;
  (is_write ? c.global_write_bytes : c.global_read_bytes) += distinct * bytes;
}

void check_shared_bounds(Warp& w, const uint64_t* a, Mask m, uint32_t bytes) {
  const uint64_t size = w.block->shared_size;
  uint64_t worst = 0;
  for (int i = 0; i < kLanes; ++i) worst = std::max(worst, (m >> i & 1) ? a[i] : 0);
  if (worst + bytes <= size) return;
  each(m, [&](int i) {
    if (a[i] + bytes > size) {
      fault(kIllegalAddress, i,
            "access of " + std::to_string(bytes) + " bytes at shared offset " + std::to_string(a[i]) +
                ", but the block has " + std::to_string(size) + " bytes of shared memory");
    }
  });
}

void count_shared(Warp& w, const Instr& in, const uint64_t* a, Mask m, uint32_t bytes, bool row, bool is_write) {
  MemoryCounters& c = w.worker->memory;
  (is_write ? c.shared_write_bytes : c.shared_read_bytes) += static_cast<uint64_t>(__builtin_popcount(m)) * bytes;
  const int per_phase = bytes <= 4 ? 32 : bytes == 8 ? 16 : 8;
  if (row) {
    c.shared_wavefronts += static_cast<uint64_t>(kLanes / per_phase);
    return;
  }
  const int words = bytes <= 4 ? 1 : static_cast<int>(bytes / 4);
  for (int from = 0; from < kLanes; from += per_phase) {
    Mask lanes = m >> from & (per_phase == 32 ? kFull : (1u << per_phase) - 1);
    if (!lanes) continue;
    // Most often every lane has banks of its own.
    const int unit = bytes <= 4 ? 2 : bytes == 8 ? 3 : 4;
    Mask banks = 0;
    each(lanes, [&](int k) { banks |= 1u << (a[from + k] >> unit & static_cast<uint64_t>(per_phase - 1)); });
    if (__builtin_popcount(banks) == __builtin_popcount(lanes)) {
      ++c.shared_wavefronts;
      continue;
    }
    uint32_t held[32][32];
    uint8_t count[32] = {};
    uint32_t most = 1;
    each(lanes, [&](int k) {
      for (int j = 0; j < words; ++j) {
        uint32_t word = static_cast<uint32_t>(a[from + k] >> 2) + static_cast<uint32_t>(j), bank = word & 31;
        uint32_t n = count[bank], x = 0;
        while (x < n && held[bank][x] != word) ++x;
        if (x < n) continue;
        held[bank][n] = word;
        count[bank] = static_cast<uint8_t>(n + 1);
        most = std::max(most, n + 1);
      }
    });
    c.shared_wavefronts += most;
    if (most > 1) {
      c.shared_conflicts += most - 1;
      w.worker->conflicts[static_cast<size_t>(&in - w.block->kernel->code.data())] += most - 1;
    }
  }
}

}  // namespace gpusim
