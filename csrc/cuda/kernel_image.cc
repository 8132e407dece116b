#include "cuda/kernel_image.h"

#ifdef KOTODAMA_KERNEL_IMAGE

#ifdef __APPLE__
#define KOTODAMA_SECTION ".section __DATA,__const\n"
#define KOTODAMA_SYMBOL "_kotodama_kernel_image"
#define KOTODAMA_END ".text\n"
#else
#define KOTODAMA_SECTION ".pushsection .rodata,\"a\",@progbits\n"
#define KOTODAMA_SYMBOL "kotodama_kernel_image"
#define KOTODAMA_END ".popsection\n"
#endif

asm(KOTODAMA_SECTION ".balign 64\n.globl " KOTODAMA_SYMBOL "\n" KOTODAMA_SYMBOL ":\n.incbin \"" KOTODAMA_KERNEL_IMAGE
                     "\"\n.balign 8\n" KOTODAMA_END);

extern "C" __attribute__((visibility("hidden"))) const unsigned char kotodama_kernel_image[];

const void* kotodama::cuda::KernelImage() {
  return kotodama_kernel_image;
}

std::string kotodama::cuda::KernelBuild() {
  return KOTODAMA_KERNEL_BUILD;
}

#else

const void* kotodama::cuda::KernelImage() {
  return nullptr;
}

std::string kotodama::cuda::KernelBuild() {
  return "";
}

#endif
