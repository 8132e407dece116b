#include "host_memory.h"

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <map>
#include <sstream>

#ifdef __linux__
#include "control_groups.h"
#endif
#ifdef __APPLE__
#include <mach/mach.h>
#include <sys/sysctl.h>
#include <unistd.h>
#endif

namespace kotodama {

HostMemory MemoryOfMachine(std::istream& lines) {
  HostMemory state;
  std::map<std::string, uint64_t> bytes;
  std::string line;
  while (std::getline(lines, line)) {
    std::istringstream text(line);
    std::string key;
    uint64_t kibibytes = 0;
    if (text >> key >> kibibytes) bytes[key] = kibibytes * 1024;
  }
  if (bytes.count("MemTotal:") > 0) state.total = bytes["MemTotal:"];
  if (bytes.count("MemAvailable:") > 0) {
    state.free = bytes["MemAvailable:"];
  } else if (bytes.count("MemFree:") > 0) {  // before Linux 3.14, and where /proc is made by another system
    state.free = bytes["MemFree:"] + bytes["Cached:"];
  }
  state.free = std::min(state.free, state.total);
  return state;
}

void TightenByControlGroup(const std::string& folder, const char* limit_name, const char* usage_name,
                           HostMemory* state) {
  std::ifstream limit_file(folder + limit_name), usage_file(folder + usage_name);
  uint64_t limit = 0, usage = 0;
  if (!(limit_file >> limit) || !(usage_file >> usage)) return;
  // Cached file pages count as used but are given back under pressure.
  std::ifstream stat(folder + "/memory.stat");
  std::string key;
  uint64_t value = 0, cached = 0;
  while (stat >> key >> value) {
    if (key == "inactive_file" || key == "total_inactive_file") cached = value;
  }
  usage -= std::min(usage, cached);
  // A group above may have the larger limit and, because others are in it too, less left.
  state->total = std::min<uint64_t>(state->total, limit);
  state->free = std::min<uint64_t>(state->free, limit - std::min(limit, usage));
}

HostMemory ReadHostMemory() {
#ifdef __linux__
  std::ifstream file("/proc/meminfo");
  HostMemory state = MemoryOfMachine(file);
  for (const std::string& folder : ControlGroupFolders("")) {
    TightenByControlGroup(folder, "/memory.max", "/memory.current", &state);
  }
  for (const std::string& folder : ControlGroupFolders("memory")) {
    TightenByControlGroup(folder, "/memory.limit_in_bytes", "/memory.usage_in_bytes", &state);
  }
#else
  HostMemory state;
#endif
#ifdef __APPLE__
  uint64_t total = 0;
  size_t size = sizeof(total);
  if (sysctlbyname("hw.memsize", &total, &size, nullptr, 0) == 0) state.total = total;
  vm_statistics64_data_t statistics;
  mach_msg_type_number_t count = HOST_VM_INFO64_COUNT;
  if (host_statistics64(mach_host_self(), HOST_VM_INFO64, reinterpret_cast<host_info64_t>(&statistics), &count) ==
      KERN_SUCCESS) {
    state.free = (static_cast<uint64_t>(statistics.free_count) + statistics.inactive_count) * sysconf(_SC_PAGESIZE);
  }
  state.free = std::min(state.free, state.total);
#endif
  return state;
}

}  // namespace kotodama
