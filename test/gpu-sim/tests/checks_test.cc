// Broken programs: each must be caught, with a report that says what is wrong. Beside each stands the right program,
// which must pass.
#include <algorithm>
#include <cstdlib>

#include "harness.h"

using namespace test;

namespace {

constexpr CUresult kBadPtx = 218, kIllegalAddress = 700, kTimeout = 702, kMisaligned = 716, kFailed = 719;

CUresult run(const std::string& body, unsigned threads = 64, unsigned grid = 1, size_t bytes = 4096,
             bool written = true) {
  Device d;
  CUdeviceptr p = d.allocate(bytes);
  if (written) cuMemsetD8_v2(p, 0, bytes);
  CUfunction f = d.function(d.load(kernel_text(1, body)));
  return f ? d.launch(f, grid, threads, {p}) : -1;
}

const char* const kShared = R"(
    .shared .align 16 .b8 s[4096];
    mov.u32 %r1, s;
    mad.lo.u32 %r2, %r0, 4, %r1;
)";

// Writes a word, reads the one of the thread `apart` threads away, with or without something in between.
std::string exchange(int apart, const std::string& between) {
  return std::string(kShared) + "st.shared.u32 [%r2], %r0;\n" + between + "\nxor.b32 %r3, %r0, " +
         std::to_string(apart) +
         ";\nmad.lo.u32 %r4, %r3, 4, %r1;\nld.shared.u32 %r5, [%r4];\nmad.wide.u32 %rd1, %r0, 4, %p0;\nst.global.u32 "
         "[%rd1], %r5;";
}

}  // namespace

TEST(checks, removed_barrier) {
  CHECK_EQ(run(exchange(32, "bar.sync 0;")), 0);
  CHECK_EQ(run(exchange(32, "")), kFailed);
  // Warp 0 runs first: it reads what warp 1 has not written yet.
  CHECK_REPORT("nobody wrote");
  CHECK_REPORT("kernel k, block (0,0,0), thread (0,0,0)");
  CHECK_REPORT("ld.shared.u32 %r5, [%r4];");
}

TEST(checks, removed_barrier_between_rounds) {
  // Two rounds over one buffer: without the second barrier, the second write races with the first round's reads.
  auto body = [](const char* second) {
    return exchange(32, "bar.sync 0;") + "\n" + second + "\nst.shared.u32 [%r2], %r5;";
  };
  CHECK_EQ(run(body("bar.sync 0;")), 0);
  CHECK_EQ(run(body("")), kFailed);
  CHECK_REPORT("shared-memory race");
}

TEST(checks, exchange_within_a_warp_needs_syncwarp) {
  CHECK_EQ(run(exchange(1, "bar.warp.sync -1;")), 0);
  CHECK_EQ(run(exchange(1, "")), kFailed);
  CHECK_REPORT("shared-memory race: read after write");
  CHECK_REPORT("with thread 1,");
}

TEST(checks, race_in_a_reduction) {
  // The tree reduction of the last 64 values as written for older GPUs, without synchronisation inside the warp.
  auto body = [](const char* sync) {
    std::string s =
        std::string(kShared) + "st.shared.u32 [%r2], %r0;\nbar.sync 0;\nsetp.lt.u32 %q1, %r0, 32;\n@!%q1 bra end;\n";
    for (int step : {32, 16, 8, 4, 2, 1}) {
      s += "setp.lt.u32 %q2, %r0, " + std::to_string(step) +
           ";\n@%q2 ld.shared.u32 %r3, [%r2];\n@%q2 ld.shared.u32 %r4, [%r2+" + std::to_string(4 * step) +
           "];\n@%q2 add.u32 %r3, %r3, %r4;\n@%q2 st.shared.u32 [%r2], %r3;\n" + sync + "\n";
    }
    return s + "end:\nsetp.eq.u32 %q3, %r0, 0;\n@%q3 st.global.u32 [%p0], %r3;";
  };
  CHECK_EQ(run(body("bar.warp.sync -1;")), 0);
  CHECK_EQ(run(body("")), kFailed);
  CHECK_REPORT("shared-memory race");
}

