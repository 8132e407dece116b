#pragma once

#include <memory>
#include <string>

#include "backend.h"

namespace kotodama {

// Empty, or why CUDA cannot be used here and what to do about it. Never throws.
std::string CudaProblem();

// What the kernels were compiled with and for, e.g. "nvcc 13.0.88: PTX 80, machine code 80 86 89 90"; empty in a build
// without them.
std::string CudaKernels();

// The version of CUDA that the driver knows, e.g. "13.0"; empty where there is no driver. Never throws.
std::string CudaDriver();

// Empty, or why the driver cannot be used. Never throws.
std::string CudaDriverProblem();

struct CudaDevice {
  DeviceInfo info;      // as far as it is known where there is a problem
  std::string problem;  // empty, or why it cannot be used, also that there is none
};

// How many devices the driver knows, with those that cannot be used; 0 where there is a CudaProblem. Never throws.
int CudaDeviceCount();

// Looks whether device `index`, and no other, can be used: whether a context can be had and the driver takes the
// kernels. Nothing is kept.
CudaDevice ExamineCudaDevice(int index);

// Opens device `index`. Throws Error(kDevice) when there is no such device or it cannot be used.
std::unique_ptr<Backend> MakeCudaBackend(int index);

}  // namespace kotodama
