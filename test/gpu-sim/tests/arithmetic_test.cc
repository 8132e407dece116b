// One case or more per arithmetic family; the expected values come from the formulas of PTX ISA 9.7, worked out here.
#include <cfenv>
#include <limits>

#include "harness.h"

using namespace test;

namespace {

using Values = std::vector<uint64_t>;

// Every pair of the values.
void pairs(const Values& v, Values* a, Values* b) {
  for (uint64_t x : v) {
    for (uint64_t y : v) {
      a->push_back(x);
      b->push_back(y);
    }
  }
}

const Values kInts = {0, 1, 2, 7, 31, 32, 0x7fffffff, 0x80000000, 0xffffffff, 0x12345678, 0xfffffff0, 100};
const Values kLongs = {
    0, 1, 63, 64, 0x7fffffffffffffffull, 0x8000000000000000ull, ~0ull, 0x123456789abcdef0ull, 0xfffffffeull, 1000003};

template <class F>
void check32(const char* statement, F expected) {
  Values a, b;
  pairs(kInts, &a, &b);
  Values d = apply_bits(statement, 4, {a, b}, {4, 4});
  for (size_t i = 0; i < a.size(); ++i) {
    uint32_t want = static_cast<uint32_t>(expected(static_cast<uint32_t>(a[i]), static_cast<uint32_t>(b[i])));
    if (d[i] != want)
      fail(__FILE__, __LINE__,
           std::string(statement) + " of " + std::to_string(a[i]) + ", " + std::to_string(b[i]) + ": " +
               std::to_string(d[i]) + ", expected " + std::to_string(want));
  }
}
template <class F>
void check64(const char* statement, F expected) {
  Values a, b;
  pairs(kLongs, &a, &b);
  Values d = apply_bits(statement, 8, {a, b}, {8, 8});
  for (size_t i = 0; i < a.size(); ++i) {
    uint64_t want = static_cast<uint64_t>(expected(a[i], b[i]));
    if (d[i] != want)
      fail(__FILE__, __LINE__, std::string(statement) + " of " + std::to_string(a[i]) + ", " + std::to_string(b[i]));
  }
}

int32_t s(uint32_t v) {
  return static_cast<int32_t>(v);
}

const std::vector<float> kFloats = {0.0f,   -0.0f,  1.0f,     -1.5f,     3.25f, 1e-40f, -1e-40f,    1e30f,
                                    -2e38f, 1e-30f, INFINITY, -INFINITY, NAN,   0.1f,   16777217.0f};

Values float_bits(const std::vector<float>& v) {
  Values out;
  for (float f : v) out.push_back(bits(f));
  return out;
}

bool same(float a, float b) {
  return bits(a) == bits(b) || (std::isnan(a) && std::isnan(b));
}

template <class F>
void check_float(const char* statement, F expected) {
  Values a, b;
  pairs(float_bits(kFloats), &a, &b);
  Values d = apply_bits(statement, 4, {a, b}, {4, 4});
  for (size_t i = 0; i < a.size(); ++i) {
    float want = expected(float_of(a[i]), float_of(b[i]));
    if (!same(float_of(d[i]), want)) {
      fail(__FILE__, __LINE__,
           std::string(statement) + " of " + std::to_string(float_of(a[i])) + ", " + std::to_string(float_of(b[i])) +
               ": " + std::to_string(float_of(d[i])) + ", expected " + std::to_string(want));
    }
  }
}

float flush(float f) {
  return std::fpclassify(f) == FP_SUBNORMAL ? std::copysign(0.0f, f) : f;
}

}  // namespace

