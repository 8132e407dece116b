#pragma once

#include <vector>

#include "operation.h"

namespace kotodama::bench {

// An operation on memory of its own, filled with random numbers, ready to be run again and again.
class Prepared {
 public:
  Prepared(Backend& backend, const Operation& operation, int64_t vocabulary);
  ~Prepared();
  Prepared(const Prepared&) = delete;
  Prepared& operator=(const Prepared&) = delete;

  void Run();

 private:
  void Fill(Tensor& tensor, Content content, int64_t vocabulary);
  template <typename Value>
  Value* Place(const Value& value);

  Backend& backend_;
  Operation operation_;
  std::vector<void*> memory_;
  DropoutKey* dropout_key_ = nullptr;
  OptimizerScalars* scalars_ = nullptr;
  LossTotals* totals_ = nullptr;
};

}  // namespace kotodama::bench
