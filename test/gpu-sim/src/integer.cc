// Integer arithmetic: PTX ISA 9.7.1 (integer) and 9.7.2 (extended precision).
#include <type_traits>

#include "alu.h"

namespace gpusim {

namespace {

template <class T>
using Unsigned = std::make_unsigned_t<T>;
template <class T>
using Wide =
    std::conditional_t<sizeof(T) == 8, std::conditional_t<std::is_signed_v<T>, __int128, unsigned __int128>,
                       std::conditional_t<sizeof(T) == 4, std::conditional_t<std::is_signed_v<T>, int64_t, uint64_t>,
                                          std::conditional_t<std::is_signed_v<T>, int32_t, uint32_t>>>;

struct Add {
  template <class T>
  static T run(T a, T b) {
    return static_cast<T>(static_cast<Unsigned<T>>(a) + static_cast<Unsigned<T>>(b));
  }
};
struct Sub {
  template <class T>
  static T run(T a, T b) {
    return static_cast<T>(static_cast<Unsigned<T>>(a) - static_cast<Unsigned<T>>(b));
  }
};
struct Saturate {
  static int32_t run(int64_t v) {
    return static_cast<int32_t>(v > INT32_MAX ? INT32_MAX : v < INT32_MIN ? INT32_MIN : v);
  }
};
struct AddSat {
  static int32_t run(int32_t a, int32_t b) { return Saturate::run(static_cast<int64_t>(a) + b); }
};
struct SubSat {
  static int32_t run(int32_t a, int32_t b) { return Saturate::run(static_cast<int64_t>(a) - b); }
};
struct MulLo {
  template <class T>
  static T run(T a, T b) {
    // Through 64 bits: the product of two 16-bit values may overflow int.
    return static_cast<T>(static_cast<uint64_t>(a) * static_cast<uint64_t>(b));
  }
};
struct MulHi {
  template <class T>
  static T run(T a, T b) {
    return static_cast<T>((static_cast<Wide<T>>(a) * b) >> (8 * sizeof(T)));
  }
};
struct MulWide {
  template <class T>
  static Wide<T> run(T a, T b) {
    return static_cast<Wide<T>>(a) * static_cast<Wide<T>>(b);
  }
};
struct MadLo {
  template <class T>
  static T run(T a, T b, T c) {
    return Add::run(MulLo::run(a, b), c);
  }
};
struct MadHi {
  template <class T>
  static T run(T a, T b, T c) {
    return Add::run(MulHi::run(a, b), c);
  }
};
struct MadHiSat {
  static int32_t run(int32_t a, int32_t b, int32_t c) {
    return Saturate::run(static_cast<int64_t>(MulHi::run(a, b)) + c);
  }
};
struct MadWide {
  template <class T>
  static Wide<T> run(T a, T b, Wide<T> c) {
    return Add::run(MulWide::run(a, b), c);
  }
};
// 9.7.1.7: division by zero gives an unspecified value; all ones is what the hardware gives.
struct Div {
  template <class T>
  static T run(T a, T b) {
    if (b == 0) return static_cast<T>(-1);
    if (std::is_signed_v<T> && b == static_cast<T>(-1)) return Sub::run(static_cast<T>(0), a);
    return static_cast<T>(a / b);
  }
};
struct Rem {
  template <class T>
  static T run(T a, T b) {
    if (b == 0) return a;
    if (std::is_signed_v<T> && b == static_cast<T>(-1)) return 0;
    return static_cast<T>(a % b);
  }
};
struct Min {
  template <class T>
  static T run(T a, T b) {
    return a < b ? a : b;
  }
};
struct Max {
  template <class T>
  static T run(T a, T b) {
    return a > b ? a : b;
  }
};
struct Abs {
  template <class T>
  static T run(T a) {
    return a < 0 ? Sub::run(static_cast<T>(0), a) : a;
  }
};
struct Neg {
  template <class T>
  static T run(T a) {
    return Sub::run(static_cast<T>(0), a);
  }
};
struct Sad {
  template <class T>
  static T run(T a, T b, T c) {
    return Add::run(c, a < b ? Sub::run(b, a) : Sub::run(a, b));
  }
};
// dp4a (9.7.1.23): four byte products added to c.
template <bool kSignedA, bool kSignedB>
struct Dp4a {
  static uint32_t run(uint32_t a, uint32_t b, uint32_t c) {
    for (int k = 0; k < 4; ++k) {
      uint8_t x = static_cast<uint8_t>(a >> 8 * k), y = static_cast<uint8_t>(b >> 8 * k);
      int32_t xs = kSignedA ? static_cast<int8_t>(x) : x, ys = kSignedB ? static_cast<int8_t>(y) : y;
      c += static_cast<uint32_t>(xs * ys);
    }
    return c;
  }
};

template <class F>
Handler ternary_int(Type t) {
  switch (t) {
    case Type::kU16:
      return ternary_of<F, uint16_t>();
    case Type::kS16:
      return ternary_of<F, int16_t>();
    case Type::kU32:
      return ternary_of<F, uint32_t>();
    case Type::kS32:
      return ternary_of<F, int32_t>();
    case Type::kU64:
      return ternary_of<F, uint64_t>();
    case Type::kS64:
      return ternary_of<F, int64_t>();
    default:
      return nullptr;
  }
}

// Extended precision (9.7.2): the carry flag is one bit per lane, inverted meaning for borrow as in the manual: 1 =
// borrow.
enum class Carry { kAdd, kSub, kMadLo, kMadHi };
template <Carry kOp, class T, bool kIn, bool kOut>
void extended(Warp& w, const Instr& in, Mask m) {
  using W = unsigned __int128;
  const T* a = src<T>(w, in.r[1]);
  const T* b = src<T>(w, in.r[2]);
  const T* c = kOp == Carry::kMadLo || kOp == Carry::kMadHi ? src<T>(w, in.r[3]) : nullptr;
  T r[kLanes];
  Mask carry = 0;
  for (int i = 0; i < kLanes; ++i) {
    W flag = kIn ? (w.carry >> i & 1) : 0, x;
    switch (kOp) {
      case Carry::kAdd:
        x = static_cast<W>(a[i]) + b[i] + flag;
        break;
      case Carry::kSub:
        x = static_cast<W>(a[i]) - b[i] - flag;
        break;
      case Carry::kMadLo:
        x = static_cast<W>(static_cast<T>(static_cast<W>(a[i]) * b[i])) + c[i] + flag;
        break;
      default:
        x = static_cast<W>(static_cast<T>(static_cast<W>(a[i]) * b[i] >> 8 * sizeof(T))) + c[i] + flag;
        break;
    }
    r[i] = static_cast<T>(x);
    carry |= static_cast<Mask>(x >> 8 * sizeof(T) & 1) << i;
  }
  put(w, in.r[0], m, r);
  if (kOut) w.carry = (w.carry & ~m) | (carry & m);
}

template <Carry kOp, class T>
Handler extended_of(bool in, bool out) {
  if (in) return out ? extended<kOp, T, true, true> : extended<kOp, T, true, false>;
  return out ? extended<kOp, T, false, true> : nullptr;
}

template <Carry kOp>
void decode_extended(Decoder& d, bool in, bool out, size_t sources) {
  Type t = d.take_type();
  d.finish();
  same_type_operands(d, t, sources);
  Handler fn = nullptr;
  if (size_of(t) == 4) fn = extended_of<kOp, uint32_t>(in, out);
  if (size_of(t) == 8) fn = extended_of<kOp, uint64_t>(in, out);
  emit_checked(d, fn, Kind::kIntAlu);
}

}  // namespace

void decode_float_add(Decoder& d);
void decode_float_sub(Decoder& d);
void decode_float_mul(Decoder& d);
void decode_float_mad(Decoder& d);
void decode_float_div(Decoder& d);
void decode_float_min(Decoder& d);
void decode_float_max(Decoder& d);
void decode_float_abs(Decoder& d);
void decode_float_neg(Decoder& d);

// The last modifier is the type, which says whether the opcode is the integer or the floating-point one.
static bool floating(Decoder& d) {
  const auto& mods = d.statement().modifiers;
  Type t = mods.empty() ? Type::kNone : type_from_name(mods.back());
  return is_float(t) || is_packed(t);
}

template <class F, class FSat>
static void decode_add(Decoder& d) {
  bool sat = d.take("sat");
  Type t = d.take_type();
  d.finish();
  same_type_operands(d, t, 2);
  if (sat && t != Type::kS32) d.fail(".sat is for .s32 only");
  emit_checked(d, sat ? binary<FSat, int32_t, int32_t, int32_t> : binary_int<F>(t), Kind::kIntAlu);
}

static void decode_mul(Decoder& d, bool mad) {
  int part = d.take_one_of({"lo", "hi", "wide"});
  bool sat = mad && d.take("sat");
  if (mad && d.take("cc")) {
    if (part == 0) return decode_extended<Carry::kMadLo>(d, false, true, 3);
    return decode_extended<Carry::kMadHi>(d, false, true, 3);
  }
  Type t = d.take_type();
  d.finish();
  if (part < 0) d.fail("one of .lo, .hi, .wide is needed");
  if (is_float(t) || size_of(t) < 2 || (part == 2 && size_of(t) == 8)) d.fail("this type is not supported");
  d.expect_operands(mad ? 4 : 3);
  d.def(d.operand(0), part == 2 ? 2 * size_of(t) : size_of(t));
  d.use(d.operand(1), t);
  d.use(d.operand(2), t);
  Handler fn = nullptr;
  if (part == 2) {
    Type wide = size_of(t) == 2 ? Type::kB32 : Type::kB64;
    if (mad) d.use(d.operand(3), wide);
    if (mad) {
      if (t == Type::kU16) fn = ternary<MadWide, uint32_t, uint16_t, uint16_t, uint32_t>;
      if (t == Type::kS16) fn = ternary<MadWide, int32_t, int16_t, int16_t, int32_t>;
      if (t == Type::kU32) fn = ternary<MadWide, uint64_t, uint32_t, uint32_t, uint64_t>;
      if (t == Type::kS32) fn = ternary<MadWide, int64_t, int32_t, int32_t, int64_t>;
    } else {
      if (t == Type::kU16) fn = binary<MulWide, uint32_t, uint16_t, uint16_t>;
      if (t == Type::kS16) fn = binary<MulWide, int32_t, int16_t, int16_t>;
      if (t == Type::kU32) fn = binary<MulWide, uint64_t, uint32_t, uint32_t>;
      if (t == Type::kS32) fn = binary<MulWide, int64_t, int32_t, int32_t>;
    }
  } else if (mad) {
    d.use(d.operand(3), t);
    if (sat && (part != 1 || t != Type::kS32)) d.fail(".sat is for .hi.s32 only");
    fn = sat ? ternary_of<MadHiSat, int32_t>() : part == 0 ? ternary_int<MadLo>(t) : ternary_int<MadHi>(t);
  } else {
    fn = part == 0 ? binary_int<MulLo>(t) : binary_int<MulHi>(t);
  }
  emit_checked(d, fn, Kind::kIntAlu);
}

template <class F>
static void decode_simple(Decoder& d) {
  Type t = d.take_type();
  d.finish();
  same_type_operands(d, t, 2);
  emit_checked(d, binary_int<F>(t), Kind::kIntAlu);
}

template <class F>
static void decode_signed_unary(Decoder& d) {
  Type t = d.take_type();
  d.finish();
  same_type_operands(d, t, 1);
  Handler fn = nullptr;
  if (t == Type::kS16) fn = unary_of<F, int16_t>();
  if (t == Type::kS32) fn = unary_of<F, int32_t>();
  if (t == Type::kS64) fn = unary_of<F, int64_t>();
  emit_checked(d, fn, Kind::kIntAlu);
}

void add_integer(DecodeTable& t) {
  t["add"] = [](Decoder& d) {
    if (floating(d)) return decode_float_add(d);
    if (d.take("cc")) return decode_extended<Carry::kAdd>(d, false, true, 2);
    decode_add<Add, AddSat>(d);
  };
  t["sub"] = [](Decoder& d) {
    if (floating(d)) return decode_float_sub(d);
    if (d.take("cc")) return decode_extended<Carry::kSub>(d, false, true, 2);
    decode_add<Sub, SubSat>(d);
  };
  t["addc"] = [](Decoder& d) { decode_extended<Carry::kAdd>(d, true, d.take("cc"), 2); };
  t["subc"] = [](Decoder& d) { decode_extended<Carry::kSub>(d, true, d.take("cc"), 2); };
  t["madc"] = [](Decoder& d) {
    bool out = d.take("cc");
    if (d.take("lo")) return decode_extended<Carry::kMadLo>(d, true, out, 3);
    if (!d.take("hi")) d.fail("one of .lo, .hi is needed");
    decode_extended<Carry::kMadHi>(d, true, out, 3);
  };
  t["mul"] = [](Decoder& d) { floating(d) ? decode_float_mul(d) : decode_mul(d, false); };
  t["mad"] = [](Decoder& d) { floating(d) ? decode_float_mad(d) : decode_mul(d, true); };
  t["div"] = [](Decoder& d) { floating(d) ? decode_float_div(d) : decode_simple<Div>(d); };
  t["rem"] = decode_simple<Rem>;
  t["min"] = [](Decoder& d) { floating(d) ? decode_float_min(d) : decode_simple<Min>(d); };
  t["max"] = [](Decoder& d) { floating(d) ? decode_float_max(d) : decode_simple<Max>(d); };
  t["abs"] = [](Decoder& d) { floating(d) ? decode_float_abs(d) : decode_signed_unary<Abs>(d); };
  t["neg"] = [](Decoder& d) { floating(d) ? decode_float_neg(d) : decode_signed_unary<Neg>(d); };
  t["sad"] = [](Decoder& d) {
    Type type = d.take_type();
    d.finish();
    same_type_operands(d, type, 3);
    emit_checked(d, ternary_int<Sad>(type), Kind::kIntAlu);
  };
  t["dp4a"] = [](Decoder& d) {
    Type a = d.take_type(), b = d.take_type();
    d.finish();
    d.expect_operands(4);
    d.def(d.operand(0), 4);
    for (size_t i = 1; i < 4; ++i) d.use(d.operand(i), Type::kB32);
    Handler fn = a == Type::kS32 ? (b == Type::kS32 ? ternary_of<Dp4a<true, true>, uint32_t>()
                                                    : ternary_of<Dp4a<true, false>, uint32_t>())
                                 : (b == Type::kS32 ? ternary_of<Dp4a<false, true>, uint32_t>()
                                                    : ternary_of<Dp4a<false, false>, uint32_t>());
    d.emit(fn, Kind::kIntAlu);
  };
}

}  // namespace gpusim