TEST(integer, add_sub_mul) {
  check32("add.s32 d, a, b;", [](uint32_t a, uint32_t b) { return a + b; });
  check32("sub.u32 d, a, b;", [](uint32_t a, uint32_t b) { return a - b; });
  check32("mul.lo.s32 d, a, b;", [](uint32_t a, uint32_t b) { return a * b; });
  check32("mul.hi.u32 d, a, b;", [](uint64_t a, uint64_t b) { return a * b >> 32; });
  check32("mul.hi.s32 d, a, b;", [](uint32_t a, uint32_t b) { return static_cast<int64_t>(s(a)) * s(b) >> 32; });
  check32("add.sat.s32 d, a, b;", [](uint32_t a, uint32_t b) {
    int64_t v = static_cast<int64_t>(s(a)) + s(b);
    return v > INT32_MAX ? INT32_MAX : v < INT32_MIN ? INT32_MIN : v;
  });
  check32("mad.lo.u32 d, a, b, 5;", [](uint32_t a, uint32_t b) { return a * b + 5; });
  check64("mul.hi.u64 d, a, b;",
          [](uint64_t a, uint64_t b) { return static_cast<uint64_t>(static_cast<unsigned __int128>(a) * b >> 64); });
  check64("sub.s64 d, a, b;", [](uint64_t a, uint64_t b) { return a - b; });
  Values wide = apply_bits("mul.wide.s32 d, a, b;", 8, {{0xffffffff, 7}, {5, 0x80000000}}, {4, 4});
  CHECK_EQ(wide[0], static_cast<uint64_t>(-5));
  CHECK_EQ(wide[1], static_cast<uint64_t>(-7ll * 0x80000000ll));
  Values mad = apply_bits("mad.wide.u16 d, a, b, 1;", 4, {{0xffff}, {0xffff}}, {2, 2});
  CHECK_EQ(mad[0], 0xffffu * 0xffffu + 1);
}

TEST(integer, div_rem_min_max) {
  check32("div.s32 d, a, b;", [](uint32_t a, uint32_t b) { return b == 0 ? -1 : b == ~0u ? s(0u - a) : s(a) / s(b); });
  check32("rem.u32 d, a, b;", [](uint32_t a, uint32_t b) { return b ? a % b : a; });
  check32("min.s32 d, a, b;", [](uint32_t a, uint32_t b) { return std::min(s(a), s(b)); });
  check32("max.u32 d, a, b;", [](uint32_t a, uint32_t b) { return std::max(a, b); });
  check32("abs.s32 d, a;", [](uint32_t a, uint32_t) { return s(a) < 0 ? 0u - a : a; });
  check32("neg.s32 d, a;", [](uint32_t a, uint32_t) { return 0u - a; });
  check32("sad.u32 d, a, b, 1;", [](uint32_t a, uint32_t b) { return 1 + (a < b ? b - a : a - b); });
}

TEST(integer, carry_makes_wider_numbers) {
  // 128-bit product low part through two 64-bit steps is covered by mul; here 64-bit sums from 32-bit halves (9.7.2).
  Values a, b;
  pairs(kLongs, &a, &b);
  Values d = apply_bits(
      "{.reg .b32 al, ah, bl, bh; mov.b64 {al, ah}, a; mov.b64 {bl, bh}, b; add.cc.u32 al, al, bl; addc.u32 ah, ah, "
      "bh; mov.b64 d, {al, ah};}",
      8, {a, b}, {8, 8});
  for (size_t i = 0; i < a.size(); ++i) CHECK_EQ(d[i], a[i] + b[i]);
  d = apply_bits(
      "{.reg .b32 al, ah, bl, bh; mov.b64 {al, ah}, a; mov.b64 {bl, bh}, b; sub.cc.u32 al, al, bl; subc.u32 ah, ah, "
      "bh; mov.b64 d, {al, ah};}",
      8, {a, b}, {8, 8});
  for (size_t i = 0; i < a.size(); ++i) CHECK_EQ(d[i], a[i] - b[i]);
  d = apply_bits(
      "{.reg .b32 al, ah, bl, bh, l, h; mov.b64 {al, ah}, a; mov.b64 {bl, bh}, b; mul.lo.u32 l, al, bl; mul.hi.u32 h, "
      "al, bl;"
      " mad.lo.u32 h, al, bh, h; mad.lo.u32 h, ah, bl, h; mov.b64 d, {l, h};}",
      8, {a, b}, {8, 8});
  for (size_t i = 0; i < a.size(); ++i) CHECK_EQ(d[i], a[i] * b[i]);
}

