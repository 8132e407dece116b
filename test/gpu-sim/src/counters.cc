#include "counters.h"

#include <algorithm>

namespace gpusim {

const char* kind_name(Kind kind) {
  static const char* const kNames[] = {"int",       "float",      "half",       "double",   "special",  "convert",
                                       "move",      "predicate",  "control",    "barrier",  "shuffle",  "ld.global",
                                       "st.global", "ld.shared",  "st.shared",  "ld.local", "st.local", "ld.param",
                                       "ld.const",  "ld.generic", "st.generic", "atomic",   "ldmatrix", "stmatrix",
                                       "mma",       "cp.async",   "fence"};
  static_assert(sizeof(kNames) / sizeof(kNames[0]) == static_cast<size_t>(Kind::kCount), "one name per kind");
  return kNames[static_cast<int>(kind)];
}

namespace {

// What all blocks of a launch would count where only some of each row were run.
uint64_t scaled(const Launch& l, uint64_t count) {
  const uint64_t run = l.run_per_row();
  return (count * l.grid.x + run / 2) / run;
}

MemoryCounters scaled(const Launch& l, MemoryCounters m) {
  for (uint64_t* n : {&m.global_sectors, &m.global_sectors_fewest, &m.global_read_sectors, &m.global_write_sectors,
                      &m.global_read_bytes, &m.global_write_bytes, &m.shared_wavefronts, &m.shared_conflicts,
                      &m.shared_read_bytes, &m.shared_write_bytes, &m.local_bytes}) {
    *n = scaled(l, *n);
  }
  return m;
}

}  // namespace

void Counters::add(const Launch& l, const Outcome& o) {
  const Kernel& kernel = *l.kernel;
  KernelCount& k = kernels_[kernel.name];
  ++k.launches;
  const uint64_t blocks = static_cast<uint64_t>(l.grid.x) * l.grid.y * l.grid.z;
  k.blocks += blocks;
  k.warps += blocks * ((static_cast<uint64_t>(l.block.x) * l.block.y * l.block.z + 31) / 32);
  k.blocks_run += o.blocks_run;
  k.unlike = std::max(k.unlike, o.unlike);
  k.threads = l.block.x * l.block.y * l.block.z;
  k.memory.add(scaled(l, o.memory));
  k.static_shared = kernel.shared_bytes;
  k.most_dynamic_shared = std::max(k.most_dynamic_shared, l.dynamic_shared);
  k.local_bytes = kernel.local_bytes;
  k.live_registers = kernel.live_registers;
  for (size_t i = 0; i < kernel.code.size(); ++i) {
    const uint64_t executed = scaled(l, o.executed[i]);
    k.instructions += executed;
    k.by_kind[static_cast<int>(kernel.code[i].kind)] += executed;
  }
  if (k.loops.size() != kernel.loops.size()) k.loops.clear();
  for (size_t n = 0; n < kernel.loops.size(); ++n) {
    const Loop& loop = kernel.loops[n];
    if (k.loops.size() <= n) k.loops.push_back({kernel.code[loop.first].line, kernel.code[loop.last].line, {}, 0});
    for (uint32_t i : loop.instructions) {
      k.loops[n].by_kind[static_cast<int>(kernel.code[i].kind)] += scaled(l, o.executed[i]);
      k.loops[n].conflicts += scaled(l, o.conflicts[i]);
    }
  }
}

namespace {

std::string kinds_json(const uint64_t* by_kind) {
  std::string s = "{";
  for (int i = 0; i < static_cast<int>(Kind::kCount); ++i) {
    if (!by_kind[i]) continue;
    s += (s.size() > 1 ? "," : "") +
         ("\"" + std::string(kind_name(static_cast<Kind>(i))) + "\":" + std::to_string(by_kind[i]));
  }
  return s + "}";
}

}  // namespace

std::string Counters::json() const {
  std::string s = "{\"kernels\":{";
  bool first = true;
  for (const auto& entry : kernels_) {
    const KernelCount& k = entry.second;
    auto field = [&](const char* name, uint64_t v) { s += ",\"" + std::string(name) + "\":" + std::to_string(v); };
    s += std::string(first ? "" : ",") + "\"" + entry.first + "\":{\"launches\":" + std::to_string(k.launches);
    first = false;
    field("blocks", k.blocks);
    field("blocks_run", k.blocks_run);
    s += ",\"unlike\":" + std::to_string(k.unlike);
    field("threads", k.threads);
    field("warps", k.warps);
    field("instructions", k.instructions);
    s += ",\"by_kind\":" + kinds_json(k.by_kind);
    field("mma", k.by_kind[static_cast<int>(Kind::kMma)]);
    field("global_sectors", k.memory.global_sectors);
    field("global_sectors_fewest", k.memory.global_sectors_fewest);
    field("global_read_sectors", k.memory.global_read_sectors);
    field("global_write_sectors", k.memory.global_write_sectors);
    field("global_read_bytes", k.memory.global_read_bytes);
    field("global_write_bytes", k.memory.global_write_bytes);
    field("shared_wavefronts", k.memory.shared_wavefronts);
    field("shared_conflicts", k.memory.shared_conflicts);
    field("shared_read_bytes", k.memory.shared_read_bytes);
    field("shared_write_bytes", k.memory.shared_write_bytes);
    field("local_bytes", k.memory.local_bytes);
    field("static_shared", k.static_shared);
    field("dynamic_shared", k.most_dynamic_shared);
    field("local_frame", k.local_bytes);
    field("live_registers", k.live_registers);
    s += ",\"loops\":[";
    for (size_t i = 0; i < k.loops.size(); ++i) {
      const LoopCount& l = k.loops[i];
      uint64_t total = 0;
      for (uint64_t n : l.by_kind) total += n;
      s += std::string(i ? "," : "") + "{\"ptx_lines\":[" + std::to_string(l.first_line) + "," +
           std::to_string(l.last_line) + "],\"instructions\":" + std::to_string(total) +
           ",\"mma\":" + std::to_string(l.by_kind[static_cast<int>(Kind::kMma)]) +
           ",\"shared_conflicts\":" + std::to_string(l.conflicts) + ",\"by_kind\":" + kinds_json(l.by_kind) + "}";
    }
    s += "]}";
  }
  return s + "}}";
}

}  // namespace gpusim
