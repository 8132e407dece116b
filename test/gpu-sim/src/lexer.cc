#include "lexer.h"

#include <algorithm>
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

// Where the comment or string that begins at `i` ends.
size_t skip(std::string_view s, size_t i, int line) {
  const bool is_string = s[i] == '"';
  if (!is_string && s[i + 1] == '/') return std::min(s.find('\n', i), s.size());
  const size_t end = is_string ? s.find('"', i + 1) : s.find("*/", i + 2);
  if (end == std::string_view::npos) throw LoadError(line, is_string ? "string without end" : "comment without end");
  return end + (is_string ? 1 : 2);
}

bool is_skipped(std::string_view s, size_t i) {
  return s[i] == '"' || (s[i] == '/' && i + 1 < s.size() && (s[i + 1] == '/' || s[i + 1] == '*'));
}

int lines_in(std::string_view s) {
  return static_cast<int>(std::count(s.begin(), s.end(), '\n'));
}

// The brace that ends a function, which begins with the one at `i`.
size_t end_of_body(std::string_view s, size_t i, int line) {
  for (int depth = 0; i < s.size() && s[i] != '\0';) {
    if (is_skipped(s, i)) {
      i = skip(s, i, line);
      continue;
    }
    if (s[i] == '{') ++depth;
    if (s[i] == '}' && --depth == 0) return i;
    ++i;
  }
  throw LoadError(line, "function without end");
}

}  // namespace

std::vector<Token> tokenize(std::string_view s, int line) {
  std::vector<Token> out;
  bool in_function = false;  // behind its name, before its body or the end of its declaration
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
    } else if (is_skipped(s, i)) {
      const size_t end = skip(s, i, line);
      if (c == '"') emit(Tok::kString, i + 1, end - 1);
      line += lines_in(s.substr(i, end - i));
      i = end;
    } else if (c == '{' && in_function) {
      const size_t end = end_of_body(s, i, line);
      emit(Tok::kBody, i + 1, end);
      line += lines_in(s.substr(i, end - i));
      i = end + 1;
      in_function = false;
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
      if (out.back().is(".entry") || out.back().is(".func")) in_function = true;
    } else {
      // A directive between a function's header and its body may end with one, too: .pragma "...";
      if (c == ';' && in_function) in_function = out.back().kind == Tok::kString;
      emit(Tok::kPunct, i, i + 1);
      ++i;
    }
  }
  out.push_back({Tok::kEnd, std::string_view(), line});
  return out;
}

}  // namespace gpusim
