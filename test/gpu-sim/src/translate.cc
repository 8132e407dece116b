// Entry function to kernel: names, scopes, calls (inlined), variables; then control flow and registers (flow.h).
#include <algorithm>
#include <set>

#include "decoder.h"
#include "flow.h"
#include "module.h"

namespace gpusim {

namespace {

uint64_t round_up(uint64_t n, uint64_t to) {
  return to ? (n + to - 1) / to * to : n;
}

uint64_t alignment(const VarDecl& v) {
  return v.align ? v.align : std::max(1, size_of(v.type) * v.vector);
}

class Translator : public Names {
 public:
  Translator(const Module& module, const Function& entry, Kernel& kernel) : module_(module), kernel_(kernel) {
    place_shared(entry);
    scopes_.emplace_back();
    depth_.push_back(&entry);
    for (const VarDecl& p : entry.params) {
      uint32_t offset = static_cast<uint32_t>(round_up(kernel.param_bytes, alignment(p)));
      kernel.params.push_back({offset, static_cast<uint32_t>(p.bytes())});
      kernel.param_bytes = offset + static_cast<uint32_t>(p.bytes());
      scopes_.back().variables[p.name] = {Space::kParam, offset};
    }
    body(entry);
    // A body may end without ret; nothing may fall off the end.
    const uint32_t end = static_cast<uint32_t>(drafts_.size());
    const bool open = drafts_.empty() || drafts_.back().flow == Flow::kNext || drafts_.back().flow == Flow::kIndexed ||
                      drafts_.back().in.guard.index;
    if (open || std::find(label_at_.begin(), label_at_.end(), end) != label_at_.end()) {
      Statement exit;
      exit.opcode = "exit";
      exit.line = entry.body.empty() ? entry.line : entry.body.back().line;
      instruction(exit);
    }
    finish();
  }

  const Register* find_register(const std::string& name) const override {
    for (auto s = scopes_.rbegin(); s != scopes_.rend(); ++s) {
      auto it = s->registers.find(name);
      if (it != s->registers.end()) return &it->second;
      if (s->function) break;
    }
    return nullptr;
  }

  bool find_variable(const std::string& name, Variable* out) const override {
    for (auto s = scopes_.rbegin(); s != scopes_.rend(); ++s) {
      auto it = s->variables.find(name);
      if (it != s->variables.end()) {
        *out = it->second;
        return true;
      }
      if (s->function) break;
    }
    auto shared = shared_.find(name);
    if (shared != shared_.end()) {
      *out = {Space::kShared, shared->second};
      return true;
    }
    auto it = module_.variables.find(name);
    if (it == module_.variables.end()) return false;
    *out = {Space::kGlobal, it->second.address};
    return true;
  }

  bool find_label(const std::string& name, uint32_t* id) const override {
    for (auto s = scopes_.rbegin(); s != scopes_.rend(); ++s) {
      auto it = s->labels.find(name);
      if (it != s->labels.end()) {
        *id = it->second;
        return true;
      }
      if (s->function) break;
    }
    return false;
  }

  const std::vector<std::string>* find_targets(const std::string& name) const override {
    for (const Statement& s : depth_.back()->body) {
      if (s.kind == Statement::kTargets && s.opcode == name) return &s.targets;
    }
    return nullptr;
  }

  uint32_t new_register(int bytes) override {
    register_bytes_.push_back(bytes);
    return static_cast<uint32_t>(register_bytes_.size() - 1);
  }

  uint32_t constant(uint64_t bits, int bytes) override {
    auto key = std::make_pair(bytes == 8   ? bits
                              : bytes == 4 ? static_cast<uint32_t>(bits)
                                           : static_cast<uint16_t>(bits),
                              bytes);
    auto it = constants_.find(key);
    if (it != constants_.end()) return it->second;
    uint32_t at = constant_bytes_;
    constant_bytes_ += static_cast<uint32_t>(bytes) * kLanes;
    constants_[key] = at;
    return at;
  }

  bool read_special(const std::string& name, int bytes, uint32_t* id) override {
    Draft d;
    int found;
    if (!decode_special(name, &d.in, &found)) return false;
    if (found != bytes) return false;
    *id = new_register(bytes);
    d.values.push_back({false, *id});
    d.defs.push_back(*id);
    d.in.line = line_;
    drafts_.push_back(std::move(d));
    return true;
  }

  bool in_entry() const override { return depth_.size() == 1; }
  Kernel& kernel() override { return kernel_; }

 private:
  struct Scope {
    bool function = false;  // names do not reach past a function
    std::unordered_map<std::string, Register> registers;
    std::unordered_map<std::string, Variable> variables;
    std::unordered_map<std::string, uint32_t> labels;
  };

