// Detections as JSON.
#pragma once

#include <string>
#include <vector>

#include "decode.h"

namespace board {

// `{"class": 0, "label": "person", "score": 0.93, "box": [x1, y1, x2, y2]}`
std::string as_json(const Detection& box, const std::vector<std::string>& labels);

// Those that score at least `least`, separated by commas; `before` stands before each.
std::string as_json(const std::vector<Detection>& found, const std::vector<std::string>& labels, float least,
                    const std::string& before);

}  // namespace board
