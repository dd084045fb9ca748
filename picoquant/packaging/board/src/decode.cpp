// Distances are the mean of a distribution over 0 … reg_max, in strides (Generalized Focal Loss, arXiv 2006.04388,
// equation 3); the score of a model whose outputs are logits is sqrt(sigmoid(class) * sigmoid(alignment)).
#include "decode.h"

#include <algorithm>
#include <cmath>
#include <sstream>

#include "errors.h"

namespace board {

namespace {

const float kUnderRoot = 1e-9f;  // what the network's head adds under the root of a score

float sigmoid(float x) { return 1.0f / (1.0f + std::exp(-std::max(x, -80.0f))); }

int64_t cells_of(const Settings& settings, int stride) {
  const int64_t rows = (settings.height + stride - 1) / stride, columns = (settings.width + stride - 1) / stride;
  return rows * columns;
}

[[noreturn]] void refuse(const std::vector<Array>& outputs, const Settings& settings) {
  std::ostringstream message;
  message << "the network's outputs are not those of settings.json (" << settings.outputs << "):";
  for (const Array& output : outputs) {
    message << " [";
    for (size_t axis = 0; axis < output.shape.size(); ++axis) message << (axis ? ", " : "") << output.shape[axis];
    message << "]";
  }
  throw BadInput(message.str());
}

// Whether an output is [1, cells, width]; width 0: any.
bool fits(const Array& output, int64_t cells, int64_t width) {
  return output.shape.size() == 3 && output.shape[0] == 1 && output.shape[1] == cells &&
         (width == 0 || output.shape[2] == width);
}

// Mean of a distribution given as logits.
float expected(const float* logits, int bins) {
  const float highest = *std::max_element(logits, logits + bins);
  float sum = 0, weighted = 0;
  for (int bin = 0; bin < bins; ++bin) {
    const float weight = std::exp(logits[bin] - highest);
    sum += weight;
    weighted += weight * static_cast<float>(bin);
  }
  return weighted / sum;
}

// All candidates of one level.
class Level {
 public:
  Level(const Settings& settings, int stride, const Array& classes, const Array* alignment, const Array& distances)
      : settings_(settings),
        stride_(stride),
        columns_((settings.width + stride - 1) / stride),
        labels_(static_cast<int>(classes.shape[2])),
        bins_(static_cast<int>(distances.shape[2] / 4)),
        classes_(classes.values.data()),
        alignment_(alignment ? alignment->values.data() : nullptr),
        distances_(distances.values.data()),
        logits_(alignment != nullptr || settings.class_outputs == "logits") {}

  void append(float scale_y, float scale_x, int64_t cells, std::vector<Detection>* found) const {
    for (int64_t cell = 0; cell < cells; ++cell) {
      const float* row = classes_ + cell * labels_;
      const float aligned = alignment_ ? sigmoid(alignment_[cell]) : 1.0f;
      Detection box;
      bool decoded = false;
      for (int label = 0; label < labels_; ++label) {
        float score = row[label];
        if (logits_) score = sigmoid(score);
        if (alignment_) score = std::sqrt(score * aligned + kUnderRoot);
        if (!(score > settings_.nms.score_threshold)) continue;
        if (!decoded) box = decode_box(cell, scale_y, scale_x);
        decoded = true;
        box.label = label;
        box.score = score;
        found->push_back(box);
      }
    }
  }

 private:
  Detection decode_box(int64_t cell, float scale_y, float scale_x) const {
    const float stride = static_cast<float>(stride_);
    const float x = static_cast<float>(cell % columns_) + settings_.cell_offset;
    const float y = static_cast<float>(cell / columns_) + settings_.cell_offset;
    const float* row = distances_ + cell * 4 * bins_;
    Detection box{};
    box.x1 = (x - expected(row, bins_)) * stride / scale_x;
    box.y1 = (y - expected(row + bins_, bins_)) * stride / scale_y;
    box.x2 = (x + expected(row + 2 * bins_, bins_)) * stride / scale_x;
    box.y2 = (y + expected(row + 3 * bins_, bins_)) * stride / scale_y;
    return box;
  }

