#include "report.h"

#include <cstdio>

#include "json.h"

namespace board {

std::string as_json(const Detection& box, const std::vector<std::string>& labels) {
  const size_t label = static_cast<size_t>(box.label);
  char numbers[256];
  std::snprintf(numbers, sizeof numbers, ", \"score\": %.6f, \"box\": [%.4f, %.4f, %.4f, %.4f]}", box.score, box.x1,
                box.y1, box.x2, box.y2);
  return "{\"class\": " + std::to_string(box.label) +
         ", \"label\": " + quoted(label < labels.size() ? labels[label] : "") + numbers;
}

std::string as_json(const std::vector<Detection>& found, const std::vector<std::string>& labels, float least,
                    const std::string& before) {
  std::string text;
  for (const Detection& box : found)
    if (box.score >= least) text += (text.empty() ? "" : ",") + before + as_json(box, labels);
  return text;
}

}  // namespace board
