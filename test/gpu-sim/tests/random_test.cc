// Random structured programs with branches, loops, breaks and early exits: 64 threads in two warps must compute what 64
// blocks of a single thread do, where nothing diverges. The expected values thus come from the plain instructions
// alone.
#include "harness.h"

using namespace test;

namespace {

class Program {
 public:
  explicit Program(uint64_t seed) { random_.state ^= seed * 0x9e3779b97f4a7c15ull; }

  std::string text() {
    block(4);
    return kernel_text(1, R"(
    mov.u32 %r30, %ctaid.x;
    mov.u32 %r31, %ntid.x;
    mad.lo.u32 %r31, %r30, %r31, %r0;
    mad.wide.u32 %rd1, %r31, 4, %p0;
    mul.lo.u32 %r1, %r31, 2654435761;
    shr.u32 %r2, %r1, 7;
    xor.b32 %r3, %r1, 0x5bd1e995;
    mad.lo.u32 %r4, %r31, 77, 5;
    shr.u32 %r5, %r3, 11;
    mov.u32 %r6, %r31;
    setp.lt.u32 %q2, %r31, 11;
    st.global.u32 [%rd1], 12345;
)" + body_ + R"(
out:
    xor.b32 %r1, %r1, %r2;
    xor.b32 %r1, %r1, %r3;
    add.u32 %r1, %r1, %r4;
    xor.b32 %r1, %r1, %r5;
    add.u32 %r1, %r1, %r6;
    st.global.u32 [%rd1], %r1;)");
  }

 private:
  uint32_t below(uint32_t n) { return static_cast<uint32_t>(random_.next() >> 33) % n; }
  std::string some() { return "%r" + std::to_string(1 + below(6)); }
  std::string label() { return "L" + std::to_string(++labels_); }
  void line(const std::string& s) { body_ += s + "\n"; }
  std::string simple() {
    static const char* const kOps[] = {"add.u32", "xor.b32", "mul.lo.u32", "sub.u32"};
    const std::string to = some(), from = some();
    return std::string(kOps[below(4)]) + " " + to + ", " + from + ", " +
           (below(2) ? some() : std::to_string(1 + below(9))) + ";";
  }
  void condition() {
    static const char* const kTests[] = {"eq", "ne", "lt"};
    line("and.b32 %r10, " + some() + ", " + std::to_string((2u << below(3)) - 1) + ";");
    line(std::string("setp.") + kTests[below(3)] + ".u32 %q1, %r10, " + std::to_string(below(4)) + ";");
  }

  void block(int depth) {
    for (uint32_t n = 1 + below(4); n; --n) {
      const uint32_t k = depth ? below(100) : 0;
      if (k < 40) {
        line(simple());
      } else if (k < 60) {
        const std::string other = label(), join = label();
        condition();
        line("@%q1 bra " + other + ";");
        block(depth - 1);
        line("bra " + join + ";\n" + other + ":");
        block(depth - 1);
        line(join + ":");
      } else if (k < 80 && loops_.size() < 3) {
        const std::string head = label(), after = label(), counter = "%r" + std::to_string(20 + loops_.size());
        line("mov.u32 " + counter + ", 0;\n" + head + ":");
        loops_.push_back(after);
        block(depth - 1);
        loops_.pop_back();
        line("add.u32 " + counter + ", " + counter + ", 1;\nand.b32 %r11, " + some() + ", 7;\nsetp.lt.u32 %q1, " +
             counter + ", %r11;");
        line("@%q1 bra " + head + ";\n" + after + ":");
      } else if (k < 86 && !loops_.empty()) {
        condition();
        line("@%q1 bra " + loops_[below(static_cast<uint32_t>(loops_.size()))] + ";");
      } else if (k < 92) {
        condition();
        line("@%q1 bra out;");
      } else if (k < 96) {
        condition();
        line("st.global.u32 [%rd1], %r1;\n@%q1 ret;");
      } else {
        line("@%q2 " + simple());
      }
    }
  }

  Random random_;
  std::string body_;
  std::vector<std::string> loops_;  // labels behind the loops that we are in
  int labels_ = 0;
};

}  // namespace

TEST(control, random_programs_do_not_care_how_threads_are_grouped) {
  for (uint64_t seed = 1; seed <= 100; ++seed) {
    Device d;
    CUdeviceptr together = d.allocate(256), apart = d.allocate(256);
    const std::string text = Program(seed).text();
    CUfunction f = d.function(d.load(text));
    CHECK_EQ(d.launch(f, 1, 64, {together}), 0);
    CHECK_EQ(d.launch(f, 64, 1, {apart}), 0);
    if (d.download<uint32_t>(together, 64) != d.download<uint32_t>(apart, 64)) {
      return fail(__FILE__, __LINE__, "results differ for seed " + std::to_string(seed) + ":\n" + text);
    }
  }
}