  const Settings& settings_;
  const int stride_, columns_, labels_, bins_;
  const float *classes_, *alignment_, *distances_;
  const bool logits_;
};

std::vector<Detection> raw_candidates(const std::vector<Array>& made, const Settings& settings, float scale_y,
                                      float scale_x) {
  std::vector<Array> outputs;
  for (const Array& array : made) outputs.push_back(rows_of_map(array));
  const size_t levels = settings.strides.size();
  const size_t parts = outputs.size() / levels;
  if (outputs.size() % levels != 0 || (parts != 2 && parts != 3)) refuse(outputs, settings);
  std::vector<Detection> found;
  for (size_t level = 0; level < levels; ++level) {
    const int64_t cells = cells_of(settings, settings.strides[level]);
    const Array& classes = outputs[level];
    const Array* alignment = parts == 3 ? &outputs[levels + level] : nullptr;
    const Array& distances = outputs[(parts - 1) * levels + level];
    const bool good = fits(classes, cells, static_cast<int64_t>(settings.labels.size())) &&
                      (!alignment || fits(*alignment, cells, 1)) && fits(distances, cells, 0) &&
                      distances.shape[2] >= 8 && distances.shape[2] % 4 == 0;
    if (!good) refuse(outputs, settings);
    Level(settings, settings.strides[level], classes, alignment, distances).append(scale_y, scale_x, cells, &found);
  }
  return found;
}

// Boxes [1, L, 4] in input pixels and scores [1, C, L].
std::vector<Detection> box_candidates(const std::vector<Array>& outputs, const Settings& settings, float scale_y,
                                      float scale_x) {
  if (outputs.size() != 2) refuse(outputs, settings);
  const bool first = outputs[0].shape.size() == 3 && outputs[0].shape[2] == 4;
  const Array &boxes = outputs[first ? 0 : 1], &scores = outputs[first ? 1 : 0];
  const int64_t labels = static_cast<int64_t>(settings.labels.size());
  if (boxes.shape.size() != 3 || !fits(scores, labels, boxes.shape[1]) || boxes.shape[2] != 4)
    refuse(outputs, settings);
  const int64_t points = boxes.shape[1];
  std::vector<Detection> found;
  for (int64_t label = 0; label < labels; ++label)
    for (int64_t point = 0; point < points; ++point) {
      const float score = scores.values[label * points + point];
      if (!(score > settings.nms.score_threshold)) continue;
      const float* box = &boxes.values[point * 4];
      found.push_back(Detection{static_cast<int>(label), score, box[0] / scale_x, box[1] / scale_y,
                                box[2] / scale_x, box[3] / scale_y});
    }
  return found;
}

// Rows [M, 6] of class, score, box in image pixels, of a network with its own suppression.
std::vector<Detection> rows(const std::vector<Array>& outputs, const Settings& settings) {
  if (outputs.empty() || outputs[0].shape.size() != 2 || outputs[0].shape[1] != 6) refuse(outputs, settings);
  std::vector<Detection> found;
  for (int64_t row = 0; row < outputs[0].shape[0]; ++row) {
    const float* values = &outputs[0].values[row * 6];
    if (values[0] >= 0)  // a runtime that cannot give no rows gives class -1
      found.push_back(
          Detection{static_cast<int>(values[0]), values[1], values[2], values[3], values[4], values[5]});
  }
  // The NMS of some runtimes sorts by score alone.
  std::stable_sort(found.begin(), found.end(),
                   [](const Detection& a, const Detection& b) { return a.label < b.label; });
  return found;
}

}  // namespace

std::vector<Detection> decode(const std::vector<Array>& outputs, const Settings& settings, const Place& place) {
  const float scale_y = place.scale_y, scale_x = place.scale_x;
  std::vector<Detection> found;
  if (settings.outputs == "detections") {
    found = rows(outputs, settings);
  } else {
    found = settings.outputs == "boxes" ? box_candidates(outputs, settings, scale_y, scale_x)
                                        : raw_candidates(outputs, settings, scale_y, scale_x);
    // Stable: within a class the candidates stay in the order of their points.
    std::stable_sort(found.begin(), found.end(),
                     [](const Detection& a, const Detection& b) { return a.label < b.label; });
    found = suppress(std::move(found), settings.nms);
  }
  const float top = static_cast<float>(place.top) / scale_y, left = static_cast<float>(place.left) / scale_x;
  for (Detection& box : found) {
    box.x1 -= left;
    box.y1 -= top;
    box.x2 -= left;
    box.y2 -= top;
  }
  return found;
}

}  // namespace board