TEST(checks, two_threads_write_one_place) {
  CHECK_EQ(run(std::string(kShared) + "st.shared.u32 [%r1], 5;"), 0);  // the same value: harmless
  CHECK_EQ(run(std::string(kShared) + "st.shared.u32 [%r1], %r0;"), kFailed);
  CHECK_REPORT("write after write");
}

TEST(checks, plain_access_beside_an_atomic) {
  const std::string begin =
      std::string(kShared) +
      "setp.eq.u32 %q1, %r0, 0;\n@%q1 st.shared.u32 [%r1], 0;\nbar.sync 0;\nred.shared.add.u32 [%r1], 1;\n";
  CHECK_EQ(run(begin + "bar.sync 0;\nld.shared.u32 %r5, [%r1];"), 0);
  CHECK_EQ(run(begin + "ld.shared.u32 %r5, [%r1];"), kFailed);
  CHECK_REPORT("shared-memory race");
}

TEST(checks, half_words_do_not_race_with_their_neighbours) {
  const std::string s =
      ".shared .align 4 .b8 s[4096];\nmov.u32 %r1, s;\nmad.lo.u32 %r2, %r0, 2, %r1;\nmov.u16 %h1, 3;\nst.shared.u16 "
      "[%r2], %h1;\n";
  CHECK_EQ(run(s + "ld.shared.u16 %h2, [%r2];"), 0);
  CHECK_EQ(run(s + "ld.shared.u16 %h2, [%r2+2];"), kFailed);
}

TEST(checks, one_index_too_far) {
  const std::string s = "mad.wide.u32 %rd1, %r0, 4, %p0;\n";
  CHECK_EQ(run(s + "ld.global.u32 %r1, [%rd1];", 64, 1, 256), 0);
  CHECK_EQ(run(s + "ld.global.u32 %r1, [%rd1+4];", 64, 1, 256), kIllegalAddress);
  CHECK_REPORT("thread (63,0,0)");
  CHECK_REPORT("0 bytes past the end of an allocation of 256 bytes");
  CHECK_EQ(run(s + "st.global.u32 [%rd1+-4], %r0;", 64, 1, 256), kIllegalAddress);
  CHECK_REPORT("thread (0,0,0)");
  CHECK_EQ(run(std::string(kShared) + "st.shared.u32 [%r2+4096], %r0;"), kIllegalAddress);
  CHECK_REPORT("the block has 4096 bytes of shared memory");
  CHECK_EQ(run(".local .align 4 .b8 a[8];\nmov.u64 %rd1, a;\nst.local.u32 [%rd1+8], %r0;"), kIllegalAddress);
  CHECK_EQ(run("mov.u64 %rd1, 0;\nld.global.u32 %r1, [%rd1];"), kIllegalAddress);
}

TEST(checks, misaligned) {
  const std::string s = "mad.wide.u32 %rd1, %r0, 8, %p0;\n";
  CHECK_EQ(run(s + "ld.global.v2.u32 {%r1, %r2}, [%rd1];"), 0);
  CHECK_EQ(run(s + "ld.global.v2.u32 {%r1, %r2}, [%rd1+4];"), kMisaligned);
  CHECK_REPORT("not a multiple of 8");
  CHECK_EQ(run(std::string(kShared) + "st.shared.u32 [%r2+2], %r0;"), kMisaligned);
}

