// Takes PTX out of what cuModuleLoadData is given.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace gpusim {

struct PtxImage {
  int target;  // 80 for compute_80
  std::string text;
};

/// The PTX in an image: a fatbin, a fatbin wrapper (as the compiler registers it) or plain PTX text ended by a zero
/// byte. Machine code is passed over. Throws LoadError for compressed entries and for anything else.
std::vector<PtxImage> ptx_images(const void* image);

}  // namespace gpusim
