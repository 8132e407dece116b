#pragma once

#include <functional>
#include <string>
#include <vector>

#include "backend.h"

namespace kotodama::bench {

// Another library that can do the same product: a b into c, no more.
struct Rival {
  std::string name;  // with its version
  std::function<void()> run;
};

// Those that this program was built with, set to `threads`, for the types and the form of `op`.
std::vector<Rival> RivalsOf(const Gemm& op, int threads);

}  // namespace kotodama::bench
