// PTX text to syntax tree (PTX ISA 4, 5, 11).
#pragma once

#include <string_view>

#include "ast.h"

namespace gpusim {

/// Parses a whole module. Throws LoadError on anything it does not know.
Ast parse_ptx(std::string_view text);

}  // namespace gpusim
