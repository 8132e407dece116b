// setp, set, selp, slct: PTX ISA 9.7.6 and 9.7.7 (comparison and selection).
#include "alu.h"

namespace gpusim {

namespace {

// Ordered comparisons are false on NaN, unordered ones (equ...) true; num and nan test for it (PTX ISA 9.3.1). All
// follow from four: each is one of them, or one with the operands exchanged, or the opposite of such a one.
enum class Base { kEq, kLt, kLe, kNan };
struct Comparison {
  const char* name;
  Base base;
  bool exchanged, opposite;
};
constexpr Comparison kComparisons[] = {
    {"eq", Base::kEq, false, false}, {"lt", Base::kLt, false, false}, {"le", Base::kLe, false, false},
    {"gt", Base::kLt, true, false},  {"ge", Base::kLe, true, false},  {"lo", Base::kLt, false, false},
    {"ls", Base::kLe, false, false}, {"hi", Base::kLt, true, false},  {"hs", Base::kLe, true, false},
    {"neu", Base::kEq, false, true}, {"ltu", Base::kLe, true, true},  {"leu", Base::kLt, true, true},
    {"gtu", Base::kLe, false, true}, {"geu", Base::kLt, false, true}, {"nan", Base::kNan, false, false},
    {"num", Base::kNan, false, true}};

template <Base kB, class T>
bool compare(T a, T b) {
  switch (kB) {
    case Base::kEq:
      return a == b;
    case Base::kLt:
      return a < b;
    case Base::kLe:
      return a <= b;
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

template <Base kB, class L>
Mask compare_lanes(const Warp& w, Ref ra, Ref rb) {
  const auto* a = src<typename L::Stored>(w, ra);
  const auto* b = src<typename L::Stored>(w, rb);
  uint32_t r[kLanes];
  for (int i = 0; i < kLanes; ++i) r[i] = compare<kB>(L::load(a[i]), L::load(b[i]));
  return to_mask(r);
}

enum class Combine : uint8_t { kNone, kAnd, kOr, kXor };

struct Test {
  using Lanes = Mask (*)(const Warp&, Ref, Ref);
  Lanes lanes = nullptr;
  Lanes also = nullptr;       // ne of floating-point numbers: neither equal nor a NaN
  int first = 0, second = 1;  // operands
  bool opposite = false;
  Combine combine = Combine::kNone;  // with the predicate p[2]
  uint32_t yes = 0;                  // set: what a true result is
};

Mask run(const Warp& w, const Instr& in, const Test& t) {
  Mask r = t.lanes(w, in.r[t.first], in.r[t.second]);
  if (t.also) r |= t.also(w, in.r[t.first], in.r[t.second]);
  return t.opposite ? ~r : r;
}

Mask combine(const Warp& w, const Instr& in, const Test& t, Mask a) {
  switch (t.combine) {
    case Combine::kAnd:
      return a & w.predicate(in.p[2]);
    case Combine::kOr:
      return a | w.predicate(in.p[2]);
    case Combine::kXor:
      return a ^ w.predicate(in.p[2]);
    default:
      return a;
  }
}

// p|q (9.7.6.2): q has the opposite of the comparison, combined alike.
void setp(Warp& w, const Instr& in, Mask m) {
  const Test& t = *static_cast<const Test*>(in.aux);
  const Mask r = run(w, in, t);
  const Mask first = combine(w, in, t, r), second = in.p[1].index ? combine(w, in, t, ~r) : 0;
  put_pred(w, in.p[0], m, first);
  put_pred(w, in.p[1], m, second);
}

// set (9.7.6.1): all ones or 1.0 where true.
void set(Warp& w, const Instr& in, Mask m) {
  const Test& t = *static_cast<const Test*>(in.aux);
  const Mask yes = combine(w, in, t, run(w, in, t));
  uint32_t r[kLanes];
  for (int i = 0; i < kLanes; ++i) r[i] = (yes >> i & 1) ? t.yes : 0;
  put(w, in.r[0], m, r);
}

template <class L>
Test::Lanes lanes_of(Base b) {
  switch (b) {
    case Base::kEq:
      return compare_lanes<Base::kEq, L>;
    case Base::kLt:
      return compare_lanes<Base::kLt, L>;
    case Base::kLe:
      return compare_lanes<Base::kLe, L>;
    default:
      return std::is_integral_v<decltype(L::load(typename L::Stored()))> ? nullptr : compare_lanes<Base::kNan, L>;
  }
}

Test::Lanes lanes_of(Type t, Base b, bool flush) {
  switch (t) {
    case Type::kU16:
    case Type::kB16:
      return lanes_of<Plain<uint16_t>>(b);
    case Type::kS16:
      return lanes_of<Plain<int16_t>>(b);
    case Type::kU32:
    case Type::kB32:
      return lanes_of<Plain<uint32_t>>(b);
    case Type::kS32:
      return lanes_of<Plain<int32_t>>(b);
    case Type::kU64:
    case Type::kB64:
      return lanes_of<Plain<uint64_t>>(b);
    case Type::kS64:
      return lanes_of<Plain<int64_t>>(b);
    case Type::kF32:
      return flush ? lanes_of<FlushF32>(b) : lanes_of<Plain<float>>(b);
    case Type::kF64:
      return lanes_of<Plain<double>>(b);
    case Type::kF16:
      return lanes_of<LoadF16>(b);
    case Type::kBF16:
      return lanes_of<LoadBF16>(b);
    default:
      return nullptr;
  }
}

// Takes the comparison, the boolean operation, .ftz and the types; `first` is the place of the first source operand.
Test* decode_test(Decoder& d, bool is_set, int first, Type* type) {
  Test* t = d.aux<Test>();
  const bool ne = d.take("ne"), equ = d.take("equ");
  const Comparison* c = ne || equ ? &kComparisons[0] : nullptr;
  for (const Comparison& k : kComparisons) {
    if (!c && d.take(k.name)) c = &k;
  }
  if (!c) d.fail("no comparison given");
  t->combine = static_cast<Combine>(1 + d.take_one_of({"and", "or", "xor"}));
  const bool flush = d.take("ftz");
  if (is_set) {
    Type to = d.take_type();
    if (size_of(to) != 4) d.fail("this result type is not supported");
    t->yes = to == Type::kF32 ? 0x3f800000u : ~0u;
  }
  *type = d.take_type();
  d.finish();
  t->lanes = lanes_of(*type, c->base, flush);
  if (!t->lanes) d.fail("this comparison or type is not supported");
  if ((ne || equ) && is_float(*type)) t->also = lanes_of(*type, Base::kNan, flush);
  t->first = c->exchanged ? first + 1 : first;
  t->second = c->exchanged ? first : first + 1;
  t->opposite = c->opposite != ne;
  return t;
}

void decode_setp(Decoder& d) {
  Instr& in = d.draft().in;
  Type type;
  const Test* t = decode_test(d, false, 0, &type);
  d.expect_operands(t->combine == Combine::kNone ? 3 : 4);
  in.p[0] = d.pred_def(d.operand(0).name);
  if (d.operand(0).has_second) in.p[1] = d.pred_def(d.operand(0).second);
  d.use(d.operand(1), type);
  d.use(d.operand(2), type);
  if (t->combine != Combine::kNone) in.p[2] = d.pred_use(d.operand(3));
  d.emit(setp, Kind::kPredicate);
}

void decode_set(Decoder& d) {
  Instr& in = d.draft().in;
  Type type;
  const Test* t = decode_test(d, true, 1, &type);
  d.expect_operands(t->combine == Combine::kNone ? 3 : 4);
  d.def(d.operand(0), 4);
  d.use(d.operand(1), type);
  d.use(d.operand(2), type);
  if (t->combine != Combine::kNone) in.p[2] = d.pred_use(d.operand(3));
  d.emit(set, Kind::kIntAlu);
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
