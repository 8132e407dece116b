// The state of one warp and one block while they run.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "device_memory.h"
#include "ir.h"
#include "shared_shadow.h"

namespace gpusim {

// Windows of the generic address space (PTX ISA 5.1). Global addresses are host addresses and lie far above.
constexpr uint64_t kSharedWindow = 0x0000001000000000ull;
constexpr uint64_t kLocalWindow = 0x0000002000000000ull;
constexpr uint64_t kParamWindow = 0x0000003000000000ull;
constexpr uint64_t kWindowSize = 0x0000000100000000ull;

struct Checks {
  bool uninitialised = true;
  bool races = true;
};

struct Dim3 {
  uint32_t x, y, z;
};

/// What a kernel did to memory; summed over the blocks.
struct MemoryCounters {
  uint64_t global_sectors = 0, global_sectors_fewest = 0;
  uint64_t global_read_sectors = 0, global_write_sectors = 0;
  uint64_t global_read_bytes = 0, global_write_bytes = 0;
  uint64_t shared_wavefronts = 0, shared_conflicts = 0;
  uint64_t shared_read_bytes = 0, shared_write_bytes = 0;
  uint64_t local_bytes = 0;
  void add(const MemoryCounters& o);
};

struct Launch {
  const Kernel* kernel;
  Dim3 grid, block;
  uint32_t dynamic_shared;
  std::vector<uint8_t> params;
  DeviceMemory* memory;
  Checks checks;
  uint64_t instruction_limit;  // per warp; 0: none
  uint32_t sample = 0;         // blocks to run of each row of the grid along x, evenly spread; 0: all

  uint32_t run_per_row() const { return sample == 0 || sample > grid.x ? grid.x : sample; }
};

/// A range of global addresses known to lie in one allocation.
struct RangeCache {
  uint64_t begin = 0, end = 0;
  bool all_written = false;
};

/// One host thread's share of a launch.
struct Worker {
  MemoryCounters memory;
  std::vector<uint64_t> executed;   // per instruction: times issued
  std::vector<uint64_t> conflicts;  // per instruction: extra shared-memory wavefronts
  RangeCache cache;
};

struct StackEntry {
  uint32_t pc, rpc;
  Mask mask;
};

/// One cp.async of a warp whose bytes have not arrived yet.
struct PendingCopy {
  Mask lanes;
  uint32_t bytes;
  uint32_t group[kLanes];  // the lane's commit group it belongs to
  uint32_t destination[kLanes];
  alignas(16) uint8_t data[kLanes][16];
  const Instr* instr;
};

struct Block;

/// Convergence, barriers and waits: control.cc.
void pop_path(Warp& w);
void release_barrier(Block& b, int id);
/// Fails unless every living lane of `members` is among the lanes `m` that execute this.
void require_members(Warp& w, Mask members, Mask m);
/// Fails unless all 32 lanes execute this (.aligned).
void require_whole_warp(Mask m);
void advance_clock(Warp& w);

enum class WarpState : uint8_t { kReady, kAtBarrier, kDone };

struct Warp {
  uint8_t* bank[2];  // registers, constants
  Mask* pred;
  Mask active = 0;  // lanes that run now
  Mask alive = 0;   // lanes that have not exited
  Mask exist = 0;
  uint32_t pc = 0;
  uint32_t rpc = 0;
  WarpState state = WarpState::kReady;
  uint32_t id = 0;
  Block* block = nullptr;
  Worker* worker = nullptr;
  std::vector<StackEntry> stack;  // the top is (pc, rpc, active), kept in the fields above
  uint8_t* local = nullptr;       // [lane][local_bytes]
  uint8_t* local_written = nullptr;
  std::vector<PendingCopy> copies;
  uint32_t committed[kLanes] = {};  // cp.async groups committed so far
  SyncClock clock;
  Mask carry = 0;    // CC.CF (PTX ISA 9.7.2)
  int barrier = -1;  // where it waits
  const Instr* waiting = nullptr;
  const Instr* current = nullptr;  // being executed, for reports
  uint64_t issued = 0;

  const uint8_t* at(Ref r) const { return bank[r.v >> 31] + (r.v & 0x7fffffffu); }
  uint8_t* reg(Ref r) { return bank[0] + r.v; }
  Mask predicate(PredRef p) const { return p.negated ? ~pred[p.index] : pred[p.index]; }
};

struct Barrier {
  uint32_t arrived = 0;   // threads
  uint32_t expected = 0;  // threads; 0: nobody has come yet
  uint32_t count = 0;     // barrier.red: threads whose predicate held
  uint32_t latest = 0;    // of the participants' times
  std::array<uint32_t, 32> known{};
  std::vector<Warp*> waiting;
};

struct Block {
  const Launch* launch = nullptr;
  const Kernel* kernel = nullptr;
  Dim3 index{0, 0, 0};
  uint32_t threads = 0;
  uint8_t* shared = nullptr;
  uint32_t shared_size = 0;
  SharedShadow shadow;
  std::vector<Warp> warps;
  Barrier barriers[16];
};

/// A kernel did something that it must not. `code` is the CUresult that the launch returns.
struct Fault {
  int code;
  std::string message;
  int lane;  // -1: the whole warp
};

constexpr int kIllegalAddress = 700;
constexpr int kLaunchTimeout = 702;
constexpr int kMisaligned = 716;
constexpr int kLaunchFailed = 719;

[[noreturn]] inline void fault(int code, int lane, std::string message) {
  throw Fault{code, std::move(message), lane};
}

}  // namespace gpusim
