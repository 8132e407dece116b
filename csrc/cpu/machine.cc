#include "cpu/machine.h"

#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <map>
#include <set>
#include <sstream>
#include <thread>
#include <vector>

#include "error.h"

#ifdef __x86_64__
#include <cpuid.h>
#endif
#ifdef __linux__
#include <sched.h>
#include <sys/syscall.h>
#endif
#ifdef __APPLE__
#include <mach/mach.h>
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

#ifdef __x86_64__
bool TileRegistersUsable() {
#if defined(__linux__) && defined(KOTODAMA_AMX)
  unsigned a = 0, b = 0, c = 0, d = 0;
  constexpr unsigned kAmxBF16 = 1u << 22, kAmxTile = 1u << 24;  // of EDX, CPUID leaf 7
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0 || (d & kAmxBF16) == 0 || (d & kAmxTile) == 0) return false;
  // See Documentation/arch/x86/xstate.rst of the Linux kernel. It refuses where it is too old, or where a thread has a
  // signal stack too small for the registers.
  constexpr long kRequestPermission = 0x1023, kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return false;
#endif
}
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

std::string FirstLine(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

// The folders of this process's control group and of the groups above it, for the unified hierarchy (controller "")
// or one of the first version.
std::vector<std::string> ControlGroupFolders(const std::string& controller) {
  std::ifstream file("/proc/self/cgroup");
  std::string line;
  std::vector<std::string> folders;
  const std::string root = controller.empty() ? "/sys/fs/cgroup" : "/sys/fs/cgroup/" + controller;
  while (std::getline(file, line)) {
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
    if (controllers.find("," + controller + ",") == std::string::npos) continue;
    for (std::string path = line.substr(second + 1); path.size() > 1; path = path.substr(0, path.rfind('/'))) {
      folders.push_back(root + path);
      if (path.rfind('/') == 0) break;
    }
  }
  folders.push_back(root);
  return folders;
}

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

MemoryState MemoryOfMachine(std::istream& lines) {
  MemoryState state;
  std::map<std::string, uint64_t> bytes;
  std::string line;
  while (std::getline(lines, line)) {
    std::istringstream text(line);
    std::string key;
    uint64_t kibibytes = 0;
    if (text >> key >> kibibytes) bytes[key] = kibibytes * 1024;
  }
  if (bytes.count("MemTotal:") > 0) state.total = bytes["MemTotal:"];
  if (bytes.count("MemAvailable:") > 0) {
    state.free = bytes["MemAvailable:"];
  } else if (bytes.count("MemFree:") > 0) {  // before Linux 3.14, and where /proc is made by another system
    state.free = bytes["MemFree:"] + bytes["Cached:"];
  }
  state.free = std::min(state.free, state.total);
  return state;
}

void TightenByControlGroup(const std::string& folder, const char* limit_name, const char* usage_name,
                           MemoryState* state) {
  std::ifstream limit_file(folder + limit_name), usage_file(folder + usage_name);
  uint64_t limit = 0, usage = 0;
  if (!(limit_file >> limit) || !(usage_file >> usage)) return;
  // Cached file pages count as used but are given back under pressure.
  std::ifstream stat(folder + "/memory.stat");
  std::string key;
  uint64_t value = 0, cached = 0;
  while (stat >> key >> value) {
    if (key == "inactive_file" || key == "total_inactive_file") cached = value;
  }
  usage -= std::min(usage, cached);
  // A group above may have the larger limit and, because others are in it too, less left.
  state->total = std::min<uint64_t>(state->total, limit);
  state->free = std::min<uint64_t>(state->free, limit - std::min(limit, usage));
}

MemoryState ReadMemory() {
#ifdef __linux__
  std::ifstream file("/proc/meminfo");
  MemoryState state = MemoryOfMachine(file);
  for (const std::string& folder : ControlGroupFolders("")) {
    TightenByControlGroup(folder, "/memory.max", "/memory.current", &state);
  }
  for (const std::string& folder : ControlGroupFolders("memory")) {
    TightenByControlGroup(folder, "/memory.limit_in_bytes", "/memory.usage_in_bytes", &state);
  }
#else
  MemoryState state;
#endif
#ifdef __APPLE__
  uint64_t total = 0;
  size_t size = sizeof(total);
  if (sysctlbyname("hw.memsize", &total, &size, nullptr, 0) == 0) state.total = total;
  vm_statistics64_data_t statistics;
  mach_msg_type_number_t count = HOST_VM_INFO64_COUNT;
  if (host_statistics64(mach_host_self(), HOST_VM_INFO64, reinterpret_cast<host_info64_t>(&statistics), &count) ==
      KERN_SUCCESS) {
    state.free = (static_cast<uint64_t>(statistics.free_count) + statistics.inactive_count) * sysconf(_SC_PAGESIZE);
  }
  state.free = std::min(state.free, state.total);
#endif
  return state;
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