TEST(bits, logic_and_shifts) {
  check32("and.b32 d, a, b;", [](uint32_t a, uint32_t b) { return a & b; });
  check32("xor.b32 d, a, b;", [](uint32_t a, uint32_t b) { return a ^ b; });
  check32("shl.b32 d, a, b;", [](uint32_t a, uint32_t b) { return b > 31 ? 0 : a << b; });
  check32("shr.u32 d, a, b;", [](uint32_t a, uint32_t b) { return b > 31 ? 0 : a >> b; });
  check32("shr.s32 d, a, b;", [](uint32_t a, uint32_t b) { return s(a) >> (b > 31 ? 31 : b); });
  check32("shf.l.wrap.b32 d, a, b, 9;", [](uint32_t a, uint32_t b) { return b << 9 | a >> 23; });
  check32("shf.r.clamp.b32 d, a, b, 40;", [](uint32_t, uint32_t b) { return b; });
  check32("not.b32 d, a;", [](uint32_t a, uint32_t) { return ~a; });
}

TEST(bits, lop3_by_its_table) {
  for (int table : {0x80, 0xe8, 0x96, 0x1b, 0xca}) {
    std::string statement = "lop3.b32 d, a, b, 0x0f0f3355, " + std::to_string(table) + ";";
    check32(statement.c_str(), [table](uint32_t a, uint32_t b) {
      uint32_t r = 0, c = 0x0f0f3355;
      for (int i = 0; i < 32; ++i)
        r |= static_cast<uint32_t>(table >> ((a >> i & 1) << 2 | (b >> i & 1) << 1 | (c >> i & 1)) & 1) << i;
      return r;
    });
  }
}

TEST(bits, fields_and_counts) {
  check32("popc.b32 d, a;", [](uint32_t a, uint32_t) { return __builtin_popcount(a); });
  check32("clz.b32 d, a;", [](uint32_t a, uint32_t) { return a ? __builtin_clz(a) : 32; });
  check32("bfind.u32 d, a;", [](uint32_t a, uint32_t) { return a ? 31 - __builtin_clz(a) : -1; });
  check32("brev.b32 d, a;", [](uint32_t a, uint32_t) {
    uint32_t r = 0;
    for (int i = 0; i < 32; ++i) r |= (a >> i & 1) << (31 - i);
    return r;
  });
  check32("bfe.u32 d, a, 4, 9;", [](uint32_t a, uint32_t) { return a >> 4 & 0x1ff; });
  check32("bfe.s32 d, a, 4, 9;", [](uint32_t a, uint32_t) { return s(a << 19) >> 23; });
  check32("bfi.b32 d, a, b, 8, 12;", [](uint32_t a, uint32_t b) { return (b & ~0xfff00u) | (a & 0xfff) << 8; });
  check32("prmt.b32 d, a, b, 0x7604;", [](uint32_t a, uint32_t b) {
    return (b >> 24) << 24 | (b >> 16 & 0xff) << 16 | (a & 0xff) << 8 | (b & 0xff);
  });
  check32("prmt.b32 d, a, b, 0xba98;", [](uint32_t a, uint32_t) {
    uint32_t r = 0;
    for (int i = 0; i < 4; ++i) r |= (a >> (8 * i + 7) & 1 ? 0xffu : 0u) << 8 * i;
    return r;
  });
}

