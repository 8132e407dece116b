// Branches, exit, barriers: PTX ISA 9.7.12 (control flow) and 9.7.13 (synchronisation).
#include <algorithm>

#include "alu.h"
#include "flow.h"

namespace gpusim {

namespace {

std::string lanes_text(Mask m) {
  std::string s;
  for (; m; m &= m - 1) s += (s.empty() ? "" : ",") + std::to_string(first_lane(m));
  return s;
}

// Two groups of lanes part ways until the branch's immediate post-dominator. The entry for what comes after it is not
// needed where the path that we are on ends at the same place: the one below already waits there.
void split(Warp& w, uint32_t target, Mask taken, uint32_t meet) {
  const Mask rest = w.active & ~taken;
  if (meet != w.rpc) w.stack.push_back({meet, w.rpc, w.active});
  if (w.pc != meet) w.stack.push_back({w.pc, meet, rest});
  w.pc = target;
  w.rpc = meet;
  w.active = taken;
}

void bra(Warp& w, const Instr& in, Mask m) {
  if (m == w.active) {
    w.pc = in.target;
  } else {
    split(w, in.target, m, in.reconverge);
  }
}

void brx(Warp& w, const Instr& in, Mask m) {
  const auto& table = *static_cast<const std::vector<uint32_t>*>(in.aux);
  const uint32_t* index = src<uint32_t>(w, in.r[0]);
  Mask left = m;
  while (left) {
    const int lane = first_lane(left);
    const uint32_t k = index[lane];
    if (k >= table.size()) fault(kLaunchFailed, lane, "brx.idx index " + std::to_string(k) + " is outside its table");
    Mask same = 0;
    for (Mask x = left; x; x &= x - 1) same |= index[first_lane(x)] == k ? 1u << first_lane(x) : 0;
    left &= ~same;
    if (!left && same == w.active) {
      w.pc = table[k];
      return;
    }
    // The others, and lanes that the guard left out, stay at the current place for now.
    const Mask rest = w.active & ~same;
    if (in.reconverge != w.rpc) w.stack.push_back({in.reconverge, w.rpc, w.active});
    const uint32_t here = left ? static_cast<uint32_t>(&in - w.block->kernel->code.data()) : w.pc;
    if (here != in.reconverge) w.stack.push_back({here, in.reconverge, rest});
    w.pc = table[k];
    w.rpc = in.reconverge;
    w.active = same;
    return;  // lanes left over execute this instruction again
  }
}

void leave(Warp& w, Mask m) {
  w.alive &= ~m;
  w.active &= ~m;
  for (auto& e : w.stack) e.mask &= ~m;
  if (!w.active) pop_path(w);
}

void exit_lanes(Warp& w, const Instr&, Mask m) {
  leave(w, m);
}

void trap(Warp&, const Instr&, Mask m) {
  fault(kLaunchFailed, first_lane(m), "trap");
}

void nothing(Warp&, const Instr&, Mask) {}

// in.imm: 0 sync, 1 arrive, 2 red.popc, 3 red.and, 4 red.or. Operands: id, thread count or none.
void barrier(Warp& w, const Instr& in, Mask m) {
  Block& b = *w.block;
  const int op = static_cast<int>(in.imm & 7);
  const bool counted = in.imm & 8;
  const int lane = first_lane(m);
  if (m != w.exist) {
    const Mask missing = w.exist & ~m;
    const Mask gone = missing & ~w.alive;
    fault(kLaunchFailed, lane,
          "divergent barrier: lanes " + lanes_text(missing) + " of this warp do not reach it together with the others" +
              (gone ? " (lanes " + lanes_text(gone) + " have exited)" : ""));
  }
  const int shift = op == 2 ? 1 : 0;  // red.popc has a result before the id
  const uint32_t id = src<uint32_t>(w, in.r[shift])[lane];
  if (id > 15) fault(kLaunchFailed, lane, "barrier number " + std::to_string(id) + " is above 15");
  uint32_t expected = static_cast<uint32_t>(b.warps.size()) * kLanes;
  if (counted) expected = src<uint32_t>(w, in.r[shift + 1])[lane];
  if (expected == 0 || expected % kLanes)
    fault(kLaunchFailed, lane,
          "barrier thread count " + std::to_string(expected) + " is not a multiple of the warp size");
  Barrier& bar = b.barriers[id];
  if (bar.expected && bar.expected != expected) {
    fault(kLaunchFailed, lane,
          "barrier " + std::to_string(id) + ": thread count " + std::to_string(expected) +
              ", but others wait there for " + std::to_string(bar.expected));
  }
  bar.expected = expected;
  bar.arrived += kLanes;
  if (op >= 2) bar.count += static_cast<uint32_t>(__builtin_popcount(w.predicate(in.p[1]) & m));
  for (size_t i = 0; i < bar.known.size(); ++i) bar.known[i] = std::max(bar.known[i], w.clock.known[i]);
  bar.known[w.id] = w.clock.now + 1;
  bar.latest = std::max(bar.latest, w.clock.now);
  if (op == 1) {
    ++w.clock.now;
  } else {
    bar.waiting.push_back(&w);
    w.state = WarpState::kAtBarrier;
    w.barrier = static_cast<int>(id);
    w.waiting = &in;
  }
  if (bar.arrived >= bar.expected) release_barrier(b, static_cast<int>(id));
}

// bar.warp.sync; groups of lanes with different masks may stand at one instruction.
void fence_warp(Warp& w, const Instr& in, Mask m) {
  const uint32_t* members = src<uint32_t>(w, in.r[0]);
  for (Mask x = m; x; x &= x - 1) {
    const uint32_t mine = members[first_lane(x)];
    Mask group = 0;
    for (Mask y = m; y; y &= y - 1) group |= members[first_lane(y)] == mine ? 1u << first_lane(y) : 0;
    require_members(w, mine, group);
  }
  advance_clock(w);
}

void decode_bra(Decoder& d) {
  d.take("uni");
  d.finish();
  d.expect_operands(1);
  uint32_t label;
  if (!d.names.find_label(d.operand(0).name, &label)) d.fail("unknown label '" + d.operand(0).name + "'");
  d.draft().targets.push_back(label);
  decode_jump(&d.draft());
}

void decode_brx(Decoder& d) {
  if (!d.take("idx")) d.fail("only .idx is supported");
  d.take("uni");
  d.finish();
  d.expect_operands(2);
  d.use(d.operand(0), Type::kU32);
  const auto* targets = d.names.find_targets(d.operand(1).name);
  if (!targets) d.fail("unknown branch table '" + d.operand(1).name + "'");
  for (const auto& t : *targets) {
    uint32_t label;
    if (!d.names.find_label(t, &label)) d.fail("unknown label '" + t + "'");
    d.draft().targets.push_back(label);
  }
  d.draft().flow = Flow::kIndexed;
  d.emit(brx, Kind::kControl);
}

void decode_exit(Decoder& d) {
  d.take("uni");
  d.finish();
  d.expect_operands(0);
  d.draft().flow = Flow::kExit;
  d.emit(exit_lanes, Kind::kControl);
}

// bar and barrier (9.7.13.1); bar is barrier.aligned. Every form here demands whole warps.
void decode_bar(Decoder& d) {
  Instr& in = d.draft().in;
  if (d.take("warp")) {  // 9.7.13.2
    if (!d.take("sync")) d.fail("only bar.warp.sync is known");
    d.finish();
    d.expect_operands(1);
    d.use(d.operand(0), Type::kB32);
    d.emit(fence_warp, Kind::kBarrier);
    return;
  }
  d.take("cta");
  d.take("aligned");
  size_t at = 0;
  if (d.take("red")) {
    int op = d.take_one_of({"popc", "and", "or"});
    Type t = d.take_type();
    d.finish();
    if (op < 0 || (op == 0) != (t == Type::kU32)) d.fail("bad reduction");
    in.imm = 2 + op;
    if (op == 0)
      d.def(d.operand(0), 4);
    else
      in.p[0] = d.pred_def(d.operand(0).name);
    at = 1;
  } else {
    int op = d.take_one_of({"sync", "arrive"});
    if (op < 0) d.fail("one of .sync, .arrive, .red is needed");
    in.imm = op;
    d.finish();
  }
  size_t end = d.count() - (in.imm >= 2 ? 1 : 0);
  d.use(d.operand(at), Type::kU32);
  if (end > at + 1) {
    d.use(d.operand(at + 1), Type::kU32);
    in.imm |= 8;
  } else if (in.imm == 1) {
    d.fail(".arrive needs a thread count");
  }
  if ((in.imm & 7) >= 2) in.p[1] = d.pred_use(d.operand(end));
  d.emit(barrier, Kind::kBarrier);
}

void decode_fence(Decoder& d) {
  d.take_one_of({"sc", "acq_rel", "acquire", "release"});
  if (d.take_one_of({"cta", "gpu", "sys", "gl", "cluster"}) < 0) d.fail("no scope given");
  d.finish();
  d.expect_operands(0);
  d.emit([](Warp&, const Instr&, Mask) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }, Kind::kFence);
}

}  // namespace

