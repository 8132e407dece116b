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
};

// Throws Error(kOptions) on a name that is none, Error(kDevice) on a device that cannot be used here.
// `threads` is for the CPU; 0 lets it choose.
std::unique_ptr<Backend> MakeBackend(const std::string& device, int threads);

// Devices that work; the CPU comes first. A CUDA device that cannot be opened is left out.
std::vector<NamedDevice> Devices();

}  // namespace kotodama
