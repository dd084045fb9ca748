// From an image to the network's inputs.
#pragma once

#include <vector>

#include "image.h"
#include "network.h"
#include "settings.h"

namespace board {

struct Input {
  std::vector<Array> arrays;  // one for each of the settings' inputs
  float scale_y, scale_x;     // input size / image size
};

Input preprocess(const Image& image, const Settings& settings);

}  // namespace board
