#include "compare.h"

#include <cmath>
#include <cstdio>

#include "errors.h"
#include "json.h"

namespace board {

namespace {

std::string described(const Detection& box, const std::vector<std::string>& labels) {
  char text[160];
  std::snprintf(text, sizeof text, " %.3f at %.1f, %.1f, %.1f, %.1f", box.score, box.x1, box.y1, box.x2, box.y2);
  const size_t label = static_cast<size_t>(box.label);
  return (label < labels.size() ? labels[label] : "class " + std::to_string(box.label)) + text;
}

// Looks for partners of `from` in `among`, best overlap first come; tells those of min_score that have none.
void look(const std::vector<Detection>& from, const std::vector<Detection>& among, const Tolerance& tolerance,
          const std::string& said, const std::vector<std::string>& labels, Comparison* result, bool count) {
  std::vector<bool> taken(among.size(), false);
  for (const Detection& one : from) {
    if (one.score < tolerance.min_score) continue;
    if (count) ++result->expected;
    int best = -1;
    float most = tolerance.iou;
    for (size_t index = 0; index < among.size(); ++index) {
      const Detection& other = among[index];
      if (taken[index] || other.label != one.label || std::fabs(other.score - one.score) > tolerance.score) continue;
      const float shared = overlap(one, other);
      if (shared >= most) {
        best = static_cast<int>(index);
        most = shared;
      }
    }
    if (best < 0)
      result->wrong.push_back(said + described(one, labels));
    else
      taken[static_cast<size_t>(best)] = true;
  }
}

}  // namespace

std::vector<Detection> read_expected(const std::string& path, Tolerance* tolerance) {
  const Json json = Json::read(path);
  const Json& allowed = json.at("tolerance");
  tolerance->min_score = static_cast<float>(allowed.at("min_score").number());
  tolerance->score = static_cast<float>(allowed.at("score").number());
  tolerance->iou = static_cast<float>(allowed.at("iou").number());
  std::vector<Detection> detections;
  for (const Json& item : json.at("detections").items()) {
    const std::vector<double> box = item.at("box").numbers();
    if (box.size() != 4) throw BadInput(path + ": box: four numbers expected");
    detections.push_back(Detection{item.at("class").whole(), static_cast<float>(item.at("score").number()),
                                   static_cast<float>(box[0]), static_cast<float>(box[1]),
                                   static_cast<float>(box[2]), static_cast<float>(box[3])});
  }
  return detections;
}

Comparison compare(const std::vector<Detection>& expected, const std::vector<Detection>& found,
                   const Tolerance& tolerance, const std::vector<std::string>& labels) {
  Comparison result;
  look(expected, found, tolerance, "not found: ", labels, &result, true);
  look(found, expected, tolerance, "not expected: ", labels, &result, false);
  return result;
}

}  // namespace board