void decode_jump(Draft* d) {
  d->flow = Flow::kBranch;
  d->in.fn = bra;
  d->in.kind = Kind::kControl;
}

void pop_path(Warp& w) {
  do {
    if (w.stack.empty()) {
      w.state = WarpState::kDone;
      w.active = 0;
      return;
    }
    const StackEntry e = w.stack.back();
    w.stack.pop_back();
    w.pc = e.pc;
    w.rpc = e.rpc;
    w.active = e.mask;
  } while (!w.active);
}

void advance_clock(Warp& w) {
  w.clock.known[w.id] = ++w.clock.now;
  w.clock.oldest = *std::min_element(w.clock.known.begin(), w.clock.known.end());
  if (w.clock.now < SharedShadow::kLastTime) return;
  Block& b = *w.block;
  b.shadow.rebase();
  for (Warp& v : b.warps) {
    v.clock.reset();
    for (size_t i = b.warps.size(); i < 32; ++i) v.clock.known[i] = ~0u;
  }
  for (Barrier& bar : b.barriers) {
    bar.latest = 2;
    bar.known.fill(0);
  }
}

void release_barrier(Block& b, int id) {
  Barrier& bar = b.barriers[id];
  const uint32_t now = bar.latest + 1;
  for (Warp* w : bar.waiting) bar.known[w->id] = now;
  for (Warp* w : bar.waiting) {
    const Instr& in = *w->waiting;
    const int op = static_cast<int>(in.imm & 7);
    if (op == 2) {
      uint32_t r[kLanes];
      for (auto& x : r) x = bar.count;
      put(*w, in.r[0], w->active, r);
    } else if (op == 3 || op == 4) {
      bool yes = op == 3 ? bar.count == std::min(bar.expected, b.threads) : bar.count != 0;
      put_pred(*w, in.p[0], w->active, yes ? kFull : 0);
    }
    w->clock.known = bar.known;
    w->clock.now = now - 1;
    w->state = WarpState::kReady;
    w->barrier = -1;
    w->waiting = nullptr;
  }
  std::vector<Warp*> waiting = std::move(bar.waiting);
  bar = Barrier();
  for (Warp* w : waiting) advance_clock(*w);
}