  // Static shared memory first, in order of declaration; the dynamic part starts behind it (PTX ISA 5.1.7, 5.4.1).
  void place_shared(const Function& entry) {
    std::set<std::string> used;
    std::set<const Function*> seen;
    collect(entry, &used, &seen);
    std::vector<const VarDecl*> unsized;
    uint64_t size = 0, end_alignment = 1;
    auto place = [&](const VarDecl& v) {
      if (v.unsized) {
        unsized.push_back(&v);
        return;
      }
      size = round_up(size, alignment(v));
      shared_[v.name] = size;
      size += v.bytes();
    };
    for (const VarDecl& v : module_.ast.variables) {
      if (v.space != Space::kShared) continue;
      // As ptxas does: dynamic memory begins where the most demanding such variable of the whole module could, whether
      // this kernel uses that one or not.
      if (v.unsized) end_alignment = std::max(end_alignment, alignment(v));
      if (used.count(v.name)) place(v);
    }
    for (const Function* f : seen) {
      for (const Statement& s : f->body) {
        if (s.kind == Statement::kVariable && s.variable.space == Space::kShared) place(s.variable);
      }
    }
    kernel_.shared_bytes = static_cast<uint32_t>(round_up(size, end_alignment));
    for (const VarDecl* v : unsized) shared_[v->name] = kernel_.shared_bytes;
    constexpr uint32_t kMost = 48 * 1024;  // for ptxas; only the dynamic part may grow
    if (kernel_.shared_bytes > kMost)
      throw LoadError(entry.line, "static shared memory of " + std::to_string(kernel_.shared_bytes) +
                                      " bytes, expected " + std::to_string(kMost) + " at most");
    kernel_.max_dynamic_shared = kMost - kernel_.shared_bytes;
  }

  void collect_names(const Operand& o, std::set<std::string>* used) {
    if (!o.name.empty()) used->insert(o.name);
    for (const Operand& p : o.parts) collect_names(p, used);
  }

  void collect(const Function& f, std::set<std::string>* used, std::set<const Function*>* seen) {
    if (!seen->insert(&f).second) return;
    for (const Statement& s : f.body) {
      for (const Operand& o : s.operands) collect_names(o, used);
      if (s.opcode != "call" || s.operands.size() != 3) continue;
      auto it = module_.ast.functions.find(s.operands[1].name);
      if (it != module_.ast.functions.end()) collect(it->second, used, seen);
    }
  }

  uint32_t new_label() {
    label_at_.push_back(~0u);
    return static_cast<uint32_t>(label_at_.size() - 1);
  }

  // Labels of the scope that begins at statement `from`, inner scopes left out.
  void declare_labels(const Function& f, size_t from) {
    int depth = 0;
    for (size_t i = from; i < f.body.size(); ++i) {
      const Statement& s = f.body[i];
      if (s.kind == Statement::kOpen) ++depth;
      if (s.kind == Statement::kClose && depth-- == 0) break;
      if (s.kind == Statement::kLabel && depth == 0) scopes_.back().labels[s.opcode] = new_label();
    }
  }

  void body(const Function& f) {
    scopes_.back().function = true;
    declare_labels(f, 0);
    for (size_t i = 0; i < f.body.size(); ++i) {
      const Statement& s = f.body[i];
      switch (s.kind) {
        case Statement::kOpen:
          scopes_.emplace_back();
          declare_labels(f, i + 1);
          break;
        case Statement::kClose:
          scopes_.pop_back();
          break;
        case Statement::kLabel:
          label_at_[scopes_.back().labels.at(s.opcode)] = static_cast<uint32_t>(drafts_.size());
          break;
        case Statement::kVariable:
          declare(s.variable);
          break;
        case Statement::kTargets:
          break;
        case Statement::kInstruction:
          if (s.opcode == "call") {
            call(s);
          } else {
            instruction(s);
          }
          break;
      }
    }
  }

  void declare(const VarDecl& v) {
    Scope& scope = scopes_.back();
    if (v.space == Space::kReg) {
      auto one = [&](const std::string& name) {
        if (v.type == Type::kPred) {
          scope.registers[name] = {true, kernel_.predicate_count++, 0};
        } else if (v.type == Type::kB128 || v.vector != 1) {
          throw LoadError(v.line, "128-bit and vector registers are not supported");
        } else {
          int bytes = std::max(size_of(v.type), 2);
          scope.registers[name] = {false, new_register(bytes), bytes};
        }
      };
      if (!v.range) one(v.name);
      for (uint32_t i = 0; i < v.range; ++i) one(v.name + std::to_string(i));
    } else if (v.space == Space::kLocal || v.space == Space::kParam) {
      uint64_t at = round_up(kernel_.local_bytes, std::max<uint64_t>(alignment(v), 4));
      kernel_.local_bytes = static_cast<uint32_t>(at + v.bytes());
      scope.variables[v.name] = {Space::kLocal, at};
    } else if (v.space != Space::kShared) {
      throw LoadError(v.line, "variable '" + v.name + "' in this space cannot stand inside a function");
    }
  }

