#pragma once

#include <string>

namespace kotodama::cuda {

// The kernels as the driver loads them (a fat binary: machine code and PTX), or null in a build without nvcc.
const void* KernelImage();

// What compiled them and for which architectures; empty without them.
std::string KernelBuild();

}  // namespace kotodama::cuda
