// atom and red: PTX ISA 9.7.13.6 and 9.7.13.7. Global ones are atomic across the host threads that run the blocks.
#include <algorithm>

#include "access.h"
#include "memory_op.h"

namespace gpusim {

namespace {

struct Add {
  template <class T>
  static T run(T m, T b, T) {
    return m + b;
  }
};
struct Min {
  template <class T>
  static T run(T m, T b, T) {
    return std::min(m, b);
  }
};
struct Max {
  template <class T>
  static T run(T m, T b, T) {
    return std::max(m, b);
  }
};
struct And {
  template <class T>
  static T run(T m, T b, T) {
    return m & b;
  }
};
struct Or {
  template <class T>
  static T run(T m, T b, T) {
    return m | b;
  }
};
struct Xor {
  template <class T>
  static T run(T m, T b, T) {
    return m ^ b;
  }
};
struct Exch {
  template <class T>
  static T run(T, T b, T) {
    return b;
  }
};
struct Cas {
  template <class T>
  static T run(T m, T b, T c) {
    return m == b ? c : m;
  }
};
struct Inc {
  template <class T>
  static T run(T m, T b, T) {
    return m >= b ? 0 : m + 1;
  }
};
struct Dec {
  template <class T>
  static T run(T m, T b, T) {
    return m == 0 || m > b ? b : m - 1;
  }
};

// 16-bit floating-point sums, one or two to a word; rounded to nearest.
template <bool kBf16>
struct AddHalf {
  static uint16_t one(uint16_t m, uint16_t b) {
    return kBf16 ? f32_to_bf16(bf16_to_f32(m) + bf16_to_f32(b))
                 : f64_to_f16(static_cast<double>(f16_to_f32(m)) + f16_to_f32(b));
  }
  static uint16_t run(uint16_t m, uint16_t b, uint16_t) { return one(m, b); }
  static uint32_t run(uint32_t m, uint32_t b, uint32_t) {
    return static_cast<uint32_t>(one(static_cast<uint16_t>(m >> 16), static_cast<uint16_t>(b >> 16))) << 16 |
           one(static_cast<uint16_t>(m), static_cast<uint16_t>(b));
  }
};

struct AtomicOp {
  MemoryOp memory;
  bool returns = false;
  int operands = 1;
};

template <class T>
using Bits = std::conditional_t<sizeof(T) == 2, uint16_t, std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>>;

template <class F, class T>
T apply(uint8_t* p, T b, T c) {
  auto* at = reinterpret_cast<Bits<T>*>(p);
  Bits<T> old = __atomic_load_n(at, __ATOMIC_RELAXED);
  for (;;) {
    T m = bit_cast<T>(old);
    Bits<T> next = bit_cast<Bits<T>>(F::run(m, b, c));
    if (__atomic_compare_exchange_n(at, &old, next, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) return m;
  }
}

template <class F, class T>
void atomic(Warp& w, const Instr& in, Mask m) {
  const AtomicOp& op = *static_cast<const AtomicOp*>(in.aux);
  const uint32_t bytes = sizeof(T);
  uint64_t a[kLanes];
  lane_addresses(w, in, op.memory, a);
  check_alignment(a, m, bytes);
  Mask shared = 0;
  if (op.memory.space == Space::kShared) {
    shared = m;
  } else if (op.memory.space == Space::kGeneric) {
    Windows k = classify(a, m);
    if (k.local || k.param)
      fault(kIllegalAddress, first_lane(k.local | k.param), "atomic on local or parameter memory");
    shared = k.shared;
    for (Mask x = shared; x; x &= x - 1) a[first_lane(x)] -= kSharedWindow;
  }
  Block& block = *w.block;
  const Mask global = m & ~shared;
  if (shared) {
    check_shared_bounds(w, a, shared, bytes);
    count_shared(w, in, a, shared, bytes, false, true);
  }
  if (global) {
    check_global(w, a, global, bytes, false, false);
    count_global(w, a, global, bytes, false, true);
  }
  const T* b = src<T>(w, in.r[op.memory.data]);
  const T* c = op.operands > 1 ? src<T>(w, in.r[op.memory.data + 1]) : b;
  T r[kLanes];
  for (Mask x = m; x; x &= x - 1) {
    const int i = first_lane(x);
    uint8_t* p = reinterpret_cast<uint8_t*>(a[i]);
    if (shared >> i & 1) {
      if (block.shadow.enabled())
        block.shadow.atomic(w.clock, w.id, static_cast<uint32_t>(i), static_cast<uint32_t>(a[i]), bytes);
      p = block.shared + a[i];
    }
    r[i] = apply<F, T>(p, b[i], c[i]);
  }
  if (op.returns) put(w, in.r[0], m, r);
}

template <class F>
Handler whole(Type t) {
  switch (t) {
    case Type::kU32:
    case Type::kB32:
      return atomic<F, uint32_t>;
    case Type::kS32:
      return atomic<F, int32_t>;
    case Type::kU64:
    case Type::kB64:
      return atomic<F, uint64_t>;
    case Type::kS64:
      return atomic<F, int64_t>;
    default:
      return nullptr;
  }
}
template <class F>
Handler untyped(Type t) {
  return size_of(t) == 4 ? atomic<F, uint32_t> : size_of(t) == 8 ? atomic<F, uint64_t> : nullptr;
}

Handler handler(const std::string& op, Type t) {
  if (op == "add") {
    switch (t) {
      case Type::kF32:
        return atomic<Add, float>;
      case Type::kF64:
        return atomic<Add, double>;
      case Type::kF16:
        return atomic<AddHalf<false>, uint16_t>;
      case Type::kBF16:
        return atomic<AddHalf<true>, uint16_t>;
      case Type::kF16x2:
        return atomic<AddHalf<false>, uint32_t>;
      case Type::kBF16x2:
        return atomic<AddHalf<true>, uint32_t>;
      default:
        return whole<Add>(t);
    }
  }
  if (op == "min") return whole<Min>(t);
  if (op == "max") return whole<Max>(t);
  if (op == "and") return untyped<And>(t);
  if (op == "or") return untyped<Or>(t);
  if (op == "xor") return untyped<Xor>(t);
  if (op == "exch") return untyped<Exch>(t);
  if (op == "cas") return size_of(t) == 2 ? atomic<Cas, uint16_t> : untyped<Cas>(t);
  if (op == "inc" && t == Type::kU32) return atomic<Inc, uint32_t>;
  if (op == "dec" && t == Type::kU32) return atomic<Dec, uint32_t>;
  return nullptr;
}

void decode_atomic(Decoder& d, bool returns) {
  static const char* const kOps[] = {"add", "min", "max", "and", "or", "xor", "exch", "cas", "inc", "dec"};
  d.take_one_of({"relaxed", "acquire", "release", "acq_rel"});
  d.take_one_of({"cta", "gpu", "sys", "cluster"});
  int space = d.take_one_of({"global", "shared", "shared::cta"});
  std::string op;
  for (const char* name : kOps) {
    if (op.empty() && d.take(name)) op = name;
  }
  d.take("noftz");
  d.take_one_of({"L2::evict_first", "L2::evict_last", "L2::evict_normal"});
  Type t = d.take_type();
  d.finish();
  AtomicOp* a = d.aux<AtomicOp>();
  a->returns = returns;
  a->operands = op == "cas" ? 2 : 1;
  d.expect_operands(static_cast<size_t>(a->operands) + (returns ? 2 : 1));
  a->memory.element = size_of(t);
  if (returns) d.def(d.operand(0), size_of(t));
  const size_t at = returns ? 1 : 0;
  decode_address(d, d.operand(at),
                 space < 0    ? Space::kGeneric
                 : space == 0 ? Space::kGlobal
                              : Space::kShared,
                 &a->memory);
  a->memory.data = static_cast<int>(d.draft().values.size());
  for (int i = 0; i < a->operands; ++i) d.use(d.operand(at + 1 + static_cast<size_t>(i)), t);
  note_shared_access(d, a->memory.space, a->memory.element);
  Handler fn = handler(op, t);
  if (!fn) d.fail("this operation or type is not supported");
  d.emit(fn, Kind::kAtomic);
}

}  // namespace

void add_atomic(DecodeTable& t) {
  t["atom"] = [](Decoder& d) { decode_atomic(d, true); };
  t["red"] = [](Decoder& d) { decode_atomic(d, false); };
}

}  // namespace gpusim
