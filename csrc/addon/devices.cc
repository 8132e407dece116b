#include "addon/devices.h"

#include <charconv>

#include "cpu/cpu_backend.h"
#include "cuda/cuda_backend.h"
#include "error.h"

namespace kotodama {

std::unique_ptr<Backend> MakeBackend(const std::string& device, int threads) {
  if (device == "cpu") return MakeCpuBackend(threads);
  const std::string prefix = "cuda:";
  if (device.rfind(prefix, 0) == 0) {
    int index = 0;
    const char* end = device.data() + device.size();
    const auto [rest, error] = std::from_chars(device.data() + prefix.size(), end, index);
    if (error == std::errc() && rest == end) return MakeCudaBackend(index);
  }
  throw Error(ErrorCode::kOptions, "device: expected 'cpu' or 'cuda:N', received '" + device + "'");
}

std::vector<NamedDevice> Devices() {
  std::vector<NamedDevice> devices = {{"cpu", MakeCpuBackend(0)->Info(), ""}};
  int index = 0;
  for (const CudaDevice& device : CudaDevices()) {
    devices.push_back({"cuda:" + std::to_string(index++), device.info, device.problem});
  }
  return devices;
}

}  // namespace kotodama