TEST(checks, uninitialised_reads) {
  const std::string load = "mad.wide.u32 %rd1, %r0, 4, %p0;\nld.global.u32 %r1, [%rd1];";
  CHECK_EQ(run(load), 0);
  CHECK_EQ(run(load, 64, 1, 4096, false), kFailed);
  CHECK_REPORT("read of global memory that nobody wrote");
  CHECK_REPORT("byte 0 of an allocation of 4096 bytes");
  // Lane 5 leaves its word out.
  const std::string gap =
      "mad.wide.u32 %rd1, %r0, 4, %p0;\nsetp.ne.u32 %q1, %r0, 5;\n@%q1 st.global.u32 [%rd1], 1;\nld.global.u32 %r1, "
      "[%rd1];";
  CHECK_EQ(run(gap, 64, 1, 4096, false), kFailed);
  CHECK_REPORT("thread (5,0,0)");
  CHECK_EQ(run(std::string(kShared) + "ld.shared.u32 %r3, [%r2];"), kFailed);
  CHECK_REPORT("shared memory that nobody wrote");
  CHECK_EQ(run(".local .align 4 .b8 a[8];\nmov.u64 %rd1, a;\nst.local.u32 [%rd1], 1;\nld.local.u32 %r1, [%rd1+4];"),
           kFailed);
  CHECK_REPORT("local memory that nobody wrote");
}

TEST(checks, divergent_barriers) {
  CHECK_EQ(run("setp.lt.u32 %q1, %r0, 7;\n@%q1 bra skip;\nbar.sync 0;\nskip:"), kFailed);
  CHECK_REPORT("divergent barrier: lanes 0,1,2,3,4,5,6");
  CHECK_EQ(run("setp.lt.u32 %q1, %r0, 32;\n@%q1 bra skip;\nbar.sync 0;\nskip:"), kFailed);
  CHECK_REPORT("barrier that not all threads reach");
  CHECK_REPORT("warps 0 have ended");
  CHECK_EQ(run("setp.lt.u32 %q1, %r0, 32;\n@%q1 bra one;\nbar.sync 1;\nbra end;\none:\nbar.sync 2;\nend:"), kFailed);
  CHECK_REPORT("barrier 2");
}

TEST(checks, members_of_a_shuffle_must_be_there) {
  CHECK_EQ(run("setp.lt.u32 %q1, %r0, 16;\n@%q1 shfl.sync.bfly.b32 %r1, %r0, 1, 31, 0xffff;", 32), 0);
  CHECK_EQ(run("setp.lt.u32 %q1, %r0, 16;\n@%q1 shfl.sync.bfly.b32 %r1, %r0, 1, 31, -1;", 32), kFailed);
  CHECK_REPORT("named in the mask");
  // Half of the warp is there and reads the other half.
  CHECK_EQ(run("setp.lt.u32 %q1, %r0, 16;\n@%q1 shfl.sync.bfly.b32 %r1, %r0, 16, 31, 0xffff;", 32), kFailed);
  CHECK_REPORT("thread (0,0,0): shfl reads lane 16, which does not execute it");
}

TEST(checks, members_of_a_warp_barrier_must_be_there) {
  const std::string half = "setp.lt.u32 %q1, %r0, 16;\n";
  CHECK_EQ(run(half + "@%q1 bar.warp.sync 0xffff;", 32), 0);
  CHECK_EQ(run(half + "@%q1 bar.warp.sync -1;", 32), kFailed);
  CHECK_REPORT("lanes 16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31 are named in the mask");
  CHECK_EQ(run("bar.warp.sync 0xffff;", 32), kFailed);
  CHECK_REPORT("thread (16,0,0): lane executes a .sync instruction whose mask leaves it out");
}

