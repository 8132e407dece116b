// mov, cvta, isspacep and special registers: PTX ISA 9.7.9 and 10.
#include "alu.h"

namespace gpusim {

namespace {

template <class T>
void mov(Warp& w, const Instr& in, Mask m) {
  put(w, in.r[0], m, src<T>(w, in.r[1]));
}

void mov_pred(Warp& w, const Instr& in, Mask m) {
  put_pred(w, in.p[0], m, w.predicate(in.p[1]));
}

// mov of a vector packs or unpacks, the first element lowest (9.7.9.10).
template <class D, class S, int kN>
void pack(Warp& w, const Instr& in, Mask m) {
  D r[kLanes] = {};
  for (int k = 0; k < kN; ++k) {
    const S* s = src<S>(w, in.r[1 + k]);
    for (int i = 0; i < kLanes; ++i) r[i] |= static_cast<D>(s[i]) << (8 * sizeof(S) * k);
  }
  put(w, in.r[0], m, r);
}
template <class D, class S, int kN>
void unpack(Warp& w, const Instr& in, Mask m) {
  S s[kLanes];
  std::memcpy(s, w.at(in.r[kN]), sizeof(s));
  for (int k = 0; k < kN; ++k) {
    D r[kLanes];
    for (int i = 0; i < kLanes; ++i) r[i] = static_cast<D>(s[i] >> (8 * sizeof(D) * k));
    put(w, in.r[k], m, r);
  }
}

Handler plain(int bytes) {
  return bytes == 2 ? mov<uint16_t> : bytes == 4 ? mov<uint32_t> : bytes == 8 ? mov<uint64_t> : nullptr;
}

void decode_mov(Decoder& d) {
  Type t = d.take_type();
  d.finish();
  d.expect_operands(2);
  const Operand &to = d.operand(0), &from = d.operand(1);
  if (t == Type::kPred) {
    d.draft().in.p[0] = d.pred_def(to.name);
    d.draft().in.p[1] = d.pred_use(from);
    d.emit(mov_pred, Kind::kPredicate);
    return;
  }
  const int bytes = size_of(t);
  if (from.kind == Operand::kVector) {
    const int n = static_cast<int>(from.parts.size());
    d.def(to, bytes);
    Type part = bytes / n == 2 ? Type::kB16 : bytes / n == 4 ? Type::kB32 : Type::kNone;
    for (const auto& p : from.parts) d.use(p, part);
    Handler fn = bytes == 4 && n == 2   ? pack<uint32_t, uint16_t, 2>
                 : bytes == 8 && n == 2 ? pack<uint64_t, uint32_t, 2>
                 : bytes == 8 && n == 4 ? pack<uint64_t, uint16_t, 4>
                                        : nullptr;
    return emit_checked(d, fn, Kind::kMove);
  }
  if (to.kind == Operand::kVector) {
    const int n = static_cast<int>(to.parts.size());
    for (const auto& p : to.parts) d.def(p, bytes / n);
    d.use(from, t);
    Handler fn = bytes == 4 && n == 2   ? unpack<uint16_t, uint32_t, 2>
                 : bytes == 8 && n == 2 ? unpack<uint32_t, uint64_t, 2>
                 : bytes == 8 && n == 4 ? unpack<uint16_t, uint64_t, 4>
                                        : nullptr;
    return emit_checked(d, fn, Kind::kMove);
  }
  d.def(to, bytes);
  d.use(from, t);
  emit_checked(d, plain(bytes), Kind::kMove);
}

// cvta (9.7.9.19): each window has a fixed place among the generic addresses; global and const addresses are generic
// already.
template <class T>
void cvta(Warp& w, const Instr& in, Mask m) {
  const T* a = src<T>(w, in.r[1]);
  T r[kLanes];
  for (int i = 0; i < kLanes; ++i) r[i] = a[i] + static_cast<T>(in.imm);
  put(w, in.r[0], m, r);
}

int64_t window(int space) {
  switch (space) {
    case 1:
    case 2:
      return kSharedWindow;
    case 3:
      return kLocalWindow;
    case 4:
      return kParamWindow;
    default:
      return 0;
  }
}

void decode_cvta(Decoder& d) {
  bool to = d.take("to");
  int space = d.take_one_of({"global", "shared", "shared::cta", "local", "param", "const"});
  Type t = d.take_type();
  d.finish();
  if (space < 0) d.fail("no state space given");
  same_type_operands(d, t, 1);
  if (size_of(t) != 8) d.fail("only 64-bit generic addresses are supported");
  d.draft().in.imm = to ? -window(space) : window(space);
  d.emit(cvta<uint64_t>, Kind::kMove);
}

void isspacep(Warp& w, const Instr& in, Mask m) {
  const uint64_t* a = src<uint64_t>(w, in.r[0]);
  Mask r = 0;
  for (int i = 0; i < kLanes; ++i) {
    bool windowed = a[i] >= kSharedWindow && a[i] < kParamWindow + kWindowSize;
    bool yes = in.imm == 0 ? !windowed : a[i] - static_cast<uint64_t>(in.imm) < kWindowSize;
    r |= static_cast<Mask>(yes) << i;
  }
  put_pred(w, in.p[0], m, r);
}

void decode_isspacep(Decoder& d) {
  int space = d.take_one_of({"global", "shared", "shared::cta", "local", "param"});
  d.finish();
  if (space < 0) d.fail("no or unsupported state space");
  d.expect_operands(2);
  d.draft().in.p[0] = d.pred_def(d.operand(0).name);
  d.use(d.operand(1), Type::kB64);
  d.draft().in.imm = window(space);
  d.emit(isspacep, Kind::kPredicate);
}

enum class Special {
  kTidX,
  kTidY,
  kTidZ,
  kNtidX,
  kNtidY,
  kNtidZ,
  kCtaidX,
  kCtaidY,
  kCtaidZ,
  kNctaidX,
  kNctaidY,
  kNctaidZ,
  kLaneid,
  kWarpid,
  kNwarpid,
  kSmid,
  kNsmid,
  kGridid,
  kMaskEq,
  kMaskLe,
  kMaskLt,
  kMaskGe,
  kMaskGt,
  kClock,
  kDynamicShared,
  kTotalShared,
  kClock64,
  kGlobaltimer,
  kZero
};

uint64_t read_lane(const Warp& w, Special s, uint32_t lane) {
  const Block& b = *w.block;
  const Dim3 &n = b.launch->block, &g = b.launch->grid;
  const uint32_t t = w.id * kLanes + lane;
  switch (s) {
    case Special::kTidX:
      return t % n.x;
    case Special::kTidY:
      return t / n.x % n.y;
    case Special::kTidZ:
      return t / (n.x * n.y);
    case Special::kNtidX:
      return n.x;
    case Special::kNtidY:
      return n.y;
    case Special::kNtidZ:
      return n.z;
    case Special::kCtaidX:
      return b.index.x;
    case Special::kCtaidY:
      return b.index.y;
    case Special::kCtaidZ:
      return b.index.z;
    case Special::kNctaidX:
      return g.x;
    case Special::kNctaidY:
      return g.y;
    case Special::kNctaidZ:
      return g.z;
    case Special::kLaneid:
      return lane;
    case Special::kWarpid:
      return w.id;
    case Special::kNwarpid:
      return b.warps.size();
    case Special::kNsmid:
      return 108;
    case Special::kMaskEq:
      return 1ull << lane;
    case Special::kMaskLe:
      return (2ull << lane) - 1;
    case Special::kMaskLt:
      return (1ull << lane) - 1;
    case Special::kMaskGe:
      return kFull & ~((1ull << lane) - 1);
    case Special::kMaskGt:
      return kFull & ~((2ull << lane) - 1);
    case Special::kClock:
    case Special::kClock64:
    case Special::kGlobaltimer:
      return w.issued;
    case Special::kDynamicShared:
      return b.launch->dynamic_shared;
    case Special::kTotalShared:
      return b.shared_size;
    default:
      return 0;
  }
}

template <class T>
void read_special(Warp& w, const Instr& in, Mask m) {
  T r[kLanes];
  for (uint32_t i = 0; i < kLanes; ++i) r[i] = static_cast<T>(read_lane(w, static_cast<Special>(in.imm), i));
  put(w, in.r[0], m, r);
}

}  // namespace

bool decode_special(const std::string& name, Instr* in, int* bytes) {
  static const std::unordered_map<std::string, Special> kNames = {{"%tid.x", Special::kTidX},
                                                                  {"%tid.y", Special::kTidY},
                                                                  {"%tid.z", Special::kTidZ},
                                                                  {"%ntid.x", Special::kNtidX},
                                                                  {"%ntid.y", Special::kNtidY},
                                                                  {"%ntid.z", Special::kNtidZ},
                                                                  {"%ctaid.x", Special::kCtaidX},
                                                                  {"%ctaid.y", Special::kCtaidY},
                                                                  {"%ctaid.z", Special::kCtaidZ},
                                                                  {"%nctaid.x", Special::kNctaidX},
                                                                  {"%nctaid.y", Special::kNctaidY},
                                                                  {"%nctaid.z", Special::kNctaidZ},
                                                                  {"%laneid", Special::kLaneid},
                                                                  {"%warpid", Special::kWarpid},
                                                                  {"%nwarpid", Special::kNwarpid},
                                                                  {"%smid", Special::kSmid},
                                                                  {"%nsmid", Special::kNsmid},
                                                                  {"%gridid", Special::kGridid},
                                                                  {"%lanemask_eq", Special::kMaskEq},
                                                                  {"%lanemask_le", Special::kMaskLe},
                                                                  {"%lanemask_lt", Special::kMaskLt},
                                                                  {"%lanemask_ge", Special::kMaskGe},
                                                                  {"%lanemask_gt", Special::kMaskGt},
                                                                  {"%clock", Special::kClock},
                                                                  {"%clock_hi", Special::kZero},
                                                                  {"%clock64", Special::kClock64},
                                                                  {"%globaltimer", Special::kGlobaltimer},
                                                                  {"%globaltimer_lo", Special::kClock},
                                                                  {"%globaltimer_hi", Special::kZero},
                                                                  {"%dynamic_smem_size", Special::kDynamicShared},
                                                                  {"%total_smem_size", Special::kTotalShared}};
  auto it = kNames.find(name);
  if (it == kNames.end()) return false;
  const bool wide =
      it->second == Special::kClock64 || it->second == Special::kGlobaltimer || it->second == Special::kGridid;
  *bytes = wide ? 8 : 4;
  in->imm = static_cast<int64_t>(it->second);
  in->fn = wide ? read_special<uint64_t> : read_special<uint32_t>;
  in->kind = Kind::kMove;
  return true;
}

void add_move(DecodeTable& t) {
  t["mov"] = decode_mov;
  t["cvta"] = decode_cvta;
  t["isspacep"] = decode_isspacep;
}

}  // namespace gpusim
