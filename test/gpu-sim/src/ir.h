// The decoded form that the interpreter runs.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "ast.h"
#include "types.h"

namespace gpusim {

constexpr int kLanes = 32;
using Mask = uint32_t;  // one bit per lane
constexpr Mask kFull = 0xffffffffu;

struct Warp;
struct Instr;
using Handler = void (*)(Warp&, const Instr&, Mask);

/// Where 32 lanes of a value lie: byte offset into the warp's registers, or (top bit) into the kernel's constants.
struct Ref {
  uint32_t v = kNone;
  static constexpr uint32_t kConstant = 0x80000000u;
  static constexpr uint32_t kNone = 0xffffffffu;
  bool valid() const { return v != kNone; }
};

/// A predicate register and whether it is negated. Index 0 always holds true.
struct PredRef {
  uint16_t index = 0;
  bool negated = false;
};

/// What an instruction is counted as.
enum class Kind : uint8_t {
  kIntAlu,
  kFloatAlu,
  kHalfAlu,
  kDoubleAlu,
  kSpecialFunction,
  kConvert,
  kMove,
  kPredicate,
  kControl,
  kBarrier,
  kShuffle,
  kLoadGlobal,
  kStoreGlobal,
  kLoadShared,
  kStoreShared,
  kLoadLocal,
  kStoreLocal,
  kLoadParam,
  kLoadConst,
  kLoadGeneric,
  kStoreGeneric,
  kAtomic,
  kLdmatrix,
  kStmatrix,
  kMma,
  kCpAsync,
  kFence,
  kCount
};
const char* kind_name(Kind kind);

struct Instr {
  Handler fn = nullptr;
  const Ref* r = nullptr;     // operands, results first
  const void* aux = nullptr;  // what a family needs besides; owned by the kernel
  int64_t imm = 0;
  uint32_t target = 0;      // branches: where to
  uint32_t reconverge = 0;  // branches: the immediate post-dominator
  PredRef guard;
  PredRef p[4];  // predicate operands, results first
  Kind kind = Kind::kIntAlu;
  uint32_t line = 0;  // in the PTX text
  int source_file = 0;
  int source_line = 0;
};

struct ParamSlot {
  uint32_t offset;
  uint32_t size;
};

/// A loop of a kernel, loops within it included: the blocks from which its back edges can be reached.
struct Loop {
  uint32_t first;  // smallest and largest instruction
  uint32_t last;
  std::vector<uint32_t> instructions;
};

struct Module;

struct Kernel {
  std::string name;
  const Module* module = nullptr;
  std::vector<Instr> code;  // ends with an exit
  std::vector<Loop> loops;
  std::vector<std::unique_ptr<Ref[]>> refs;
  std::vector<std::shared_ptr<void>> aux;
  uint8_t* constants = nullptr;  // broadcast immediates, 64-byte aligned
  std::unique_ptr<uint8_t[]> constants_storage;
  uint32_t register_bytes = 0;  // per warp
  uint32_t predicate_count = 1;
  uint32_t local_bytes = 0;   // per lane
  uint32_t shared_bytes = 0;  // static
  uint32_t max_threads = 1024;
  std::vector<ParamSlot> params;
  uint32_t param_bytes = 0;
  int shared_granule_shift = 2;     // log2 of the smallest shared-memory access
  uint32_t live_registers = 0;      // most 32-bit values alive at once, by liveness analysis
  uint32_t max_dynamic_shared = 0;  // what static shared memory leaves of 48 KiB, or as cuFuncSetAttribute says
};

}  // namespace gpusim
