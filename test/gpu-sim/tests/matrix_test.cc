// mma, ldmatrix, stmatrix, movmatrix: fragments are filled and read by the manual's index formulas (PTX ISA 9.7.14.5).
#include <algorithm>
#include <functional>

#include "harness.h"

using namespace test;

namespace {

uint32_t half_bits(float v, bool bf16) {  // small integers only: exact in both formats
  if (bf16) return bits(v) >> 16;
  if (v == 0) return 0;
  int e;
  float m = std::frexp(std::fabs(v), &e);
  return static_cast<uint32_t>((v < 0 ? 0x8000 : 0) | (e + 14) << 10 | (static_cast<int>(m * 2048) & 0x3ff));
}

std::string registers(const char* prefix, int first, int n) {
  std::string s = "{";
  for (int i = 0; i < n; ++i) s += std::string(i ? ", " : "") + prefix + std::to_string(first + i);
  return s + "}";
}

// Runs one mma: fragments come from memory as [register][lane].
std::vector<uint32_t> run_mma(const std::string& op, int na, int nb, int nc, const std::vector<uint32_t>& a,
                              const std::vector<uint32_t>& b, const std::vector<uint32_t>& c) {
  Device d;
  std::string body;
  auto load = [&](int param, int first, int n) {
    for (int i = 0; i < n; ++i) {
      body += "mad.wide.u32 %rd1, %r0, 4, %p" + std::to_string(param) + ";\nld.global.b32 %r" +
              std::to_string(first + i) + ", [%rd1+" + std::to_string(128 * i) + "];\n";
    }
  };
  load(1, 10, na);
  load(2, 20, nb);
  load(3, 30, nc);
  body += op + " " + registers("%r", 40, nc) + ", " + registers("%r", 10, na) + ", " + registers("%r", 20, nb) + ", " +
          registers("%r", 30, nc) + ";\nmad.wide.u32 %rd2, %r0, 4, %p0;\n";
  for (int i = 0; i < nc; ++i)
    body += "st.global.b32 [%rd2+" + std::to_string(128 * i) + "], %r" + std::to_string(40 + i) + ";\n";
  CUdeviceptr out = d.allocate(static_cast<size_t>(nc) * 128);
  CUresult r = d.launch(d.function(d.load(kernel_text(4, body))), 1, 32, {out, d.upload(a), d.upload(b), d.upload(c)});
  if (r) fail(__FILE__, __LINE__, kotodama_sim_last_report());
  return d.download<uint32_t>(out, static_cast<size_t>(nc) * 32);
}

// The layout tables of the manual for 16-bit m16n8k16 and m16n8k8: element index -> (row, column).
void check_half(const std::string& op, int k, bool bf16) {
  Random random;
  float A[16][16], B[16][8], C[16][8];
  auto small = [&] { return static_cast<float>(static_cast<int>(random.next() % 17) - 8); };
  for (auto& row : A)
    for (float& v : row) v = small();
  for (auto& row : B)
    for (float& v : row) v = small();
  for (auto& row : C)
    for (float& v : row) v = small();
  const int na = k == 16 ? 4 : 2, nb = k == 16 ? 2 : 1;
  std::vector<uint32_t> a(static_cast<size_t>(na) * 32, 0), b(static_cast<size_t>(nb) * 32, 0), c(128);
  for (int lane = 0; lane < 32; ++lane) {
    const int group = lane >> 2, thread = lane % 4;
    for (int i = 0; i < 2 * na; ++i) {
      int row, col = thread * 2 + (i & 1) + (i >= 4 ? 8 : 0);
      if (k == 16)
        row = (i < 2 || (i >= 4 && i < 6)) ? group : group + 8;
      else
        row = i < 2 ? group : group + 8;
      a[static_cast<size_t>(i / 2 * 32 + lane)] |= half_bits(A[row][col], bf16) << 16 * (i & 1);
    }
    for (int i = 0; i < 2 * nb; ++i) {
      int row = thread * 2 + (i & 1) + (i >= 2 ? 8 : 0), col = group;
      b[static_cast<size_t>(i / 2 * 32 + lane)] |= half_bits(B[row][col], bf16) << 16 * (i & 1);
    }
    for (int i = 0; i < 4; ++i)
      c[static_cast<size_t>(i * 32 + lane)] = bits(C[i < 2 ? group : group + 8][thread * 2 + (i & 1)]);
  }
  auto d = run_mma(op, na, nb, 4, a, b, c);
  for (int lane = 0; lane < 32; ++lane) {
    for (int i = 0; i < 4; ++i) {
      const int row = (lane >> 2) + (i < 2 ? 0 : 8), col = lane % 4 * 2 + (i & 1);
      float want = C[row][col];
      for (int x = 0; x < k; ++x) want += A[row][x] * B[x][col];
      CHECK_EQ(float_of(d[static_cast<size_t>(i * 32 + lane)]), want);
    }
  }
}

}  // namespace