  // PTX ISA 9.7.12.5. The callee's body is put in place of the call; parameters lie in local memory.
  void call(const Statement& s) {
    const std::string& name = s.operands[1].name;
    auto it = module_.ast.functions.find(name);
    if (it == module_.ast.functions.end() || !it->second.defined)
      throw LoadError(s.line, "call of '" + name + "', which this module does not define");
    const Function& f = it->second;
    if (std::find(depth_.begin(), depth_.end(), &f) != depth_.end())
      throw LoadError(s.line, "recursive call of '" + name + "' is not supported");
    Scope scope;
    bind(s, f.results, s.operands[0], &scope);
    bind(s, f.params, s.operands[2], &scope);
    uint32_t back = new_label();
    uint32_t over = 0;
    if (!s.guard.empty()) {  // a guarded call jumps over the body
      over = new_label();
      Statement skip;
      skip.opcode = "bra";
      skip.line = s.line;
      skip.guard = s.guard;
      skip.guard_negated = !s.guard_negated;
      Operand label;
      label.kind = Operand::kLabelOrSymbol;
      label.name = "$call_end";
      skip.operands.push_back(label);
      scopes_.emplace_back();
      scopes_.back().labels["$call_end"] = over;
      instruction(skip);
      scopes_.pop_back();
    }
    scopes_.push_back(std::move(scope));
    depth_.push_back(&f);
    return_labels_.push_back(back);
    body(f);
    return_labels_.pop_back();
    depth_.pop_back();
    scopes_.pop_back();
    label_at_[back] = static_cast<uint32_t>(drafts_.size());
    if (!s.guard.empty()) label_at_[over] = static_cast<uint32_t>(drafts_.size());
  }

  void bind(const Statement& s, const std::vector<VarDecl>& formals, const Operand& actuals, Scope* scope) {
    if (formals.size() != actuals.parts.size()) throw LoadError(s.line, "call with the wrong number of parameters");
    for (size_t i = 0; i < formals.size(); ++i) {
      Variable v;
      if (actuals.parts[i].kind != Operand::kLabelOrSymbol || !find_variable(actuals.parts[i].name, &v) ||
          v.space != Space::kLocal) {
        throw LoadError(s.line, "call parameters must be .param variables");
      }
      scope->variables[formals[i].name] = v;
    }
  }

  void instruction(const Statement& s) {
    line_ = static_cast<uint32_t>(s.line);
    Draft d;
    d.in.line = line_;
    d.in.source_file = s.source_file;
    d.in.source_line = s.source_line;
    Decoder decoder(s, *this, d);
    if (!s.guard.empty()) {
      d.in.guard = decoder.pred_def(s.guard);
      d.in.guard.negated = s.guard_negated;
    }
    if (s.opcode == "ret" && depth_.size() > 1) {  // back to the caller
      d.flow = Flow::kBranch;
      d.targets.push_back(return_labels_.back());
      decode_jump(&d);
    } else {
      auto it = decode_table().find(s.opcode);
      if (it == decode_table().end()) decoder.fail("unknown instruction");
      it->second(decoder);
    }
    drafts_.push_back(std::move(d));
  }

  void finish() {
    for (Draft& d : drafts_) {
      for (uint32_t& t : d.targets) t = label_at_[t];
    }
    kernel_.constants_storage = std::make_unique<uint8_t[]>(constant_bytes_ + 128);
    kernel_.constants =
        reinterpret_cast<uint8_t*>((reinterpret_cast<uintptr_t>(kernel_.constants_storage.get()) + 63) / 64 * 64);
    for (const auto& c : constants_) {
      for (int lane = 0; lane < kLanes; ++lane) {
        std::memcpy(kernel_.constants + c.second + lane * c.first.second, &c.first.first, c.first.second);
      }
    }
    build_code(drafts_, register_bytes_, &kernel_);
  }

  const Module& module_;
  Kernel& kernel_;
  std::vector<Scope> scopes_;
  std::vector<const Function*> depth_;  // the entry and the functions being inlined
  std::vector<uint32_t> return_labels_;
  std::unordered_map<std::string, uint64_t> shared_;
  std::vector<Draft> drafts_;
  std::vector<int> register_bytes_;
  std::map<std::pair<uint64_t, int>, uint32_t> constants_;
  uint32_t constant_bytes_ = 0;
  std::vector<uint32_t> label_at_;
  uint32_t line_ = 0;
};

}  // namespace

std::unique_ptr<Kernel> translate(const Module& module, const Function& entry) {
  auto kernel = std::make_unique<Kernel>();
  kernel->name = entry.name;
  kernel->module = &module;
  if (entry.max_threads) kernel->max_threads = entry.max_threads;
  kernel->shared_granule_shift = 2;
  Translator(module, entry, *kernel);
  return kernel;
}

}  // namespace gpusim
