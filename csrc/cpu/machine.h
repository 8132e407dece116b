#pragma once

#include <string>

namespace kotodama::cpu {

// Instruction sets that kernels are compiled for, lowest first.
enum class Isa : int { kPortable, kAvx2, kAvx512, kAvx512Bf16, kAmx };

const char* NameOf(Isa isa);

// The best instruction set of this machine, or the lower one that KOTODAMA_CPU_ISA names. Throws Error(kOptions) when
// that variable holds an unknown name.
Isa ChooseIsa();

// Whether this process may use the tile registers of AMX. Linux gives them only when it is asked; this is where it is.
bool TileRegistersUsable();

// Physical cores that this process may use: its affinity mask (hyper-threads of one core count once) within the CPU
// limit of its control group. At least 1.
int UsableCores();

std::string ProcessorName();

}  // namespace kotodama::cpu
