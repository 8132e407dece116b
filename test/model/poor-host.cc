// A host with little memory and coarse clocks, for LD_PRELOAD: /proc/meminfo is the file that POOR_HOST_MEMINFO names,
// once read the one beside it that ends in ".next", if any; and the processor's time of a thread is counted in ticks of
// 10 ms.

#include <dlfcn.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>

// The names are those of the C library.
// NOLINTBEGIN
extern "C" {

FILE* fopen64(const char* path, const char* mode) {
  using Function = FILE*(const char*, const char*);
  static auto* const next = reinterpret_cast<Function*>(dlsym(RTLD_NEXT, "fopen64"));
  const char* meminfo = getenv("POOR_HOST_MEMINFO");
  if (meminfo == nullptr || strcmp(path, "/proc/meminfo") != 0) return next(path, mode);
  FILE* file = next(meminfo, mode);
  char later[4096];
  snprintf(later, sizeof(later), "%s.next", meminfo);
  rename(later, meminfo);
  return file;
}

int clock_gettime(clockid_t clock, struct timespec* time) noexcept {
  const auto result = static_cast<int>(syscall(SYS_clock_gettime, clock, time));
  if (clock == CLOCK_THREAD_CPUTIME_ID) time->tv_nsec -= time->tv_nsec % 10000000;
  return result;
}

}  // extern "C"
// NOLINTEND
