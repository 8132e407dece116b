#pragma once

#include <memory>
#include <string>
#include <vector>

#include "backend.h"

// The one place where a device's name becomes a Backend.

namespace kotodama {

struct NamedDevice {
  std::string device;  // "cpu" or "cuda:N"
  DeviceInfo info;
  std::string problem;  // empty, or why it cannot be used; `info` may be short of something then
};

// Throws Error(kOptions) on a name that is none, Error(kDevice) on a device that cannot be used here.
// `threads` is for the CPU; 0 lets it choose.
std::unique_ptr<Backend> MakeBackend(const std::string& device, int threads);

// The names of the devices that are here, also of those that cannot be used; the CPU comes first.
std::vector<std::string> DeviceNames();

// Looks at one device and whether it can be used. Throws Error(kOptions) on a name that is none.
NamedDevice ExamineDevice(const std::string& device);

}  // namespace kotodama
