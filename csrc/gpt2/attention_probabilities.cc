#include "gpt2/attention_probabilities.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace kotodama {

void AttentionProbabilities(BatchShape shape, int64_t heads, int64_t head_size, const float* qkv, const float* lse,
                            float* probabilities) {
  const int64_t t = shape.t, c = heads * head_size;
  const float scale = static_cast<float>(1 / std::sqrt(static_cast<double>(head_size)));
  // Keys as columns, so that one query is multiplied with neighbours in memory.
  std::vector<float> keys(static_cast<size_t>(head_size * t));  // (D, T)
  for (int64_t b = 0; b < shape.b; ++b) {
    for (int64_t h = 0; h < heads; ++h) {
      const float* head = qkv + b * t * 3 * c + h * head_size;
      for (int64_t key = 0; key < t; ++key) {
        for (int64_t j = 0; j < head_size; ++j) keys[j * t + key] = head[key * 3 * c + c + j];
      }
      for (int64_t query = 0; query < t; ++query) {
        float* row = probabilities + ((b * heads + h) * t + query) * t;
        std::fill_n(row, t, 0.0f);
        for (int64_t j = 0; j < head_size; ++j) {
          const float q = head[query * 3 * c + j] * scale;
          const float* column = keys.data() + j * t;
          for (int64_t key = 0; key <= query; ++key) row[key] += q * column[key];
        }
        const float log_sum = lse[(b * heads + h) * t + query];
        for (int64_t key = 0; key <= query; ++key) row[key] = std::exp(row[key] - log_sum);
      }
    }
  }
}

}  // namespace kotodama
