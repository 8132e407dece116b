#include "addon/devices.h"

#include "cpu/cpu_backend.h"
#include "error.h"

namespace kotodama {

std::unique_ptr<Backend> MakeBackend(const std::string& device, int threads) {
  if (device == "cpu") return MakeCpuBackend(threads);
  if (device.rfind("cuda:", 0) == 0) throw Error(ErrorCode::kDevice, "device '" + device + "': " + CudaProblem());
  throw Error(ErrorCode::kOptions, "device: expected 'cpu' or 'cuda:N', received '" + device + "'");
}

std::vector<NamedDevice> Devices() {
  return {{"cpu", MakeCpuBackend(0)->Info()}};
}

std::string CudaProblem() {
  return "CUDA is not part of this build";
}

}  // namespace kotodama