TEST(floating, add_mul_fma) {
  check_float("add.f32 d, a, b;", [](float a, float b) { return a + b; });
  check_float("sub.rn.f32 d, a, b;", [](float a, float b) { return a - b; });
  check_float("mul.ftz.f32 d, a, b;", [](float a, float b) { return flush(flush(a) * flush(b)); });
  check_float("fma.rn.f32 d, a, b, 0f3F800000;", [](float a, float b) { return std::fma(a, b, 1.0f); });
  check_float("add.sat.f32 d, a, b;", [](float a, float b) { return a + b > 0 ? std::min(a + b, 1.0f) : 0.0f; });
  check_float("div.rn.f32 d, a, b;", [](float a, float b) { return a / b; });
  check_float("add.rz.f32 d, a, b;", [](float a, float b) {
    std::fesetround(FE_TOWARDZERO);
    volatile float x = a, y = b, r = x + y;
    std::fesetround(FE_TONEAREST);
    return static_cast<float>(r);
  });
}

TEST(floating, min_max_and_signs) {
  check_float("min.f32 d, a, b;", [](float a, float b) {
    if (std::isnan(a)) return b;
    if (std::isnan(b)) return a;
    if (a == 0 && b == 0) return std::signbit(a) ? a : b;
    return a < b ? a : b;
  });
  check_float("max.NaN.f32 d, a, b;", [](float a, float b) {
    if (std::isnan(a) || std::isnan(b)) return static_cast<float>(NAN);
    if (a == 0 && b == 0) return std::signbit(a) ? b : a;
    return a > b ? a : b;
  });
  check_float("abs.f32 d, a;", [](float a, float) { return std::fabs(a); });
  check_float("neg.f32 d, a;", [](float a, float) { return -a; });
  check_float("copysign.f32 d, a, b;", [](float a, float b) { return std::copysign(b, a); });
}

TEST(floating, doubles) {
  std::vector<double> v = {0, 1, -2.5, 1e300, 1e-310, 3.0, 1e17};
  Values a, b, in;
  for (double x : v) in.push_back(bits(x));
  pairs(in, &a, &b);
  Values add = apply_bits("add.f64 d, a, b;", 8, {a, b}, {8, 8}),
         mul = apply_bits("mul.rn.f64 d, a, b;", 8, {a, b}, {8, 8});
  Values fma = apply_bits("fma.rn.f64 d, a, b, 0dBFF0000000000000;", 8, {a, b}, {8, 8}),
         root = apply_bits("sqrt.rn.f64 d, a;", 8, {a}, {8});
  for (size_t i = 0; i < a.size(); ++i) {
    double x = double_of(a[i]), y = double_of(b[i]);
    CHECK_EQ(add[i], bits(x + y));
    CHECK_EQ(mul[i], bits(x * y));
    CHECK_EQ(fma[i], bits(std::fma(x, y, -1.0)));
    if (x >= 0) CHECK_EQ(root[i], bits(std::sqrt(x)));
  }
}

