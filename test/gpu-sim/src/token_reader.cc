#include "token_reader.h"

#include <algorithm>
#include <cstdlib>

#include "error.h"

namespace gpusim {

const Token& TokenReader::peek(int ahead) const {
  return tokens_[std::min(at_ + static_cast<size_t>(ahead), tokens_.size() - 1)];
}

void TokenReader::fail(const std::string& message) const {
  throw LoadError(peek().line, message);
}

const Token& TokenReader::next() {
  const Token& t = tokens_[at_];
  if (at_ + 1 < tokens_.size()) ++at_;
  return t;
}

bool TokenReader::accept(const char* s) {
  if (!peek().is(s)) return false;
  next();
  return true;
}

void TokenReader::expect(const char* s) {
  if (!accept(s)) fail("expected '" + std::string(s) + "', found '" + std::string(peek().text) + "'");
}

std::string TokenReader::word() {
  if (peek().kind != Tok::kWord) fail("expected a name, found '" + std::string(peek().text) + "'");
  return std::string(next().text);
}

int64_t TokenReader::integer() {
  bool negative = accept("-");
  if (peek().kind != Tok::kNumber) fail("expected a number, found '" + std::string(peek().text) + "'");
  int64_t v = static_cast<int64_t>(number_bits(std::string(next().text)));
  return negative ? -v : v;
}

uint64_t TokenReader::number_bits(std::string s) const {
  while (!s.empty() && (s.back() == 'U' || s.back() == 'u') && s.compare(0, 2, "0x")) s.pop_back();
  if (s.size() > 2 && s[0] == '0' && (s[1] == 'b' || s[1] == 'B')) return std::strtoull(s.c_str() + 2, nullptr, 2);
  char* end = nullptr;
  uint64_t v = std::strtoull(s.c_str(), &end, 0);
  if (*end == 'U' || *end == 'u') ++end;
  if (*end) fail("bad integer '" + s + "'");
  return v;
}

Operand TokenReader::list() {
  Operand o;
  o.kind = Operand::kVector;
  expect("(");
  if (accept(")")) return o;
  do {
    o.parts.push_back(operand());
  } while (accept(","));
  expect(")");
  return o;
}

Operand TokenReader::constant() {
  Operand o;
  bool negative = false;
  while (peek().is("-") || peek().is("+")) negative ^= next().is("-");
  if (peek().kind != Tok::kNumber) fail("expected an operand, found '" + std::string(peek().text) + "'");
  std::string s(next().text);
  bool hex = s.size() > 2 && s[0] == '0';
  if (hex && (s[1] == 'f' || s[1] == 'F') && s.size() == 10) {
    o.kind = Operand::kFloat;
    o.single = true;
    o.bits = std::strtoull(s.c_str() + 2, nullptr, 16);
    if (negative) o.bits ^= 0x80000000u;
  } else if (hex && (s[1] == 'd' || s[1] == 'D') && s.size() == 18) {
    o.kind = Operand::kFloat;
    o.bits = std::strtoull(s.c_str() + 2, nullptr, 16);
    if (negative) o.bits ^= 1ull << 63;
  } else if (s.find('.') != std::string::npos) {
    o.kind = Operand::kFloat;
    o.bits = bit_cast<uint64_t>(std::strtod(s.c_str(), nullptr) * (negative ? -1 : 1));
  } else {
    o.kind = Operand::kInt;
    o.bits = number_bits(s);
    if (negative) o.bits = ~o.bits + 1;
  }
  return o;
}

Operand TokenReader::operand() {
  Operand o;
  if (accept("{")) {
    o.kind = Operand::kVector;
    do {
      o.parts.push_back(operand());
    } while (accept(","));
    expect("}");
    return o;
  }
  if (accept("[")) {
    o.kind = Operand::kAddress;
    if (peek().kind == Tok::kWord) {
      o.name = word();
      if (accept("+")) {
        o.offset = integer();
      } else if (accept("-")) {
        o.offset = -integer();
      }
    } else {
      o.offset = integer();
    }
    expect("]");
    return o;
  }
  if (accept("!")) o.negated = true;
  if (peek().kind != Tok::kWord) return constant();
  o.name = word();
  if (o.name == "_") {
    o.kind = Operand::kSink;
  } else if (o.name[0] == '%') {
    o.kind = Operand::kReg;
  } else {
    o.kind = Operand::kLabelOrSymbol;  // a name without '%' may still be a register of inline assembly
  }
  if (accept("|")) {
    o.has_second = true;
    o.second = word();
  }
  if (accept("+")) o.offset = integer();
  if (peek().is("-") && peek(1).kind == Tok::kNumber) o.offset = integer();
  return o;
}

}  // namespace gpusim
