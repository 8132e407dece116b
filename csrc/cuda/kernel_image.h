#pragma once

namespace kotodama::cuda {

// The kernels as the driver loads them (a fat binary: machine code and PTX), or null in a build without nvcc.
const void* KernelImage();

}  // namespace kotodama::cuda