TEST(checks, what_matrix_instructions_demand) {
  // Every lane writes one row of 16 bytes, or none, and ldmatrix reads all 32.
  auto rows = [](const std::string& write, const std::string& between, const std::string& read) {
    return std::string(R"(
    .shared .align 16 .b8 s[1024];
    mov.u32 %r1, s;
    mad.lo.u32 %r2, %r0, 16, %r1;
    setp.lt.u32 %q1, %r0, 31;
    mov.u32 %r4, 0; mov.u32 %r5, 0; mov.u32 %r6, 0; mov.u32 %r7, 0;
)") + write +
           "\n" + between + "\n" + read;
  };
  const std::string write = "st.shared.v4.u32 [%r2], {%r4, %r5, %r6, %r7};", wait = "bar.warp.sync -1;",
                    load = "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r8, %r9, %r10, %r11}, ", read = load + "[%r2];";
  CHECK_EQ(run(rows(write, wait, read), 32), 0);
  CHECK_EQ(run(rows(write, "", read), 32), kFailed);
  CHECK_REPORT("shared-memory race: read after write");
  CHECK_EQ(run(rows("@%q1 " + write, wait, read), 32), kFailed);
  CHECK_REPORT("thread (31,0,0): read of shared memory that nobody wrote");
  CHECK_EQ(run(rows(write, wait, load + "[%r2+8];"), 32), kMisaligned);
  CHECK_EQ(run(rows(write, wait, "@%q1 " + read), 32), kFailed);
  CHECK_REPORT("lanes 31 do not execute this instruction, which needs the whole warp");
  const std::string product =
      "mov.f32 %f1, 0f00000000;\n@%q1 mma.sync.aligned.m16n8k8.row.col.f32.bf16.bf16.f32 {%f2, %f3, %f4, %f5}, "
      "{%r4, %r5}, {%r6}, {%f1, %f1, %f1, %f1};";
  CHECK_EQ(run(rows("setp.lt.u32 %q1, %r0, 32;", "", product), 32), 0);
  CHECK_EQ(run(rows("", "", product), 32), kFailed);
  CHECK_REPORT("lanes 31 do not execute this instruction, which needs the whole warp");
}

TEST(checks, more_synchronisations_than_there_are_times) {
  // 2^18 times fit into a tag.
  auto body = [](const std::string& between) {
    return "mov.u32 %r10, 0;\nagain:\nbar.warp.sync -1;\nbar.warp.sync -1;\nbar.warp.sync -1;\nbar.warp.sync -1;\n"
           "add.u32 %r10, %r10, 1;\nsetp.lt.u32 %q1, %r10, 66000;\n@%q1 bra again;\n" +
           exchange(1, between);
  };
  CHECK_EQ(run(body("bar.warp.sync -1;")), 0);
  CHECK_EQ(run(body("")), kFailed);
  CHECK_REPORT("shared-memory race: read after write");
}

namespace {

// Two stages of cp.async; every thread copies 16 bytes per stage and reads its neighbour's.
std::string pipeline(const std::string& wait, const std::string& barrier) {
  return std::string(R"(
    .shared .align 16 .b8 s[4096];
    mov.u32 %r1, s;
    mad.lo.u32 %r2, %r0, 16, %r1;
    mad.wide.u32 %rd1, %r0, 16, %p0;
    cp.async.cg.shared.global [%r2], [%rd1], 16;
    cp.async.commit_group;
    cp.async.cg.shared.global [%r2+1024], [%rd1+1024], 16;
    cp.async.commit_group;
)") + wait +
         "\n" + barrier + R"(
    xor.b32 %r3, %r0, 33;
    mad.lo.u32 %r4, %r3, 16, %r1;
    ld.shared.u32 %r5, [%r4];
    st.global.u32 [%rd1], %r5;)";
}

}  // namespace