TEST(matrix, mma_16_bit) {
  check_half("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32", 16, true);
  check_half("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32", 16, false);
  check_half("mma.sync.aligned.m16n8k8.row.col.f32.bf16.bf16.f32", 8, true);
  check_half("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32", 8, false);
}

TEST(matrix, mma_tf32) {
  for (int k : {8, 4}) {
    Random random;
    float A[16][8], B[8][8];
    for (auto& row : A)
      for (float& v : row) v = static_cast<float>(static_cast<int>(random.next() % 17) - 8);
    for (auto& row : B)
      for (float& v : row) v = static_cast<float>(static_cast<int>(random.next() % 17) - 8);
    const int na = k / 2, nb = k / 4;
    std::vector<uint32_t> a(static_cast<size_t>(na) * 32), b(static_cast<size_t>(nb) * 32), c(128, bits(0.5f));
    for (int lane = 0; lane < 32; ++lane) {
      const int group = lane >> 2, thread = lane % 4;
      // The low 13 bits are not part of a tf32 number.
      for (int i = 0; i < na; ++i)
        a[static_cast<size_t>(i * 32 + lane)] = bits(A[group + (i & 1) * 8][thread + (i >= 2 ? 4 : 0)]) | 0x1fff;
      for (int i = 0; i < nb; ++i) b[static_cast<size_t>(i * 32 + lane)] = bits(B[thread + 4 * i][group]);
    }
    auto d = run_mma("mma.sync.aligned.m16n8k" + std::to_string(k) + ".row.col.f32.tf32.tf32.f32", na, nb, 4, a, b, c);
    for (int lane = 0; lane < 32; ++lane) {
      for (int i = 0; i < 4; ++i) {
        const int row = (lane >> 2) + (i < 2 ? 0 : 8), col = lane % 4 * 2 + (i & 1);
        float want = 0.5f;
        for (int x = 0; x < k; ++x) want += A[row][x] * B[x][col];
        float got = float_of(d[static_cast<size_t>(i * 32 + lane)]);
        CHECK(std::fabs(got - want) <= 0.01f * 64 * k);
      }
    }
  }
}

TEST(matrix, mma_f16_result) {
  // A = 1 everywhere, B = 2 everywhere: every element is 16 * 2 + 3.
  std::vector<uint32_t> a(128, 0x3c003c00), b(64, 0x40004000), c(64, 0x42004200);
  auto d = run_mma("mma.sync.aligned.m16n8k16.row.col.f16.f16.f16.f16", 4, 2, 2, a, b, c);
  for (uint32_t v : d) CHECK_EQ(v, 0x50605060u);  // 35
}

TEST(matrix, ldmatrix_places_rows) {
  Device d;
  // 4 matrices of 8 rows; row r of matrix m lies at a scattered place; element (r, c) of m holds 64 m + 8 r + c.
  std::vector<uint16_t> memory(1024, 0xffff);
  auto place = [](int m, int r) { return ((m * 8 + r) * 7 % 32) * 8; };  // in elements, multiples of 16 bytes
  for (int m = 0; m < 4; ++m) {
    for (int r = 0; r < 8; ++r) {
      for (int c = 0; c < 8; ++c)
        memory[static_cast<size_t>(place(m, r) + c)] = static_cast<uint16_t>(64 * m + 8 * r + c);
    }
  }
  auto run = [&](int n, bool transposed) {
    std::string body = R"(
    .shared .align 16 .b8 s[512];
    mad.wide.u32 %rd1, %r0, 16, %p1;
    ld.global.v4.u32 {%r1, %r2, %r3, %r4}, [%rd1];
    mov.u32 %r5, s;
    mad.lo.u32 %r6, %r0, 16, %r5;
    st.shared.v4.u32 [%r6], {%r1, %r2, %r3, %r4};
    bar.sync 0;
    mul.lo.u32 %r7, %r0, 7;
    and.b32 %r7, %r7, 31;
    mad.lo.u32 %r8, %r7, 16, %r5;
    )";
    body += "ldmatrix.sync.aligned.m8n8.x" + std::to_string(n) + (transposed ? ".trans" : "") + ".shared.b16 " +
            registers("%r", 20, n) + ", [%r8];\n";
    body += "mad.wide.u32 %rd2, %r0, 4, %p0;\n";
    for (int i = 0; i < n; ++i)
      body += "st.global.u32 [%rd2+" + std::to_string(128 * i) + "], %r" + std::to_string(20 + i) + ";\n";
    CUdeviceptr out = d.allocate(512);
    CHECK_EQ(d.launch(d.function(d.load(kernel_text(2, body))), 1, 32, {out, d.upload(memory)}), 0);
    return d.download<uint32_t>(out, static_cast<size_t>(32 * n));
  };
  for (int n : {1, 2, 4}) {
    for (bool transposed : {false, true}) {
      auto v = run(n, transposed);
      for (int m = 0; m < n; ++m) {
        for (int lane = 0; lane < 32; ++lane) {
          for (int e = 0; e < 2; ++e) {
            int r = lane / 4, c = 2 * (lane % 4) + e;
            if (transposed) std::swap(r, c);
            CHECK_EQ(v[static_cast<size_t>(32 * m + lane)] >> 16 * e & 0xffff,
                     static_cast<uint32_t>(64 * m + 8 * r + c));
          }
        }
      }
    }
  }
}

