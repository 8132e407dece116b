// setp, set, selp, slct: PTX ISA 9.7.6 and 9.7.7 (comparison and selection).
#include "alu.h"

namespace gpusim {

namespace {

// Ordered comparisons are false on NaN, unordered ones (equ...) true; num and nan test for it (9.3.1).
enum class Cmp { kEq, kNe, kLt, kLe, kGt, kGe, kEqu, kNeu, kLtu, kLeu, kGtu, kGeu, kNum, kNan };

template <Cmp kC, class T>
bool compare(T a, T b) {
  switch (kC) {
    case Cmp::kEq:
      return a == b;
    case Cmp::kNe:
      return a < b || a > b;
    case Cmp::kLt:
      return a < b;
    case Cmp::kLe:
      return a <= b;
    case Cmp::kGt:
      return a > b;
    case Cmp::kGe:
      return a >= b;
    case Cmp::kEqu:
      return !(a < b || a > b);
    case Cmp::kNeu:
      return !(a == b);
    case Cmp::kLtu:
      return !(a >= b);
    case Cmp::kLeu:
      return !(a > b);
    case Cmp::kGtu:
      return !(a <= b);
    case Cmp::kGeu:
      return !(a < b);
    case Cmp::kNum:
      return a == a && b == b;
    default:
      return a != a || b != b;
  }
}

// A value as it is stored and as it is compared.
template <class T>
struct Plain {
  using Stored = T;
  static T load(T v) { return v; }
};
struct FlushF32 {
  using Stored = float;
  static float load(float v) { return ftz(v); }
};
struct LoadF16 {
  using Stored = uint16_t;
  static float load(uint16_t v) { return f16_to_f32(v); }
};
struct LoadBF16 {
  using Stored = uint16_t;
  static float load(uint16_t v) { return bf16_to_f32(v); }
};

template <Cmp kC, class L>
Mask compare_lanes(const Warp& w, Ref ra, Ref rb) {
  const auto* a = src<typename L::Stored>(w, ra);
  const auto* b = src<typename L::Stored>(w, rb);
  uint32_t r[kLanes];
  for (int i = 0; i < kLanes; ++i) r[i] = compare<kC>(L::load(a[i]), L::load(b[i]));
  return to_mask(r);
}

// in.imm: 0 none, 1 and, 2 or, 3 xor with the predicate p[2].
Mask combine(const Warp& w, const Instr& in, Mask a) {
  switch (in.imm) {
    case 1:
      return a & w.predicate(in.p[2]);
    case 2:
      return a | w.predicate(in.p[2]);
    case 3:
      return a ^ w.predicate(in.p[2]);
    default:
      return a;
  }
}

template <Cmp kC, class L>
void setp(Warp& w, const Instr& in, Mask m) {
  Mask t = compare_lanes<kC, L>(w, in.r[0], in.r[1]);
  Mask first = combine(w, in, t), second = in.p[1].index ? combine(w, in, ~t) : 0;
  put_pred(w, in.p[0], m, first);
  put_pred(w, in.p[1], m, second);
}

// set (9.7.6.1): all ones or 1.0 where true.
template <Cmp kC, class L>
void set(Warp& w, const Instr& in, Mask m) {
  Mask t = combine(w, in, compare_lanes<kC, L>(w, in.r[1], in.r[2]));
  uint32_t r[kLanes];
  const uint32_t yes = in.target;
  for (int i = 0; i < kLanes; ++i) r[i] = (t >> i & 1) ? yes : 0;
  put(w, in.r[0], m, r);
}

template <bool kSet, class L>
Handler by_comparison(Cmp c) {
#define GPUSIM_CASE(x) \
  case x:              \
    return kSet ? set<x, L> : setp<x, L>;
  switch (c) {
    GPUSIM_CASE(Cmp::kEq)
    GPUSIM_CASE(Cmp::kNe) GPUSIM_CASE(Cmp::kLt) GPUSIM_CASE(Cmp::kLe) GPUSIM_CASE(Cmp::kGt)
        GPUSIM_CASE(Cmp::kGe) default : break;
  }
  if constexpr (std::is_floating_point_v<decltype(L::load(typename L::Stored()))>) {
    switch (c) {
      GPUSIM_CASE(Cmp::kEqu)
      GPUSIM_CASE(Cmp::kNeu) GPUSIM_CASE(Cmp::kLtu) GPUSIM_CASE(Cmp::kLeu) GPUSIM_CASE(Cmp::kGtu) GPUSIM_CASE(Cmp::kGeu)
          GPUSIM_CASE(Cmp::kNum) GPUSIM_CASE(Cmp::kNan) default : break;
    }
  }
#undef GPUSIM_CASE
  return nullptr;
}

template <bool kSet>
Handler by_type(Type t, Cmp c, bool flush) {
  switch (t) {
    case Type::kU16:
    case Type::kB16:
      return by_comparison<kSet, Plain<uint16_t>>(c);
    case Type::kS16:
      return by_comparison<kSet, Plain<int16_t>>(c);
    case Type::kU32:
    case Type::kB32:
      return by_comparison<kSet, Plain<uint32_t>>(c);
    case Type::kS32:
      return by_comparison<kSet, Plain<int32_t>>(c);
    case Type::kU64:
    case Type::kB64:
      return by_comparison<kSet, Plain<uint64_t>>(c);
    case Type::kS64:
      return by_comparison<kSet, Plain<int64_t>>(c);
    case Type::kF32:
      return flush ? by_comparison<kSet, FlushF32>(c) : by_comparison<kSet, Plain<float>>(c);
    case Type::kF64:
      return by_comparison<kSet, Plain<double>>(c);
    case Type::kF16:
      return by_comparison<kSet, LoadF16>(c);
    case Type::kBF16:
      return by_comparison<kSet, LoadBF16>(c);
    default:
      return nullptr;
  }
}

Cmp take_comparison(Decoder& d) {
  int i = d.take_one_of({"eq", "ne", "lt", "le", "gt", "ge", "equ", "neu", "ltu", "leu", "gtu", "geu", "num", "nan"});
  if (i >= 0) return static_cast<Cmp>(i);
  // lo, ls, hi, hs: the unsigned names
  i = d.take_one_of({"lo", "ls", "hi", "hs"});
  if (i < 0) d.fail("no comparison given");
  static const Cmp kNames[] = {Cmp::kLt, Cmp::kLe, Cmp::kGt, Cmp::kGe};
  return kNames[i];
}

void decode_setp(Decoder& d) {
  Instr& in = d.draft().in;
  Cmp c = take_comparison(d);
  in.imm = 1 + d.take_one_of({"and", "or", "xor"});
  bool flush = d.take("ftz");
  Type t = d.take_type();
  d.finish();
  d.expect_operands(in.imm ? 4 : 3);
  in.p[0] = d.pred_def(d.operand(0).name);
  if (d.operand(0).has_second) in.p[1] = d.pred_def(d.operand(0).second);
  d.use(d.operand(1), t);
  d.use(d.operand(2), t);
  if (in.imm) in.p[2] = d.pred_use(d.operand(3));
  emit_checked(d, by_type<false>(t, c, flush), Kind::kPredicate);
}

void decode_set(Decoder& d) {
  Instr& in = d.draft().in;
  Cmp c = take_comparison(d);
  in.imm = 1 + d.take_one_of({"and", "or", "xor"});
  bool flush = d.take("ftz");
  Type to = d.take_type(), t = d.take_type();
  d.finish();
  d.expect_operands(in.imm ? 4 : 3);
  if (size_of(to) != 4) d.fail("this result type is not supported");
  in.target = to == Type::kF32 ? 0x3f800000u : ~0u;
  d.def(d.operand(0), 4);
  d.use(d.operand(1), t);
  d.use(d.operand(2), t);
  if (in.imm) in.p[2] = d.pred_use(d.operand(3));
  emit_checked(d, by_type<true>(t, c, flush), Kind::kIntAlu);
}

template <class T>
void selp(Warp& w, const Instr& in, Mask m) {
  const T *a = src<T>(w, in.r[1]), *b = src<T>(w, in.r[2]);
  Mask p = w.predicate(in.p[0]);
  T r[kLanes];
  for (int i = 0; i < kLanes; ++i) r[i] = (p >> i & 1) ? a[i] : b[i];
  put(w, in.r[0], m, r);
}

template <class T, class C>
void slct(Warp& w, const Instr& in, Mask m) {
  const T *a = src<T>(w, in.r[1]), *b = src<T>(w, in.r[2]);
  const C* c = src<C>(w, in.r[3]);
  T r[kLanes];
  for (int i = 0; i < kLanes; ++i) r[i] = c[i] >= 0 ? a[i] : b[i];
  put(w, in.r[0], m, r);
}

void decode_selp(Decoder& d) {
  Type t = d.take_type();
  d.finish();
  d.expect_operands(4);
  d.def(d.operand(0), size_of(t));
  d.use(d.operand(1), t);
  d.use(d.operand(2), t);
  d.draft().in.p[0] = d.pred_use(d.operand(3));
  emit_checked(d,
               size_of(t) == 2   ? selp<uint16_t>
               : size_of(t) == 4 ? selp<uint32_t>
               : size_of(t) == 8 ? selp<uint64_t>
                                 : nullptr,
               Kind::kMove);
}

void decode_slct(Decoder& d) {
  Type t = d.take_type(), c = d.take_type();
  d.finish();
  d.expect_operands(4);
  d.def(d.operand(0), size_of(t));
  d.use(d.operand(1), t);
  d.use(d.operand(2), t);
  d.use(d.operand(3), c);
  Handler fn = nullptr;
  if (c == Type::kS32)
    fn = size_of(t) == 2   ? slct<uint16_t, int32_t>
         : size_of(t) == 4 ? slct<uint32_t, int32_t>
                           : slct<uint64_t, int32_t>;
  if (c == Type::kF32)
    fn = size_of(t) == 2 ? slct<uint16_t, float> : size_of(t) == 4 ? slct<uint32_t, float> : slct<uint64_t, float>;
  emit_checked(d, fn, Kind::kMove);
}

}  // namespace

void add_compare(DecodeTable& t) {
  t["setp"] = decode_setp;
  t["set"] = decode_set;
  t["selp"] = decode_selp;
  t["slct"] = decode_slct;
}

}  // namespace gpusim
