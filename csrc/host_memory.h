#pragma once

#include <cstddef>
#include <cstdint>
#include <istream>
#include <string>

namespace kotodama {

// Bytes of the machine's memory, and those that this process can still take, within the limits of its control groups.
// What cannot be found out is kUnlimited: then a model is tried, not refused.
struct HostMemory {
  static constexpr size_t kUnlimited = SIZE_MAX / 2;  // more can be added to it
  size_t total = kUnlimited, free = kUnlimited;
};
HostMemory ReadHostMemory();

// Parts of ReadHostMemory on Linux. From the lines of /proc/meminfo:
HostMemory MemoryOfMachine(std::istream& lines);
// Tightens `state` by the limit of one control group, if it has one. The names are those of files in its folder.
void TightenByControlGroup(const std::string& folder, const char* limit_name, const char* usage_name,
                           HostMemory* state);

}  // namespace kotodama
