// In a file of its own: a test has tile registers in software, and links another answer in its place.
#include "cpu/machine.h"

#if defined(__linux__) && defined(KOTODAMA_AMX)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace kotodama::cpu {

bool TileRegistersUsable() {
#if defined(__linux__) && defined(KOTODAMA_AMX)
  unsigned a = 0, b = 0, c = 0, d = 0;
  constexpr unsigned kAmxBF16 = 1u << 22, kAmxTile = 1u << 24;  // of EDX, CPUID leaf 7
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0 || (d & kAmxBF16) == 0 || (d & kAmxTile) == 0) return false;
  // See Documentation/arch/x86/xstate.rst of the Linux kernel. It refuses where it is too old, or where a thread has a
  // signal stack too small for the registers.
  constexpr long kRequestPermission = 0x1023, kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return false;
#endif
}

}  // namespace kotodama::cpu
