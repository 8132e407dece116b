// Splits PTX text into tokens (PTX ISA 4).
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace gpusim {

enum class Tok : unsigned char { kWord, kNumber, kString, kPunct, kBody, kEnd };

/// A word keeps its dots, "ld.global.v4.f32" and "%tid.x" are one token each; one that begins with a dot ends before
/// the next.
struct Token {
  Tok kind;
  std::string_view text;
  int line;
  bool is(const char* s) const { return text == s && kind != Tok::kString && kind != Tok::kBody; }
};

/// The tokens of `text`, which begins in line `line`, ended by a kEnd token. The views point into `text`. What stands
/// between the braces of a function is one token, kBody.
std::vector<Token> tokenize(std::string_view text, int line = 1);

}  // namespace gpusim
