#ifdef __linux__

#include "control_groups.h"

#include <fstream>

namespace kotodama {

std::string FirstLine(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

std::vector<std::string> ControlGroupFolders(const std::string& controller) {
  std::ifstream file("/proc/self/cgroup");
  std::string line;
  std::vector<std::string> folders;
  const std::string root = controller.empty() ? "/sys/fs/cgroup" : "/sys/fs/cgroup/" + controller;
  while (std::getline(file, line)) {
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
    if (controllers.find("," + controller + ",") == std::string::npos) continue;
    for (std::string path = line.substr(second + 1); path.size() > 1; path = path.substr(0, path.rfind('/'))) {
      folders.push_back(root + path);
      if (path.rfind('/') == 0) break;
    }
  }
  folders.push_back(root);
  return folders;
}

}  // namespace kotodama

#endif
