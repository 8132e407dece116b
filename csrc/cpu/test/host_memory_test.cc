#include "host_memory.h"

#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <string>

#include "check.h"

namespace kotodama::test {
namespace {

constexpr uint64_t kGibibyte = uint64_t{1} << 30;

HostMemory MachineOf(const std::string& lines) {
  std::istringstream stream(lines);
  return MemoryOfMachine(stream);
}

// A folder such as a control group has; it goes with the object.
class Group {
 public:
  Group(const std::string& limit, uint64_t usage, const std::string& statistics) {
    std::string name = "/tmp/kotodama-group-XXXXXX";
    if (mkdtemp(name.data()) == nullptr) throw std::runtime_error("no temporary folder: " + name);
    folder_ = name;
    std::ofstream(folder_ + "/limit") << limit << '\n';
    std::ofstream(folder_ + "/usage") << usage << '\n';
    std::ofstream(folder_ + "/memory.stat") << statistics;
  }
  ~Group() {
    for (const char* file : {"/limit", "/usage", "/memory.stat"}) unlink((folder_ + file).c_str());
    rmdir(folder_.c_str());
  }

  void Tighten(HostMemory* state) const { TightenByControlGroup(folder_, "/limit", "/usage", state); }

 private:
  std::string folder_;
};

HostMemory State(uint64_t total, uint64_t free) {
  HostMemory state;
  state.total = total;
  state.free = free;
  return state;
}

TEST(MemoryOfTheMachine) {
  const HostMemory usual = MachineOf("MemTotal: 4096 kB\nMemFree: 1 kB\nMemAvailable: 2048 kB\nCached: 7 kB\n");
  CHECK(usual.total == 4096 * 1024 && usual.free == 2048 * 1024, usual.total, usual.free);
  const HostMemory full = MachineOf("MemTotal: 4096 kB\nMemAvailable: 0 kB\n");
  CHECK(full.free == 0, full.free);
  const HostMemory old = MachineOf("MemTotal: 4096 kB\nMemFree: 100 kB\nBuffers: 5 kB\nCached: 200 kB\n");
  CHECK(old.free == 300 * 1024, old.free);
}

TEST(MemoryThatIsNotKnownIsNotZero) {
  const HostMemory total = MachineOf("MemTotal: 4096 kB\n"), nothing = MachineOf("");
  CHECK(total.free == 4096 * 1024, total.free);
  CHECK(nothing.total == HostMemory::kUnlimited && nothing.free == nothing.total, nothing.total, nothing.free);
}

TEST(MemoryOfNestedControlGroups) {
  HostMemory state = State(64 * kGibibyte, 60 * kGibibyte);
  const Group scope(std::to_string(16 * kGibibyte), 0, "");
  // Others in the slice hold nearly all of it.
  const Group slice(std::to_string(32 * kGibibyte), 31 * kGibibyte, "anon 5\n");
  const Group top("max", 40 * kGibibyte, "");
  scope.Tighten(&state);
  CHECK(state.total == 16 * kGibibyte && state.free == 16 * kGibibyte, state.total, state.free);
  slice.Tighten(&state);
  CHECK(state.total == 16 * kGibibyte && state.free == kGibibyte, state.total, state.free);
  top.Tighten(&state);
  CHECK(state.total == 16 * kGibibyte && state.free == kGibibyte, state.total, state.free);
}

TEST(CachedFilesAreFree) {
  HostMemory state = State(8 * kGibibyte, 8 * kGibibyte);
  const std::string cached = std::to_string(2 * kGibibyte);
  Group(std::to_string(4 * kGibibyte), 3 * kGibibyte, "inactive_file " + cached + "\nfile 1\n").Tighten(&state);
  CHECK(state.free == 3 * kGibibyte, state.free);
  Group(std::to_string(4 * kGibibyte), 5 * kGibibyte, "").Tighten(&state);
  CHECK(state.free == 0, state.free);
}

}  // namespace
}  // namespace kotodama::test
