#include "cpu/peak.h"

#include <time.h>

#include <algorithm>
#include <vector>

namespace kotodama::cpu {
namespace {

double Now(clockid_t clock) {
  timespec time;
  clock_gettime(clock, &time);
  return static_cast<double>(time.tv_sec) + time.tv_nsec * 1e-9;
}

// Seconds that this thread ran on a processor since the timer was made.
class Timer {
 public:
  double Seconds() const {
    const double ran = Now(CLOCK_THREAD_CPUTIME_ID) - ran_, passed = Now(CLOCK_MONOTONIC) - passed_;
    // On systems that count it in ticks longer than a loop, the processor's time is none or more than what passed.
    return ran > 0 && ran <= passed ? ran : passed;
  }

 private:
  // Read in this order here and in the other one above, so that the time that passes includes the one that is run.
  const double passed_ = Now(CLOCK_MONOTONIC), ran_ = Now(CLOCK_THREAD_CPUTIME_ID);
};

#ifdef __x86_64__
// Independent sums in registers: enough of them to hide the latency of every core of today. The vectors 14 and 15 (or
// 30 and 31) are the factors.
#define SUM(instruction, r, x, y, n) instruction " %%" r #x ", %%" r #y ", %%" r #n "\n\t"
#define TWELVE(instruction, r, x, y) \
  SUM(instruction, r, x, y, 0)       \
  SUM(instruction, r, x, y, 1)       \
  SUM(instruction, r, x, y, 2)       \
  SUM(instruction, r, x, y, 3)       \
  SUM(instruction, r, x, y, 4)       \
  SUM(instruction, r, x, y, 5)       \
  SUM(instruction, r, x, y, 6)       \
  SUM(instruction, r, x, y, 7)       \
  SUM(instruction, r, x, y, 8)       \
  SUM(instruction, r, x, y, 9) SUM(instruction, r, x, y, 10) SUM(instruction, r, x, y, 11)
#define TWELVE_MORE(instruction, r) \
  SUM(instruction, r, 30, 31, 16)   \
  SUM(instruction, r, 30, 31, 17)   \
  SUM(instruction, r, 30, 31, 18)   \
  SUM(instruction, r, 30, 31, 19)   \
  SUM(instruction, r, 30, 31, 20)   \
  SUM(instruction, r, 30, 31, 21)   \
  SUM(instruction, r, 30, 31, 22)   \
  SUM(instruction, r, 30, 31, 23)   \
  SUM(instruction, r, 30, 31, 24)   \
  SUM(instruction, r, 30, 31, 25) SUM(instruction, r, 30, 31, 26) SUM(instruction, r, 30, 31, 27)
// All registers are cleared first: subnormal numbers would multiply slowly.
#define CLEAR(n) "vpxord %%zmm" #n ", %%zmm" #n ", %%zmm" #n "\n\t"
#define CLEAR_MORE \
  CLEAR(16)        \
  CLEAR(17)        \
  CLEAR(18)        \
  CLEAR(19)        \
  CLEAR(20)        \
  CLEAR(21)        \
  CLEAR(22) CLEAR(23) CLEAR(24) CLEAR(25) CLEAR(26) CLEAR(27) CLEAR(30) CLEAR(31)
#define LOOP(clear, body)                                                                                          \
  asm volatile("vzeroall\n\t" clear "1:\n\t" body "dec %0\n\tjnz 1b\n\tvzeroupper\n\t"                             \
               : "+r"(rounds)                                                                                      \
               :                                                                                                   \
               : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", \
                 "xmm12", "xmm13", "xmm14", "xmm15", "cc")

constexpr int64_t kRounds = 40000, kSums = 24;

double Rate(int64_t flops_of_one, const Timer& timer) {
  return kRounds * kSums * flops_of_one / timer.Seconds();
}

#ifdef KOTODAMA_AMX
// As LDTILECFG reads it: eight tiles of 16 rows by 64 bytes.
struct alignas(64) TileConfiguration {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t bytes_per_row[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

double AmxRate() {
  const TileConfiguration configuration;
  int64_t rounds = kRounds / 8;
  const Timer timer;
  // Four sums, as many as a product of two by two tiles has.
  asm volatile(
      "ldtilecfg %1\n\t1:\n\t"
      "tdpbf16ps %%tmm6, %%tmm4, %%tmm0\n\t"
      "tdpbf16ps %%tmm7, %%tmm4, %%tmm1\n\t"
      "tdpbf16ps %%tmm6, %%tmm5, %%tmm2\n\t"
      "tdpbf16ps %%tmm7, %%tmm5, %%tmm3\n\t"
      "dec %0\n\tjnz 1b\n\ttilerelease\n\t"
      : "+r"(rounds)
      : "m"(configuration)
      : "cc");
  return kRounds / 8 * 4 * 16384.0 / timer.Seconds();
}
#endif
#endif

#ifdef __aarch64__
#define FMLA(n) "fmla v" #n ".4s, v30.4s, v31.4s\n\t"
#define CLEAR(n) "movi v" #n ".4s, #0\n\t"
#define NEON_SUMS(each)                                                                                        \
  each(0) each(1) each(2) each(3) each(4) each(5) each(6) each(7) each(16) each(17) each(18) each(19) each(20) \
      each(21) each(22) each(23) each(24) each(25) each(26) each(27) each(28) each(29)

// Four pipes of four cycles need 16 sums. v8 to v15 belong to the caller.
constexpr int64_t kNeonRounds = 40000, kNeonSums = 22;

double NeonRate() {
  int64_t rounds = kNeonRounds;
  const Timer timer;
  asm volatile(NEON_SUMS(CLEAR) CLEAR(30) CLEAR(31) "1:\n\t" NEON_SUMS(FMLA) "subs %0, %0, #1\n\tb.ne 1b\n\t"
               : "+r"(rounds)
               :
               : "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v16", "v17", "v18", "v19", "v20", "v21", "v22", "v23",
                 "v24", "v25", "v26", "v27", "v28", "v29", "v30", "v31", "cc");
  return kNeonRounds * kNeonSums * 8.0 / timer.Seconds();
}
#endif

double F32Rate(Isa isa) {
#ifdef __x86_64__
  int64_t rounds = kRounds;
  const Timer timer;
  switch (isa) {
    case Isa::kAmx:
    case Isa::kAvx512Bf16:
    case Isa::kAvx512:
      LOOP(CLEAR_MORE, TWELVE("vfmadd231ps", "zmm", 14, 15) TWELVE_MORE("vfmadd231ps", "zmm"));
      return Rate(32, timer);
    case Isa::kAvx2:
      LOOP("", TWELVE("vfmadd231ps", "ymm", 14, 15) TWELVE("vfmadd231ps", "ymm", 14, 15));
      return Rate(16, timer);
    case Isa::kPortable:
      break;
  }
#endif
  static_cast<void>(isa);
#ifdef __aarch64__
  return NeonRate();
#else
  return 0;
#endif
}

double BF16Rate(Isa isa) {
#ifdef __x86_64__
#ifdef KOTODAMA_AMX
  if (isa == Isa::kAmx) return AmxRate();
#endif
  if (isa == Isa::kAvx512Bf16) {
    int64_t rounds = kRounds;
    const Timer timer;
    LOOP(CLEAR_MORE, TWELVE("vdpbf16ps", "zmm", 14, 15) TWELVE_MORE("vdpbf16ps", "zmm"));
    return Rate(64, timer);
  }
#endif
  return F32Rate(isa);
}

}  // namespace

double PeakFlops(ThreadPool& pool, Isa isa, DType type, int rounds) {
  std::vector<double> rates(static_cast<size_t>(pool.threads()));
  double best = 0;
  for (int round = 0; round < rounds; ++round) {
    pool.Run(pool.threads(), [&](int64_t item, int) {
      rates[static_cast<size_t>(item)] = type == DType::kBF16 ? BF16Rate(isa) : F32Rate(isa);
    });
    double sum = 0;
    for (double rate : rates) sum += rate;
    best = std::max(best, sum);
  }
  // Those that could not be started were measured on the others, one after another.
  return best * pool.running() / pool.threads();
}

}  // namespace kotodama::cpu