TEST(checks, asynchronous_copies) {
  CHECK_EQ(run(pipeline("cp.async.wait_group 1;", "bar.sync 0;")), 0);
  CHECK_EQ(run(pipeline("cp.async.wait_all;", "bar.sync 0;")), 0);
  CHECK_EQ(run(pipeline("", "bar.sync 0;")), kFailed);
  CHECK_REPORT("cp.async destination before its wait");
  CHECK_EQ(run(pipeline("cp.async.wait_group 2;", "bar.sync 0;")), kFailed);
  CHECK_REPORT("cp.async destination before its wait");
  // The wait covers the thread's own copies only; the barrier makes them the neighbour's.
  CHECK_EQ(run(pipeline("cp.async.wait_group 1;", "")), kFailed);
  CHECK_EQ(run(std::string(kShared) + "mad.wide.u32 %rd1, %r0, 4, %p0;\ncp.async.ca.shared.global [%r2], [%rd1], "
                                      "4;\ncp.async.wait_all;\nld.shared.u32 %r5, [%r2];"),
           0);
  // A copy into a buffer that others may still be reading.
  const std::string reuse = pipeline("cp.async.wait_group 0;", "bar.sync 0;");
  CHECK_EQ(run(reuse + "\nbar.sync 0;\ncp.async.cg.shared.global [%r2], [%rd1+2048], 16;"), 0);
  CHECK_EQ(run(reuse + "\ncp.async.cg.shared.global [%r2], [%rd1+2048], 16;"), kFailed);
  CHECK_REPORT("cp.async");  // the first warp's copy meets the second one's read, whichever comes first
  CHECK_EQ(run(pipeline("cp.async.wait_all;", "bar.sync 0;"), 64, 1, 1024), kIllegalAddress);
}

TEST(checks, what_asynchronous_copies_demand) {
  // Every thread copies 16 bytes to [%r2] from [%rd1].
  auto copy = [](const std::string& to, const std::string& from, const std::string& size = "") {
    return std::string(R"(
    .shared .align 16 .b8 s[2048];
    mov.u32 %r1, s;
    mad.lo.u32 %r2, %r0, 16, %r1;
    mad.wide.u32 %rd1, %r0, 16, %p0;
    cp.async.cg.shared.global )") +
           to + ", " + from + ", 16" + size + ";\n";
  };
  CHECK_EQ(run(copy("[%r2]", "[%rd1]", ", 16") + "cp.async.wait_all;"), 0);
  CHECK_EQ(run(copy("[%r2+8]", "[%rd1]")), kMisaligned);
  CHECK_EQ(run(copy("[%r2]", "[%rd1+8]")), kMisaligned);
  CHECK_EQ(run(copy("[%r2]", "[%rd1+8]", ", 8")), kMisaligned);
  CHECK_EQ(run(copy("[%r2]", "[%rd1]", ", 17")), kFailed);
  CHECK_REPORT("cp.async source size 17 is above its copy size");
  CHECK_EQ(run(copy("[%r2]", "[%rd1]") + "cp.async.wait_all;\nst.shared.u32 [%r2], %r0;"), 0);
  CHECK_EQ(run(copy("[%r2]", "[%rd1]") + "st.shared.u32 [%r2], %r0;\ncp.async.wait_all;"), kFailed);
  CHECK_REPORT("write into a cp.async destination before its wait");
}

