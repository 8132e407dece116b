#pragma once

#include <memory>
#include <string>
#include <vector>

#include "backend.h"

namespace kotodama {

// Empty, or why CUDA cannot be used here and what to do about it. Never throws.
std::string CudaProblem();

// The devices that the driver knows, also those too old for the kernels; empty where there is a problem. Memory figures
// are 0 for a device that cannot be opened. Never throws.
std::vector<DeviceInfo> CudaDevices();

// Opens device `index`. Throws Error(kDevice) when there is no such device or it cannot be used.
std::unique_ptr<Backend> MakeCudaBackend(int index);

}  // namespace kotodama
