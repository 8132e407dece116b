// Floating-point arithmetic in binary32 and binary64: PTX ISA 9.7.3. The approximate functions are computed to within
// the manual's error bounds, not to the hardware's last bit.
#include <cfenv>

#include "alu.h"

namespace gpusim {

bool decode_half_arithmetic(Decoder& d, const char* what, int sources);

namespace {

struct FAdd {
  template <class T>
  static T run(T a, T b) {
    return a + b;
  }
};
struct FSub {
  template <class T>
  static T run(T a, T b) {
    return a - b;
  }
};
struct FMul {
  template <class T>
  static T run(T a, T b) {
    return a * b;
  }
};
struct FDiv {
  template <class T>
  static T run(T a, T b) {
    return a / b;
  }
};
struct FFma {
  static float run(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
  static double run(double a, double b, double c) { return __builtin_fma(a, b, c); }
};
struct FSqrt {
  static float run(float a) { return __builtin_sqrtf(a); }
  static double run(double a) { return __builtin_sqrt(a); }
};
struct FRcp {
  template <class T>
  static T run(T a) {
    return T(1) / a;
  }
};
struct FRsqrt {
  static float run(float a) { return static_cast<float>(1.0 / __builtin_sqrt(static_cast<double>(a))); }
  static double run(double a) { return 1.0 / __builtin_sqrt(a); }
};
struct FSin {
  static float run(float a) { return static_cast<float>(std::sin(static_cast<double>(a))); }
};
struct FCos {
  static float run(float a) { return static_cast<float>(std::cos(static_cast<double>(a))); }
};
struct FLg2 {
  static float run(float a) { return std::log2(a); }
};
struct FTanh {
  static float run(float a) { return std::tanh(a); }
};

// 2^x: nearest integer and a polynomial of 2^f on [-0.5, 0.5] (its Taylor series in f ln 2; the first term left out is
// below 2^-25). Computed in binary32 without branches so that 32 lanes go together; 2 + 2^-22 ulp are allowed
// (9.7.3.21).
struct FEx2 {
  static float run(float x) {
    float c = x > -200.0f ? x : -200.0f;  // a NaN too: it comes back at the end
    c = c < 200.0f ? c : 200.0f;
    float n = __builtin_rintf(c);
    float f = (c - n) * 0.693147180559945309f;
    float p = 1.0f / 5040;
    p = __builtin_fmaf(p, f, 1.0f / 720);
    p = __builtin_fmaf(p, f, 1.0f / 120);
    p = __builtin_fmaf(p, f, 1.0f / 24);
    p = __builtin_fmaf(p, f, 1.0f / 6);
    p = __builtin_fmaf(p, f, 0.5f);
    p = __builtin_fmaf(p, f, 1.0f);
    p = __builtin_fmaf(p, f, 1.0f);
    // In two steps, so that results in the subnormal range are scaled once.
    int32_t k = static_cast<int32_t>(n), half = k >> 1;
    float r = p * bit_cast<float>((half + 127) << 23) * bit_cast<float>((k - half + 127) << 23);
    return x != x ? x : r;
  }
};

// min and max (9.7.3.11): a NaN loses against a number unless .NaN; -0 < +0.
template <bool kMax, bool kNan, bool kXorsign>
struct FMinMax {
  template <class T>
  static T run(T x, T y) {
    T a = kXorsign ? std::fabs(x) : x, b = kXorsign ? std::fabs(y) : y, r;
    if (a != a || b != b) {
      if (kNan || (a != a && b != b)) return std::numeric_limits<T>::quiet_NaN();
      r = a != a ? b : a;
    } else if (a == b) {
      r = std::signbit(a) == kMax ? b : a;
    } else {
      r = (a < b) != kMax ? a : b;
    }
    if (kXorsign) r = std::copysign(r, std::signbit(x) != std::signbit(y) ? T(-1) : T(1));
    return r;
  }
};
struct FAbs {
  template <class T>
  static T run(T a) {
    return std::fabs(a);
  }
};
struct FNeg {
  template <class T>
  static T run(T a) {
    return -a;
  }
};
struct FCopysign {
  template <class T>
  static T run(T a, T b) {
    return std::copysign(b, a);
  }
};  // sign of a, value of b

template <class F, bool kSat>
struct Flushed {  // .ftz flushes operands and result; .sat clamps to [0, 1], NaN to +0
  static float sat(float r) { return kSat ? (r > 0 ? (r < 1 ? r : 1.0f) : 0.0f) : r; }
  static float run(float a) { return ftz(sat(F::run(ftz(a)))); }
  static float run(float a, float b) { return ftz(sat(F::run(ftz(a), ftz(b)))); }
  static float run(float a, float b, float c) { return ftz(sat(F::run(ftz(a), ftz(b), ftz(c)))); }
};
template <class F>
struct Saturated {
  static float sat(float r) { return r > 0 ? (r < 1 ? r : 1.0f) : 0.0f; }
  static float run(float a, float b) { return sat(F::run(a, b)); }
  static float run(float a, float b, float c) { return sat(F::run(a, b, c)); }
};

// Directed rounding is rare: the processor's rounding mode is set around the plain handler, which this calls.
template <Handler kPlain, int kMode>
void rounded(Warp& w, const Instr& in, Mask m) {
  std::fesetround(kMode);
  kPlain(w, in, m);
  std::fesetround(FE_TONEAREST);
}
template <Handler kPlain>
Handler with_rounding(Round r) {
  switch (r) {
    case Round::kZero:
      return rounded<kPlain, FE_TOWARDZERO>;
    case Round::kDown:
      return rounded<kPlain, FE_DOWNWARD>;
    case Round::kUp:
      return rounded<kPlain, FE_UPWARD>;
    default:
      return kPlain;
  }
}

template <class F, int kSources>
struct Shape;
template <class F>
struct Shape<F, 1> {
  static constexpr Handler f32 = unary<F, float, float>;
  static constexpr Handler f64 = unary<F, double, double>;
};
template <class F>
struct Shape<F, 2> {
  static constexpr Handler f32 = binary<F, float, float, float>;
  static constexpr Handler f64 = binary<F, double, double, double>;
};
template <class F>
struct Shape<F, 3> {
  static constexpr Handler f32 = ternary<F, float, float, float, float>;
  static constexpr Handler f64 = ternary<F, double, double, double, double>;
};
template <class F, int kSources>
struct Shape32;
template <class F>
struct Shape32<F, 1> {
  static constexpr Handler f32 = unary<F, float, float>;
};
template <class F>
struct Shape32<F, 2> {
  static constexpr Handler f32 = binary<F, float, float, float>;
};
template <class F>
struct Shape32<F, 3> {
  static constexpr Handler f32 = ternary<F, float, float, float, float>;
};

// add, sub, mul, fma, mad: rounding, .ftz, .sat.
template <class F, int kSources>
void decode_arithmetic(Decoder& d, const char* what) {
  if (decode_half_arithmetic(d, what, kSources)) return;
  Round round = d.take_rounding();
  bool flush = d.take("ftz"), sat = d.take("sat");
  Type t = d.take_type();
  d.finish();
  same_type_operands(d, t, kSources);
  Handler fn = nullptr;
  if (t == Type::kF32) {
    if (flush && sat)
      fn = with_rounding<Shape32<Flushed<F, true>, kSources>::f32>(round);
    else if (flush)
      fn = with_rounding<Shape32<Flushed<F, false>, kSources>::f32>(round);
    else if (sat)
      fn = with_rounding<Shape32<Saturated<F>, kSources>::f32>(round);
    else
      fn = with_rounding<Shape<F, kSources>::f32>(round);
  } else if (t == Type::kF64 && !flush && !sat) {
    fn = with_rounding<Shape<F, kSources>::f64>(round);
  }
  emit_checked(d, fn, t == Type::kF64 ? Kind::kDoubleAlu : Kind::kFloatAlu);
}

// One operand; .approx or a rounding.
template <class F>
void decode_function(Decoder& d) {
  bool approx = d.take("approx");
  Round round = d.take_rounding();
  bool flush = d.take("ftz");
  Type t = d.take_type();
  d.finish();
  if (!approx && round == Round::kNone) d.fail("one of .approx, .rn, .rz, .rm, .rp is needed");
  same_type_operands(d, t, 1);
  Handler fn = nullptr;
  if (t == Type::kF32)
    fn = flush ? with_rounding<Shape32<Flushed<F, false>, 1>::f32>(round) : with_rounding<Shape<F, 1>::f32>(round);
  if (t == Type::kF64) fn = with_rounding<Shape<F, 1>::f64>(round);
  emit_checked(d, fn, approx ? Kind::kSpecialFunction : t == Type::kF64 ? Kind::kDoubleAlu : Kind::kFloatAlu);
}

template <class F>
void decode_approximate(Decoder& d, const char* what) {
  if (decode_half_arithmetic(d, what, 1)) return;
  bool approx = d.take("approx"), flush = d.take("ftz");
  Type t = d.take_type();
  d.finish();
  if (!approx || t != Type::kF32) d.fail("only .approx.f32 is supported");
  same_type_operands(d, t, 1);
  d.emit(flush ? unary<Flushed<F, false>, float, float> : unary<F, float, float>, Kind::kSpecialFunction);
}

template <bool kMax>
void decode_min_max(Decoder& d) {
  if (decode_half_arithmetic(d, kMax ? "max" : "min", 2)) return;
  bool flush = d.take("ftz"), nan = d.take("NaN"), xorsign = d.take("xorsign");
  if (xorsign && !d.take("abs")) d.fail(".xorsign goes with .abs");
  Type t = d.take_type();
  d.finish();
  same_type_operands(d, t, 2);
  using Plain = FMinMax<kMax, false, false>;
  using Nan = FMinMax<kMax, true, false>;
  using Sign = FMinMax<kMax, false, true>;
  using Both = FMinMax<kMax, true, true>;
  Handler fn = nullptr;
  if (t == Type::kF32 && !flush) {
    fn = xorsign ? (nan ? Shape32<Both, 2>::f32 : Shape32<Sign, 2>::f32)
                 : (nan ? Shape32<Nan, 2>::f32 : Shape32<Plain, 2>::f32);
  } else if (t == Type::kF32) {
    fn = xorsign ? (nan ? Shape32<Flushed<Both, false>, 2>::f32 : Shape32<Flushed<Sign, false>, 2>::f32)
                 : (nan ? Shape32<Flushed<Nan, false>, 2>::f32 : Shape32<Flushed<Plain, false>, 2>::f32);
  } else if (t == Type::kF64 && !flush && !nan && !xorsign) {
    fn = Shape<Plain, 2>::f64;
  }
  emit_checked(d, fn, t == Type::kF64 ? Kind::kDoubleAlu : Kind::kFloatAlu);
}

template <class F>
void decode_sign(Decoder& d, const char* what) {
  if (decode_half_arithmetic(d, what, 1)) return;
  bool flush = d.take("ftz");
  Type t = d.take_type();
  d.finish();
  same_type_operands(d, t, 1);
  Handler fn = t == Type::kF32             ? (flush ? Shape32<Flushed<F, false>, 1>::f32 : Shape<F, 1>::f32)
               : t == Type::kF64 && !flush ? Shape<F, 1>::f64
                                           : nullptr;
  emit_checked(d, fn, t == Type::kF64 ? Kind::kDoubleAlu : Kind::kFloatAlu);
}

// testp (9.7.3.1)
template <class T, int kWhat>
void testp(Warp& w, const Instr& in, Mask m) {
  const T* a = src<T>(w, in.r[0]);
  Mask r = 0;
  for (int i = 0; i < kLanes; ++i) {
    int c = std::fpclassify(a[i]);
    bool v = kWhat == 0   ? c != FP_NAN && c != FP_INFINITE
             : kWhat == 1 ? c == FP_INFINITE
             : kWhat == 2 ? c != FP_NAN
             : kWhat == 3 ? c == FP_NAN
             : kWhat == 4 ? c == FP_NORMAL
                          : c == FP_SUBNORMAL;
    r |= static_cast<Mask>(v) << i;
  }
  put_pred(w, in.p[0], m, r);
}

void decode_testp(Decoder& d) {
  int what = d.take_one_of({"finite", "infinite", "number", "notanumber", "normal", "subnormal"});
  Type t = d.take_type();
  d.finish();
  d.expect_operands(2);
  d.draft().in.p[0] = d.pred_def(d.operand(0).name);
  d.use(d.operand(1), t);
  static const Handler k32[] = {testp<float, 0>, testp<float, 1>, testp<float, 2>,
                                testp<float, 3>, testp<float, 4>, testp<float, 5>};
  static const Handler k64[] = {testp<double, 0>, testp<double, 1>, testp<double, 2>,
                                testp<double, 3>, testp<double, 4>, testp<double, 5>};
  if (what < 0) d.fail("no test given");
  emit_checked(d, t == Type::kF32 ? k32[what] : t == Type::kF64 ? k64[what] : nullptr, Kind::kPredicate);
}

}  // namespace

void decode_float_add(Decoder& d) {
  decode_arithmetic<FAdd, 2>(d, "add");
}
void decode_float_sub(Decoder& d) {
  decode_arithmetic<FSub, 2>(d, "sub");
}
void decode_float_mul(Decoder& d) {
  decode_arithmetic<FMul, 2>(d, "mul");
}
void decode_float_mad(Decoder& d) {
  decode_arithmetic<FFma, 3>(d, "fma");
}
void decode_float_min(Decoder& d) {
  decode_min_max<false>(d);
}
void decode_float_max(Decoder& d) {
  decode_min_max<true>(d);
}
void decode_float_abs(Decoder& d) {
  decode_sign<FAbs>(d, "abs");
}
void decode_float_neg(Decoder& d) {
  decode_sign<FNeg>(d, "neg");
}

// div.approx and div.full (9.7.3.8) allow 2 ulp; the exact quotient is within that.
void decode_float_div(Decoder& d) {
  int loose = d.take_one_of({"approx", "full"});
  Round round = d.take_rounding();
  bool flush = d.take("ftz");
  Type t = d.take_type();
  d.finish();
  same_type_operands(d, t, 2);
  if (loose < 0 && round == Round::kNone) d.fail("one of .approx, .full, .rn, .rz, .rm, .rp is needed");
  Handler fn = nullptr;
  if (t == Type::kF32)
    fn =
        flush ? with_rounding<Shape32<Flushed<FDiv, false>, 2>::f32>(round) : with_rounding<Shape<FDiv, 2>::f32>(round);
  if (t == Type::kF64) fn = with_rounding<Shape<FDiv, 2>::f64>(round);
  emit_checked(d, fn, t == Type::kF64 ? Kind::kDoubleAlu : Kind::kFloatAlu);
}

void add_float(DecodeTable& t) {
  t["fma"] = decode_float_mad;
  t["rcp"] = decode_function<FRcp>;
  t["sqrt"] = decode_function<FSqrt>;
  t["rsqrt"] = decode_function<FRsqrt>;
  t["sin"] = [](Decoder& d) { decode_approximate<FSin>(d, "sin"); };
  t["cos"] = [](Decoder& d) { decode_approximate<FCos>(d, "cos"); };
  t["lg2"] = [](Decoder& d) { decode_approximate<FLg2>(d, "lg2"); };
  t["ex2"] = [](Decoder& d) { decode_approximate<FEx2>(d, "ex2"); };
  t["tanh"] = [](Decoder& d) { decode_approximate<FTanh>(d, "tanh"); };
  t["testp"] = decode_testp;
  t["copysign"] = [](Decoder& d) {
    Type type = d.take_type();
    d.finish();
    same_type_operands(d, type, 2);
    emit_checked(d,
                 type == Type::kF32   ? Shape<FCopysign, 2>::f32
                 : type == Type::kF64 ? Shape<FCopysign, 2>::f64
                                      : nullptr,
                 Kind::kFloatAlu);
  };
}

}  // namespace gpusim
