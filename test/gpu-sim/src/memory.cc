// ld and st: PTX ISA 9.7.9.8 to 9.7.9.12. Each address must be a multiple of the whole access (9.7.9.8, "Semantics").
#include "access.h"
#include "memory_op.h"

namespace gpusim {

void decode_address(Decoder& d, const Operand& o, Space space, MemoryOp* op) {
  op->base = static_cast<int>(d.draft().values.size());
  Decoder::Address a = d.address(o);
  op->has_base = a.has_base;
  op->wide = a.wide;
  op->offset = a.offset;
  // The parameters of a call lie in local memory.
  if (space == Space::kParam && (a.space == Space::kLocal || (a.has_base && !d.names.in_entry())))
    space = Space::kLocal;
  if (space == Space::kGeneric && !a.has_base && a.space != Space::kGeneric) space = a.space;
  op->space = space;
}

Space take_space(Decoder& d) {
  switch (d.take_one_of({"global", "shared", "shared::cta", "local", "param", "const"})) {
    case 0:
      return Space::kGlobal;
    case 1:
    case 2:
      return Space::kShared;
    case 3:
      return Space::kLocal;
    case 4:
      return Space::kParam;
    case 5:
      return Space::kConst;
    default:
      return Space::kGeneric;
  }
}

void note_shared_access(Decoder& d, Space space, int element) {
  if (space != Space::kShared && space != Space::kGeneric) return;
  int shift = element >= 4 ? 2 : element == 2 ? 1 : 0;
  Kernel& k = d.names.kernel();
  k.shared_granule_shift = std::min(k.shared_granule_shift, shift);
}

namespace {

// Where each lane's bytes are in this process.
struct Places {
  uint8_t* p[kLanes];
  bool row;
};

void local_places(Warp& w, const uint64_t* a, Mask m, uint32_t bytes, bool is_write, Places* out) {
  const uint64_t size = w.block->kernel->local_bytes;
  for (Mask k = m; k; k &= k - 1) {
    int i = first_lane(k);
    if (a[i] > size || size - a[i] < bytes)
      fault(kIllegalAddress, i,
            "access outside local memory, at offset " + std::to_string(a[i]) + " of " + std::to_string(size));
    uint64_t at = static_cast<uint64_t>(i) * size + a[i];
    out->p[i] = w.local + at;
    if (is_write) {
      std::memset(w.local_written + at, 1, bytes);
    } else if (w.block->launch->checks.uninitialised) {
      for (uint32_t b = 0; b < bytes; ++b) {
        if (!w.local_written[at + b])
          fault(kLaunchFailed, i, "read of local memory that nobody wrote, at offset " + std::to_string(a[i] + b));
      }
    }
  }
  out->row = false;
  w.worker->memory.local_bytes += static_cast<uint64_t>(__builtin_popcount(m)) * bytes;
}

void param_places(Warp& w, const uint64_t* a, Mask m, uint32_t bytes, Places* out) {
  auto& params = w.block->launch->params;
  for (Mask k = m; k; k &= k - 1) {
    int i = first_lane(k);
    if (a[i] > params.size() || params.size() - a[i] < bytes)
      fault(kIllegalAddress, i, "access outside the kernel's parameters");
    out->p[i] = const_cast<uint8_t*>(params.data()) + a[i];
  }
  out->row = false;
}

template <class T>
void load_elements(Warp& w, const Instr& in, const MemoryOp& op, Mask m, const Places& at) {
  const int n = op.count;
  for (int k = 0; k < n; ++k) {
    T r[kLanes];
    if (at.row) {
      const uint8_t* p = at.p[0] + k * sizeof(T);
      if (n == 1) {
        std::memcpy(r, p, sizeof(r));
      } else if (n == 2) {
        for (int i = 0; i < kLanes; ++i) std::memcpy(&r[i], p + i * 2 * sizeof(T), sizeof(T));
      } else if (n == 4) {
        for (int i = 0; i < kLanes; ++i) std::memcpy(&r[i], p + i * 4 * sizeof(T), sizeof(T));
      } else {
        for (int i = 0; i < kLanes; ++i) std::memcpy(&r[i], p + i * n * sizeof(T), sizeof(T));
      }
    } else if (m == kFull) {
      for (int i = 0; i < kLanes; ++i) std::memcpy(&r[i], at.p[i] + k * sizeof(T), sizeof(T));
    } else {
      for (Mask x = m; x; x &= x - 1) {
        int i = first_lane(x);
        std::memcpy(&r[i], at.p[i] + k * sizeof(T), sizeof(T));
      }
    }
    const int bytes = op.register_bytes[k];
    const Ref to = in.r[op.data + k];
    if (bytes == sizeof(T)) {
      put(w, to, m, r);
      continue;
    }
    auto widen = [&](auto zero) {
      using D = decltype(zero);
      D x[kLanes];
      for (int i = 0; i < kLanes; ++i)
        x[i] = op.sign ? static_cast<D>(static_cast<std::make_signed_t<T>>(r[i])) : static_cast<D>(r[i]);
      put(w, to, m, x);
    };
    if (bytes == 2)
      widen(uint16_t());
    else if (bytes == 4)
      widen(uint32_t());
    else
      widen(uint64_t());
  }
}

template <class T>
void store_elements(Warp& w, const Instr& in, const MemoryOp& op, Mask m, const Places& at) {
  for (int k = 0; k < op.count; ++k) {
    const uint8_t* s = w.at(in.r[op.data + k]);
    const int stride = op.register_bytes[k];
    if (at.row && stride == sizeof(T)) {
      uint8_t* p = at.p[0] + k * sizeof(T);
      if (op.count == 1) {
        std::memcpy(p, s, sizeof(T) * kLanes);
      } else if (op.count == 4) {
        for (int i = 0; i < kLanes; ++i) std::memcpy(p + i * 4 * sizeof(T), s + i * sizeof(T), sizeof(T));
      } else {
        for (int i = 0; i < kLanes; ++i) std::memcpy(p + i * op.count * sizeof(T), s + i * sizeof(T), sizeof(T));
      }
      continue;
    }
    for (Mask x = m; x; x &= x - 1) {
      int i = first_lane(x);
      std::memcpy(at.p[i] + k * sizeof(T), s + i * stride, sizeof(T));
    }
  }
}

// A write that leaves every byte as it is cannot hurt another write.
bool same_bytes(Warp& w, const Instr& in, const MemoryOp& op, int lane, const uint8_t* p) {
  for (int k = 0; k < op.count; ++k) {
    if (std::memcmp(p + k * op.element, w.at(in.r[op.data + k]) + lane * op.register_bytes[k], op.element))
      return false;
  }
  return true;
}

void shared_places(Warp& w, const Instr& in, const MemoryOp& op, const uint64_t* a, Mask m, bool is_write,
                   Places* out) {
  const uint32_t bytes = op.bytes();
  check_shared_bounds(w, a, m, bytes);
  out->row = is_row(a, m, bytes);
  count_shared(w, in, a, m, bytes, out->row, is_write);
  Block& b = *w.block;
  for (int i = 0; i < kLanes; ++i) out->p[i] = b.shared + ((m >> i & 1) ? a[i] : 0);
  if (!b.shadow.enabled()) return;
  const uint32_t first = static_cast<uint32_t>(a[0]);
  if (out->row &&
      (is_write ? b.shadow.write_row(w.clock, w.id, first, bytes) : b.shadow.read_row(w.clock, w.id, first, bytes)))
    return;
  for (Mask k = m; k; k &= k - 1) {
    const uint32_t i = static_cast<uint32_t>(first_lane(k));
    const uint32_t at = static_cast<uint32_t>(a[i]);
    try {
      if (is_write) {
        b.shadow.write(w.clock, w.id, i, at, bytes, same_bytes(w, in, op, static_cast<int>(i), out->p[i]));
        // Lanes write one after another, so that two lanes with different values for one place are seen.
        for (int e = 0; e < op.count; ++e)
          std::memcpy(out->p[i] + e * op.element, w.at(in.r[op.data + e]) + i * op.register_bytes[e], op.element);
      } else {
        b.shadow.read(w.clock, w.id, i, at, bytes);
      }
    } catch (Fault& f) {
      f.lane = static_cast<int>(i);
      throw;
    }
  }
}

template <bool kStore>
void access(Warp& w, const Instr& in, const MemoryOp& op, Mask m, Space space, const uint64_t* a) {
  const uint32_t bytes = op.bytes();
  Places at;
  switch (space) {
    case Space::kGlobal:
    case Space::kConst:
      check_alignment(a, m, bytes);
      at.row = is_row(a, m, bytes);
      check_global(w, a, m, bytes, at.row, kStore);
      if (space == Space::kGlobal) count_global(w, a, m, bytes, at.row, kStore);
      for (int i = 0; i < kLanes; ++i) at.p[i] = reinterpret_cast<uint8_t*>(a[i]);
      break;
    case Space::kShared:
      check_alignment(a, m, bytes);
      shared_places(w, in, op, a, m, kStore, &at);
      break;
    case Space::kLocal:
      check_alignment(a, m, bytes);
      local_places(w, a, m, bytes, kStore, &at);
      break;
    case Space::kParam:
      if (kStore) fault(kIllegalAddress, first_lane(m), "write to the kernel's parameters");
      param_places(w, a, m, bytes, &at);
      break;
    default: {
      const Windows windows = classify(a, m);
      auto part = [&](Space s, Mask lanes, uint64_t base) {
        if (!lanes) return;
        uint64_t b[kLanes];
        for (int i = 0; i < kLanes; ++i) b[i] = a[i] - base;
        access<kStore>(w, in, op, lanes, s, b);
      };
      part(Space::kGlobal, windows.global, 0);
      part(Space::kShared, windows.shared, kSharedWindow);
      part(Space::kLocal, windows.local, kLocalWindow);
      part(Space::kParam, windows.param, kParamWindow);
      return;
    }
  }
  switch (op.element) {
    case 1:
      kStore ? store_elements<uint8_t>(w, in, op, m, at) : load_elements<uint8_t>(w, in, op, m, at);
      break;
    case 2:
      kStore ? store_elements<uint16_t>(w, in, op, m, at) : load_elements<uint16_t>(w, in, op, m, at);
      break;
    case 4:
      kStore ? store_elements<uint32_t>(w, in, op, m, at) : load_elements<uint32_t>(w, in, op, m, at);
      break;
    default:
      kStore ? store_elements<uint64_t>(w, in, op, m, at) : load_elements<uint64_t>(w, in, op, m, at);
      break;
  }
}

template <bool kStore>
void memory_access(Warp& w, const Instr& in, Mask m) {
  const MemoryOp& op = *static_cast<const MemoryOp*>(in.aux);
  uint64_t a[kLanes];
  lane_addresses(w, in, op, a);
  access<kStore>(w, in, op, m, op.space, a);
}

// Kernel parameters at a fixed offset are the same for all lanes.
template <class T>
void load_param(Warp& w, const Instr& in, Mask m) {
  const MemoryOp& op = *static_cast<const MemoryOp*>(in.aux);
  for (int k = 0; k < op.count; ++k) {
    T v;
    std::memcpy(&v, w.block->launch->params.data() + op.offset + k * static_cast<int>(sizeof(T)), sizeof(T));
    T r[kLanes];
    for (int i = 0; i < kLanes; ++i) r[i] = v;
    put(w, in.r[op.data + k], m, r);
  }
}

Kind kind_of(Space space, bool is_store) {
  switch (space) {
    case Space::kGlobal:
      return is_store ? Kind::kStoreGlobal : Kind::kLoadGlobal;
    case Space::kShared:
      return is_store ? Kind::kStoreShared : Kind::kLoadShared;
    case Space::kLocal:
      return is_store ? Kind::kStoreLocal : Kind::kLoadLocal;
    case Space::kParam:
      return Kind::kLoadParam;
    case Space::kConst:
      return Kind::kLoadConst;
    default:
      return is_store ? Kind::kStoreGeneric : Kind::kLoadGeneric;
  }
}

void take_memory_modifiers(Decoder& d) {
  d.take_one_of({"weak", "relaxed", "acquire", "release", "volatile"});
  d.take_one_of({"cta", "gpu", "sys", "cluster"});
  d.take("nc");
  d.take_cache_hints();
}

void decode_ld(Decoder& d) {
  Space space = take_space(d);
  take_memory_modifiers(d);
  MemoryOp* op = d.aux<MemoryOp>();
  op->count = d.take("v2") ? 2 : d.take("v4") ? 4 : 1;
  Type t = d.take_type();
  d.finish();
  d.expect_operands(2);
  op->element = size_of(t);
  op->sign = is_signed(t);
  if (op->element < 1 || op->element > 8 || op->bytes() > 16) d.fail("this type is not supported");
  const Operand& to = d.operand(0);
  if ((to.kind == Operand::kVector) != (op->count > 1)) d.fail("a vector is loaded into as many registers");
  if (op->count > 1 && static_cast<int>(to.parts.size()) != op->count)
    d.fail("a vector is loaded into as many registers");
  for (int k = 0; k < op->count; ++k) {
    op->register_bytes[k] =
        static_cast<uint8_t>(d.def_wide(op->count > 1 ? to.parts[static_cast<size_t>(k)] : to, op->element));
  }
  decode_address(d, d.operand(1), space, op);
  note_shared_access(d, op->space, op->element);
  if (op->space == Space::kParam && !op->has_base) {
    const Kernel& k = d.names.kernel();
    if (op->offset < 0 || op->offset + op->bytes() > k.param_bytes) d.fail("this lies outside the parameters");
    if (op->element >= 4 && op->register_bytes[0] == op->element) {
      d.emit(op->element == 8 ? load_param<uint64_t> : load_param<uint32_t>, Kind::kLoadParam);
      return;
    }
  }
  d.emit(memory_access<false>, kind_of(op->space, false));
}

void decode_st(Decoder& d) {
  Space space = take_space(d);
  take_memory_modifiers(d);
  MemoryOp* op = d.aux<MemoryOp>();
  op->count = d.take("v2") ? 2 : d.take("v4") ? 4 : 1;
  Type t = d.take_type();
  d.finish();
  d.expect_operands(2);
  op->element = size_of(t);
  if (op->element < 1 || op->element > 8 || op->bytes() > 16) d.fail("this type is not supported");
  decode_address(d, d.operand(0), space, op);
  const Operand& from = d.operand(1);
  if (op->count > 1 && (from.kind != Operand::kVector || static_cast<int>(from.parts.size()) != op->count))
    d.fail("a vector is stored from as many registers");
  op->data = static_cast<int>(d.draft().values.size());
  for (int k = 0; k < op->count; ++k) {
    op->register_bytes[k] =
        static_cast<uint8_t>(d.use_wide(op->count > 1 ? from.parts[static_cast<size_t>(k)] : from, t));
  }
  note_shared_access(d, op->space, op->element);
  d.emit(memory_access<true>, kind_of(op->space, true));
}

void nothing(Warp&, const Instr&, Mask) {}

}  // namespace

void add_memory(DecodeTable& t) {
  t["ld"] = decode_ld;
  t["ldu"] = decode_ld;
  t["st"] = decode_st;
  // Prefetches change nothing that a program can see (9.7.9.15).
  t["prefetch"] = t["prefetchu"] = [](Decoder& d) {
    take_space(d);
    if (d.take_one_of({"L1", "L2", "L2::evict_last", "L2::evict_normal"}) < 0) d.fail("no cache level given");
    d.finish();
    d.expect_operands(1);
    d.address(d.operand(0));
    d.emit(nothing, Kind::kLoadGlobal);
  };
}

}  // namespace gpusim
