#include "flow.h"

#include <algorithm>
#include <map>

namespace gpusim {

namespace {

constexpr uint32_t kNowhere = ~0u;

struct BasicBlock {
  uint32_t first, last;  // instructions, both included
  std::vector<uint32_t> next, previous;
};

struct Graph {
  std::vector<BasicBlock> blocks;
  std::vector<uint32_t> block_of;  // per instruction
};

bool guarded(const Draft& d) {
  return d.in.guard.index != 0 || d.in.guard.negated;
}

Graph build_graph(const std::vector<Draft>& drafts) {
  const uint32_t n = static_cast<uint32_t>(drafts.size());
  std::vector<bool> leader(n + 1, false);
  leader[0] = true;
  for (uint32_t i = 0; i < n; ++i) {
    if (drafts[i].flow == Flow::kNext) continue;
    leader[i + 1] = true;
    for (uint32_t t : drafts[i].targets) leader[t] = true;
  }
  Graph g;
  g.block_of.resize(n);
  for (uint32_t i = 0; i < n; ++i) {
    if (leader[i]) g.blocks.push_back({i, i, {}, {}});
    g.blocks.back().last = i;
    g.block_of[i] = static_cast<uint32_t>(g.blocks.size() - 1);
  }
  for (uint32_t b = 0; b < g.blocks.size(); ++b) {
    const Draft& d = drafts[g.blocks[b].last];
    auto& next = g.blocks[b].next;
    for (uint32_t t : d.targets) next.push_back(g.block_of[t]);
    bool falls = d.flow == Flow::kNext || guarded(d);
    if (falls && g.blocks[b].last + 1 < n) next.push_back(g.block_of[g.blocks[b].last + 1]);
    std::sort(next.begin(), next.end());
    next.erase(std::unique(next.begin(), next.end()), next.end());
  }
  for (uint32_t b = 0; b < g.blocks.size(); ++b) {
    for (uint32_t s : g.blocks[b].next) g.blocks[s].previous.push_back(b);
  }
  return g;
}

bool leaves(const Draft& d) {
  return d.flow == Flow::kExit && !guarded(d);
}

// Successors for the search of meeting points; the block behind the last stands for the end of the kernel. Lanes that
// exit meet nobody, so with `forget_exits` early exits lead nowhere: guarded ones, jumps to a bare exit, and every exit
// but the last. What remains is the way of the lanes that go on.
std::vector<std::vector<uint32_t>> meeting_graph(const Graph& g, const std::vector<Draft>& drafts, bool forget_exits) {
  const uint32_t n = static_cast<uint32_t>(g.blocks.size()), end = n;
  std::vector<std::vector<uint32_t>> next(n);
  uint32_t last_exit = 0;
  for (uint32_t b = 0; b < n; ++b) {
    const bool reached = b == 0 || !g.blocks[b].previous.empty();
    if (reached && drafts[g.blocks[b].last].flow == Flow::kExit) last_exit = b;
  }
  for (uint32_t b = 0; b < n; ++b) {
    const Draft& d = drafts[g.blocks[b].last];
    for (uint32_t s : g.blocks[b].next) {
      const bool bare = g.blocks[s].first == g.blocks[s].last && leaves(drafts[g.blocks[s].first]);
      if (forget_exits && bare && s != b + 1) continue;
      next[b].push_back(s);
    }
    if (d.flow == Flow::kExit && (!forget_exits || b == last_exit)) next[b].push_back(end);
  }
  return next;
}

// Immediate post-dominator of each block (Cooper, Harvey and Kennedy's iteration on the reversed graph); kNowhere for
// blocks from which the end cannot be reached.
std::vector<uint32_t> post_dominators(const std::vector<std::vector<uint32_t>>& next) {
  const uint32_t n = static_cast<uint32_t>(next.size()), end = n;
  std::vector<std::vector<uint32_t>> previous(n + 1);
  for (uint32_t b = 0; b < n; ++b) {
    for (uint32_t s : next[b]) previous[s].push_back(b);
  }
  std::vector<uint32_t> order, number(n + 1, kNowhere);
  std::vector<std::pair<uint32_t, size_t>> walk{{end, 0}};
  std::vector<bool> seen(n + 1, false);
  seen[end] = true;
  while (!walk.empty()) {
    auto& top = walk.back();
    if (top.second < previous[top.first].size()) {
      uint32_t p = previous[top.first][top.second++];
      if (!seen[p]) {
        seen[p] = true;
        walk.push_back({p, 0});
      }
    } else {
      number[top.first] = static_cast<uint32_t>(order.size());
      order.push_back(top.first);
      walk.pop_back();
    }
  }
  std::vector<uint32_t> idom(n + 1, kNowhere);
  idom[end] = end;
  for (bool changed = true; changed;) {
    changed = false;
    for (size_t k = order.size(); k-- > 0;) {
      uint32_t b = order[k];
      if (b == end) continue;
      uint32_t best = kNowhere;
      for (uint32_t s : next[b]) {
        if (idom[s] == kNowhere) continue;
        if (best == kNowhere) {
          best = s;
          continue;
        }
        uint32_t x = best, y = s;
        while (x != y) {
          while (number[x] < number[y]) x = idom[x];
          while (number[y] < number[x]) y = idom[y];
        }
        best = x;
      }
      if (best != idom[b]) {
        idom[b] = best;
        changed = true;
      }
    }
  }
  return idom;
}

// Where the lanes that part at the end of a block meet again: the nearest block that all of them reach or exit before.
// The graph without early exits gives it wherever the kernel's end can be reached in it (blocks on such ways lie inside
// one another as post-dominators do); the others are on their way to an early exit and meet by the whole graph.
std::vector<uint32_t> meeting_points(const Graph& g, const std::vector<Draft>& drafts) {
  std::vector<uint32_t> meet = post_dominators(meeting_graph(g, drafts, true));
  const std::vector<uint32_t> whole = post_dominators(meeting_graph(g, drafts, false));
  for (size_t b = 0; b < meet.size(); ++b) {
    if (meet[b] == kNowhere) meet[b] = whole[b];
  }
  return meet;
}

using Bits = std::vector<uint64_t>;
bool test(const Bits& b, uint32_t i) {
  return b[i >> 6] >> (i & 63) & 1;
}
void set(Bits& b, uint32_t i) {
  b[i >> 6] |= 1ull << (i & 63);
}
void clear(Bits& b, uint32_t i) {
  b[i >> 6] &= ~(1ull << (i & 63));
}

// Registers alive at the end of each block. Lanes have their own copies, so this is the liveness of one thread.
std::vector<Bits> live_out(const Graph& g, const std::vector<Draft>& drafts, size_t registers, std::vector<Bits>* in) {
  const size_t n = g.blocks.size(), words = (registers + 63) / 64;
  std::vector<Bits> use(n, Bits(words)), def(n, Bits(words)), out(n, Bits(words));
  in->assign(n, Bits(words));
  for (size_t b = 0; b < n; ++b) {
    for (uint32_t i = g.blocks[b].first; i <= g.blocks[b].last; ++i) {
      for (uint32_t r : drafts[i].uses) {
        if (!test(def[b], r)) set(use[b], r);
      }
      for (uint32_t r : drafts[i].defs) {
        if (!guarded(drafts[i])) set(def[b], r);  // a guarded result may leave the old value
      }
    }
  }
  for (bool changed = true; changed;) {
    changed = false;
    for (size_t b = n; b-- > 0;) {
      for (uint32_t s : g.blocks[b].next) {
        for (size_t w = 0; w < words; ++w) out[b][w] |= (*in)[s][w];
      }
      for (size_t w = 0; w < words; ++w) {
        uint64_t v = use[b][w] | (out[b][w] & ~def[b][w]);
        if (v != (*in)[b][w]) {
          (*in)[b][w] = v;
          changed = true;
        }
      }
    }
  }
  return out;
}

// Linear scan: registers whose lives do not overlap share a place, so that a warp's registers stay in the cache.
std::vector<uint32_t> place_registers(const Graph& g, const std::vector<Draft>& drafts, const std::vector<int>& bytes,
                                      Kernel* kernel) {
  const size_t n = bytes.size();
  std::vector<Bits> in;
  std::vector<Bits> out = live_out(g, drafts, n, &in);
  std::vector<uint32_t> first(n, kNowhere), last(n, 0);
  auto touch = [&](uint32_t r, uint32_t i) {
    first[r] = std::min(first[r], i);
    last[r] = std::max(last[r], i);
  };
  uint32_t most = 0;
  for (size_t b = 0; b < g.blocks.size(); ++b) {
    Bits alive = out[b];
    uint32_t count = 0;
    for (uint32_t r = 0; r < n; ++r) {
      if (test(in[b], r)) touch(r, g.blocks[b].first);
      if (!test(alive, r)) continue;
      touch(r, g.blocks[b].last);
      count += bytes[r] == 8 ? 2 : 1;
    }
    most = std::max(most, count);
    for (uint32_t i = g.blocks[b].last + 1; i-- > g.blocks[b].first;) {
      for (uint32_t r : drafts[i].defs) {
        touch(r, i);
        if (guarded(drafts[i]) || !test(alive, r)) continue;
        clear(alive, r);
        count -= bytes[r] == 8 ? 2 : 1;
      }
      for (uint32_t r : drafts[i].uses) {
        touch(r, i);
        if (test(alive, r)) continue;
        set(alive, r);
        count += bytes[r] == 8 ? 2 : 1;
      }
      most = std::max(most, count);
    }
  }
  kernel->live_registers = most;

  std::vector<uint32_t> by_first;
  for (uint32_t r = 0; r < n; ++r) {
    if (first[r] != kNowhere) by_first.push_back(r);
  }
  std::sort(by_first.begin(), by_first.end(),
            [&](uint32_t a, uint32_t b) { return first[a] != first[b] ? first[a] < first[b] : a < b; });
  struct Pool {
    std::vector<uint32_t> free;
    std::multimap<uint32_t, uint32_t> busy;  // end of life -> place
    uint32_t count = 0;
  };
  std::map<int, Pool> pools;
  std::vector<uint32_t> place(n, 0);
  for (uint32_t r : by_first) {
    Pool& p = pools[bytes[r]];
    while (!p.busy.empty() && p.busy.begin()->first < first[r]) {
      p.free.push_back(p.busy.begin()->second);
      p.busy.erase(p.busy.begin());
    }
    if (p.free.empty()) {
      place[r] = p.count++;
    } else {
      place[r] = p.free.back();
      p.free.pop_back();
    }
    p.busy.emplace(last[r], place[r]);
  }
  std::map<int, uint32_t> base;
  uint32_t size = 0;
  for (int b : {8, 4, 2}) {
    base[b] = size;
    size += pools[b].count * static_cast<uint32_t>(b) * kLanes;
  }
  for (uint32_t r = 0; r < n; ++r) place[r] = base[bytes[r]] + place[r] * static_cast<uint32_t>(bytes[r]) * kLanes;
  kernel->register_bytes = (size + 63) / 64 * 64;
  return place;
}

// Dominators over the forward graph, as bit sets: small graphs, simple code.
std::vector<Bits> dominators(const Graph& g) {
  const uint32_t n = static_cast<uint32_t>(g.blocks.size());
  const size_t words = (n + 63) / 64;
  std::vector<Bits> dom(n, Bits(words, ~0ull));
  dom[0].assign(words, 0);
  set(dom[0], 0);
  for (bool changed = true; changed;) {
    changed = false;
    for (uint32_t b = 1; b < n; ++b) {
      Bits v(words, ~0ull);
      for (uint32_t p : g.blocks[b].previous) {
        for (size_t w = 0; w < words; ++w) v[w] &= dom[p][w];
      }
      set(v, b);
      if (v != dom[b]) {
        dom[b] = v;
        changed = true;
      }
    }
  }
  return dom;
}

void find_loops(const Graph& g, Kernel* kernel) {
  std::vector<Bits> dom = dominators(g);
  const uint32_t n = static_cast<uint32_t>(g.blocks.size());
  std::map<uint32_t, std::vector<bool>> by_header;
  for (uint32_t b = 0; b < n; ++b) {
    for (uint32_t h : g.blocks[b].next) {
      if (!test(dom[b], h)) continue;
      auto& in = by_header[h];
      in.resize(n, false);
      in[h] = true;
      std::vector<uint32_t> todo{b};
      while (!todo.empty()) {
        uint32_t x = todo.back();
        todo.pop_back();
        if (in[x]) continue;
        in[x] = true;
        for (uint32_t p : g.blocks[x].previous) todo.push_back(p);
      }
    }
  }
  for (const auto& l : by_header) {
    Loop loop{g.blocks[l.first].first, 0, {}};
    for (uint32_t b = 0; b < n; ++b) {
      if (!l.second[b]) continue;
      for (uint32_t i = g.blocks[b].first; i <= g.blocks[b].last; ++i) loop.instructions.push_back(i);
      loop.first = std::min(loop.first, g.blocks[b].first);
      loop.last = std::max(loop.last, g.blocks[b].last);
    }
    kernel->loops.push_back(std::move(loop));
  }
}

}  // namespace

void build_code(std::vector<Draft>& drafts, const std::vector<int>& register_bytes, Kernel* kernel) {
  for (const Draft& d : drafts) {
    for (uint32_t t : d.targets) {
      if (t >= drafts.size()) throw LoadError(static_cast<int>(d.in.line), "branch to a label that does not exist");
    }
  }
  Graph g = build_graph(drafts);
  std::vector<uint32_t> meet = meeting_points(g, drafts);
  std::vector<uint32_t> place = place_registers(g, drafts, register_bytes, kernel);
  find_loops(g, kernel);
  const uint32_t end = static_cast<uint32_t>(g.blocks.size());
  for (uint32_t i = 0; i < drafts.size(); ++i) {
    Draft& d = drafts[i];
    auto refs = std::make_unique<Ref[]>(d.values.size() + 1);
    for (size_t k = 0; k < d.values.size(); ++k) {
      refs[k].v = d.values[k].constant ? Ref::kConstant | d.values[k].id : place[d.values[k].id];
    }
    d.in.r = refs.get();
    kernel->refs.push_back(std::move(refs));
    if (!d.targets.empty()) {
      d.in.target = d.targets[0];
      uint32_t to = meet[g.block_of[i]];
      d.in.reconverge = to == end || to == kNowhere ? static_cast<uint32_t>(drafts.size()) : g.blocks[to].first;
    }
    if (d.flow == Flow::kIndexed) {
      auto table = std::make_shared<std::vector<uint32_t>>(d.targets);
      kernel->aux.push_back(table);
      d.in.aux = table.get();
    }
    kernel->code.push_back(d.in);
  }
}

}  // namespace gpusim