TEST(floating, approximate_functions_within_the_manuals_bounds) {
  Random random;
  Values a;
  for (int i = 0; i < 1000; ++i) a.push_back(bits(random.uniform() * 20));
  Values positive;
  for (int i = 0; i < 1000; ++i) positive.push_back(bits(std::fabs(random.uniform()) * 100 + 1e-3f));
  auto check = [](const char* statement, const Values& in, double relative, double absolute, double (*f)(double)) {
    Values d = apply_bits(statement, 4, {in}, {4});
    for (size_t i = 0; i < in.size(); ++i) {
      double x = float_of(in[i]), want = f(x), got = float_of(d[i]);
      if (!(std::fabs(got - want) <= relative * std::fabs(want) + absolute)) {
        return fail(__FILE__, __LINE__,
                    std::string(statement) + " of " + std::to_string(x) + ": " + std::to_string(got) + ", expected " +
                        std::to_string(want));
      }
    }
  };
  check("ex2.approx.ftz.f32 d, a;", a, std::ldexp(1, -22), 0, [](double x) { return std::exp2(x); });
  check("lg2.approx.f32 d, a;", positive, 0, std::ldexp(1, -20), [](double x) { return std::log2(x); });
  check("rcp.approx.f32 d, a;", positive, std::ldexp(1, -23), 0, [](double x) { return 1 / x; });
  check("rsqrt.approx.f32 d, a;", positive, std::ldexp(1, -22), 0, [](double x) { return 1 / std::sqrt(x); });
  check("sqrt.approx.f32 d, a;", positive, std::ldexp(1, -22), 0, [](double x) { return std::sqrt(x); });
  check("tanh.approx.f32 d, a;", a, std::ldexp(1, -11), 0, [](double x) { return std::tanh(x); });
  check("sin.approx.f32 d, a;", a, 0, std::ldexp(1, -20), [](double x) { return std::sin(x); });
  Values edge = apply_bits("ex2.approx.f32 d, a;", 4,
                           {float_bits({-INFINITY, INFINITY, NAN, 0.0f, -150.0f, -140.0f, 128.0f, -0.0f, 3.0f})}, {4});
  CHECK(float_of(edge[0]) == 0 && float_of(edge[1]) == INFINITY && std::isnan(float_of(edge[2])) &&
        float_of(edge[3]) == 1);
  CHECK(float_of(edge[4]) == 0 && float_of(edge[5]) == std::ldexp(1.0f, -140) && float_of(edge[6]) == INFINITY &&
        float_of(edge[7]) == 1);
  CHECK(float_of(edge[8]) == 8);
}

namespace {

// Round to nearest even on a grid given by its step, from the definition.
double round_to_step(double v, double step) {
  return std::nearbyint(v / step) * step;
}

// The 16-bit formats as numbers: `digits` significant bits, smallest normal exponent, largest finite value.
double round_to_format(double v, int digits, int least_exponent, double largest) {
  if (v == 0 || std::isnan(v) || std::isinf(v)) return v;
  int e;
  std::frexp(v, &e);
  if (e - 1 < least_exponent) e = least_exponent + 1;
  double r = round_to_step(v, std::ldexp(1.0, e - digits));
  return std::fabs(r) > largest ? std::copysign(INFINITY, v) : r;
}
double to_bf16(double v) {
  return round_to_format(v, 8, -126, std::ldexp(255.0, 120));
}
double to_f16(double v) {
  return round_to_format(v, 11, -14, 65504.0);
}
double from_bf16(uint64_t h) {
  return float_of(h << 16);
}
double from_f16(uint64_t h) {
  int e = static_cast<int>(h >> 10 & 31), m = static_cast<int>(h & 0x3ff);
  double v = e == 31 ? (m ? NAN : INFINITY) : e ? std::ldexp(1024 + m, e - 25) : std::ldexp(m, -24);
  return h & 0x8000 ? -v : v;
}

}  // namespace

TEST(half, arithmetic_rounds_once) {
  Random random;
  Values a, b, c;
  for (int i = 0; i < 1000; ++i) {
    for (Values* v : {&a, &b, &c}) {
      uint64_t h = random.next() & 0xffff;
      if ((h & 0x7c00) == 0x7c00) h ^= 0x4000;  // no f16 infinities or NaN
      v->push_back(h);
    }
  }
  auto check = [&](const char* statement, double (*load)(uint64_t), double (*round)(double),
                   std::function<double(double, double, double)> f) {
    Values d = apply_bits(statement, 2, {a, b, c}, {2, 2, 2});
    for (size_t i = 0; i < a.size(); ++i) {
      double want = round(f(load(a[i]), load(b[i]), load(c[i]))), got = load(d[i]);
      if (std::isnan(want) ? !std::isnan(got) : want != got) {
        return fail(__FILE__, __LINE__,
                    std::string(statement) + ": " + std::to_string(got) + ", expected " + std::to_string(want));
      }
    }
  };
  check("add.rn.f16 d, a, b;", from_f16, to_f16, [](double x, double y, double) { return x + y; });
  check("mul.rn.f16 d, a, b;", from_f16, to_f16, [](double x, double y, double) { return x * y; });
  for (Values* v : {&a, &b, &c}) {
    for (uint64_t& h : *v)
      h = (h & 0x807f) | (120 + h % 15) << 7;  // exponents near each other, so that binary64 holds the sum
  }
  check("fma.rn.bf16 d, a, b, c;", from_bf16, to_bf16, [](double x, double y, double z) { return x * y + z; });
  // 1.5 * (1 + 2^-7) lies half way between two bfloat16 numbers; -2^-100 decides.
  CHECK_EQ(apply_bits("fma.rn.bf16 d, a, b, c;", 2, {{0x3fc0}, {0x3f81}, {0x8d80}}, {2, 2, 2})[0], 0x3fc1);
  CHECK_EQ(apply_bits("fma.rn.bf16 d, a, b, c;", 2, {{0x3fc0}, {0x3f81}, {0x0000}}, {2, 2, 2})[0], 0x3fc2);
  check("max.bf16 d, a, b;", from_bf16, to_bf16, [](double x, double y, double) { return std::max(x, y); });
  check("min.f16 d, a, b;", from_f16, to_f16, [](double x, double y, double) { return std::min(x, y); });
}

