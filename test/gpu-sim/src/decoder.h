// What the instruction families see while a statement is turned into a decoded instruction.
#pragma once

#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "ast.h"
#include "error.h"
#include "ir.h"

namespace gpusim {

/// How control leaves an instruction.
enum class Flow : uint8_t { kNext, kBranch, kIndexed, kExit };

/// A decoded instruction before registers have their places.
struct Draft {
  Instr in;
  struct Value {
    bool constant;
    uint32_t id;  // virtual register, or offset in the constants
  };
  std::vector<Value> values;
  std::vector<uint32_t> defs, uses;  // virtual registers
  Flow flow = Flow::kNext;
  std::vector<uint32_t> targets;  // label ids, later instruction indices
};

/// Names visible where a statement stands.
class Names {
 public:
  struct Register {
    bool predicate;
    uint32_t id;
    int bytes;
  };
  struct Variable {
    Space space;
    uint64_t address;  // in its space
  };
  virtual ~Names() = default;
  virtual const Register* find_register(const std::string& name) const = 0;
  virtual bool find_variable(const std::string& name, Variable* out) const = 0;
  virtual bool find_label(const std::string& name, uint32_t* id) const = 0;
  virtual const std::vector<std::string>* find_targets(const std::string& name) const = 0;
  virtual uint32_t new_register(int bytes) = 0;
  virtual uint32_t constant(uint64_t bits, int bytes) = 0;
  /// Reads a special register into a fresh register ahead of the statement; false if there is no such special register.
  virtual bool read_special(const std::string& name, int bytes, uint32_t* id) = 0;
  /// ld.param in a device function reads the call's parameters, which lie in local memory.
  virtual bool in_entry() const = 0;
  virtual Kernel& kernel() = 0;
};

class Decoder {
 public:
  Decoder(const Statement& statement, Names& names, Draft& out)
      : names(names), statement_(statement), out_(out), mods_(statement.modifiers) {}

  [[noreturn]] void fail(const std::string& message) const;

  // Modifiers. Every one must be taken: finish() fails on what is left.
  bool take(const char* modifier);
  /// Which of the names comes next among the modifiers; -1 if none of them is there.
  int take_one_of(std::initializer_list<const char*> modifiers);
  Type take_type();
  Type take_type_or(Type otherwise);
  Round take_rounding();  // rn rz rm rp rna; kNone
  void take_cache_hints();
  void finish();

  // Operands.
  size_t count() const { return statement_.operands.size(); }
  const Operand& operand(size_t i) const;
  void expect_operands(size_t n) const;
  /// A result of `bytes` bytes. A sink gets a register that nobody reads.
  void def(const Operand& o, int bytes);
  /// A result that may lie in a wider register (ld, cvt: PTX ISA 9.4.1); returns the register's bytes.
  int def_wide(const Operand& o, int least_bytes);
  void use(const Operand& o, Type type);
  int use_wide(const Operand& o, Type type);
  PredRef pred_def(const std::string& name);
  PredRef pred_use(const Operand& o);
  /// The address part of a memory operand: an optional base register becomes the next value; the rest goes to `offset`.
  struct Address {
    Space space;  // of the variable that the operand names; kGeneric if none
    bool has_base;
    bool wide;  // 64-bit base
    int64_t offset;
  };
  Address address(const Operand& o);
  const Names::Register* reg(const Operand& o) const { return names.find_register(o.name); }

  template <class T>
  T* aux() {
    auto p = std::make_shared<T>();
    names.kernel().aux.push_back(p);
    out_.in.aux = p.get();
    return p.get();
  }
  void emit(Handler fn, Kind kind) {
    out_.in.fn = fn;
    out_.in.kind = kind;
  }
  Draft& draft() { return out_; }
  const Statement& statement() const { return statement_; }

  Names& names;

 private:
  const Statement& statement_;
  Draft& out_;
  std::vector<std::string> mods_;
};

using DecodeFn = void (*)(Decoder&);
using DecodeTable = std::unordered_map<std::string, DecodeFn>;

/// All instructions, by opcode.
const DecodeTable& decode_table();

// One per family.
void add_integer(DecodeTable& t);
void add_bits(DecodeTable& t);
void add_float(DecodeTable& t);
void add_convert(DecodeTable& t);
void add_compare(DecodeTable& t);
void add_move(DecodeTable& t);
void add_memory(DecodeTable& t);
void add_atomic(DecodeTable& t);
void add_async(DecodeTable& t);
void add_matrix(DecodeTable& t);
void add_warp(DecodeTable& t);
void add_control(DecodeTable& t);

/// Reads a special register; imm says which.
bool decode_special(const std::string& name, Instr* in, int* bytes);

}  // namespace gpusim