TEST(matrix, stmatrix_undoes_ldmatrix_and_movmatrix_transposes) {
  Device d;
  CUfunction f = d.function(d.load(kernel_text(1, R"(
    .shared .align 16 .b8 s[512];
    mov.u32 %r5, s;
    mad.lo.u32 %r6, %r0, 16, %r5;
    mul.lo.u32 %r1, %r0, 0x00020002;
    add.u32 %r1, %r1, 0x00010000;     // element (lane / 4, 2 (lane % 4) + e) = 8 row + column
    movmatrix.sync.aligned.m8n8.trans.b16 %r2, %r1;
    add.u32 %r3, %r1, 0x00400040;
    mov.u32 %r4, %r2;
    stmatrix.sync.aligned.m8n8.x2.shared.b16 [%r6], {%r1, %r3};
    add.u32 %r7, %r6, 256;
    setp.lt.u32 %q1, %r0, 8;
    selp.u32 %r7, %r7, %r6, %q1;
    stmatrix.sync.aligned.m8n8.x1.trans.shared.b16 [%r7], {%r2};
    bar.sync 0;
    ld.shared.u32 %r10, [%r5];
    mad.lo.u32 %r11, %r0, 4, %r5;
    ld.shared.u32 %r12, [%r11];
    ld.shared.u32 %r13, [%r11+128];
    ld.shared.u32 %r14, [%r11+256];
    mad.wide.u32 %rd1, %r0, 4, %p0;
    st.global.u32 [%rd1], %r12;
    st.global.u32 [%rd1+128], %r13;
    st.global.u32 [%rd1+256], %r14;
    st.global.u32 [%rd1+384], %r2;)")));
  CUdeviceptr out = d.allocate(512);
  CHECK_EQ(d.launch(f, 1, 32, {out}), 0);
  auto v = d.download<uint32_t>(out, 128);
  for (uint32_t i = 0; i < 32; ++i) {
    CHECK_EQ(v[i], (2 * i + 1) << 16 | 2 * i);
    CHECK_EQ(v[32 + i], (2 * i + 65) << 16 | (2 * i + 64));
    CHECK_EQ(v[64 + i], (2 * i + 1) << 16 | 2 * i);  // transposed twice
    const uint32_t row = i / 4, column = 2 * (i % 4);
    CHECK_EQ(v[96 + i], ((column + 1) * 8 + row) << 16 | (column * 8 + row));
  }
}

TEST(matrix, counts_conflicts_of_ldmatrix) {
  Device d;
  auto conflicts = [&](int stride) {
    kotodama_sim_reset_counters();
    CUfunction f = d.function(d.load(kernel_text(1, R"(
      .shared .align 16 .b8 s[4096];
      mov.u32 %r5, s;
      mov.u32 %r9, 0;
fill: mad.lo.u32 %r6, %r9, 512, %r5;
      mad.lo.u32 %r6, %r0, 16, %r6;
      st.shared.v4.u32 [%r6], {%r0, %r0, %r0, %r0};
      add.u32 %r9, %r9, 1;
      setp.lt.u32 %q1, %r9, 8;
      @%q1 bra fill;
      bar.sync 0;
      mad.lo.u32 %r6, %r0, )" + std::to_string(stride) + R"(, %r5;
      ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r1, %r2, %r3, %r4}, [%r6];)")));
    CHECK_EQ(d.launch(f, 1, 32, {0}), 0);
    std::string json = kotodama_sim_counters_json();
    return std::atoi(json.c_str() + json.find("\"shared_conflicts\":") + 19);
  };
  CHECK_EQ(conflicts(16), 0);       // rows side by side
  CHECK_EQ(conflicts(80), 0);       // padded rows
  CHECK_EQ(conflicts(128), 4 * 7);  // all rows of a matrix in the same banks
  CHECK_EQ(conflicts(64), 4 * 3);
}
