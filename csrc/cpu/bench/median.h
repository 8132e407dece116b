#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

namespace kotodama::bench {

// The middle value, or the mean of the two in the middle; 0 where there are none.
inline double Median(std::vector<double> values) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const size_t n = values.size();
  return n % 2 == 1 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

}  // namespace kotodama::bench
