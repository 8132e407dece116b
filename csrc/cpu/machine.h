#pragma once

#include <cstddef>
#include <cstdint>
#include <istream>
#include <string>

namespace kotodama::cpu {

// Instruction sets that kernels are compiled for, lowest first.
enum class Isa : int { kPortable, kAvx2, kAvx512, kAvx512Bf16, kAmx };

const char* NameOf(Isa isa);

// The best instruction set of this machine, or the lower one that KOTODAMA_CPU_ISA names. Linux gives a process the
// tile registers of AMX only when it asks; this is where it does. Throws Error(kOptions) when that variable holds an
// unknown name.
Isa ChooseIsa();

// Physical cores that this process may use: its affinity mask (hyper-threads of one core count once) within the CPU
// limit of its control group. At least 1.
int UsableCores();

// Bytes of the machine's memory, and those that this process can still take, within the limits of its control groups.
// What cannot be found out is kUnlimited: then a model is tried, not refused.
struct MemoryState {
  static constexpr size_t kUnlimited = SIZE_MAX / 2;  // more can be added to it
  size_t total = kUnlimited, free = kUnlimited;
};
MemoryState ReadMemory();

// Parts of ReadMemory on Linux. From the lines of /proc/meminfo:
MemoryState MemoryOfMachine(std::istream& lines);
// Tightens `state` by the limit of one control group, if it has one. The names are those of files in its folder.
void TightenByControlGroup(const std::string& folder, const char* limit_name, const char* usage_name,
                           MemoryState* state);

std::string ProcessorName();

}  // namespace kotodama::cpu
