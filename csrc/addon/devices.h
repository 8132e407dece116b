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
  std::string problem;  // empty, or why it cannot be used
};

// Throws Error(kOptions) on a name that is none, Error(kDevice) on a device that cannot be used here.
// `threads` is for the CPU; 0 lets it choose.
std::unique_ptr<Backend> MakeBackend(const std::string& device, int threads);

// The devices that are here, also those that cannot be used; the CPU comes first.
std::vector<NamedDevice> Devices();

}  // namespace kotodama
