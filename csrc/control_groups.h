#pragma once

#include <string>
#include <vector>

// The limits that Linux sets for groups of processes.

namespace kotodama {

// The folders of this process's control group and of the groups above it, for the unified hierarchy (controller "")
// or one of the first version. Linux alone.
std::vector<std::string> ControlGroupFolders(const std::string& controller);

// The first line of a file; empty where there is none.
std::string FirstLine(const std::string& path);

}  // namespace kotodama
