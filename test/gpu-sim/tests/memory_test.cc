// Loads, stores, atomics, calls and the state spaces (PTX ISA 5.1, 9.7.9, 9.7.12.5, 9.7.13.6).
#include "harness.h"

using namespace test;

TEST(memory, vectors_and_widths) {
  Device d;
  // Reads 16 bytes per lane, stores them in reverse order of elements; byte loads extend by sign or zero.
  CUfunction f = d.function(d.load(kernel_text(3, R"(
    mad.wide.u32 %rd1, %r0, 16, %p0;
    mad.wide.u32 %rd2, %r0, 16, %p1;
    ld.global.nc.L1::no_allocate.L2::128B.v4.u32 {%r1, %r2, %r3, %r4}, [%rd1];
    st.global.v4.b32 [%rd2], {%r4, %r3, %r2, %r1};
    mad.wide.u32 %rd3, %r0, 16, %p2;
    ld.global.s8 %r5, [%rd1+3];
    ld.global.u8 %r6, [%rd1+3];
    ld.global.v2.s16 {%r7, %r8}, [%rd1+4];
    st.global.v2.u32 [%rd3], {%r5, %r6};
    st.global.u32 [%rd3+8], %r8;
    st.global.u16 [%rd3+12], %r7;
    st.global.u16 [%rd3+14], 9;)")));
  std::vector<uint32_t> in;
  Random random;
  for (int i = 0; i < 4 * 40; ++i) in.push_back(static_cast<uint32_t>(random.next() >> 20));
  CUdeviceptr a = d.upload(in), b = d.allocate(16 * 40), c = d.allocate(16 * 40);
  CHECK_EQ(d.launch(f, 1, 40, {a, b, c}), 0);
  auto out = d.download<uint32_t>(b, 160), other = d.download<uint32_t>(c, 160);
  for (size_t i = 0; i < 40; ++i) {
    for (size_t k = 0; k < 4; ++k) CHECK_EQ(out[4 * i + k], in[4 * i + 3 - k]);
    const uint32_t top = in[4 * i] >> 24;
    CHECK_EQ(other[4 * i], top & 0x80 ? top | 0xffffff00u : top);
    CHECK_EQ(other[4 * i + 1], top);
    CHECK_EQ(static_cast<int32_t>(other[4 * i + 2]), static_cast<int32_t>(in[4 * i + 1]) >> 16);
    CHECK_EQ(other[4 * i + 3], (in[4 * i + 1] & 0xffff) | 9u << 16);
  }
}

TEST(memory, shared_local_const_and_generic) {
  Device d;
  CUmodule m = d.load(
      kernel_text(1, R"(
    .shared .align 4 .b8 s[128];
    .local .align 4 .b8 depot[16];
    mov.u32 %r1, s;
    shl.b32 %r2, %r0, 2;
    add.u32 %r3, %r1, %r2;
    st.shared.u32 [%r3], %r0;
    bar.sync 0;
    xor.b32 %r4, %r2, 4;             // the neighbour's word, through a generic address
    cvt.u64.u32 %rd1, %r4;
    mov.u64 %rd2, s;
    cvta.shared.u64 %rd3, %rd2;
    add.u64 %rd3, %rd3, %rd1;
    isspacep.shared %q1, %rd3;
    ld.u32 %r5, [%rd3];
    mov.u64 %rd4, depot;             // an array indexed per lane
    cvta.local.u64 %rd5, %rd4;
    and.b32 %r6, %r0, 3;
    mul.wide.u32 %rd6, %r6, 4;
    add.u64 %rd7, %rd5, %rd6;
    st.u32 [%rd7], %r5;
    add.u64 %rd8, %rd4, %rd6;
    ld.local.u32 %r7, [%rd8];
    mov.u64 %rd9, table;
    add.u64 %rd9, %rd9, %rd6;
    ld.const.u32 %r8, [%rd9];
    ld.global.u32 %r9, [counts+4];
    ld.u64 %rd10, [where];
    ld.u32 %r10, [%rd10];
    add.u32 %r7, %r7, %r8;
    add.u32 %r7, %r7, %r9;
    add.u32 %r7, %r7, %r10;
    selp.u32 %r7, %r7, 0, %q1;
    mad.wide.u32 %rd11, %r0, 4, %p0;
    st.global.u32 [%rd11], %r7;)",
                  ".const .align 4 .u32 table[4] = {10, 20, 30, 40};\n.global .align 4 .u32 counts[3] = {1000, 2000};\n"
                  ".global .align 8 .u64 where = generic(counts) + 8;\n"));
  CUdeviceptr out = d.allocate(128), counts;
  size_t bytes;
  CHECK_EQ(cuModuleGetGlobal_v2(&counts, &bytes, m, "counts"), 0);
  CHECK_EQ(bytes, 12u);
  CHECK_EQ(d.download<uint32_t>(counts, 3)[2], 0u);  // variables start as zero
  uint32_t seven = 7;
  cuMemcpyHtoD_v2(counts + 8, &seven, 4);
  CHECK_EQ(d.launch(d.function(m), 1, 32, {out}), 0);
  auto v = d.download<uint32_t>(out, 32);
  for (uint32_t i = 0; i < 32; ++i) CHECK_EQ(v[i], (i ^ 1) + 10 * (i % 4 + 1) + 2000 + 7);
}

TEST(memory, calls_pass_parameters) {
  Device d;
  const char* callee = R"(
.func (.param .b32 result) twice_plus(.param .b32 x, .param .align 4 .b8 pair[8])
{
  .reg .b32 %r<8>;
  .reg .pred %p<2>;
  ld.param.u32 %r1, [x];
  ld.param.u32 %r2, [pair+4];
  setp.gt.u32 %p1, %r1, 20;
  @%p1 bra big;
  mad.lo.u32 %r3, %r1, 2, %r2;
  st.param.b32 [result+0], %r3;
  ret;
big:
  mov.u32 %r4, 1;
  st.param.b32 [result], %r4;
  ret;
}
)";
  CUfunction f = d.function(d.load(kernel_text(1, R"(
    setp.lt.u32 %q1, %r0, 30;
    mov.u32 %r5, 77;
    @!%q1 bra skip;
    {
      .param .b32 p0;
      .param .align 4 .b8 p1[8];
      .param .b32 back;
      st.param.b32 [p0+0], %r0;
      st.param.b32 [p1+4], 100;
      call.uni (back), twice_plus, (p0, p1);
      ld.param.b32 %r5, [back+0];
    }
skip:
    mad.wide.u32 %rd1, %r0, 4, %p0;
    st.global.u32 [%rd1], %r5;)",
                                               callee)));
  CUdeviceptr out = d.allocate(128);
  CHECK_EQ(d.launch(f, 1, 32, {out}), 0);
  auto v = d.download<uint32_t>(out, 32);
  for (uint32_t i = 0; i < 32; ++i) CHECK_EQ(v[i], i >= 30 ? 77 : i > 20 ? 1 : 2 * i + 100);
}

