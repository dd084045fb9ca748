// From the network's outputs to detections.
#pragma once

#include <vector>

#include "network.h"
#include "preprocess.h"
#include "settings.h"

namespace board {

struct Detection {
  int label;             // index of its class
  float score;           // 0 to 1
  float x1, y1, x2, y2;  // image pixels, not clipped to the image
};

// Detections by class, then best first, in pixels of the image that lies at `place` in the input.
// Throws BadInput when the outputs are not those that the settings describe.
std::vector<Detection> decode(const std::vector<Array>& outputs, const Settings& settings, const Place& place);

// Suppresses boxes of a class that overlap a better one, and keeps the best, as Paddle's multiclass_nms3 does.
// Candidates come in the order of their classes, then of their points.
std::vector<Detection> suppress(std::vector<Detection> candidates, const Nms& nms);

// IoU of two boxes; 0 when they do not touch. Not a number for two boxes without area that do.
float overlap(const Detection& first, const Detection& second);

}  // namespace board
