// Logic and shifts (PTX ISA 9.7.8) and bit manipulation (9.7.1.14 and on).
#include "alu.h"

namespace gpusim {

namespace {

struct And {
  template <class T>
  static T run(T a, T b) {
    return a & b;
  }
};
struct Or {
  template <class T>
  static T run(T a, T b) {
    return a | b;
  }
};
struct Xor {
  template <class T>
  static T run(T a, T b) {
    return a ^ b;
  }
};
struct Not {
  template <class T>
  static T run(T a) {
    return static_cast<T>(~a);
  }
};
struct Cnot {
  template <class T>
  static T run(T a) {
    return a == 0;
  }
};

// Shift amounts above the width are clamped to the width (9.7.8.8, 9.7.8.9).
struct Shl {
  template <class T>
  static T run(T a, uint32_t b) {
    return b >= 8 * sizeof(T) ? 0 : static_cast<T>(a << (b & (8 * sizeof(T) - 1)));
  }
};
struct Shr {
  template <class T>
  static T run(T a, uint32_t b) {
    const uint32_t last = 8 * sizeof(T) - 1;
    if (b > last) return a < 0 ? static_cast<T>(-1) : 0;
    return static_cast<T>(a >> (b & last));
  }
};
template <bool kLeft, bool kWrap>
struct Funnel {  // 9.7.8.7
  static uint32_t run(uint32_t lo, uint32_t hi, uint32_t c) {
    uint32_t n = kWrap ? c & 31 : c > 32 ? 32 : c;
    uint64_t v = static_cast<uint64_t>(hi) << 32 | lo;
    return kLeft ? static_cast<uint32_t>((v << n) >> 32) : static_cast<uint32_t>(v >> n);
  }
};
struct Popc {
  template <class T>
  static uint32_t run(T a) {
    return static_cast<uint32_t>(__builtin_popcountll(a));
  }
};
struct Clz {
  template <class T>
  static uint32_t run(T a) {
    return a ? static_cast<uint32_t>(__builtin_clzll(a)) - (64 - 8 * sizeof(T)) : 8 * sizeof(T);
  }
};
struct Brev {
  template <class T>
  static T run(T a) {
    T r = 0;
    for (unsigned i = 0; i < 8 * sizeof(T); ++i) r |= static_cast<T>((a >> i) & 1) << (8 * sizeof(T) - 1 - i);
    return r;
  }
};
template <bool kShift>
struct Bfind {  // 9.7.1.16
  template <class T>
  static uint32_t run(T a) {
    using U = std::make_unsigned_t<T>;
    U u = a < 0 ? static_cast<U>(~a) : static_cast<U>(a);
    if (u == 0) return ~0u;
    uint32_t top = 63 - static_cast<uint32_t>(__builtin_clzll(u));
    return kShift ? 8 * sizeof(T) - 1 - top : top;
  }
};
struct Bfe {  // 9.7.1.19, the manual's pseudocode
  template <class T>
  static T run(T a, uint32_t b, uint32_t c) {
    const int msb = 8 * sizeof(T) - 1;
    int pos = static_cast<int>(b & 0xff), len = static_cast<int>(c & 0xff);
    bool sbit = false;
    if (std::is_signed_v<T> && len != 0) sbit = a >> std::min(pos + len - 1, msb) & 1;
    using U = std::make_unsigned_t<T>;
    U r = sbit ? static_cast<U>(~static_cast<U>(0)) : 0;
    for (int i = 0; i <= msb; ++i) {
      bool bit = i < len && pos + i <= msb ? (static_cast<U>(a) >> (pos + i)) & 1 : sbit;
      r = static_cast<U>((r & ~(static_cast<U>(1) << i)) | static_cast<U>(bit) << i);
    }
    return static_cast<T>(r);
  }
};
struct Bfi {  // 9.7.1.20
  template <class T>
  static T run(T a, T b, uint32_t c, uint32_t d) {
    const uint32_t width = 8 * sizeof(T);
    uint32_t pos = c & 0xff, len = d & 0xff;
    if (pos >= width || len == 0) return b;
    T ones = len >= width ? static_cast<T>(~static_cast<T>(0)) : static_cast<T>((static_cast<T>(1) << len) - 1);
    T mask = static_cast<T>(ones << pos);
    return static_cast<T>((b & ~mask) | ((a << pos) & mask));
  }
};
template <class T>
void bfi(Warp& w, const Instr& in, Mask m) {
  const T *a = src<T>(w, in.r[1]), *b = src<T>(w, in.r[2]);
  const uint32_t *c = src<uint32_t>(w, in.r[3]), *e = src<uint32_t>(w, in.r[4]);
  T r[kLanes];
  for (int i = 0; i < kLanes; ++i) r[i] = Bfi::run(a[i], b[i], c[i], e[i]);
  put(w, in.r[0], m, r);
}

// lop3 (9.7.8.6): the table is a function of three bits; built from its minterms.
void lop3(Warp& w, const Instr& in, Mask m) {
  const uint32_t *a = src<uint32_t>(w, in.r[1]), *b = src<uint32_t>(w, in.r[2]), *c = src<uint32_t>(w, in.r[3]);
  uint32_t t[8];
  for (int k = 0; k < 8; ++k) t[k] = (in.imm >> k & 1) ? ~0u : 0u;
  uint32_t r[kLanes];
  for (int i = 0; i < kLanes; ++i) {
    uint32_t c0 = ~c[i] & t[0], c1 = ~c[i] & t[2], c2 = ~c[i] & t[4], c3 = ~c[i] & t[6];
    c0 |= c[i] & t[1];
    c1 |= c[i] & t[3];
    c2 |= c[i] & t[5];
    c3 |= c[i] & t[7];
    r[i] = (~a[i] & ((~b[i] & c0) | (b[i] & c1))) | (a[i] & ((~b[i] & c2) | (b[i] & c3)));
  }
  if (in.p[0].index) {
    Mask nonzero = to_mask(r), q = w.predicate(in.p[1]);
    put_pred(w, in.p[0], m, in.p[2].negated ? nonzero & q : nonzero | q);
  }
  put(w, in.r[0], m, r);
}

// prmt (9.7.9.7): four selectors of four bits; the top bit of a selector spreads the byte's sign.
template <int kMode>
struct Prmt {
  static uint32_t run(uint32_t a, uint32_t b, uint32_t c) {
    uint64_t v = static_cast<uint64_t>(b) << 32 | a;
    uint32_t r = 0;
    for (uint32_t k = 0; k < 4; ++k) {
      uint32_t s, x = c & 3;
      switch (kMode) {
        case 0:
          s = c >> 4 * k & 0xf;
          break;
        case 1:
          s = x + k;
          break;  // f4e
        case 2:
          s = (x + 8 - k) & 7;
          break;  // b4e
        case 3:
          s = x;
          break;  // rc8
        case 4:
          s = x > k ? x : k;
          break;  // ecl
        case 5:
          s = x < k ? x : k;
          break;  // ecr
        default:
          s = 2 * (x & 1) + (k & 1);
          break;  // rc16
      }
      uint32_t byte = static_cast<uint32_t>(v >> 8 * (s & 7)) & 0xff;
      if (kMode == 0 && (s & 8)) byte = byte & 0x80 ? 0xff : 0;
      r |= byte << 8 * k;
    }
    return r;
  }
};

template <int kOp>
void predicate_logic(Warp& w, const Instr& in, Mask m) {
  Mask a = w.predicate(in.p[1]), b = w.predicate(in.p[2]);
  put_pred(w, in.p[0], m, kOp == 0 ? a & b : kOp == 1 ? a | b : kOp == 2 ? a ^ b : ~a);
}

template <class F, int kOp>
void decode_logic(Decoder& d) {
  Type t = d.take_type();
  d.finish();
  if (t == Type::kPred) {
    d.expect_operands(3);
    d.draft().in.p[0] = d.pred_def(d.operand(0).name);
    d.draft().in.p[1] = d.pred_use(d.operand(1));
    d.draft().in.p[2] = d.pred_use(d.operand(2));
    d.emit(predicate_logic<kOp>, Kind::kPredicate);
    return;
  }
  same_type_operands(d, t, 2);
  emit_checked(d, binary_bits<F>(size_of(t)), Kind::kIntAlu);
}

template <class F>
Handler unary_bits(int bytes) {
  return bytes == 2   ? unary_of<F, uint16_t>()
         : bytes == 4 ? unary_of<F, uint32_t>()
         : bytes == 8 ? unary_of<F, uint64_t>()
                      : nullptr;
}

// The shift count and similar small numbers are .u32 whatever the type.
void decode_shift(Decoder& d, bool left) {
  Type t = d.take_type();
  d.finish();
  d.expect_operands(3);
  d.def(d.operand(0), size_of(t));
  d.use(d.operand(1), t);
  d.use(d.operand(2), Type::kU32);
  Handler fn = nullptr;
  const bool arithmetic = is_signed(t) && !left;
  switch (size_of(t)) {
    case 2:
      fn = left         ? binary<Shl, uint16_t, uint16_t, uint32_t>
           : arithmetic ? binary<Shr, int16_t, int16_t, uint32_t>
                        : binary<Shr, uint16_t, uint16_t, uint32_t>;
      break;
    case 4:
      fn = left         ? binary<Shl, uint32_t, uint32_t, uint32_t>
           : arithmetic ? binary<Shr, int32_t, int32_t, uint32_t>
                        : binary<Shr, uint32_t, uint32_t, uint32_t>;
      break;
    case 8:
      fn = left         ? binary<Shl, uint64_t, uint64_t, uint32_t>
           : arithmetic ? binary<Shr, int64_t, int64_t, uint32_t>
                        : binary<Shr, uint64_t, uint64_t, uint32_t>;
      break;
  }
  emit_checked(d, fn, Kind::kIntAlu);
}

}  // namespace

void add_bits(DecodeTable& t) {
  t["and"] = decode_logic<And, 0>;
  t["or"] = decode_logic<Or, 1>;
  t["xor"] = decode_logic<Xor, 2>;
  t["not"] = [](Decoder& d) {
    Type type = d.take_type();
    d.finish();
    if (type == Type::kPred) {
      d.expect_operands(2);
      d.draft().in.p[0] = d.pred_def(d.operand(0).name);
      d.draft().in.p[1] = d.pred_use(d.operand(1));
      d.emit(predicate_logic<3>, Kind::kPredicate);
      return;
    }
    same_type_operands(d, type, 1);
    emit_checked(d, unary_bits<Not>(size_of(type)), Kind::kIntAlu);
  };
  t["cnot"] = [](Decoder& d) {
    Type type = d.take_type();
    d.finish();
    same_type_operands(d, type, 1);
    emit_checked(d, unary_bits<Cnot>(size_of(type)), Kind::kIntAlu);
  };
  t["shl"] = [](Decoder& d) { decode_shift(d, true); };
  t["shr"] = [](Decoder& d) { decode_shift(d, false); };
  t["shf"] = [](Decoder& d) {
    bool left = d.take("l");
    if (!left && !d.take("r")) d.fail("one of .l, .r is needed");
    bool wrap = d.take("wrap");
    if (!wrap && !d.take("clamp")) d.fail("one of .wrap, .clamp is needed");
    Type type = d.take_type();
    d.finish();
    same_type_operands(d, type, 3);
    if (size_of(type) != 4) d.fail("this type is not supported");
    d.emit(left ? (wrap ? ternary_of<Funnel<true, true>, uint32_t>() : ternary_of<Funnel<true, false>, uint32_t>())
                : (wrap ? ternary_of<Funnel<false, true>, uint32_t>() : ternary_of<Funnel<false, false>, uint32_t>()),
           Kind::kIntAlu);
  };
  t["popc"] = [](Decoder& d) {
    Type type = d.take_type();
    d.finish();
    d.expect_operands(2);
    d.def(d.operand(0), 4);
    d.use(d.operand(1), type);
    d.emit(size_of(type) == 8 ? unary<Popc, uint32_t, uint64_t> : unary<Popc, uint32_t, uint32_t>, Kind::kIntAlu);
  };
  t["clz"] = [](Decoder& d) {
    Type type = d.take_type();
    d.finish();
    d.expect_operands(2);
    d.def(d.operand(0), 4);
    d.use(d.operand(1), type);
    d.emit(size_of(type) == 8 ? unary<Clz, uint32_t, uint64_t> : unary<Clz, uint32_t, uint32_t>, Kind::kIntAlu);
  };
  t["brev"] = [](Decoder& d) {
    Type type = d.take_type();
    d.finish();
    same_type_operands(d, type, 1);
    d.emit(size_of(type) == 8 ? unary_of<Brev, uint64_t>() : unary_of<Brev, uint32_t>(), Kind::kIntAlu);
  };
  t["bfind"] = [](Decoder& d) {
    bool shift = d.take("shiftamt");
    Type type = d.take_type();
    d.finish();
    d.expect_operands(2);
    d.def(d.operand(0), 4);
    d.use(d.operand(1), type);
    Handler fn = nullptr;
    if (type == Type::kU32)
      fn = shift ? unary<Bfind<true>, uint32_t, uint32_t> : unary<Bfind<false>, uint32_t, uint32_t>;
    if (type == Type::kS32) fn = shift ? unary<Bfind<true>, uint32_t, int32_t> : unary<Bfind<false>, uint32_t, int32_t>;
    if (type == Type::kU64)
      fn = shift ? unary<Bfind<true>, uint32_t, uint64_t> : unary<Bfind<false>, uint32_t, uint64_t>;
    if (type == Type::kS64) fn = shift ? unary<Bfind<true>, uint32_t, int64_t> : unary<Bfind<false>, uint32_t, int64_t>;
    emit_checked(d, fn, Kind::kIntAlu);
  };
  t["bfe"] = [](Decoder& d) {
    Type type = d.take_type();
    d.finish();
    d.expect_operands(4);
    d.def(d.operand(0), size_of(type));
    d.use(d.operand(1), type);
    d.use(d.operand(2), Type::kU32);
    d.use(d.operand(3), Type::kU32);
    Handler fn = nullptr;
    if (type == Type::kU32) fn = ternary<Bfe, uint32_t, uint32_t, uint32_t, uint32_t>;
    if (type == Type::kS32) fn = ternary<Bfe, int32_t, int32_t, uint32_t, uint32_t>;
    if (type == Type::kU64) fn = ternary<Bfe, uint64_t, uint64_t, uint32_t, uint32_t>;
    if (type == Type::kS64) fn = ternary<Bfe, int64_t, int64_t, uint32_t, uint32_t>;
    emit_checked(d, fn, Kind::kIntAlu);
  };
  t["bfi"] = [](Decoder& d) {
    Type type = d.take_type();
    d.finish();
    d.expect_operands(5);
    d.def(d.operand(0), size_of(type));
    d.use(d.operand(1), type);
    d.use(d.operand(2), type);
    d.use(d.operand(3), Type::kU32);
    d.use(d.operand(4), Type::kU32);
    d.emit(size_of(type) == 8 ? bfi<uint64_t> : bfi<uint32_t>, Kind::kIntAlu);
  };
  t["lop3"] = [](Decoder& d) {
    int boolean = d.take_one_of({"or", "and"});
    Type type = d.take_type();
    d.finish();
    if (size_of(type) != 4) d.fail("this type is not supported");
    d.expect_operands(boolean < 0 ? 5 : 6);
    d.def(d.operand(0), 4);
    for (size_t i = 1; i < 4; ++i) d.use(d.operand(i), Type::kB32);
    d.draft().in.imm = static_cast<int64_t>(d.operand(4).bits);
    if (boolean >= 0) {
      d.draft().in.p[0] = d.pred_def(d.operand(0).second);
      d.draft().in.p[1] = d.pred_use(d.operand(5));
      d.draft().in.p[2].negated = boolean == 1;
    }
    d.emit(lop3, Kind::kIntAlu);
  };
  t["prmt"] = [](Decoder& d) {
    Type type = d.take_type();
    int mode = d.take_one_of({"f4e", "b4e", "rc8", "ecl", "ecr", "rc16"});
    d.finish();
    if (type != Type::kB32) d.fail("this type is not supported");
    same_type_operands(d, type, 3);
    static const Handler kModes[] = {ternary_of<Prmt<0>, uint32_t>(), ternary_of<Prmt<1>, uint32_t>(),
                                     ternary_of<Prmt<2>, uint32_t>(), ternary_of<Prmt<3>, uint32_t>(),
                                     ternary_of<Prmt<4>, uint32_t>(), ternary_of<Prmt<5>, uint32_t>(),
                                     ternary_of<Prmt<6>, uint32_t>()};
    d.emit(kModes[mode + 1], Kind::kIntAlu);
  };
}

}  // namespace gpusim
