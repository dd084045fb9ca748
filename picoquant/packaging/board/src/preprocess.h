// From an image to the network's inputs.
#pragma once

#include <vector>

#include "image.h"
#include "network.h"
#include "settings.h"

namespace board {

// How an image lies in the network's input: its point x is there at x * scale_x + left.
struct Place {
  float scale_y, scale_x;  // input size / image size
  int top, left;           // rows and columns of padding before it
};

struct Input {
  std::vector<Array> arrays;  // one for each of the settings' inputs
  Place place;
};

Input preprocess(const Image& image, const Settings& settings);

}  // namespace board
