#include "parser.h"

#include <cstdlib>

#include "error.h"
#include "token_reader.h"

namespace gpusim {

namespace {

class Parser : private TokenReader {
 public:
  Parser(Ast& ast, std::string_view text, int line) : TokenReader(text, line), ast_(ast) {}

  void module() {
    while (peek().kind != Tok::kEnd) top_level();
  }

  void body(Function* f) {
    int depth = 0;
    while (peek().kind != Tok::kEnd) {
      const Token& t = peek();
      if (accept("{")) {
        ++depth;
        f->body.push_back(statement(Statement::kOpen));
      } else if (accept("}")) {
        if (--depth < 0) fail("'}' without '{'");
        f->body.push_back(statement(Statement::kClose));
      } else if (accept(".loc")) {
        loc_directive();
      } else if (accept(".file")) {
        file_directive();
      } else if (accept(".pragma")) {
        skip_to_semicolon();
      } else if (t.kind == Tok::kWord && t.text[0] == '.') {
        for (auto& v : variable(false)) {
          Statement s = statement(Statement::kVariable);
          s.variable = std::move(v);
          f->body.push_back(std::move(s));
        }
      } else if (t.kind == Tok::kWord && peek(1).is(":")) {
        label(f);
      } else {
        f->body.push_back(instruction());
      }
    }
  }

 private:
  void top_level() {
    const Token& t = peek();
    if (accept(".version")) {
      std::string v(next().text);
      ast_.version_major = std::atoi(v.c_str());
      size_t dot = v.find('.');
      if (dot != std::string::npos) ast_.version_minor = std::atoi(v.c_str() + dot + 1);
    } else if (accept(".target")) {
      do {
        std::string s = word();
        if (s.compare(0, 3, "sm_") == 0) ast_.target = std::atoi(s.c_str() + 3);
      } while (accept(","));
    } else if (accept(".address_size")) {
      if (integer() != 64) fail("only .address_size 64 is supported");
    } else if (accept(".file")) {
      file_directive();
    } else if (accept(".loc")) {
      loc_directive();
    } else if (accept(".section")) {
      for (; !peek().is("{"); next()) {
        if (peek().kind == Tok::kEnd) fail("missing '{'");
      }
      skip_braces();
    } else if (accept(".pragma") || accept(".alias")) {
      skip_to_semicolon();
    } else {
      declaration(t.line);
    }
  }

  void skip_to_semicolon() {
    for (; !accept(";"); next()) {
      if (peek().kind == Tok::kEnd) fail("missing ';'");
    }
  }

  void skip_braces() {
    expect("{");
    for (int depth = 1; depth;) {
      if (peek().kind == Tok::kEnd) fail("missing '}'");
      if (peek().is("{")) ++depth;
      if (peek().is("}")) --depth;
      next();
    }
  }

  void file_directive() {
    int index = static_cast<int>(integer());
    if (peek().kind != Tok::kString) fail(".file wants a name");
    ast_.files[index] = std::string(next().text);
    while (accept(",")) integer();
  }

  // .loc file line column [, function_name label [+ n], inlined_at file line column]
  void loc_directive() {
    source_file_ = static_cast<int>(integer());
    source_line_ = static_cast<int>(integer());
    integer();
    while (accept(",")) {
      std::string what = word();
      if (what == "function_name") {
        word();
        if (accept("+")) integer();
      } else if (what == "inlined_at") {
        integer();
        integer();
        integer();
      } else {
        fail("unknown .loc attribute '" + what + "'");
      }
    }
  }

  void declaration(int line) {
    bool external = false;
    for (;;) {
      if (accept(".extern")) {
        external = true;
      } else if (accept(".visible") || accept(".weak") || accept(".common")) {
      } else {
        break;
      }
    }
    if (peek().is(".entry") || peek().is(".func")) {
      function(line);
      return;
    }
    std::vector<VarDecl> vars = variable(external);
    for (auto& v : vars) ast_.variables.push_back(std::move(v));
  }

  static bool space_from_name(const Token& t, Space* space) {
    static const struct {
      const char* name;
      Space space;
    } kNames[] = {{".global", Space::kGlobal}, {".shared", Space::kShared}, {".local", Space::kLocal},
                  {".param", Space::kParam},   {".const", Space::kConst},   {".reg", Space::kReg}};
    for (const auto& n : kNames) {
      if (t.is(n.name)) {
        *space = n.space;
        return true;
      }
    }
    return false;
  }

  // The part that variables and parameters share: space, alignment, type, attributes.
  VarDecl declarator() {
    VarDecl v;
    v.line = peek().line;
    if (!space_from_name(peek(), &v.space)) fail("unknown directive '" + std::string(peek().text) + "'");
    next();
    for (;;) {
      if (accept(".align")) {
        v.align = static_cast<uint32_t>(integer());
      } else if (accept(".v2")) {
        v.vector = 2;
      } else if (accept(".v4")) {
        v.vector = 4;
      } else if (accept(".ptr")) {
        Space ignored;
        if (space_from_name(peek(), &ignored)) next();
        if (accept(".align")) integer();
      } else if (peek().kind == Tok::kWord && peek().text[0] == '.') {
        std::string name = word().substr(1);
        Type type = type_from_name(name);
        if (type == Type::kNone) fail("unknown type or attribute '." + name + "'");
        v.type = type;
      } else {
        break;
      }
    }
    if (v.type == Type::kNone) fail("variable without a type");
    return v;
  }

  void declared_name(VarDecl* v) {
    v->name = word();
    if (v->space == Space::kReg && accept("<")) {
      v->range = static_cast<uint32_t>(integer());
      expect(">");
    }
    while (accept("[")) {
      if (accept("]")) {
        v->unsized = true;
        v->count = 0;
        continue;
      }
      v->count *= static_cast<uint64_t>(integer());
      expect("]");
    }
  }

