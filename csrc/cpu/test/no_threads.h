#pragma once

#include <pthread.h>

#include <cstddef>

namespace kotodama::test {

// While it lives no thread can be started: the memory for a stack is more than there is. With other C libraries than
// glibc, and where the system promises memory without limit, they start still.
class NoThreads {
 public:
#ifdef __GLIBC__
  NoThreads() {
    pthread_attr_t attributes;
    pthread_getattr_default_np(&attributes);
    pthread_attr_getstacksize(&attributes, &before_);
    pthread_attr_destroy(&attributes);
    SetStack(size_t{1} << 46);
  }
  ~NoThreads() {
    SetStack(before_);
  }

 private:
  static void SetStack(size_t bytes) {
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, bytes);
    pthread_setattr_default_np(&attributes);
    pthread_attr_destroy(&attributes);
  }

  size_t before_ = 0;
#else
  NoThreads() {}
#endif
};

}  // namespace kotodama::test
