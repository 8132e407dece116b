#include "arguments.h"

#include <cstdlib>
#include <map>

#include "error.h"

namespace kotodama::bench {

Arguments ParseArguments(int count, char** values) {
  Arguments arguments;
  const std::map<std::string, int64_t*> numbers = {{"--layers", &arguments.layers}, {"--heads", &arguments.heads},
                                                   {"--width", &arguments.width},   {"--vocab", &arguments.vocabulary},
                                                   {"--batch", &arguments.batch},   {"--block", &arguments.block},
                                                   {"--sample", &arguments.sample}, {"--repeats", &arguments.repeats}};
  const std::map<std::string, bool*> flags = {
      {"--json", &arguments.json}, {"--dry-run", &arguments.dry_run}, {"--step-only", &arguments.step_only}};
  for (int i = 1; i < count; ++i) {
    const std::string name = values[i];
    if (const auto flag = flags.find(name); flag != flags.end()) {
      *flag->second = true;
      continue;
    }
    const auto number = numbers.find(name);
    char* end = nullptr;
    const int64_t value = number != numbers.end() && i + 1 < count ? std::strtoll(values[++i], &end, 10) : -1;
    if (end == nullptr || *end != '\0' || value < 0) {
      throw Error(ErrorCode::kOptions,
                  "expected --layers, --heads, --width, --vocab, --batch, --block, --sample or "
                  "--repeats with a number, --step-only, --json or --dry-run; received " +
                      name);
    }
    *number->second = value;
  }
  return arguments;
}

std::string Quoted(const std::string& text) {
  std::string quoted = "\"";
  for (char c : text) {
    if (c == '"' || c == '\\') quoted += '\\';
    quoted += c;
  }
  return quoted + "\"";
}

}  // namespace kotodama::bench