TEST(half, packed_halves_are_independent) {
  // (1.5, -2) + (0.25, 3) and products, bf16: upper half is the second element
  Values add = apply_bits("fma.rn.bf16x2 d, a, b, c;", 4, {{0xc0003fc0}, {0x40403e80}, {0x3f800000}}, {4, 4, 4});
  CHECK_EQ(from_bf16(add[0] & 0xffff), 1.5 * 0.25);
  CHECK_EQ(from_bf16(add[0] >> 16), -2.0 * 3 + 1);
  Values f16 = apply_bits("mul.f16x2 d, a, b;", 4, {{0xc0003e00}, {0x42003400}}, {4, 4});
  CHECK_EQ(from_f16(f16[0] & 0xffff), 1.5 * 0.25);
  CHECK_EQ(from_f16(f16[0] >> 16), -2.0 * 3);
  CHECK_EQ(apply_bits("neg.bf16x2 d, a;", 4, {{0xc0003fc0}}, {4})[0], 0x4000bfc0);
  CHECK_EQ(
      apply_bits("fma.rn.relu.bf16x2 d, a, b, c;", 4, {{0xc0003fc0}, {0x40403e80}, {0x3f800000}}, {4, 4, 4})[0] >> 16,
      0);
}

TEST(convert, to_16_bit_formats) {
  Random random;
  Values a;
  for (int i = 0; i < 1000; ++i)
    a.push_back(bits(std::ldexp(random.uniform(), static_cast<int>(random.next() % 60) - 30)));
  for (float f : {65519.0f, 65520.0f, 1e-8f, 5.9e-8f, 0.0f, -0.0f, 3e38f, 1.00390625f, 1.01171875f, 3.39e38f}) {
    if (a.size() < 1024) a.push_back(bits(f));
  }
  Values h = apply_bits("cvt.rn.f16.f32 d, a;", 2, {a}, {4}), b = apply_bits("cvt.rn.bf16.f32 d, a;", 2, {a}, {4});
  Values z = apply_bits("cvt.rz.bf16.f32 d, a;", 2, {a}, {4}), t = apply_bits("cvt.rna.tf32.f32 d, a;", 4, {a}, {4});
  for (size_t i = 0; i < a.size(); ++i) {
    float x = float_of(a[i]);
    CHECK(from_f16(h[i]) == to_f16(x));
    CHECK(from_bf16(b[i]) == to_bf16(x));
    CHECK_EQ(z[i], a[i] >> 16);
    int e;
    std::frexp(x, &e);
    double step = std::ldexp(1.0, e - 11);
    if (x != 0 && std::fabs(x) < 1e38f)
      CHECK(float_of(t[i]) ==
            std::copysign(std::floor(std::fabs(x) / step + 0.5) * step, x));  // 11 significant bits, ties away
  }
  Values pair = apply_bits("cvt.rn.bf16x2.f32 d, a, b;", 4, {{bits(2.0f)}, {bits(-1.0f)}}, {4, 4});
  CHECK_EQ(pair[0], 0x4000bf80);  // a in the upper half (9.7.9.21)
  CHECK_EQ(apply_bits("cvt.rn.bf16.f32 d, a;", 2, {{0x7fc00000}}, {4})[0], 0x7fff);
  CHECK_EQ(apply_bits("cvt.rn.satfinite.f16.f32 d, a;", 2, {{bits(-1e6f)}}, {4})[0], 0xfbff);
  CHECK_EQ(apply_bits("cvt.rn.satfinite.relu.bf16x2.f32 d, a, b;", 4, {{bits(INFINITY)}, {bits(-INFINITY)}}, {4, 4})[0],
           0x7f7f0000u);
  CHECK_EQ(apply_bits("cvt.rn.f16x2.f32 d, a, b;", 4, {{bits(2.0f)}, {bits(-1.0f)}}, {4, 4})[0], 0x4000bc00);
}

