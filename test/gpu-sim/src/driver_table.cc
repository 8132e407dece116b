// cuGetProcAddress: names without version suffix to the newest version.
#include <dlfcn.h>

#include "state.h"

namespace gpusim {

void* find_driver_function(const std::string& name) {
  if (name.compare(0, 2, "cu") != 0) return nullptr;
  Dl_info self;
  if (!dladdr(reinterpret_cast<void*>(&find_driver_function), &self)) return nullptr;
  void* library = dlopen(self.dli_fname, RTLD_NOW | RTLD_NOLOAD);
  if (!library) return nullptr;
  void* found = nullptr;
  if (name == "cuGraphInstantiate") found = dlsym(library, "cuGraphInstantiateWithFlags");
  for (const char* suffix : {"_v2", ""}) {
    if (!found) found = dlsym(library, (name + suffix).c_str());
  }
  dlclose(library);
  return found;
}

}  // namespace gpusim
