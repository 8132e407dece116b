// PTX text to syntax tree (PTX ISA 4, 5, 11).
#pragma once

#include <string_view>

#include "ast.h"

namespace gpusim {

/// Parses a whole module but for the bodies of its functions, which keep views into `text`. Throws LoadError on
/// anything it does not know.
Ast parse_ptx(std::string_view text);

/// Parses the body of one of the module's functions. Throws LoadError as above.
void parse_body(Ast& ast, Function& function);

}  // namespace gpusim
