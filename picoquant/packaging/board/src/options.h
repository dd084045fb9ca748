// The program's command line.
#pragma once

#include <string>

#include "network.h"

namespace board {

struct Options {
  std::string package = ".";
  std::string model;         // precision of the .nb; empty: the package's first
  std::string image;         // empty: the package's sample
  std::string expected;      // empty: no comparison
  std::string cache;         // empty: nothing is kept
  std::string outputs;       // recorded outputs in place of the network
  std::string save_input, save_outputs;
  std::string source;        // live, see open_source; empty: one image
  std::string draw;          // see open_sink; empty: nothing is drawn
  std::string video_format;  // see SourceOptions
  std::string power = "high";
  int video_width = 0, video_height = 0;
  int frames = 0;            // of a source; 0: all
  int runs = 5, warmup = 1, threads = 2;  // threads and power as Paddle-Lite-Demo's picodet_detection has them
  float min_score = 0.3f;    // of what is printed and drawn
};

// Throws BadInput. `help` becomes true when it was asked for.
Options read_options(int count, char** texts, bool* help);

NetworkOptions network_options(const Options& options);

extern const char kHelp[];

}  // namespace board
