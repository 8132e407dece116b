#include "cuda/driver.h"

#include <dlfcn.h>

#include <cstdlib>
#include <cstring>

namespace kotodama::cuda {

std::string VersionText(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

namespace {

constexpr int kOldestDriver = 11040;  // the first with cuGraphInstantiateWithFlags

// The driver's name for an error and its description.
std::string NameOf(const Driver& driver, CUresult result) {
  const char *name = nullptr, *text = nullptr;
  if (driver.error_name(result, &name) != kSuccess || name == nullptr) return "error " + std::to_string(result);
  if (driver.error_string(result, &text) != kSuccess || text == nullptr) text = "no description";
  return std::string(name) + " (" + text + ")";
}

// What to do about an error of the driver's start, after a semicolon.
std::string AfterFailedStart(CUresult result) {
  switch (result) {
    case kErrorNoDevice:
      if (const char* visible = std::getenv("CUDA_VISIBLE_DEVICES")) {
        const std::string names = visible, setting = "CUDA_VISIBLE_DEVICES='" + names + "'";
        if (names.empty() || names == "-1") {
          return "; " + setting + " hides every device: name some (nvidia-smi -L lists them), or unset it";
        }
        return "; no device that can be used is among those that " + setting +
               " names; nvidia-smi -L lists what is there";
      }
      return "; this machine has no CUDA device that can be used";
    case kErrorUnknown:
      return "; load the kernel's module nvidia_uvm again (after a suspend: sudo modprobe -r nvidia_uvm && "
             "sudo modprobe nvidia_uvm; for a container, on its host: sudo nvidia-modprobe -c 0 -u), or restart the "
             "computer";
    case kErrorSystemNotReady:
      return "; start the services that the GPUs need: on machines with NVSwitch the fabric manager (systemctl start "
             "nvidia-fabricmanager)";
    case kErrorDriverMismatch:
      return "; this library and the kernel's NVIDIA module are of different versions, as after an upgrade: restart "
             "the "
             "computer, or install the module's version of the library";
    case kErrorCompatNotSupported:
      return "; this GPU cannot be used with a library that is newer than the kernel's NVIDIA module (cuda-compat): "
             "use "
             "the library of the installed driver";
    default:
      return "";
  }
}

// Fills `driver` from an opened library; returns the first symbol that is missing, or null.
const char* FindSymbols(void* library, Driver* driver) {
#define KOTODAMA_CUDA_FIND(name, symbol, parameters)                                \
  driver->name = reinterpret_cast<decltype(driver->name)>(dlsym(library, #symbol)); \
  if (driver->name == nullptr) return #symbol;
  KOTODAMA_CUDA_FUNCTIONS(KOTODAMA_CUDA_FIND)
#undef KOTODAMA_CUDA_FIND
  return nullptr;
}

// CUDA_ERROR_CONTAINED, ILLEGAL_ADDRESS, LAUNCH_TIMEOUT, HARDWARE_STACK_ERROR to LAUNCH_FAILED, MPS_CLIENT_TERMINATED:
// "the process must be terminated and relaunched" (cuda.h). CONTEXT_IS_DESTROYED and ASSERT: the context is lost, and a
// process has one of each device. Those of features that are not used are left out.
bool IsFault(CUresult result) {
  return result == 226 || result == 700 || result == 702 || result == 709 || result == 710 ||
         (result >= 714 && result <= 719) || result == 810;
}

std::string Open(Driver* driver) {
  const char* chosen = std::getenv("KOTODAMA_CUDA_DRIVER");
  const bool is_chosen = chosen != nullptr && chosen[0] != '\0';
  const std::string path = is_chosen ? chosen : "libcuda.so.1";
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    const char* reason = dlerror();
    return "the CUDA driver library " + path + " cannot be opened (" + (reason ? reason : "no reason given") + "); " +
           (is_chosen ? "KOTODAMA_CUDA_DRIVER must name a driver library, or be unset"
                      : "install NVIDIA's driver (a container must be started with GPUs: docker run --gpus all, driver "
                        "capability compute), or use device 'cpu'");
  }
  if (const char* missing = FindSymbols(library, driver)) {
    return path + " is not a CUDA driver, or one that is too old: it has no function " + missing +
           "; install a newer NVIDIA driver (CUDA 11.4 or later)";
  }
  const CUresult result = driver->init(0);
  if (result != kSuccess) {
    return "the CUDA driver " + path + " does not start: " + NameOf(*driver, result) + AfterFailedStart(result);
  }
  if (driver->driver_version(&driver->version) != kSuccess || driver->version < kOldestDriver) {
    return "the CUDA driver " + path + " knows CUDA " + VersionText(driver->version) + ", expected " +
           VersionText(kOldestDriver) + " or later; install a newer NVIDIA driver";
  }
  return "";
}

}  // namespace

const DriverState& GetDriver() {
  // Never destroyed: threads may still use it while the process ends.
  static const DriverState* const state = [] {
    auto* fresh = new DriverState;
    fresh->problem = Open(&fresh->driver);
    return fresh;
  }();
  return *state;
}

void ThrowDriverError(CUresult result, const char* call, const char* file, int line) {
  const Driver& driver = GetDriver().driver;
  const char* base = std::strrchr(file, '/');
  const std::string place = std::string(base ? base + 1 : file) + ":" + std::to_string(line);
  const ErrorCode code = result == kErrorOutOfMemory ? ErrorCode::kMemory : ErrorCode::kDevice;
  // Kernels run beside the host, so that a fault shows in a later call.
  std::string message = "CUDA reports " + NameOf(driver, result) + ", noticed at " + call + ", " + place;
  if (IsFault(result)) message += kAfterFault;
  if (result == kErrorOutOfMemory) message += kAfterOutOfMemory;
  if (result == kErrorUnavailable) {
    message +=
        "\n  hint: the GPU's compute mode may give it to one program at a time or to none: end other programs that use "
        "it, change the mode (nvidia-smi --compute-mode=DEFAULT), or use device 'cpu'";
  }
  throw DriverError(code, message, IsFault(result));
}

}  // namespace kotodama::cuda
