// The kernels of AMX on any processor that can do the rest of them: linked ahead of the library, in place of its
// isa/amx.cc and tile_registers.cc.
#include "software_tiles.h"
//
#include "cpu/isa/amx.cc"
#include "cpu/machine.h"

namespace kotodama::cpu {

bool TileRegistersUsable() {
  return true;
}

}  // namespace kotodama::cpu
