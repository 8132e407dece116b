// A disk that fails on demand, for LD_PRELOAD: the n-th call that changes something below a folder fails, or the
// process is killed in its place.
//
// FAILING_DISK_FOLDER names the folder (absolute). FAILING_DISK_CONTROL names a file of four int64 that is mapped and
// may be written at any time: which call (counted from 1; 0: none), what happens then, the errno, and the calls so far.
// FAILING_DISK_LOG, where it is set, names a file that gets a line for each call while one is chosen: its name, the
// path, and for rename and link what that was before, with tabs between them.

#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace {

enum Mode : int64_t {
  kFailOnce = 0,
  kFailForever = 1,  // this call and all after it
  kKill = 2,
  kShort = 3,  // a write does half of its work; the call after it fails
};

struct Control {
  int64_t target;
  int64_t mode;
  int64_t error;
  std::atomic<int64_t> calls;
};

template <typename Function>
Function* Next(const char* name) {
  return reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
}

Control* control() {
  static Control* mapped = [] {
    const char* path = getenv("FAILING_DISK_CONTROL");
    const int file = path == nullptr ? -1 : Next<int(const char*, int, ...)>("open")(path, O_RDWR | O_CLOEXEC);
    if (file < 0) return static_cast<Control*>(nullptr);
    void* memory = mmap(nullptr, sizeof(Control), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    return memory == MAP_FAILED ? nullptr : static_cast<Control*>(memory);
  }();
  return mapped;
}

bool Below(const char* path) {
  static const char* folder = getenv("FAILING_DISK_FOLDER");
  return folder != nullptr && path != nullptr && strncmp(path, folder, strlen(folder)) == 0;
}

constexpr size_t kLongest = 4096;

const char* PathOf(const char* path, char*) {
  return path;
}

// Of an open file: in `space`, or null.
const char* PathOf(int file, char* space) {
  char link[64];
  snprintf(link, sizeof(link), "/proc/self/fd/%d", file);
  const ssize_t length = readlink(link, space, kLongest - 1);
  if (length < 0) return nullptr;
  space[length] = 0;
  return space;
}

void Log(const char* call, const char* path, const char* from) {
  static const int log = [] {
    const char* name = getenv("FAILING_DISK_LOG");
    const int flags = O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC;
    return name == nullptr ? -1 : Next<int(const char*, int, ...)>("open")(name, flags, 0644);
  }();
  if (log < 0) return;
  char line[2 * kLongest + 64];
  const int length = snprintf(line, sizeof(line), "%s\t%s\t%s\n", call, path, from);
  // In one piece: other threads write, too.
  if (Next<ssize_t(int, const void*, size_t)>("write")(log, line, static_cast<size_t>(length)) != length) abort();
}

// 0: the call may go on. 1: it fails, errno says why. 2: it may do half.
template <typename Place>
int Judge(const char* name, Place place, bool writes, const char* from = "") {
  const int before = errno;
  Control* state = control();
  char space[kLongest];
  const char* path = state == nullptr || state->target == 0 ? nullptr : PathOf(place, space);
  if (!Below(path)) {
    errno = before;
    return 0;
  }
  Log(name, path, from);
  const int64_t call = ++state->calls;
  errno = before;
  if (call < state->target) return 0;
  if (state->mode == kShort) {
    if (call == state->target) return writes ? 2 : 0;
    if (call > state->target + 1) return 0;
  } else if (call > state->target && state->mode != kFailForever) {
    return 0;
  }
  if (state->mode == kKill) {
    kill(getpid(), SIGKILL);
    for (;;) pause();
  }
  errno = static_cast<int>(state->error);
  return 1;
}

int OpenFlags(const char* path, int flags, mode_t mode, const char* name) {
  const bool changes = (flags & (O_CREAT | O_TRUNC | O_WRONLY | O_RDWR)) != 0;
  if (changes && Judge("open", path, false) == 1) return -1;
  return Next<int(const char*, int, ...)>(name)(path, flags, mode);
}

}  // namespace

// The names are those of the C library.
// NOLINTBEGIN
extern "C" {

int open(const char* path, int flags, ...) {
  va_list rest;
  va_start(rest, flags);
  const mode_t mode = va_arg(rest, mode_t);
  va_end(rest);
  return OpenFlags(path, flags, mode, "open");
}

int open64(const char* path, int flags, ...) {
  va_list rest;
  va_start(rest, flags);
  const mode_t mode = va_arg(rest, mode_t);
  va_end(rest);
  return OpenFlags(path, flags, mode, "open64");
}

ssize_t write(int file, const void* bytes, size_t count) {
  const int verdict = Judge("write", file, true);
  if (verdict == 1) return -1;
  return Next<ssize_t(int, const void*, size_t)>("write")(file, bytes, verdict == 2 ? (count + 1) / 2 : count);
}

ssize_t pwrite(int file, const void* bytes, size_t count, off_t offset) {
  const int verdict = Judge("pwrite", file, true);
  if (verdict == 1) return -1;
  return Next<ssize_t(int, const void*, size_t, off_t)>("pwrite")(file, bytes, verdict == 2 ? (count + 1) / 2 : count,
                                                                  offset);
}

ssize_t pwrite64(int file, const void* bytes, size_t count, off64_t offset) {
  const int verdict = Judge("pwrite64", file, true);
  if (verdict == 1) return -1;
  return Next<ssize_t(int, const void*, size_t, off64_t)>("pwrite64")(file, bytes,
                                                                      verdict == 2 ? (count + 1) / 2 : count, offset);
}

ssize_t writev(int file, const struct iovec* parts, int count) {
  if (Judge("writev", file, false) == 1) return -1;
  return Next<ssize_t(int, const struct iovec*, int)>("writev")(file, parts, count);
}

int ftruncate64(int file, off64_t length) {
  if (Judge("ftruncate64", file, false) == 1) return -1;
  return Next<int(int, off64_t)>("ftruncate64")(file, length);
}

int fsync(int file) {
  if (Judge("fsync", file, false) == 1) return -1;
  return Next<int(int)>("fsync")(file);
}

int fdatasync(int file) {
  if (Judge("fdatasync", file, false) == 1) return -1;
  return Next<int(int)>("fdatasync")(file);
}

int rename(const char* from, const char* to) {
  if (Judge("rename", to, false, from) == 1) return -1;
  return Next<int(const char*, const char*)>("rename")(from, to);
}

int link(const char* from, const char* to) {
  if (Judge("link", to, false, from) == 1) return -1;
  return Next<int(const char*, const char*)>("link")(from, to);
}

int symlink(const char* from, const char* to) {
  if (Judge("symlink", to, false) == 1) return -1;
  return Next<int(const char*, const char*)>("symlink")(from, to);
}

int unlink(const char* path) {
  if (Judge("unlink", path, false) == 1) return -1;
  return Next<int(const char*)>("unlink")(path);
}

int rmdir(const char* path) {
  if (Judge("rmdir", path, false) == 1) return -1;
  return Next<int(const char*)>("rmdir")(path);
}

int mkdir(const char* path, mode_t mode) {
  if (Judge("mkdir", path, false) == 1) return -1;
  return Next<int(const char*, mode_t)>("mkdir")(path, mode);
}

}  // extern "C"
// NOLINTEND
