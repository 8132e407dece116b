// Arithmetic in binary16 and bfloat16, single and packed: PTX ISA 9.7.4. Every operation is done in binary32 or
// binary64, exactly, and rounded once to the 16-bit format.
#include <limits>

#include "alu.h"

namespace gpusim {

namespace {

struct F16 {
  static float load(uint16_t h) { return f16_to_f32(h); }
  static uint16_t store(double d) { return f64_to_f16(d); }
  static constexpr uint16_t kTiny = 0x7c00;  // exponent bits
};

struct BF16 {
  static float load(uint16_t h) { return bf16_to_f32(h); }
  static uint16_t store(double d) { return f32_to_bf16(f64_to_f32_odd(d)); }
  static constexpr uint16_t kTiny = 0x7f80;
};

struct HAdd {
  static double run(double a, double b) { return a + b; }
};
struct HSub {
  static double run(double a, double b) { return a - b; }
};
struct HMul {
  static double run(double a, double b) { return a * b; }
};
// a*b is exact in binary64 (22 bits); the sum may need more bits than 53 only when c lies far below or above, where
// rounding to odd keeps the second rounding right.
struct HFma {
  static double run(double a, double b, double c) {
    double p = a * b, s = p + c;
    if (!(std::fabs(s) < std::numeric_limits<double>::infinity())) return s;
    double t = s - p, e = (p - (s - t)) + (c - t);  // two-sum: the error of s
    if (e == 0) return s;
    uint64_t u = bit_cast<uint64_t>(s);
    if (u & 1) return s;
    return bit_cast<double>((e > 0) == (s > 0) ? u + 1 : u - 1);
  }
};
template <bool kMax, bool kNan>
struct HMinMax {
  static double run(double a, double b) {
    if (a != a || b != b) return kNan || (a != a && b != b) ? std::numeric_limits<double>::quiet_NaN() : a != a ? b : a;
    if (a == b) return std::signbit(a) == kMax ? b : a;
    return (a < b) != kMax ? a : b;
  }
};
struct HEx2 {
  static double run(double a) { return std::exp2(a); }
};
struct HTanh {
  static double run(double a) { return std::tanh(a); }
};

constexpr int kFtz = 1, kSat = 2, kRelu = 4;

template <class H>
double get(uint16_t h, int flags) {
  if ((flags & kFtz) && (h & H::kTiny) == 0) h &= 0x8000;
  return H::load(h);
}
template <class H>
uint16_t finish(double d, int flags) {
  if (flags & kSat) d = d > 0 ? (d < 1 ? d : 1) : 0;
  if ((flags & kRelu) && d < 0) d = 0;
  uint16_t h = H::store(d);
  if ((flags & kFtz) && (h & H::kTiny) == 0) h &= 0x8000;
  return h;
}

// kWidth 1: a 16-bit register; 2: both halves of a 32-bit one.
template <class F, class H, int kSources, int kWidth>
void half_op(Warp& w, const Instr& in, Mask m) {
  const int flags = static_cast<int>(in.imm);
  const uint16_t* a = src<uint16_t>(w, in.r[1]);
  const uint16_t* b = kSources > 1 ? src<uint16_t>(w, in.r[2]) : a;
  const uint16_t* c = kSources > 2 ? src<uint16_t>(w, in.r[3]) : a;
  uint16_t r[kLanes * kWidth];
  for (int i = 0; i < kLanes * kWidth; ++i) {
    double v;
    if constexpr (kSources == 1) v = F::run(get<H>(a[i], flags));
    if constexpr (kSources == 2) v = F::run(get<H>(a[i], flags), get<H>(b[i], flags));
    if constexpr (kSources == 3) v = F::run(get<H>(a[i], flags), get<H>(b[i], flags), get<H>(c[i], flags));
    r[i] = finish<H>(v, flags);
  }
  if constexpr (kWidth == 1) {
    put(w, in.r[0], m, r);
  } else {
    uint32_t packed[kLanes];
    std::memcpy(packed, r, sizeof(packed));
    put(w, in.r[0], m, packed);
  }
}

// abs and neg only touch the sign bit.
template <bool kAbs, class T>
struct Sign {
  static T run(T a) {
    constexpr T kSigns = static_cast<T>(0x80008000u);
    return kAbs ? static_cast<T>(a & ~kSigns) : static_cast<T>(a ^ kSigns);
  }
};

template <class F, int kSources>
Handler pick(Type t) {
  switch (t) {
    case Type::kF16:
      return half_op<F, F16, kSources, 1>;
    case Type::kF16x2:
      return half_op<F, F16, kSources, 2>;
    case Type::kBF16:
      return half_op<F, BF16, kSources, 1>;
    case Type::kBF16x2:
      return half_op<F, BF16, kSources, 2>;
    default:
      return nullptr;
  }
}

}  // namespace

/// Decodes the 16-bit forms of an arithmetic instruction; false if the type is another.
bool decode_half_arithmetic(Decoder& d, const char* what, int sources) {
  const auto& mods = d.statement().modifiers;
  Type t = mods.empty() ? Type::kNone : type_from_name(mods.back());
  if (t != Type::kF16 && t != Type::kBF16 && !is_packed(t)) return false;
  d.take_type();
  std::string op = what;
  int flags = 0;
  bool nan = d.take("NaN");
  if (d.take("approx") && op != "ex2" && op != "tanh") d.fail(".approx is not for this instruction");
  d.take("rn");
  if (d.take("ftz")) flags |= kFtz;
  if (d.take("sat")) flags |= kSat;
  if (d.take("relu")) flags |= kRelu;
  if (nan && op != "min" && op != "max") d.fail(".NaN is not for this instruction");
  d.finish();
  same_type_operands(d, t, static_cast<size_t>(sources));
  d.draft().in.imm = flags;
  Handler fn = nullptr;
  if (op == "add") fn = pick<HAdd, 2>(t);
  if (op == "sub") fn = pick<HSub, 2>(t);
  if (op == "mul") fn = pick<HMul, 2>(t);
  if (op == "fma") fn = pick<HFma, 3>(t);
  if (op == "min") fn = nan ? pick<HMinMax<false, true>, 2>(t) : pick<HMinMax<false, false>, 2>(t);
  if (op == "max") fn = nan ? pick<HMinMax<true, true>, 2>(t) : pick<HMinMax<true, false>, 2>(t);
  if (op == "ex2") fn = pick<HEx2, 1>(t);
  if (op == "tanh") fn = pick<HTanh, 1>(t);
  if (op == "abs")
    fn = is_packed(t) ? unary_of<Sign<true, uint32_t>, uint32_t>() : unary_of<Sign<true, uint16_t>, uint16_t>();
  if (op == "neg")
    fn = is_packed(t) ? unary_of<Sign<false, uint32_t>, uint32_t>() : unary_of<Sign<false, uint16_t>, uint16_t>();
  emit_checked(d, fn, Kind::kHalfAlu);
  return true;
}

}  // namespace gpusim