TEST(memory, atomics) {
  Device d;
  // 64 blocks of 64 threads: sums, extremes, compare-and-swap counters, in global and in shared memory.
  CUfunction f = d.function(d.load(kernel_text(1, R"(
    .shared .align 4 .u32 total;
    mov.u32 %r9, %ctaid.x;
    mad.lo.u32 %r1, %r9, 64, %r0;
    setp.eq.u32 %q1, %r0, 0;
    @%q1 st.shared.u32 [total], 0;
    bar.sync 0;
    atom.shared.add.u32 %r2, [total], 1;
    bar.sync 0;
    @%q1 ld.shared.u32 %r3, [total];
    @%q1 red.global.add.u32 [%p0], %r3;
    red.global.max.s32 [%p0+4], %r1;
    atom.global.min.u32 %r4, [%p0+8], %r1;
    mov.f32 %f1, 0f3F000000;
    red.global.add.f32 [%p0+12], %f1;
    atom.global.inc.u32 %r5, [%p0+16], 9;
    red.relaxed.gpu.global.or.b32 [%p0+20], %r1;
again:
    ld.volatile.global.u32 %r6, [%p0+24];
    add.u32 %r7, %r6, 3;
    atom.global.cas.b32 %r8, [%p0+24], %r6, %r7;
    setp.ne.u32 %q2, %r8, %r6;
    @%q2 bra again;
    mov.b32 %r10, 0x3c003c00;
    red.global.add.noftz.f16x2 [%p0+28], %r10;
    atom.global.exch.b64 %rd3, [%p0+32], 5;
    mov.f64 %fd1, 0d3FF0000000000000;
    red.global.add.f64 [%p0+40], %fd1;)")));
  std::vector<uint32_t> init{0, 0x80000000u, 999999, 0, 0, 0, 0, 0, 0, 0, 0, 0};
  CUdeviceptr p = d.upload(init);
  CHECK_EQ(d.launch(f, 64, 64, {p}), 0);
  auto v = d.download<uint32_t>(p, 12);
  CHECK_EQ(v[0], 4096u);
  CHECK_EQ(v[1], 4095u);
  CHECK_EQ(v[2], 0u);
  CHECK_EQ(float_of(v[3]), 2048.0f);
  CHECK_EQ(v[4], 4096u % 10);
  CHECK_EQ(v[5], 4095u);
  CHECK_EQ(v[6], 3u * 4096);
  CHECK_EQ(v[7], 0x68006800u);  // 2048: beyond it, adding 1 in binary16 changes nothing
  CHECK_EQ(v[8], 5u);
  double sum;
  std::memcpy(&sum, &v[10], 8);
  CHECK_EQ(sum, 4096.0);
}

TEST(memory, counters_know_sectors_and_conflicts) {
  Device d;
  kotodama_sim_reset_counters();
  // Loads: a full row (4 sectors), one of stride 2 (8 sectors where 4 would do), one of them from shared memory with a
  // stride of 32 words (32 wavefronts for one) and one of stride 1.
  CUfunction f = d.function(d.load(kernel_text(1, R"(
    .shared .align 4 .b8 s[4096];
    mad.wide.u32 %rd1, %r0, 4, %p0;
    ld.global.u32 %r1, [%rd1];
    mad.wide.u32 %rd2, %r0, 8, %p0;
    ld.global.u32 %r2, [%rd2];
    mov.u32 %r3, s;
    mad.lo.u32 %r4, %r0, 128, %r3;
    st.shared.u32 [%r4], %r1;
    mad.lo.u32 %r5, %r0, 4, %r3;
    st.shared.u32 [%r5], %r2;)")));
  CUdeviceptr p = d.upload(std::vector<uint32_t>(64, 1));
  CHECK_EQ(d.launch(f, 1, 32, {p}), 0);
  std::string json = kotodama_sim_counters_json();
  for (const char* part :
       {"\"global_sectors\":12", "\"global_sectors_fewest\":8", "\"global_read_bytes\":256", "\"shared_conflicts\":31",
        "\"shared_wavefronts\":33", "\"ld.global\":2", "\"st.shared\":2", "\"launches\":1"}) {
    if (json.find(part) == std::string::npos) fail(__FILE__, __LINE__, std::string("no ") + part + " in " + json);
  }
}
