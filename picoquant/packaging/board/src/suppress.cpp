#include <algorithm>
#include <map>

#include "decode.h"

namespace board {

namespace {

float area(const Detection& box) {
  const float width = box.x2 - box.x1, height = box.y2 - box.y1;
  return width < 0 || height < 0 ? 0.0f : width * height;
}

}  // namespace

float overlap(const Detection& first, const Detection& second) {
  const float width = std::min(first.x2, second.x2) - std::max(first.x1, second.x1);
  const float height = std::min(first.y2, second.y2) - std::max(first.y1, second.y1);
  if (width < 0 || height < 0) return 0;
  const float shared = width * height;
  return shared / (area(first) + area(second) - shared);
}

std::vector<Detection> suppress(std::vector<Detection> candidates, const Nms& nms) {
  std::stable_sort(candidates.begin(), candidates.end(),
                   [](const Detection& a, const Detection& b) { return a.score > b.score; });
  std::map<int, int> seen;
  std::vector<Detection> kept;
  for (const Detection& candidate : candidates) {
    if (nms.keep_top_k >= 0 && static_cast<int>(kept.size()) >= nms.keep_top_k) break;
    if (nms.nms_top_k > 0 && seen[candidate.label]++ >= nms.nms_top_k) continue;
    const bool covered = std::any_of(kept.begin(), kept.end(), [&](const Detection& better) {
      // "not <=": two touching boxes without area are 0 / 0, which suppresses in Paddle.
      return better.label == candidate.label && !(overlap(better, candidate) <= nms.nms_threshold);
    });
    if (!covered) kept.push_back(candidate);
  }
  std::stable_sort(kept.begin(), kept.end(),
                   [](const Detection& a, const Detection& b) { return a.label < b.label; });
  return kept;
}

}  // namespace board