void require_members(Warp& w, Mask members, Mask m) {
  if (m & ~members)
    fault(kLaunchFailed, first_lane(m & ~members), "lane executes a .sync instruction whose mask leaves it out");
  const Mask missing = members & w.alive & ~m;
  if (missing)
    fault(kLaunchFailed, first_lane(m),
          "lanes " + lanes_text(missing) + " are named in the mask but do not execute this together with the others");
}

void require_whole_warp(Mask m) {
  if (m == kFull) return;
  fault(kLaunchFailed, m ? first_lane(m) : 0,
        "lanes " + lanes_text(~m) + " do not execute this instruction, which needs the whole warp");
}

void add_control(DecodeTable& t) {
  t["bra"] = decode_bra;
  t["brx"] = decode_brx;
  t["exit"] = decode_exit;
  t["ret"] = decode_exit;
  t["trap"] = [](Decoder& d) {
    d.finish();
    d.expect_operands(0);
    d.emit(trap, Kind::kControl);
  };
  t["brkpt"] = t["trap"];
  t["nanosleep"] = [](Decoder& d) {
    d.take_type();
    d.finish();
    d.expect_operands(1);
    d.use(d.operand(0), Type::kU32);
    d.emit(nothing, Kind::kControl);
  };
  t["bar"] = decode_bar;
  t["barrier"] = decode_bar;
  t["membar"] = decode_fence;
  t["fence"] = decode_fence;
}

}  // namespace gpusim
