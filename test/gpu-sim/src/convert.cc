// cvt (PTX ISA 9.7.9.21), with the relaxed operand widths of 9.4.1.
#include <limits>

#include "alu.h"

namespace gpusim {

namespace {

struct Conversion {
  Type to, from;
  Round round;      // to a floating-point type
  bool to_integer;  // .rni and the like
  bool flush, sat, relu;
  bool finite;               // .satfinite: what would be infinite becomes the largest number
  int to_bytes, from_bytes;  // of the registers
};

// Rounds to an integral value.
double integral(double v, Round mode) {
  switch (mode) {
    case Round::kZero:
      return std::trunc(v);
    case Round::kDown:
      return std::floor(v);
    case Round::kUp:
      return std::ceil(v);
    default:
      return std::nearbyint(v);
  }
}

// binary64 to binary32 with a direction; v may also come from an integer of up to 53 bits.
float narrow(double v, Round mode) {
  float f = static_cast<float>(v);
  if (mode == Round::kNearest || mode == Round::kNone || v != v || static_cast<double>(f) == v) return f;
  const float inf = std::numeric_limits<float>::infinity();
  bool above = static_cast<double>(f) > v;
  if ((mode == Round::kDown || (mode == Round::kZero && v > 0)) && above) return std::nextafter(f, -inf);
  if ((mode == Round::kUp || (mode == Round::kZero && v < 0)) && !above) return std::nextafter(f, inf);
  return f;
}

struct Value {
  bool is_float;
  double f;
  __int128 i;
};

Value load(const Conversion& c, uint64_t bits) {
  Value v{is_float(c.from), 0, 0};
  switch (c.from) {
    case Type::kU8:
    case Type::kB8:
      v.i = static_cast<uint8_t>(bits);
      break;
    case Type::kS8:
      v.i = static_cast<int8_t>(bits);
      break;
    case Type::kU16:
    case Type::kB16:
      v.i = static_cast<uint16_t>(bits);
      break;
    case Type::kS16:
      v.i = static_cast<int16_t>(bits);
      break;
    case Type::kU32:
    case Type::kB32:
      v.i = static_cast<uint32_t>(bits);
      break;
    case Type::kS32:
      v.i = static_cast<int32_t>(bits);
      break;
    case Type::kU64:
    case Type::kB64:
      v.i = bits;
      break;
    case Type::kS64:
      v.i = static_cast<int64_t>(bits);
      break;
    case Type::kF16:
      v.f = f16_to_f32(static_cast<uint16_t>(bits));
      break;
    case Type::kBF16:
      v.f = bf16_to_f32(static_cast<uint16_t>(bits));
      break;
    case Type::kF32: {
      float f = bit_cast<float>(static_cast<uint32_t>(bits));
      v.f = c.flush ? ftz(f) : f;
      break;
    }
    default:
      v.f = bit_cast<double>(bits);
      break;
  }
  return v;
}

// An integer that binary64 cannot hold is rounded to odd, so that the next rounding is still right.
double exact_enough(__int128 i) {
  unsigned __int128 u = i < 0 ? -static_cast<unsigned __int128>(i) : i;
  int drop = 0;
  bool lost = false;
  while (u >> 53) {
    lost |= u & 1;
    u >>= 1;
    ++drop;
  }
  if (lost) u |= 1;
  double d = std::ldexp(static_cast<double>(static_cast<uint64_t>(u)), drop);
  return i < 0 ? -d : d;
}

uint16_t finite_half(const Conversion& c, uint16_t h, uint16_t infinity) {
  return c.finite && (h & 0x7fff) == infinity ? static_cast<uint16_t>(h - 1) : h;
}

uint64_t to_float(const Conversion& c, Value v) {
  double d = v.is_float ? v.f : exact_enough(v.i);
  if (c.to_integer) d = integral(d, c.round);
  if (c.sat) d = d > 0 ? (d < 1 ? d : 1.0) : 0.0;
  if (c.relu && !(d > 0) && d == d) d = 0.0;
  Round mode = c.to_integer ? Round::kNearest : c.round;
  switch (c.to) {
    case Type::kF64:
      return bit_cast<uint64_t>(d);
    case Type::kF32: {
      float f = narrow(d, mode);
      return bit_cast<uint32_t>(c.flush ? ftz(f) : f);
    }
    case Type::kTF32:
      return f32_to_tf32(static_cast<float>(d), mode);
    case Type::kF16:
      return finite_half(c, f64_to_f16(d, mode), 0x7c00);
    default:
      return finite_half(c, f32_to_bf16(f64_to_f32_odd(d), mode), 0x7f80);
  }
}

// To an integer: NaN gives 0, what lies outside the range its nearest end.
uint64_t to_int(const Conversion& c, Value v) {
  const int bits = 8 * size_of(c.to);
  const bool sign = is_signed(c.to);
  __int128 low = sign ? -(static_cast<__int128>(1) << (bits - 1)) : 0;
  __int128 high = sign ? (static_cast<__int128>(1) << (bits - 1)) - 1 : (static_cast<__int128>(1) << bits) - 1;
  if (v.is_float) {
    if (v.f != v.f) return 0;
    double d = integral(v.f, c.round);
    if (d >= 0x1p100) return static_cast<uint64_t>(high);
    if (d <= -0x1p100) return static_cast<uint64_t>(low);
    v.i = static_cast<__int128>(d);
    v.i = v.i < low ? low : v.i > high ? high : v.i;
  } else if (c.sat) {
    v.i = v.i < low ? low : v.i > high ? high : v.i;
  } else {  // truncated, then extended to the register by the type's sign
    uint64_t u = static_cast<uint64_t>(v.i);
    if (bits < 64) {
      u &= (1ull << bits) - 1;
      if (sign && (u >> (bits - 1) & 1)) u |= ~((1ull << bits) - 1);
    }
    return u;
  }
  return static_cast<uint64_t>(v.i);
}

void store(Warp& w, const Instr& in, Mask m, int bytes, const uint64_t* r) {
  if (bytes == 8) {
    put(w, in.r[0], m, r);
  } else if (bytes == 4) {
    uint32_t x[kLanes];
    for (int i = 0; i < kLanes; ++i) x[i] = static_cast<uint32_t>(r[i]);
    put(w, in.r[0], m, x);
  } else {
    uint16_t x[kLanes];
    for (int i = 0; i < kLanes; ++i) x[i] = static_cast<uint16_t>(r[i]);
    put(w, in.r[0], m, x);
  }
}

void convert(Warp& w, const Instr& in, Mask m) {
  const Conversion& c = *static_cast<const Conversion*>(in.aux);
  uint64_t r[kLanes];
  for (int i = 0; i < kLanes; ++i) {
    uint64_t bits = 0;
    std::memcpy(&bits, w.at(in.r[1]) + i * c.from_bytes, c.from_bytes);
    Value v = load(c, bits);
    r[i] = is_float(c.to) ? to_float(c, v) : to_int(c, v);
  }
  store(w, in, m, c.to_bytes, r);
}

// The common ones, quick.
template <class D, class S>
struct Cast {
  static D run(S a) { return static_cast<D>(a); }
};
struct Bf16ToF32 {
  static float run(uint16_t a) { return bf16_to_f32(a); }
};
struct F16ToF32 {
  static float run(uint16_t a) { return f16_to_f32(a); }
};
inline uint32_t bf16_nearest(float f) {
  uint32_t u = bit_cast<uint32_t>(f);
  uint32_t r = (u + 0x7fff + (u >> 16 & 1)) >> 16;
  return (u & 0x7fffffffu) > 0x7f800000u ? 0x7fffu : r;
}
struct F32ToBf16 {
  static uint16_t run(float a) { return static_cast<uint16_t>(bf16_nearest(a)); }
};
struct F32ToBf16x2 {  // the first operand goes to the upper half
  static uint32_t run(float a, float b) { return bf16_nearest(a) << 16 | bf16_nearest(b); }
};
struct F32ToF16 {
  static uint16_t run(float a) { return f32_to_f16(a); }
};

template <bool kBf16>
void convert_pair(Warp& w, const Instr& in, Mask m) {
  const Conversion& c = *static_cast<const Conversion*>(in.aux);
  const float *a = src<float>(w, in.r[1]), *b = src<float>(w, in.r[2]);
  auto one = [&](float f) -> uint32_t {
    if (c.sat) f = f > 0 ? (f < 1 ? f : 1.0f) : 0.0f;
    if (c.relu && f < 0) f = 0;
    return kBf16 ? finite_half(c, f32_to_bf16(f, c.round), 0x7f80) : finite_half(c, f32_to_f16(f, c.round), 0x7c00);
  };
  uint32_t r[kLanes];
  for (int i = 0; i < kLanes; ++i) r[i] = one(a[i]) << 16 | one(b[i]);
  put(w, in.r[0], m, r);
}

Handler quick(const Conversion& c) {
  if (c.flush || c.sat || c.relu || c.finite || c.to_bytes != std::max(2, size_of(c.to)) ||
      c.from_bytes != std::max(2, size_of(c.from)))
    return nullptr;
  const bool nearest = c.round == Round::kNearest && !c.to_integer;
  if (c.to == Type::kF32 && c.from == Type::kBF16) return unary<Bf16ToF32, float, uint16_t>;
  if (c.to == Type::kF32 && c.from == Type::kF16) return unary<F16ToF32, float, uint16_t>;
  if (c.to == Type::kBF16 && c.from == Type::kF32 && nearest) return unary<F32ToBf16, uint16_t, float>;
  if (c.to == Type::kF16 && c.from == Type::kF32 && nearest) return unary<F32ToF16, uint16_t, float>;
  if (c.to == Type::kF32 && c.from == Type::kS32 && nearest) return unary<Cast<float, int32_t>, float, int32_t>;
  if (c.to == Type::kF32 && c.from == Type::kU32 && nearest) return unary<Cast<float, uint32_t>, float, uint32_t>;
  if (c.to == Type::kF64 && c.from == Type::kF32 && !c.to_integer) return unary<Cast<double, float>, double, float>;
  if (c.to == Type::kF32 && c.from == Type::kF64 && nearest) return unary<Cast<float, double>, float, double>;
  if (is_float(c.to) || is_float(c.from)) return nullptr;
  if (size_of(c.to) == 8 && c.from == Type::kU32) return unary<Cast<uint64_t, uint32_t>, uint64_t, uint32_t>;
  if (size_of(c.to) == 8 && c.from == Type::kS32) return unary<Cast<int64_t, int32_t>, int64_t, int32_t>;
  if (size_of(c.to) == 4 && size_of(c.from) == 8) return unary<Cast<uint32_t, uint64_t>, uint32_t, uint64_t>;
  if (size_of(c.to) == 4 && c.from == Type::kU16) return unary<Cast<uint32_t, uint16_t>, uint32_t, uint16_t>;
  if (size_of(c.to) == 4 && c.from == Type::kS16) return unary<Cast<int32_t, int16_t>, int32_t, int16_t>;
  if (size_of(c.to) == 2 && size_of(c.from) == 4) return unary<Cast<uint16_t, uint32_t>, uint16_t, uint32_t>;
  return nullptr;
}

void decode_cvt(Decoder& d) {
  Conversion* c = d.aux<Conversion>();
  *c = Conversion{};
  int to_int_mode = d.take_one_of({"rni", "rzi", "rmi", "rpi"});
  c->to_integer = to_int_mode >= 0;
  static const Round kModes[] = {Round::kNearest, Round::kZero, Round::kDown, Round::kUp};
  c->round = c->to_integer ? kModes[to_int_mode] : d.take_rounding();
  c->flush = d.take("ftz");
  c->sat = d.take("sat");
  c->finite = d.take("satfinite");
  c->relu = d.take("relu");
  c->to = d.take_type();
  c->from = d.take_type();
  d.finish();
  if (c->finite && c->to != Type::kF16 && c->to != Type::kBF16 && !is_packed(c->to))
    d.fail(".satfinite is supported for 16-bit results only");
  if (is_packed(c->to)) {
    if (c->from != Type::kF32 || c->round == Round::kNone) d.fail("only .f32 pairs with a rounding can be packed");
    d.expect_operands(3);
    d.def(d.operand(0), 4);
    d.use(d.operand(1), Type::kF32);
    d.use(d.operand(2), Type::kF32);
    const bool bf16 = c->to == Type::kBF16x2;
    if (bf16 && c->round == Round::kNearest && !c->relu && !c->sat && !c->finite) {
      d.emit(binary<F32ToBf16x2, uint32_t, float, float>, Kind::kConvert);
    } else {
      d.emit(bf16 ? convert_pair<true> : convert_pair<false>, Kind::kConvert);
    }
    return;
  }
  if (is_packed(c->from) || c->to == Type::kPred || c->from == Type::kTF32) d.fail("this conversion is not supported");
  const bool narrows =
      is_float(c->to) && (!is_float(c->from) || size_of(c->to) < size_of(c->from) || c->to == Type::kTF32);
  if (narrows && c->round == Round::kNone) d.fail("a rounding is needed");
  if (!is_float(c->to) && is_float(c->from) && !c->to_integer) d.fail("a rounding to integer is needed");
  d.expect_operands(2);
  c->to_bytes = d.def_wide(d.operand(0), size_of(c->to));
  c->from_bytes = d.use_wide(d.operand(1), c->from);
  Handler fn = quick(*c);
  d.emit(fn ? fn : convert, Kind::kConvert);
}

}  // namespace

void add_convert(DecodeTable& t) {
  t["cvt"] = decode_cvt;
}

}  // namespace gpusim
