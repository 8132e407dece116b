#include "peaks.h"

#include <chrono>
#include <cstring>

namespace kotodama::bench {
namespace {

double SecondsSince(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

#ifdef __x86_64__
// Independent sums in registers: enough of them to hide the latency of every core of today.
#define SUM(instruction, r, n) instruction " %%" r "15, %%" r "14, %%" r #n "\n\t"
#define TWELVE(instruction, r)                                                                                       \
  SUM(instruction, r, 0)                                                                                             \
  SUM(instruction, r, 1) SUM(instruction, r, 2) SUM(instruction, r, 3) SUM(instruction, r, 4) SUM(instruction, r, 5) \
      SUM(instruction, r, 6) SUM(instruction, r, 7) SUM(instruction, r, 8) SUM(instruction, r, 9)                    \
          SUM(instruction, r, 10) SUM(instruction, r, 11)
#define LOOP(instruction, r) \
  asm volatile("vzeroall\n\t1:\n\t" TWELVE(instruction, r) TWELVE(instruction, r) "dec %0\n\tjnz 1b\n\t"     \
               "vzeroupper\n\t"                                                                           \
               : "+r"(rounds)                                                                             \
               :                                                                                          \
               : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", \
                 "xmm11", "xmm12", "xmm13", "xmm14", "xmm15", "cc")

constexpr int64_t kRounds = 40000, kSums = 24;

double Rate(int64_t flops_of_one, std::chrono::steady_clock::time_point start) {
  return kRounds * kSums * flops_of_one / SecondsSince(start) * 1e-9;
}
#endif

}  // namespace

double MeasureF32Peak(const char* isa) {
#ifdef __x86_64__
  int64_t rounds = kRounds;
  const auto start = std::chrono::steady_clock::now();
  if (std::strncmp(isa, "avx512", 6) == 0) {
    LOOP("vfmadd231ps", "zmm");
    return Rate(32, start);
  }
  if (std::strcmp(isa, "avx2") == 0) {
    LOOP("vfmadd231ps", "ymm");
    return Rate(16, start);
  }
#endif
  (void)isa;
  return 0;
}

double MeasureBF16Peak(const char* isa) {
#ifdef __x86_64__
  if (std::strcmp(isa, "avx512bf16") == 0) {
    int64_t rounds = kRounds;
    const auto start = std::chrono::steady_clock::now();
    LOOP("vdpbf16ps", "zmm");
    return Rate(64, start);
  }
#endif
  return MeasureF32Peak(isa);
}

}  // namespace kotodama::bench
