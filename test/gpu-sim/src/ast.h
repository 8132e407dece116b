// What the parser makes of PTX text: variables, functions, statements, nothing resolved yet.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "types.h"

namespace gpusim {

enum class Space : uint8_t { kGeneric, kGlobal, kShared, kLocal, kParam, kConst, kReg };

/// One value of an initialiser: a number, or the address of a symbol plus a number.
struct InitValue {
  uint64_t bits = 0;
  std::string symbol;
};

struct VarDecl {
  std::string name;
  Space space = Space::kGlobal;
  Type type = Type::kNone;
  int vector = 1;        // .v2, .v4
  uint32_t align = 0;    // bytes; 0: natural
  uint64_t count = 1;    // array elements
  bool unsized = false;  // name[]: size given at launch or elsewhere
  bool external = false;
  uint32_t range = 0;  // %r<N>: number of registers
  std::vector<InitValue> init;
  int line = 0;
  uint64_t bytes() const { return count * vector * size_of(type); }
};

struct Operand {
  enum Kind : uint8_t { kReg, kInt, kFloat, kSymbol, kAddress, kVector, kSink, kLabelOrSymbol };
  Kind kind = kReg;
  std::string name;      // register, symbol or label; base of an address ("" if absolute)
  std::string second;    // the other predicate of p|q
  bool negated = false;  // !p
  bool has_second = false;
  uint64_t bits = 0;           // kInt: the value; kFloat: bits of a binary64 or, if single, a binary32
  bool single = false;         // kFloat written as 0f...
  int64_t offset = 0;          // symbol or address offset
  std::vector<Operand> parts;  // kVector, or the parenthesised lists of call
};

struct Statement {
  enum Kind : uint8_t { kInstruction, kLabel, kVariable, kOpen, kClose, kTargets };
  Kind kind = kInstruction;
  int line = 0;
  int source_file = 0;
  int source_line = 0;
  std::string guard;  // predicate register or ""
  bool guard_negated = false;
  std::string opcode;  // or the label's name
  std::vector<std::string> modifiers;
  std::vector<Operand> operands;
  VarDecl variable;
  std::vector<std::string> targets;  // .branchtargets
};

struct Function {
  std::string name;
  bool entry = false;
  bool defined = false;
  std::vector<VarDecl> params;
  std::vector<VarDecl> results;
  std::string_view text;  // of the body, which begins in line `text_line`
  int text_line = 0;
  std::vector<Statement> body;  // once it has been parsed
  uint32_t max_threads = 0;     // from .maxntid or .reqntid; 0: none
  int line = 0;
};

struct Ast {
  std::vector<VarDecl> variables;
  std::map<std::string, Function> functions;
  std::map<int, std::string> files;  // .file
  int version_major = 0;
  int version_minor = 0;
  int target = 0;  // 80 for sm_80
};

}  // namespace gpusim
