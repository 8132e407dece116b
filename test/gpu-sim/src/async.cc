// cp.async and its groups: PTX ISA 9.7.9.25.3. The source is read when the instruction is issued; the bytes reach
// shared memory only when a wait of the same thread covers their group, so a kernel that forgets the wait sees the old
// bytes (and the shadow tells).
#include <algorithm>

#include "access.h"
#include "memory_op.h"

namespace gpusim {

namespace {

struct CopyOp {
  MemoryOp to, from;
  uint32_t bytes = 16;
  bool has_size = false;    // operand `size`: how much to read, the rest is zero
  bool has_ignore = false;  // p[0]: read nothing
  int size = 0;
};

void copy(Warp& w, const Instr& in, Mask m) {
  const CopyOp& op = *static_cast<const CopyOp*>(in.aux);
  Block& b = *w.block;
  uint64_t to[kLanes], from[kLanes];
  lane_addresses(w, in, op.to, to);
  lane_addresses(w, in, op.from, from);
  check_alignment(to, m, op.bytes);
  check_shared_bounds(w, to, m, op.bytes);
  w.copies.emplace_back();
  PendingCopy& c = w.copies.back();
  c.lanes = m;
  c.bytes = op.bytes;
  c.instr = &in;
  const Mask ignored = op.has_ignore ? w.predicate(in.p[0]) : 0;
  const uint32_t* sizes = op.has_size ? src<uint32_t>(w, in.r[op.size]) : nullptr;
  Mask whole = 0;
  for (Mask x = m; x; x &= x - 1) {
    const int i = first_lane(x);
    uint32_t size = sizes ? sizes[i] : op.bytes;
    if (size > op.bytes)
      fault(kLaunchFailed, i, "cp.async source size " + std::to_string(size) + " is above its copy size");
    if (ignored >> i & 1) size = 0;
    if (size == op.bytes) {
      whole |= 1u << i;
    } else {
      std::memset(c.data[i], 0, 16);
      if (size) {
        check_alignment(from, 1u << i, op.bytes);
        check_global(w, from, 1u << i, size, false, false);
        std::memcpy(c.data[i], reinterpret_cast<const void*>(from[i]), size);
      }
    }
    c.destination[i] = static_cast<uint32_t>(to[i]);
    c.group[i] = w.committed[i];
  }
  if (whole) {
    check_alignment(from, whole, op.bytes);
    const bool row = is_row(from, whole, op.bytes);
    check_global(w, from, whole, op.bytes, row, false);
    count_global(w, from, whole, op.bytes, row, false);
    for (Mask x = whole; x; x &= x - 1) {
      const int i = first_lane(x);
      std::memcpy(c.data[i], reinterpret_cast<const void*>(from[i]), op.bytes);
    }
  }
  count_shared(w, in, to, m, op.bytes, is_row(to, m, op.bytes), true);
  if (!b.shadow.enabled()) return;
  for (Mask x = m; x; x &= x - 1) {
    const int i = first_lane(x);
    b.shadow.begin_copy(w.clock, w.id, static_cast<uint32_t>(i), c.destination[i], op.bytes);
  }
}

void commit(Warp& w, const Instr&, Mask m) {
  for (Mask x = m; x; x &= x - 1) ++w.committed[first_lane(x)];
}

void land(Warp& w, PendingCopy& c, Mask lanes) {
  Block& b = *w.block;
  for (Mask x = lanes; x; x &= x - 1) {
    const int i = first_lane(x);
    std::memcpy(b.shared + c.destination[i], c.data[i], c.bytes);
    if (b.shadow.enabled()) b.shadow.arrive(w.clock, w.id, static_cast<uint32_t>(i), c.destination[i], c.bytes);
  }
  c.lanes &= ~lanes;
}

// in.imm: how many of the latest groups may still be under way; -1 waits for everything, uncommitted copies too.
void wait(Warp& w, const Instr& in, Mask m) {
  for (PendingCopy& c : w.copies) {
    Mask ready = 0;
    for (Mask x = c.lanes & m; x; x &= x - 1) {
      const int i = first_lane(x);
      if (in.imm < 0 || static_cast<int64_t>(c.group[i]) < static_cast<int64_t>(w.committed[i]) - in.imm)
        ready |= 1u << i;
    }
    if (ready) land(w, c, ready);
  }
  w.copies.erase(std::remove_if(w.copies.begin(), w.copies.end(), [](const PendingCopy& c) { return c.lanes == 0; }),
                 w.copies.end());
}

void decode_cp(Decoder& d) {
  if (!d.take("async")) d.fail("only cp.async is supported");
  if (d.take("commit_group")) {
    d.finish();
    d.expect_operands(0);
    d.emit(commit, Kind::kCpAsync);
    return;
  }
  if (d.take("wait_all")) {
    d.finish();
    d.expect_operands(0);
    d.draft().in.imm = -1;
    d.emit(wait, Kind::kCpAsync);
    return;
  }
  if (d.take("wait_group")) {
    d.finish();
    d.expect_operands(1);
    if (d.operand(0).kind != Operand::kInt) d.fail("the number of groups must be a constant");
    d.draft().in.imm = static_cast<int64_t>(d.operand(0).bits);
    d.emit(wait, Kind::kCpAsync);
    return;
  }
  int cache = d.take_one_of({"ca", "cg"});
  if (!d.take("shared") && !d.take("shared::cta")) d.fail("this form is not supported");
  if (!d.take("global")) d.fail("this form is not supported");
  d.take_one_of({"L2::64B", "L2::128B", "L2::256B"});
  d.finish();
  if (cache < 0) d.fail("one of .ca, .cg is needed");
  CopyOp* op = d.aux<CopyOp>();
  if (d.count() < 3 || d.count() > 4) d.fail("expected 3 or 4 operands");
  decode_address(d, d.operand(0), Space::kShared, &op->to);
  decode_address(d, d.operand(1), Space::kGlobal, &op->from);
  op->bytes = static_cast<uint32_t>(d.operand(2).bits);
  if (d.operand(2).kind != Operand::kInt || (op->bytes != 16 && (cache == 1 || (op->bytes != 4 && op->bytes != 8))))
    d.fail("bad copy size");
  if (d.count() == 4) {
    const Operand& last = d.operand(3);
    const Names::Register* r = d.reg(last);
    if (r && r->predicate) {
      op->has_ignore = true;
      d.draft().in.p[0] = d.pred_use(last);
    } else {
      op->has_size = true;
      op->size = static_cast<int>(d.draft().values.size());
      d.use(last, Type::kU32);
    }
  }
  note_shared_access(d, Space::kShared, static_cast<int>(op->bytes));
  d.emit(copy, Kind::kCpAsync);
}

}  // namespace

void add_async(DecodeTable& t) {
  t["cp"] = decode_cp;
}

}  // namespace gpusim