TEST(convert, between_numbers) {
  Values f = float_bits({2.5f, -2.5f, 3.5f, 1e20f, -1e20f, NAN, 0.49f, -0.5f});
  const int32_t rni[] = {2, -2, 4, INT32_MAX, INT32_MIN, 0, 0, 0}, rzi[] = {2, -2, 3, INT32_MAX, INT32_MIN, 0, 0, 0};
  const int32_t rmi[] = {2, -3, 3, INT32_MAX, INT32_MIN, 0, 0, -1};
  Values n = apply_bits("cvt.rni.s32.f32 d, a;", 4, {f}, {4}), z = apply_bits("cvt.rzi.s32.f32 d, a;", 4, {f}, {4}),
         m = apply_bits("cvt.rmi.s32.f32 d, a;", 4, {f}, {4});
  for (size_t i = 0; i < f.size(); ++i) {
    CHECK_EQ(s(static_cast<uint32_t>(n[i])), rni[i]);
    CHECK_EQ(s(static_cast<uint32_t>(z[i])), rzi[i]);
    CHECK_EQ(s(static_cast<uint32_t>(m[i])), rmi[i]);
  }
  CHECK_EQ(apply_bits("cvt.rn.f32.s32 d, a;", 4, {{16777217}}, {4})[0], bits(16777216.0f));
  CHECK_EQ(apply_bits("cvt.rp.f32.u32 d, a;", 4, {{16777217}}, {4})[0], bits(16777218.0f));
  CHECK_EQ(apply_bits("cvt.rn.f32.u64 d, a;", 4, {{~0ull}}, {8})[0], bits(18446744073709551616.0f));
  CHECK_EQ(apply_bits("cvt.s64.s32 d, a;", 8, {{0x80000000}}, {4})[0], 0xffffffff80000000ull);
  CHECK_EQ(apply_bits("cvt.u64.u32 d, a;", 8, {{0x80000000}}, {4})[0], 0x80000000ull);
  CHECK_EQ(apply_bits("cvt.s32.s8 d, a;", 4, {{0x1ff}}, {4})[0], 0xffffffffu);
  CHECK_EQ(apply_bits("cvt.sat.u8.s32 d, a;", 4, {{300}}, {4})[0], 255);
  CHECK_EQ(apply_bits("cvt.u16.u32 d, a;", 2, {{0x12345}}, {4})[0], 0x2345);
  CHECK_EQ(apply_bits("cvt.f32.bf16 d, a;", 4, {{0x4040}}, {2})[0], bits(3.0f));
  CHECK_EQ(apply_bits("cvt.f32.f16 d, a;", 4, {{0x0001}}, {2})[0], bits(std::ldexp(1.0f, -24)));
  CHECK_EQ(apply_bits("cvt.rni.f32.f32 d, a;", 4, {{bits(2.5f)}}, {4})[0], bits(2.0f));
  CHECK_EQ(apply_bits("cvt.sat.f32.f32 d, a;", 4, {{bits(2.5f)}}, {4})[0], bits(1.0f));
  // A little above the middle between two bfloat16 numbers, by less than binary32 can tell.
  CHECK_EQ(apply_bits("cvt.rn.bf16.f64 d, a;", 2, {{bits(1.00390625 + 1e-12)}}, {8})[0], 0x3f81);
  CHECK_EQ(apply_bits("cvt.rn.bf16.f64 d, a;", 2, {{bits(1.00390625)}}, {8})[0], 0x3f80);
  CHECK_EQ(apply_bits("cvt.rn.f32.f64 d, a;", 4, {{bits(0.1)}}, {8})[0], bits(0.1f));
}

