#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>

#include "cuda/kernel_image.h"

// Linked in place of the embedded image: the kernels of the PTX file that KOTODAMA_TEST_KERNELS names, so that tests
// can run kernels that were changed on purpose. Null, no kernels, when there is no such file.

const void* kotodama::cuda::KernelImage() {
  static const std::string text = [] {
    const char* path = std::getenv("KOTODAMA_TEST_KERNELS");
    std::ifstream file(path != nullptr ? path : "");
    return std::string(std::istreambuf_iterator<char>(file), {});
  }();
  return text.empty() ? nullptr : text.c_str();
}

std::string kotodama::cuda::KernelBuild() {
  return "the kernels of a file";
}
