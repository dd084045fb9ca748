// Whether detections are those that were expected.
#pragma once

#include <string>
#include <vector>

#include "decode.h"

namespace board {

// How far a detection may be from the expected one.
struct Tolerance {
  float min_score;  // detections below it need not be found again
  float score;      // largest difference of two scores
  float iou;        // smallest overlap of two boxes
};

struct Comparison {
  int expected = 0;              // expected detections that had to be found again
  std::vector<std::string> wrong;  // one line each; empty: as expected
};

// Reads expected.json.
std::vector<Detection> read_expected(const std::string& path, Tolerance* tolerance);

// Each detection that scores at least min_score on one side needs a partner of its class on the other side, at
// whatever score above 0 as long as the two differ by no more than the tolerance. A partner is taken once.
Comparison compare(const std::vector<Detection>& expected, const std::vector<Detection>& found,
                   const Tolerance& tolerance, const std::vector<std::string>& labels);

}  // namespace board