TEST(compare, ordered_and_unordered) {
  auto check = [](const char* name, std::function<bool(float, float)> f) {
    std::string statement = std::string("{.reg .pred p; setp.") + name + ".f32 p, a, b; selp.b32 d, 1, 0, p;}";
    Values a, b;
    pairs(float_bits(kFloats), &a, &b);
    Values d = apply_bits(statement, 4, {a, b}, {4, 4});
    for (size_t i = 0; i < a.size(); ++i) {
      if ((d[i] != 0) != f(float_of(a[i]), float_of(b[i]))) return fail(__FILE__, __LINE__, statement);
    }
  };
  auto nan = [](float a, float b) { return std::isnan(a) || std::isnan(b); };
  check("eq", [](float a, float b) { return a == b; });
  check("ne", [=](float a, float b) { return !nan(a, b) && a != b; });
  check("lt", [](float a, float b) { return a < b; });
  check("le", [](float a, float b) { return a <= b; });
  check("gt", [](float a, float b) { return a > b; });
  check("ge", [](float a, float b) { return a >= b; });
  check("equ", [=](float a, float b) { return nan(a, b) || a == b; });
  check("neu", [](float a, float b) { return a != b; });
  check("ltu", [=](float a, float b) { return nan(a, b) || a < b; });
  check("leu", [=](float a, float b) { return nan(a, b) || a <= b; });
  check("gtu", [=](float a, float b) { return nan(a, b) || a > b; });
  check("geu", [=](float a, float b) { return nan(a, b) || a >= b; });
  check("num", [=](float a, float b) { return !nan(a, b); });
  check("nan", nan);
}

TEST(compare, integers_booleans_selection) {
  check32("{.reg .pred p; setp.lt.s32 p, a, b; selp.u32 d, 1, 0, p;}",
          [](uint32_t a, uint32_t b) { return s(a) < s(b); });
  check32("{.reg .pred p; setp.hs.u32 p, a, b; selp.u32 d, 1, 0, p;}", [](uint32_t a, uint32_t b) { return a >= b; });
  check32("{.reg .pred p; setp.ne.b32 p, a, b; selp.u32 d, a, b, !p;}",
          [](uint32_t a, uint32_t b) { return a == b ? a : b; });
  check32(
      "{.reg .pred p, q; setp.gt.u32 p, a, 7; setp.lt.and.u32 p|q, a, b, p; selp.u32 d, 1, 0, p; @q add.u32 d, d, 2;}",
      [](uint32_t a, uint32_t b) { return (a < b && a > 7 ? 1 : 0) + (!(a < b) && a > 7 ? 2 : 0); });
  check32("{.reg .pred p, q; setp.eq.u32 p, a, 0; setp.eq.u32 q, b, 0; xor.pred p, p, q; selp.u32 d, 1, 0, p;}",
          [](uint32_t a, uint32_t b) { return (a == 0) != (b == 0); });
  check32("set.le.u32.s32 d, a, b;", [](uint32_t a, uint32_t b) { return s(a) <= s(b) ? ~0u : 0u; });
  check32("slct.u32.s32 d, 5, b, a;", [](uint32_t a, uint32_t b) { return s(a) >= 0 ? 5 : b; });
}