// A group of its own: it is run without checks too.
TEST(async, copies_arrive_at_the_wait) {
  Device d;
  CUfunction f = d.function(d.load(kernel_text(2, R"(
    .shared .align 16 .b8 s[512];
    mov.u32 %r1, s;
    mad.lo.u32 %r2, %r0, 16, %r1;
    mad.wide.u32 %rd1, %r0, 16, %p0;
    st.shared.u32 [%r2], 7;
    cp.async.cg.shared.global [%r2], [%rd1], 16;
    cp.async.commit_group;
    ld.shared.u32 %r3, [%r2];
    cp.async.wait_group 0;
    ld.shared.u32 %r4, [%r2];
    mad.wide.u32 %rd2, %r0, 8, %p1;
    st.global.v2.u32 [%rd2], {%r3, %r4};)")));
  std::vector<uint32_t> in;
  for (uint32_t i = 0; i < 128; ++i) in.push_back(i + 100);
  CUdeviceptr out = d.allocate(256);
  const CUresult r = d.launch(f, 1, 32, {d.upload(in), out});
  const char* checks = std::getenv("KOTODAMA_SIM_CHECKS");
  if (!checks || std::string(checks) != "none") {
    CHECK_EQ(r, kFailed);
    CHECK_REPORT("read of a cp.async destination before its wait");
    return;
  }
  CHECK_EQ(r, 0);
  auto v = d.download<uint32_t>(out, 64);
  for (uint32_t i = 0; i < 32; ++i) {
    CHECK_EQ(v[2 * i], 7u);
    CHECK_EQ(v[2 * i + 1], in[4 * i]);
  }
}

TEST(checks, asynchronous_copies_fill_up_with_zeros) {
  Device d;
  CUfunction f = d.function(d.load(kernel_text(2, R"(
    .shared .align 16 .b8 s[4096];
    mov.u32 %r1, s;
    mad.lo.u32 %r2, %r0, 16, %r1;
    mad.wide.u32 %rd1, %r0, 16, %p0;
    mov.u32 %r3, 8;
    cp.async.cg.shared.global [%r2], [%rd1], 16, %r3;
    setp.eq.u32 %q1, %r0, 3;
    cp.async.ca.shared.global [%r2+2048], [%rd1], 8, %q1;
    cp.async.wait_all;
    ld.shared.v4.u32 {%r4, %r5, %r6, %r7}, [%r2];
    ld.shared.v2.u32 {%r8, %r9}, [%r2+2048];
    add.u32 %r7, %r7, %r8;
    mad.wide.u32 %rd2, %r0, 16, %p1;
    st.global.v4.u32 [%rd2], {%r4, %r5, %r6, %r7};)")));
  std::vector<uint32_t> in;
  for (uint32_t i = 0; i < 128; ++i) in.push_back(i + 1);
  CUdeviceptr out = d.allocate(512);
  CHECK_EQ(d.launch(f, 1, 32, {d.upload(in), out}), 0);
  auto v = d.download<uint32_t>(out, 128);
  for (uint32_t i = 0; i < 32; ++i) {
    CHECK_EQ(v[4 * i], in[4 * i]);
    CHECK_EQ(v[4 * i + 1], in[4 * i + 1]);
    CHECK_EQ(v[4 * i + 2], 0u);
    CHECK_EQ(v[4 * i + 3], i == 3 ? 0 : in[4 * i]);
  }
}

TEST(checks, swapped_fragments_change_the_product) {
  // Not a fault but a wrong result: with two A registers exchanged, rows g and g + 8 change places.
  Device d;
  auto product = [&](const char* a) {
    CUfunction f = d.function(d.load(kernel_text(1, std::string(R"(
      mad.lo.u32 %r1, %r0, 0x00010001, 0x3f803f80;
      mov.u32 %r2, 0x40004000; mov.u32 %r3, 0x40404040; mov.u32 %r4, 0x3f803f80;
      mov.f32 %f1, 0f00000000;
      mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%f2, %f3, %f4, %f5}, )") +
                                                        a + R"(, {%r4, %r4}, {%f1, %f1, %f1, %f1};
      mad.wide.u32 %rd1, %r0, 16, %p0;
      st.global.v4.f32 [%rd1], {%f2, %f3, %f4, %f5};)")));
    CUdeviceptr out = d.allocate(512);
    CHECK_EQ(d.launch(f, 1, 32, {out}), 0);
    return d.download<float>(out, 128);
  };
  auto right = product("{%r1, %r2, %r1, %r3}"), swapped = product("{%r2, %r1, %r1, %r3}");
  int differ = 0;
  for (size_t i = 0; i < 128; ++i) differ += right[i] != swapped[i];
  CHECK(differ > 64);
}

TEST(checks, kernels_that_never_end) {
  CHECK_EQ(run("again:\nbra again;", 32), kTimeout);
  CHECK_EQ(run("trap;"), kFailed);
}

TEST(checks, report_names_the_source_line) {
  Device d;
  CUfunction f = d.function(d.load(
      module_text(".file 1 \"attention.cu\"\n.visible .entry k()\n{\n.reg .b64 %rd<2>;\n.reg .b32 %r<2>;\n.loc 1 42 7\n"
                  "mov.u64 %rd1, 16;\nst.global.u32 [%rd1], %r1;\nret;\n}\n")));
  CHECK_EQ(d.launch(f, 2, 32, {}), kIllegalAddress);
  CHECK_REPORT("kernel k, block (0,0,0), thread (0,0,0)");
  CHECK_REPORT("at PTX line 11: st.global.u32 [%rd1], %r1;");
  CHECK_REPORT("source attention.cu:42");
}

// A group of its own: it is run without checks, too, where each kernel is read when it is first asked for.
TEST(reading, a_kernel_that_is_not_understood) {
  Device d;
  const std::string text = module_text(
      ".visible .entry right() .maxntid 32, 1, 1\n{\n// }\n/* }\n */ { .reg .b32 %a; mov.u32 %a, 1; }\nret;\n}\n"
      ".visible .entry wrong(.param .u32 p)\n{\nfrobnicate.u32 %r1;\n}\n.global .u32 g = {7};\n");
  const int line = 1 + static_cast<int>(std::count(text.begin(), text.begin() + text.find("frobnicate"), '\n'));
  const std::string place = "line " + std::to_string(line);
  CUmodule m = nullptr;
  CUfunction f = nullptr;
  const char* checks = std::getenv("KOTODAMA_SIM_CHECKS");
  if (checks && std::string(checks) == "none") {
    CHECK_EQ(cuModuleLoadData(&m, text.c_str()), 0);
    for (int time = 0; time < 2; ++time) {
      CHECK_EQ(cuModuleGetFunction(&f, m, "wrong"), kBadPtx);
      CHECK_REPORT(place);
      CHECK_EQ(cuModuleGetFunction(&f, m, "right"), 0);
      CHECK_EQ(d.launch(f, 1, 32, {}), 0);
    }
  } else {
    CHECK_EQ(cuModuleLoadData(&m, text.c_str()), kBadPtx);
    CHECK_REPORT(place);
  }
  for (const char* open : {".visible .entry k() {", ".visible .entry k() { /*", ".visible .entry k() { { }",
                           ".entry k() }", ".section .debug_loc", ".pragma \"nounroll\""})
    CHECK_EQ(cuModuleLoadData(&m, module_text(open).c_str()), kBadPtx);
  const std::string pragma = ".pragma \"nounroll\";";
  const CUmodule directives = d.load(module_text(".entry k() " + pragma + " { " + pragma + " ret; }"));
  CHECK_EQ(d.launch(d.function(directives), 1, 32, {}), 0);
}

TEST(checks, unknown_things_do_not_load) {
  Device d;
  CUmodule m;
  auto refused = [&](const std::string& body, const std::string& named) {
    CHECK_EQ(cuModuleLoadData(&m, kernel_text(1, body).c_str()), 218);
    CHECK_REPORT(named);
  };
  refused("frobnicate.u32 %r1, %r0;", "unknown instruction");
  refused("add.wobbly.u32 %r1, %r0, 1;", "wobbly");
  refused("add.u32 %r1, %r0, %nothing;", "unknown operand '%nothing'");
  refused("add.u64 %r1, %r0, 1;", "too narrow");
  refused("add.u32 %rd1, %r0, 1;", "has 64 bits");
  refused("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%r1}, {%r1}, {%r1}, {%r1};", "mma");
  refused("bra nowhere;", "unknown label");
  refused(".shared .align 4 .b8 s[49156];\nmov.u32 %r1, s;", "49156 bytes");
  refused("cvt.s32.f32 %r1, %f1;", "rounding");
  refused("ld.global.v8.u32 {%r1}, [%rd1];", "v8");
  CHECK_EQ(cuModuleLoadData(&m, "this is no PTX"), 218);
}
