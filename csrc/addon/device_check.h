#pragma once

#include <string>

namespace kotodama {

// Multiplies small matrices on the device and looks at the results. Throws Error(kDevice) when they are wrong, and
// whatever error the device has.
void CheckDevice(const std::string& device);

}  // namespace kotodama
