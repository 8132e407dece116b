// Divergence, barriers and the exchange between lanes (PTX ISA 9.7.12, 9.7.13, 9.7.9.6).
#include "harness.h"

using namespace test;

namespace {

// Runs a body that leaves its result in %r9, 64 threads.
std::vector<uint32_t> run(const std::string& body, unsigned threads = 64) {
  Device d;
  CUdeviceptr out = d.allocate(4 * threads);
  CUfunction f =
      d.function(d.load(kernel_text(1, body + "\nmad.wide.u32 %rd1, %r0, 4, %p0;\nst.global.u32 [%rd1], %r9;")));
  CUresult r = d.launch(f, 1, threads, {out});
  if (r) fail(__FILE__, __LINE__, std::string(kotodama_sim_last_report()));
  return d.download<uint32_t>(out, threads);
}

}  // namespace

TEST(control, loops_of_different_lengths) {
  // Collatz steps: every lane leaves the loop at another time, with a branch inside.
  auto v = run(R"(
    add.u32 %r1, %r0, 1;
    mov.u32 %r9, 0;
loop:
    setp.eq.u32 %q1, %r1, 1;
    @%q1 bra done;
    and.b32 %r2, %r1, 1;
    setp.eq.u32 %q2, %r2, 0;
    @%q2 bra even;
    mad.lo.u32 %r1, %r1, 3, 1;
    bra next;
even:
    shr.u32 %r1, %r1, 1;
next:
    add.u32 %r9, %r9, 1;
    bra loop;
done:)");
  for (uint32_t i = 0; i < 64; ++i) {
    uint32_t n = i + 1, steps = 0;
    for (; n != 1; ++steps) n = n % 2 ? 3 * n + 1 : n / 2;
    CHECK_EQ(v[i], steps);
  }
}

