// What is counted: loops, and samples of blocks that stand for whole rows of a grid.
#include <algorithm>

#include "harness.h"

using namespace test;

namespace {

// The numbers behind "key": in the counters' JSON, in order.
std::vector<double> numbers(const std::string& key) {
  const std::string json = kotodama_sim_counters_json(), quoted = "\"" + key + "\":";
  std::vector<double> found;
  for (size_t at = json.find(quoted); at != std::string::npos; at = json.find(quoted, at + 1)) {
    found.push_back(std::atof(json.c_str() + at + quoted.size()));
  }
  return found;
}

double number(const std::string& key) {
  const std::vector<double> found = numbers(key);
  return found.empty() ? -1 : found[0];
}

// Adds one to the number of this thread among all those of the grid (y outermost).
const char* const kCount = R"(
    mov.u32 %r1, %ctaid.x; mov.u32 %r2, %ctaid.y; mov.u32 %r3, %nctaid.x; mov.u32 %r4, %ntid.x;
    mad.lo.u32 %r5, %r2, %r3, %r1;
    mad.lo.u32 %r5, %r5, %r4, %r0;
    mad.wide.u32 %rd1, %r5, 4, %p0;
    ld.global.u32 %r6, [%rd1];
    add.u32 %r6, %r6, 1;
    st.global.u32 [%rd1], %r6;)";

}  // namespace

TEST(counters, loops_within_loops) {
  Device d;
  kotodama_sim_reset_counters();
  // 3 rounds of 5: the inner loop has 3 instructions, the outer one 3 besides.
  const CUfunction f = d.function(d.load(kernel_text(1, R"(
    mov.u32 %r1, 3;
outer:
    mov.u32 %r2, 5;
inner:
    sub.u32 %r2, %r2, 1;
    setp.ne.u32 %q1, %r2, 0;
    @%q1 bra inner;
    sub.u32 %r1, %r1, 1;
    setp.ne.u32 %q2, %r1, 0;
    @%q2 bra outer;)")));
  CHECK_EQ(d.launch(f, 1, 32, {0}), 0);
  std::vector<double> instructions = numbers("instructions");  // of the kernel, then of its loops
  CHECK_EQ(instructions.size(), size_t{3});
  std::sort(instructions.begin() + 1, instructions.end());
  CHECK_EQ(instructions[1], 3.0 * 5 * 3);
  CHECK_EQ(instructions[2], 3.0 * 5 * 3 + 3 * 4);
}

TEST(counters, a_sample_stands_for_its_row) {
  Device d;
  const CUfunction f = d.function(d.load(kernel_text(1, kCount)));
  const unsigned x = 12, y = 2;
  const CUdeviceptr p = d.upload(std::vector<uint32_t>(x * y * 32, 0));
  void* parameters[] = {const_cast<CUdeviceptr*>(&p)};
  const auto launch = [&](unsigned sample) {
    kotodama_sim_reset_counters();
    kotodama_sim_sample_blocks(sample);
    CHECK_EQ(cuLaunchKernel(f, x, y, 1, 32, 1, 1, 0, nullptr, parameters, nullptr), 0);
    kotodama_sim_sample_blocks(0);
  };
  const std::vector<std::string> keys = {"blocks", "warps", "instructions", "ld.global", "global_sectors"};
  launch(0);
  std::vector<double> all;
  for (const std::string& key : keys) all.push_back(number(key));
  CHECK_EQ(number("blocks_run"), 24.0);
  launch(3);
  for (size_t i = 0; i < keys.size(); ++i) CHECK_EQ(number(keys[i]), all[i]);
  CHECK_EQ(number("blocks_run"), 6.0);
  CHECK_EQ(number("unlike"), 0.0);
  const std::vector<uint32_t> counts = d.download<uint32_t>(p, x * y * 32);
  for (unsigned part = 0; part < 6; ++part) {
    unsigned second_time = 0;
    for (unsigned block = 4 * part; block < 4 * part + 4; ++block) second_time += counts[block * 32] - 1;
    CHECK_EQ(second_time, 1u);
  }
  launch(50);  // more than there are
  CHECK_EQ(number("blocks_run"), 24.0);
  CHECK_EQ(number("instructions"), all[2]);
}

TEST(counters, a_sample_knows_how_unlike_its_blocks_are) {
  Device d;
  // Block x goes around x + 1 times.
  const CUfunction f = d.function(d.load(kernel_text(1, R"(
    mov.u32 %r1, %ctaid.x;
again:
    setp.eq.u32 %q1, %r1, 0;
    sub.u32 %r1, %r1, 1;
    @!%q1 bra again;)")));
  kotodama_sim_reset_counters();
  kotodama_sim_sample_blocks(2);
  CHECK_EQ(d.launch(f, 8, 32, {0}),
           0);  // one of 0-3, which go around at most 4 times, and one of 4-7: at least 5 times
  kotodama_sim_sample_blocks(0);
  CHECK(number("unlike") > 0.05 && number("unlike") < 1);
}
