#include "addon/devices.h"

#include <charconv>
#include <string_view>

#include "cpu/cpu_backend.h"
#include "cuda/cuda_backend.h"
#include "error.h"

namespace kotodama {
namespace {

constexpr std::string_view kCpu = "cpu", kCudaPrefix = "cuda:";

// N of "cuda:N".
int CudaIndexOf(const std::string& device) {
  if (device.rfind(kCudaPrefix, 0) == 0) {
    int index = 0;
    const char* end = device.data() + device.size();
    const auto [rest, error] = std::from_chars(device.data() + kCudaPrefix.size(), end, index);
    if (error == std::errc() && rest == end) return index;
  }
  throw Error(ErrorCode::kOptions, "device: expected 'cpu' or 'cuda:N', received '" + device + "'");
}

}  // namespace

std::unique_ptr<Backend> MakeBackend(const std::string& device, int threads) {
  if (device == kCpu) return MakeCpuBackend(threads);
  return MakeCudaBackend(CudaIndexOf(device));
}

std::vector<std::string> DeviceNames() {
  std::vector<std::string> names = {std::string(kCpu)};
  const int count = CudaDeviceCount();
  for (int index = 0; index < count; ++index) names.push_back(std::string(kCudaPrefix) + std::to_string(index));
  return names;
}

NamedDevice ExamineDevice(const std::string& device) {
  if (device == kCpu) return {device, MakeCpuBackend(0)->Info(), ""};
  const CudaDevice found = ExamineCudaDevice(CudaIndexOf(device));
  return {device, found.info, found.problem};
}

}  // namespace kotodama