  std::vector<VarDecl> variable(bool external) {
    std::vector<VarDecl> out;
    VarDecl base = declarator();
    base.external = external;
    do {
      VarDecl v = base;
      declared_name(&v);
      if (accept("=")) {
        initialiser(&v);
        if (v.unsized) {
          v.count = v.init.size();
          v.unsized = false;
        }
      }
      out.push_back(std::move(v));
    } while (accept(","));
    expect(";");
    return out;
  }

  void initialiser(VarDecl* v) {
    if (accept("{")) {
      if (accept("}")) return;
      do {
        initialiser(v);
      } while (accept(","));
      expect("}");
      return;
    }
    InitValue value;
    if (peek().kind == Tok::kWord) {
      value.symbol = word();
      if (value.symbol == "generic") {
        expect("(");
        value.symbol = word();
        expect(")");
      }
      if (accept("+")) value.bits = static_cast<uint64_t>(integer());
    } else {
      Operand o = constant();
      value.bits = o.bits;
      if (o.kind == Operand::kFloat) {
        double d = o.single ? bit_cast<float>(static_cast<uint32_t>(o.bits)) : bit_cast<double>(o.bits);
        value.bits = v->type == Type::kF64 ? bit_cast<uint64_t>(d) : bit_cast<uint32_t>(static_cast<float>(d));
      } else if (v->type == Type::kF32) {
        value.bits = bit_cast<uint32_t>(static_cast<float>(static_cast<int64_t>(o.bits)));
      }
    }
    v->init.push_back(value);
  }

  std::vector<VarDecl> parameters() {
    std::vector<VarDecl> out;
    expect("(");
    if (accept(")")) return out;
    do {
      VarDecl v = declarator();
      declared_name(&v);
      out.push_back(std::move(v));
    } while (accept(","));
    expect(")");
    return out;
  }

  void function(int line) {
    Function f;
    f.line = line;
    f.entry = next().is(".entry");
    if (!f.entry && peek().is("(")) f.results = parameters();
    f.name = word();
    if (peek().is("(")) f.params = parameters();
    for (;;) {
      if (accept(".maxntid") || accept(".reqntid")) {
        uint32_t n = static_cast<uint32_t>(integer());
        while (accept(",")) n *= static_cast<uint32_t>(integer());
        f.max_threads = n;
      } else if (accept(".minnctapersm") || accept(".maxnreg") || accept(".maxclusterrank")) {
        integer();
      } else if (accept(".noreturn")) {
      } else if (accept(".pragma")) {
        skip_to_semicolon();
      } else {
        break;
      }
    }
    if (accept(";")) {
      ast_.functions.emplace(f.name, f);  // a declaration never hides a definition
      return;
    }
    const Token& text = next();
    if (text.kind != Tok::kBody) fail("function '" + f.name + "' without a body");
    f.defined = true;
    f.text = text.text;
    f.text_line = text.line;
    ast_.functions[f.name] = std::move(f);
  }

  Statement statement(Statement::Kind kind) const {
    Statement s;
    s.kind = kind;
    s.line = peek().line;
    s.source_file = source_file_;
    s.source_line = source_line_;
    return s;
  }

  void label(Function* f) {
    Statement s = statement(Statement::kLabel);
    s.opcode = word();
    expect(":");
    if (accept(".branchtargets")) {
      s.kind = Statement::kTargets;
      do {
        s.targets.push_back(word());
      } while (accept(","));
      expect(";");
    } else if (accept(".callprototype")) {
      skip_to_semicolon();
      return;
    }
    f->body.push_back(std::move(s));
  }

  Statement instruction() {
    Statement s = statement(Statement::kInstruction);
    if (accept("@")) {
      s.guard_negated = accept("!");
      s.guard = word();
      s.line = peek().line;
    }
    split_opcode(word(), &s);
    if (s.opcode == "call") {
      call_operands(&s);
    } else if (!peek().is(";")) {
      do {
        s.operands.push_back(operand());
      } while (accept(","));
    }
    expect(";");
    return s;
  }

  static void split_opcode(const std::string& text, Statement* s) {
    size_t from = 0;
    while (from <= text.size()) {
      size_t dot = text.find('.', from);
      if (dot == std::string::npos) dot = text.size();
      std::string part = text.substr(from, dot - from);
      if (from == 0) {
        s->opcode = part;
      } else {
        s->modifiers.push_back(part);
      }
      from = dot + 1;
    }
  }

  // call (results), name, (arguments)[, prototype]; each list becomes a kVector operand.
  void call_operands(Statement* s) {
    Operand results, name, arguments;
    results.kind = arguments.kind = Operand::kVector;
    if (peek().is("(")) {
      results = list();
      expect(",");
    }
    name.kind = Operand::kSymbol;
    name.name = word();
    if (accept(",")) {
      if (!peek().is("(")) fail("indirect call is not supported");
      arguments = list();
      if (accept(",")) fail("indirect call is not supported");
    }
    if (name.name[0] == '%') fail("indirect call is not supported");
    s->operands = {results, name, arguments};
  }

  Ast& ast_;
  int source_file_ = 0;
  int source_line_ = 0;
};

}  // namespace

Ast parse_ptx(std::string_view text) {
  Ast ast;
  Parser(ast, text, 1).module();
  return ast;
}

void parse_body(Ast& ast, Function& function) {
  function.body.clear();  // of an attempt that failed
  Parser(ast, function.text, function.text_line).body(&function);
}

}  // namespace gpusim
