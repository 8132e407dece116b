// Exchange between the lanes of a warp: PTX ISA 9.7.9.6 (shfl.sync), 9.7.13.9 to 9.7.13.12 (vote, match, activemask,
// redux).
#include <algorithm>

#include "alu.h"

namespace gpusim {

namespace {

// Lanes with different member masks may execute one instruction side by side (two halves of a warp, say): each group
// runs by itself. kMask is the place of the mask among the operands.
template <Handler kRun, int kMask>
void by_groups(Warp& w, const Instr& in, Mask m) {
  uint32_t members[kLanes];
  std::memcpy(members, w.at(in.r[kMask]), sizeof(members));
  while (m) {
    const uint32_t first = members[first_lane(m)];
    Mask group = 0;
    for (Mask x = m; x; x &= x - 1) group |= members[first_lane(x)] == first ? 1u << first_lane(x) : 0;
    require_members(w, first, group);
    kRun(w, in, group);
    m &= ~group;
  }
}

enum class Shuffle { kUp, kDown, kBfly, kIdx };

// The manual's pseudocode. Operands: d, a, b, c, membermask; p[0]: whether the source lane was in range.
template <Shuffle kMode>
void shfl(Warp& w, const Instr& in, Mask m) {
  const uint32_t *a = src<uint32_t>(w, in.r[1]), *b = src<uint32_t>(w, in.r[2]), *c = src<uint32_t>(w, in.r[3]);
  uint32_t r[kLanes];
  int32_t from[kLanes];
  uint32_t valid[kLanes];
  for (int32_t i = 0; i < kLanes; ++i) {
    const int32_t bval = b[i] & 31, cval = c[i] & 31, seg = c[i] >> 8 & 31;
    const int32_t max_lane = (i & seg) | (cval & ~seg), min_lane = i & seg;
    int32_t j;
    bool ok;
    switch (kMode) {
      case Shuffle::kUp:
        j = i - bval;
        ok = j >= max_lane;
        break;
      case Shuffle::kDown:
        j = i + bval;
        ok = j <= max_lane;
        break;
      case Shuffle::kBfly:
        j = i ^ bval;
        ok = j <= max_lane;
        break;
      default:
        j = min_lane | (bval & ~seg);
        ok = j <= max_lane;
        break;
    }
    from[i] = ok ? j : i;
    valid[i] = ok;
  }
  Mask sources = 0;
  for (Mask x = m; x; x &= x - 1) sources |= 1u << from[first_lane(x)];
  if (sources & ~m) {
    for (Mask x = m; x; x &= x - 1) {
      int i = first_lane(x);
      if (!(m >> from[i] & 1))
        fault(kLaunchFailed, i, "shfl reads lane " + std::to_string(from[i]) + ", which does not execute it");
    }
  }
  for (int i = 0; i < kLanes; ++i) r[i] = a[from[i]];
  if (in.p[0].index) put_pred(w, in.p[0], m, to_mask(valid));
  put(w, in.r[0], m, r);
}

void decode_shfl(Decoder& d) {
  if (!d.take("sync")) d.fail("only shfl.sync is supported");
  int mode = d.take_one_of({"up", "down", "bfly", "idx"});
  Type t = d.take_type();
  d.finish();
  d.expect_operands(5);
  if (mode < 0 || t != Type::kB32) d.fail("this form is not supported");
  d.def(d.operand(0), 4);
  for (size_t i = 1; i < 5; ++i) d.use(d.operand(i), Type::kB32);
  if (d.operand(0).has_second) d.draft().in.p[0] = d.pred_def(d.operand(0).second);
  static const Handler kModes[] = {by_groups<shfl<Shuffle::kUp>, 4>, by_groups<shfl<Shuffle::kDown>, 4>,
                                   by_groups<shfl<Shuffle::kBfly>, 4>, by_groups<shfl<Shuffle::kIdx>, 4>};
  d.emit(kModes[mode], Kind::kShuffle);
}

// in.imm: 0 all, 1 any, 2 uni, 3 ballot.
void vote(Warp& w, const Instr& in, Mask m) {
  const int op = static_cast<int>(in.imm);
  const Mask yes = w.predicate(in.p[1]) & m;
  if (op == 3) {
    uint32_t r[kLanes];
    for (auto& x : r) x = yes;
    put(w, in.r[0], m, r);
    return;
  }
  bool result = op == 0 ? yes == m : op == 1 ? yes != 0 : yes == m || yes == 0;
  put_pred(w, in.p[0], m, result ? kFull : 0);
}

void decode_vote(Decoder& d) {
  if (!d.take("sync")) d.fail("only vote.sync is supported");
  int op = d.take_one_of({"all", "any", "uni", "ballot"});
  d.take_type();
  d.finish();
  d.expect_operands(3);
  if (op < 0) d.fail("this form is not supported");
  Instr& in = d.draft().in;
  in.imm = op;
  if (op == 3)
    d.def(d.operand(0), 4);
  else
    in.p[0] = d.pred_def(d.operand(0).name);
  in.p[1] = d.pred_use(d.operand(1));
  d.use(d.operand(2), Type::kB32);
  d.emit(op == 3 ? by_groups<vote, 1> : by_groups<vote, 0>, Kind::kShuffle);
}

// in.imm: all.
template <class T>
void match(Warp& w, const Instr& in, Mask m) {
  T a[kLanes];
  std::memcpy(a, w.at(in.r[1]), sizeof(a));
  uint32_t r[kLanes] = {};
  bool all = true;
  for (Mask x = m; x; x &= x - 1) {
    int i = first_lane(x);
    for (Mask y = m; y; y &= y - 1) r[i] |= a[first_lane(y)] == a[i] ? 1u << first_lane(y) : 0;
    all = all && r[i] == m;
  }
  if (in.imm) {
    for (auto& x : r) x = all ? m : 0;
    put_pred(w, in.p[0], m, all ? kFull : 0);
  }
  put(w, in.r[0], m, r);
}

void decode_match(Decoder& d) {
  int all = d.take_one_of({"any", "all"});
  if (all < 0 || !d.take("sync")) d.fail("this form is not supported");
  Type t = d.take_type();
  d.finish();
  d.expect_operands(3);
  d.draft().in.imm = all;
  d.def(d.operand(0), 4);
  if (d.operand(0).has_second) d.draft().in.p[0] = d.pred_def(d.operand(0).second);
  d.use(d.operand(1), t);
  d.use(d.operand(2), Type::kB32);
  d.emit(size_of(t) == 8 ? by_groups<match<uint64_t>, 2> : by_groups<match<uint32_t>, 2>, Kind::kShuffle);
}

void activemask(Warp& w, const Instr& in, Mask m) {
  uint32_t r[kLanes];
  for (auto& x : r) x = m;
  put(w, in.r[0], m, r);
}

struct RedAdd {
  template <class T>
  static T run(T a, T b) {
    return a + b;
  }
};
struct RedMin {
  template <class T>
  static T run(T a, T b) {
    return std::min(a, b);
  }
};
struct RedMax {
  template <class T>
  static T run(T a, T b) {
    return std::max(a, b);
  }
};
struct RedAnd {
  template <class T>
  static T run(T a, T b) {
    return a & b;
  }
};
struct RedOr {
  template <class T>
  static T run(T a, T b) {
    return a | b;
  }
};
struct RedXor {
  template <class T>
  static T run(T a, T b) {
    return a ^ b;
  }
};

template <class F, class T>
void redux(Warp& w, const Instr& in, Mask m) {
  const T* a = src<T>(w, in.r[1]);
  Mask x = m;
  T v = a[first_lane(x)];
  for (x &= x - 1; x; x &= x - 1) v = F::run(v, a[first_lane(x)]);
  T r[kLanes];
  for (auto& y : r) y = v;
  put(w, in.r[0], m, r);
}

void decode_redux(Decoder& d) {
  if (!d.take("sync")) d.fail("only redux.sync is supported");
  int op = d.take_one_of({"add", "min", "max", "and", "or", "xor"});
  Type t = d.take_type();
  d.finish();
  same_type_operands(d, t, 2);
  static const Handler kUnsigned[] = {by_groups<redux<RedAdd, uint32_t>, 2>, by_groups<redux<RedMin, uint32_t>, 2>,
                                      by_groups<redux<RedMax, uint32_t>, 2>, by_groups<redux<RedAnd, uint32_t>, 2>,
                                      by_groups<redux<RedOr, uint32_t>, 2>,  by_groups<redux<RedXor, uint32_t>, 2>};
  static const Handler kSigned[] = {by_groups<redux<RedAdd, uint32_t>, 2>, by_groups<redux<RedMin, int32_t>, 2>,
                                    by_groups<redux<RedMax, int32_t>, 2>};
  if (op < 0 || (op < 3) != (t != Type::kB32) || size_of(t) != 4 || is_float(t)) d.fail("this form is not supported");
  d.emit(t == Type::kS32 ? kSigned[op] : kUnsigned[op], Kind::kShuffle);
}

}  // namespace

void add_warp(DecodeTable& t) {
  t["shfl"] = decode_shfl;
  t["vote"] = decode_vote;
  t["match"] = decode_match;
  t["redux"] = decode_redux;
  t["activemask"] = [](Decoder& d) {
    Type type = d.take_type();
    d.finish();
    d.expect_operands(1);
    if (type != Type::kB32) d.fail("this type is not supported");
    d.def(d.operand(0), 4);
    d.emit(activemask, Kind::kShuffle);
  };
}

}  // namespace gpusim
