#include "decoder.h"

#include <algorithm>

namespace gpusim {

void Decoder::fail(const std::string& message) const {
  std::string full = statement_.opcode;
  for (const auto& m : statement_.modifiers) full += "." + m;
  throw LoadError(statement_.line, full + ": " + message);
}

bool Decoder::take(const char* modifier) {
  auto it = std::find(mods_.begin(), mods_.end(), modifier);
  if (it == mods_.end()) return false;
  mods_.erase(it);
  return true;
}

int Decoder::take_one_of(std::initializer_list<const char*> modifiers) {
  int i = 0;
  for (const char* m : modifiers) {
    if (take(m)) return i;
    ++i;
  }
  return -1;
}

Type Decoder::take_type_or(Type otherwise) {
  for (auto it = mods_.begin(); it != mods_.end(); ++it) {
    Type t = type_from_name(*it);
    if (t != Type::kNone) {
      mods_.erase(it);
      return t;
    }
  }
  return otherwise;
}

Type Decoder::take_type() {
  Type t = take_type_or(Type::kNone);
  if (t == Type::kNone) fail("no type given");
  return t;
}

Round Decoder::take_rounding() {
  switch (take_one_of({"rn", "rz", "rm", "rp", "rna"})) {
    case 0:
      return Round::kNearest;
    case 1:
      return Round::kZero;
    case 2:
      return Round::kDown;
    case 3:
      return Round::kUp;
    case 4:
      return Round::kNearestAway;
    default:
      return Round::kNone;
  }
}

// Hints change no result (PTX ISA 9.7.9.1, 9.7.9.2).
void Decoder::take_cache_hints() {
  take_one_of({"ca", "cg", "cs", "lu", "cv", "wb", "wt"});
  take_one_of({"L1::evict_normal", "L1::evict_unchanged", "L1::evict_first", "L1::evict_last", "L1::no_allocate"});
  take_one_of({"L2::64B", "L2::128B", "L2::256B"});
  take_one_of({"L2::evict_first", "L2::evict_last", "L2::evict_normal"});
}

void Decoder::finish() {
  if (!mods_.empty()) fail("modifier '." + mods_.front() + "' is not supported");
}

const Operand& Decoder::operand(size_t i) const {
  if (i >= statement_.operands.size()) fail("too few operands");
  return statement_.operands[i];
}

void Decoder::expect_operands(size_t n) const {
  if (count() != n) fail("expected " + std::to_string(n) + " operands, found " + std::to_string(count()));
}

int Decoder::def_wide(const Operand& o, int least_bytes) {
  if (o.kind == Operand::kSink) {
    int bytes = std::max(least_bytes, 2);
    uint32_t id = names.new_register(bytes);
    out_.defs.push_back(id);
    out_.values.push_back({false, id});
    return bytes;
  }
  const Names::Register* r = reg(o);
  if (!r || r->predicate) fail("result '" + o.name + "' is not a register of the right kind");
  if (r->bytes < least_bytes) fail("result '" + o.name + "' is too narrow");
  out_.defs.push_back(r->id);
  out_.values.push_back({false, r->id});
  return r->bytes;
}

void Decoder::def(const Operand& o, int bytes) {
  int found = def_wide(o, bytes);
  if (found != std::max(bytes, 2)) fail("result '" + o.name + "' has " + std::to_string(found * 8) + " bits");
}

int Decoder::use_wide(const Operand& o, Type type) {
  int bytes = std::max(size_of(type), 2);
  if (o.negated) fail("'!' is for predicates only");
  if (o.kind == Operand::kInt || o.kind == Operand::kFloat) {
    uint64_t bits = o.bits;
    if (o.kind == Operand::kFloat && type == Type::kF64 && o.single) {
      bits = bit_cast<uint64_t>(static_cast<double>(bit_cast<float>(static_cast<uint32_t>(o.bits))));
    } else if (o.kind == Operand::kFloat && !o.single && bytes == 4) {
      bits = bit_cast<uint32_t>(static_cast<float>(bit_cast<double>(o.bits)));
    } else if (o.kind == Operand::kInt && type == Type::kF32) {
      bits = bit_cast<uint32_t>(static_cast<float>(static_cast<int64_t>(o.bits)));
    } else if (o.kind == Operand::kInt && type == Type::kF64) {
      bits = bit_cast<uint64_t>(static_cast<double>(static_cast<int64_t>(o.bits)));
    } else if (o.kind == Operand::kFloat && bytes == 2) {
      fail("a 16-bit operand cannot be a floating-point constant");
    }
    out_.values.push_back({true, names.constant(bits, bytes)});
    return bytes;
  }
  if (o.kind != Operand::kReg && o.kind != Operand::kLabelOrSymbol) fail("operand must be a register or a constant");
  const Names::Register* r = reg(o);
  if (r) {
    if (r->predicate) fail("operand '" + o.name + "' is a predicate");
    if (r->bytes < bytes) fail("operand '" + o.name + "' is too narrow");
    out_.uses.push_back(r->id);
    out_.values.push_back({false, r->id});
    return r->bytes;
  }
  uint32_t id;
  if (names.read_special(o.name, bytes, &id)) {
    out_.uses.push_back(id);
    out_.values.push_back({false, id});
    return bytes;
  }
  Names::Variable v;
  if (names.find_variable(o.name, &v)) {
    out_.values.push_back({true, names.constant(v.address + static_cast<uint64_t>(o.offset), bytes)});
    return bytes;
  }
  if (o.name == "WARP_SZ") {
    out_.values.push_back({true, names.constant(32, bytes)});
    return bytes;
  }
  fail("unknown operand '" + o.name + "'");
}

void Decoder::use(const Operand& o, Type type) {
  int found = use_wide(o, type);
  if (found != std::max(size_of(type), 2)) fail("operand '" + o.name + "' has " + std::to_string(found * 8) + " bits");
}

PredRef Decoder::pred_def(const std::string& name) {
  if (name == "_") return {};
  const Names::Register* r = names.find_register(name);
  if (!r || !r->predicate) fail("'" + name + "' is not a predicate register");
  return {static_cast<uint16_t>(r->id), false};
}

PredRef Decoder::pred_use(const Operand& o) {
  if (o.kind == Operand::kInt) return {0, (o.bits == 0) != o.negated};
  PredRef p = pred_def(o.name);
  p.negated = o.negated;
  return p;
}

Decoder::Address Decoder::address(const Operand& o) {
  if (o.kind != Operand::kAddress) fail("expected an address in brackets");
  Address a{Space::kGeneric, false, true, o.offset};
  if (o.name.empty()) return a;
  if (const Names::Register* r = names.find_register(o.name)) {
    if (r->predicate || r->bytes < 4) fail("address register '" + o.name + "' must have 32 or 64 bits");
    a.has_base = true;
    a.wide = r->bytes == 8;
    out_.uses.push_back(r->id);
    out_.values.push_back({false, r->id});
    return a;
  }
  Names::Variable v;
  if (!names.find_variable(o.name, &v)) fail("unknown name '" + o.name + "'");
  a.space = v.space;
  a.offset += static_cast<int64_t>(v.address);
  return a;
}

const DecodeTable& decode_table() {
  static const DecodeTable table = [] {
    DecodeTable t;
    add_integer(t);
    add_bits(t);
    add_float(t);
    add_convert(t);
    add_compare(t);
    add_move(t);
    add_memory(t);
    add_atomic(t);
    add_async(t);
    add_matrix(t);
    add_warp(t);
    add_control(t);
    return t;
  }();
  return table;
}

}  // namespace gpusim