TEST(control, early_exit_and_nested_branches) {
  Device d;
  CUdeviceptr out = d.upload(std::vector<uint32_t>(64, 5));
  CUfunction f = d.function(d.load(kernel_text(1, R"(
    mad.wide.u32 %rd1, %r0, 4, %p0;
    and.b32 %r1, %r0, 3;
    setp.eq.u32 %q1, %r1, 0;
    setp.eq.u32 %q2, %r1, 1;
    setp.gt.u32 %q3, %r0, 50;
    @%q1 bra a;
    @%q2 ret;
    @%q3 bra b;
    mov.u32 %r2, 100;
    bra join;
a:
    @%q3 exit;
    mov.u32 %r2, 200;
    bra join;
b:
    mov.u32 %r2, 300;
join:
    shfl.sync.idx.b32 %r3, %r2, 3, 31, -1;     // all that are left meet here; lane 3 has 100 or 300
    add.u32 %r2, %r2, %r3;
    st.global.u32 [%rd1], %r2;)")));
  CHECK_EQ(d.launch(f, 1, 64, {out}), 0);
  auto v = d.download<uint32_t>(out, 64);
  for (uint32_t i = 0; i < 64; ++i) {
    uint32_t want = i % 4 == 1 ? 5 : i % 4 == 0 ? (i > 50 ? 5 : 300) : i > 50 ? 400 : 200;
    CHECK_EQ(v[i], want);
  }
}

TEST(control, exits_out_of_a_loop_behind_the_end) {
  // As a compiler lays it out: the common return in the middle, a cold block that jumps back to it at the end. The
  // lanes that leave the loop by its condition or by its break must be together at the vote.
  Device d;
  CUdeviceptr out = d.upload(std::vector<uint32_t>(32, 5));
  CUfunction f = d.function(d.load(kernel_text(1, R"(
    mad.wide.u32 %rd1, %r0, 4, %p0;
    mov.u32 %r1, 0;
loop:
    setp.eq.u32 %q1, %r1, 9;
    @%q1 bra cold;
    add.u32 %r2, %r1, %r0;
    setp.eq.u32 %q2, %r2, 20;
    @%q2 bra after;
    add.u32 %r1, %r1, 1;
    setp.lt.u32 %q3, %r1, %r0;
    @%q3 bra loop;
after:
    activemask.b32 %r3;
    st.global.u32 [%rd1], %r3;
return:
    ret;
cold:
    st.global.u32 [%rd1], %r1;
    bra.uni return;)")));
  CHECK_EQ(d.launch(f, 1, 32, {out}), 0);
  auto v = d.download<uint32_t>(out, 32);
  uint32_t together = 0;
  for (uint32_t i = 0; i < 32; ++i) together |= (i <= 9 || (i >= 12 && i <= 20) ? 1u : 0u) << i;
  for (uint32_t i = 0; i < 32; ++i) CHECK_EQ(v[i], together >> i & 1 ? together : 9);
}

TEST(control, indexed_branch) {
  auto v = run(R"(
    and.b32 %r1, %r0, 3;
    setp.lt.u32 %q1, %r0, 60;
    mov.u32 %r9, 7;
table: .branchtargets L0, L1, L2, L1;
    @%q1 brx.idx %r1, table;
    bra end;
L0: mov.u32 %r9, 10; bra end;
L1: mov.u32 %r9, 11; bra end;
L2: mov.u32 %r9, 12;
end:)");
  const uint32_t want[] = {10, 11, 12, 11};
  for (uint32_t i = 0; i < 64; ++i) CHECK_EQ(v[i], i < 60 ? want[i % 4] : 7);
}

TEST(control, special_registers) {
  Device d;
  CUdeviceptr out = d.allocate(4 * 6 * 24);
  CUfunction f = d.function(d.load(kernel_text(1, R"(
    mov.u32 %r1, %tid.y; mov.u32 %r2, %ntid.x; mov.u32 %r3, %ctaid.x; mov.u32 %r4, %ctaid.y; mov.u32 %r5, %nctaid.x; mov.u32 %r6, %ntid.y;
    mad.lo.u32 %r7, %r1, %r2, %r0;
    mad.lo.u32 %r8, %r4, %r5, %r3;
    mul.lo.u32 %r10, %r2, %r6;
    mad.lo.u32 %r8, %r8, %r10, %r7;
    mov.u32 %r11, %laneid;
    mov.u32 %r12, %lanemask_lt;
    popc.b32 %r12, %r12;
    mad.lo.u32 %r11, %r11, 100, %r12;
    mad.wide.u32 %rd1, %r8, 4, %p0;
    st.global.u32 [%rd1], %r11;)")));
  std::vector<void*> params{&out};
  CHECK_EQ(cuLaunchKernel(f, 3, 2, 1, 6, 4, 1, 0, nullptr, params.data(), nullptr), 0);
  auto v = d.download<uint32_t>(out, 144);
  for (uint32_t i = 0; i < 144; ++i) CHECK_EQ(v[i], i % 24 * 101);
}

TEST(control, barriers) {
  // Named barriers: warps 0 and 1 meet at barrier 1 while the others go on; red.popc counts over the block.
  auto v = run(R"(
    .shared .align 4 .b8 s[512];
    mov.u32 %r1, s;
    mad.lo.u32 %r2, %r0, 4, %r1;
    st.shared.u32 [%r2], %r0;
    setp.lt.u32 %q1, %r0, 64;
    mov.u32 %r9, 0;
    @!%q1 bra rest;
    bar.sync 1, 64;
    xor.b32 %r3, %r0, 32;
    mad.lo.u32 %r4, %r3, 4, %r1;
    ld.shared.u32 %r9, [%r4];
rest:
    barrier.sync.aligned 0;
    rem.u32 %r5, %r0, 3;
    setp.eq.u32 %q2, %r5, 0;
    bar.red.popc.u32 %r6, 0, %q2;
    bar.red.or.pred %q3, 0, %q2;
    bar.red.and.pred %q4, 0, %q2;
    mad.lo.u32 %r9, %r6, 1000, %r9;
    @%q3 add.u32 %r9, %r9, 100000;
    @%q4 add.u32 %r9, %r9, 1000000;)",
               128);
  for (uint32_t i = 0; i < 128; ++i) CHECK_EQ(v[i], (i < 64 ? i ^ 32 : 0) + 43 * 1000 + 100000);
}

TEST(warp, shuffles) {
  // The manual's pseudocode, in clamped segments of 32, 8 and 16 lanes.
  auto up = run("mul.lo.u32 %r1, %r0, 3; shfl.sync.up.b32 %r9|%q1, %r1, 2, 0, -1; @!%q1 add.u32 %r9, %r9, 1000;");
  auto down =
      run("mul.lo.u32 %r1, %r0, 3; shfl.sync.down.b32 %r9|%q1, %r1, 3, 0x181f, -1; @!%q1 add.u32 %r9, %r9, 1000;");
  auto bfly = run("mul.lo.u32 %r1, %r0, 3; shfl.sync.bfly.b32 %r9, %r1, 5, 31, -1;");
  auto idx = run("mul.lo.u32 %r1, %r0, 3; mov.u32 %r2, %r0; shfl.sync.idx.b32 %r9, %r1, 5, 0x101f, -1;");
  for (uint32_t i = 0; i < 64; ++i) {
    const uint32_t lane = i % 32, base = i - lane;
    CHECK_EQ(up[i], lane >= 2 ? 3 * (i - 2) : 3 * i + 1000);
    CHECK_EQ(down[i], lane % 8 + 3 < 8 ? 3 * (i + 3) : 3 * i + 1000);
    CHECK_EQ(bfly[i], 3 * (base + (lane ^ 5)));
    CHECK_EQ(idx[i], 3 * (base + (lane & 16) + 5));
  }
}

TEST(warp, votes_matches_reductions) {
  auto ballot = run("and.b32 %r1, %r0, 5; setp.eq.u32 %q1, %r1, 5; vote.sync.ballot.b32 %r9, %q1, -1;");
  auto any =
      run("setp.eq.u32 %q1, %r0, 40; vote.sync.any.pred %q2, %q1, -1; vote.sync.all.pred %q3, !%q1, -1; selp.u32 %r9, "
          "1, 0, %q2; @%q3 add.u32 %r9, %r9, 2;");
  auto match = run("and.b32 %r1, %r0, 3; match.any.sync.b32 %r9, %r1, -1;");
  auto sum = run("redux.sync.add.u32 %r9, %r0, -1;");
  auto least = run("sub.u32 %r1, 40, %r0; redux.sync.min.s32 %r9, %r1, -1;");
  auto mask = run("mov.u32 %r9, 0; setp.lt.u32 %q1, %r0, 7; @%q1 activemask.b32 %r9;");
  for (uint32_t i = 0; i < 64; ++i) {
    uint32_t want = 0;
    for (uint32_t k = 0; k < 32; ++k) want |= ((k & 5) == 5 ? 1u : 0u) << k;
    CHECK_EQ(ballot[i], want);
    CHECK_EQ(any[i], i < 32 ? 2 : 1);
    CHECK_EQ(match[i], 0x11111111u << (i & 3));
    CHECK_EQ(sum[i], i < 32 ? 496 : 496 + 32 * 32);
    CHECK_EQ(static_cast<int32_t>(least[i]), i < 32 ? 40 - 31 : 40 - 63);
    CHECK_EQ(mask[i], i < 7 ? 0x7f : 0);
  }
}

TEST(warp, groups_side_by_side) {
  // Each half of the warp names itself only.
  auto v = run(R"({
    .reg.b32 mine;
    and.b32 mine, %r0, 16;
    setp.ne.u32 %q1, mine, 0;
    selp.b32 mine, 0xffff0000, 0x0000ffff, %q1;
    bar.warp.sync mine;
    redux.sync.add.u32 %r1, %r0, mine;
    shfl.sync.bfly.b32 %r2, %r0, 3, 31, mine;
    vote.sync.any.pred %q2, %q1, mine;
    mad.lo.u32 %r9, %r1, 100, %r2;
    @%q2 add.u32 %r9, %r9, 1000000;
  })");
  for (uint32_t i = 0; i < 64; ++i) {
    const uint32_t first = i & ~15u;
    CHECK_EQ(v[i], (16 * first + 120) * 100 + (i ^ 3) + (i & 16 ? 1000000 : 0));
  }
}
