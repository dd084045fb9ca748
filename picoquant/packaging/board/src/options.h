// The program's command line.
#pragma once

#include <string>

namespace board {

struct Options {
  std::string package = ".";
  std::string model;         // precision of the .nb; empty: the package's first
  std::string image;         // empty: the package's sample
  std::string expected;      // empty: no comparison
  std::string cache;         // empty: nothing is kept
  std::string outputs;       // recorded outputs in place of the network
  std::string save_input, save_outputs;
  int runs = 5, warmup = 1, threads = 1;
  float min_score = 0.3f;    // of what is printed
};

// Throws BadInput. `help` becomes true when it was asked for.
Options read_options(int count, char** texts, bool* help);

extern const char kHelp[];

}  // namespace board
