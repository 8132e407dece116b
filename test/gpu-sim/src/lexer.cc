#include "lexer.h"

#include <cctype>

#include "error.h"

namespace gpusim {

namespace {

bool starts_word(char c) {
  return std::isalpha(static_cast<unsigned char>(c)) || c == '_' || c == '$' || c == '%' || c == '.';
}
bool in_word(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '$' || c == '.';
}

}  // namespace

std::vector<Token> tokenize(std::string_view s) {
  std::vector<Token> out;
  int line = 1;
  size_t i = 0;
  const size_t n = s.size();
  auto emit = [&](Tok kind, size_t from, size_t to) { out.push_back({kind, s.substr(from, to - from), line}); };
  while (i < n && s[i] != '\0') {
    char c = s[i];
    if (c == '\n') {
      ++line;
      ++i;
    } else if (std::isspace(static_cast<unsigned char>(c))) {
      ++i;
    } else if (c == '/' && i + 1 < n && s[i + 1] == '/') {
      while (i < n && s[i] != '\n') ++i;
    } else if (c == '/' && i + 1 < n && s[i + 1] == '*') {
      size_t end = s.find("*/", i + 2);
      if (end == std::string_view::npos) throw LoadError(line, "comment without end");
      for (; i < end + 2; ++i) line += s[i] == '\n';
    } else if (c == '"') {
      size_t end = s.find('"', i + 1);
      if (end == std::string_view::npos) throw LoadError(line, "string without end");
      emit(Tok::kString, i + 1, end);
      i = end + 1;
    } else if (std::isdigit(static_cast<unsigned char>(c))) {
      size_t from = i;
      while (i < n && (std::isalnum(static_cast<unsigned char>(s[i])) || s[i] == '.')) ++i;
      emit(Tok::kNumber, from, i);
    } else if (starts_word(c)) {
      size_t from = i++;
      // Directives may stand without a space between them (".reg.b16"). "::" belongs to a word (.L2::128B); a single
      // colon ends a label.
      while (i < n && ((in_word(s[i]) && !(c == '.' && s[i] == '.')) || (s[i] == ':' && i + 1 < n && s[i + 1] == ':') ||
                       (s[i] == ':' && s[i - 1] == ':')))
        ++i;
      emit(Tok::kWord, from, i);
    } else {
      emit(Tok::kPunct, i, i + 1);
      ++i;
    }
  }
  out.push_back({Tok::kEnd, std::string_view(), line});
  return out;
}

}  // namespace gpusim
