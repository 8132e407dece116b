// Walks over tokens and reads the smallest parts of PTX: names, numbers, operands (PTX ISA 4.5, 6).
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "ast.h"
#include "lexer.h"

namespace gpusim {

class TokenReader {
 public:
  explicit TokenReader(std::string_view text, int line) : tokens_(tokenize(text, line)) {}

 protected:
  const Token& peek(int ahead = 0) const;
  const Token& next();
  bool accept(const char* s);
  void expect(const char* s);
  [[noreturn]] void fail(const std::string& message) const;
  std::string word();
  int64_t integer();
  /// An integer or floating-point constant with its sign.
  Operand constant();
  /// A register, constant, symbol, label, address in brackets or vector in braces.
  Operand operand();
  /// Operands in parentheses, as a kVector.
  Operand list();

 private:
  uint64_t number_bits(std::string s) const;

  std::vector<Token> tokens_;
  size_t at_ = 0;
};

}  // namespace gpusim
