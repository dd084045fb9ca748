#include "report.h"

#include <cmath>
#include <cstdio>

#include "json.h"

namespace board {

namespace {

// JSON has no word for numbers that are none.
std::string number(float value, int digits) {
  if (!std::isfinite(value)) return "null";
  char text[64];
  std::snprintf(text, sizeof text, "%.*f", digits, value);
  return text;
}

}  // namespace

std::string as_json(const Detection& box, const std::vector<std::string>& labels) {
  const size_t label = static_cast<size_t>(box.label);
  std::string text = "{\"class\": " + std::to_string(box.label) +
                     ", \"label\": " + quoted(label < labels.size() ? labels[label] : "") +
                     ", \"score\": " + number(box.score, 6) + ", \"box\": [";
  for (const float side : {box.x1, box.y1, box.x2}) text += number(side, 4) + ", ";
  return text + number(box.y2, 4) + "]}";
}

std::string as_json(const std::vector<Detection>& found, const std::vector<std::string>& labels, float least,
                    const std::string& before) {
  std::string text;
  for (const Detection& box : found)
    if (box.score >= least) text += (text.empty() ? "" : ",") + before + as_json(box, labels);
  return text;
}

}  // namespace board
