#pragma once

#include <cstdint>
#include <string>

#include "workload.h"

namespace kotodama::bench {

// What both programs are told: GPT-2 124M unless said otherwise. Flags are "--name value".
struct Arguments {
  int64_t layers = 12, heads = 12, width = 768, vocabulary = 50257;
  int64_t batch = 4, block = 1024;
  int64_t sample = 0;      // count: blocks that are run of each row of a grid; 0: all
  int64_t repeats = 20;    // time: how often each is timed
  bool step_only = false;  // count: without the operations that are no part of this step
  bool json = false, dry_run = false;

  Config config() const { return MakeConfig(layers, heads, width, vocabulary, block); }
  BatchShape shape() const { return {batch, block}; }
};

// Throws Error(kOptions) that names what it does not understand.
Arguments ParseArguments(int count, char** values);

// A string as JSON: names and descriptions here need no escapes but these.
std::string Quoted(const std::string& text);

}  // namespace kotodama::bench
