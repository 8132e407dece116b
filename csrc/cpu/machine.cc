#include "cpu/machine.h"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <set>
#include <sstream>
#include <thread>
#include <vector>

#include "error.h"

#ifdef __linux__
#include <sched.h>

#include "control_groups.h"
#endif
#ifdef __APPLE__
#include <sys/sysctl.h>
#endif

namespace kotodama::cpu {
namespace {

#ifdef __x86_64__
constexpr Isa kAllIsas[] = {Isa::kPortable, Isa::kAvx2, Isa::kAvx512, Isa::kAvx512Bf16, Isa::kAmx};
#else
constexpr Isa kAllIsas[] = {Isa::kPortable};
#endif
// What the compiler makes of portable code.
#ifdef __aarch64__
constexpr const char* kPortableName = "neon";
#else
constexpr const char* kPortableName = "portable";
#endif

Isa DetectIsa() {
#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
  __builtin_cpu_init();
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return Isa::kPortable;
  if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
      !__builtin_cpu_supports("avx512vl") || !__builtin_cpu_supports("avx512dq")) {
    return Isa::kAvx2;
  }
  if (!__builtin_cpu_supports("avx512bf16")) return Isa::kAvx512;
  return TileRegistersUsable() ? Isa::kAmx : Isa::kAvx512Bf16;
#else
  return Isa::kPortable;
#endif
}

#ifdef __linux__

double ControlGroupCores() {
  double cores = std::numeric_limits<double>::infinity();
  for (const std::string& folder : ControlGroupFolders("")) {
    std::istringstream limit(FirstLine(folder + "/cpu.max"));
    double quota = 0, period = 0;
    if (limit >> quota >> period && period > 0) cores = std::min(cores, quota / period);
  }
  for (const std::string& folder : ControlGroupFolders("cpu")) {
    std::istringstream quota_text(FirstLine(folder + "/cpu.cfs_quota_us"));
    std::istringstream period_text(FirstLine(folder + "/cpu.cfs_period_us"));
    double quota = 0, period = 0;
    if (quota_text >> quota && period_text >> period && quota > 0 && period > 0) {
      cores = std::min(cores, quota / period);
    }
  }
  return cores;
}

int AffinityCores() {
  cpu_set_t mask;
  if (sched_getaffinity(0, sizeof(mask), &mask) != 0) return std::thread::hardware_concurrency();
  std::set<std::string> cores;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &mask)) continue;
    const std::string folder = "/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/";
    const std::string siblings = FirstLine(folder + "thread_siblings_list");
    cores.insert(siblings.empty() ? "cpu" + std::to_string(cpu) : siblings);
  }
  return static_cast<int>(cores.size());
}

#endif

}  // namespace

const char* NameOf(Isa isa) {
  switch (isa) {
    case Isa::kPortable:
      return kPortableName;
    case Isa::kAvx2:
      return "avx2";
    case Isa::kAvx512:
      return "avx512";
    case Isa::kAvx512Bf16:
      return "avx512bf16";
    case Isa::kAmx:
      return "amx";
  }
  return kPortableName;
}

Isa ChooseIsa() {
  const Isa best = DetectIsa();
  const char* wanted = std::getenv("KOTODAMA_CPU_ISA");
  if (wanted == nullptr || *wanted == '\0') return best;
  if (std::string(wanted) == "portable") return Isa::kPortable;  // on every machine
  std::string names;
  for (Isa isa : kAllIsas) {
    if (std::string(wanted) == NameOf(isa)) return std::min(isa, best);
    names += std::string(NameOf(isa)) + ", ";
  }
  throw Error(ErrorCode::kOptions, "KOTODAMA_CPU_ISA: expected one of " + names + "found " + wanted +
                                       "; unset it to use the best of this machine");
}

int UsableCores() {
#ifdef __linux__
  const double limit = ControlGroupCores();
  int cores = AffinityCores();
  if (limit < cores) cores = static_cast<int>(limit + 0.5);
  return std::max(1, cores);
#elif defined(__APPLE__)
  for (const char* name : {"hw.perflevel0.physicalcpu", "hw.physicalcpu"}) {
    int cores = 0;
    size_t size = sizeof(cores);
    if (sysctlbyname(name, &cores, &size, nullptr, 0) == 0 && cores > 0) return cores;
  }
  return 1;
#else
  return std::max(1u, std::thread::hardware_concurrency());
#endif
}

std::string ProcessorName() {
#ifdef __linux__
  std::ifstream file("/proc/cpuinfo");
  std::string line;
  while (std::getline(file, line)) {
    if (line.rfind("model name", 0) == 0) return line.substr(line.find(':') + 2);
  }
#elif defined(__APPLE__)
  char name[256] = {};
  size_t size = sizeof(name);
  if (sysctlbyname("machdep.cpu.brand_string", name, &size, nullptr, 0) == 0) return name;
#endif
  return "processor";
}

}  // namespace kotodama::cpu
