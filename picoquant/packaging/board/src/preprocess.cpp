#include "preprocess.h"

#include <algorithm>

#include "errors.h"

namespace board {

namespace {

// What each of the 256 levels of a colour becomes: in float32, but mean and std in double, as the evaluation does.
std::vector<float> levels(const Settings& settings, int colour) {
  std::vector<float> table(256);
  for (int level = 0; level < 256; ++level) {
    float value = static_cast<float>(level);
    if (settings.is_scale) value *= static_cast<float>(1.0 / 255.0);
    value = static_cast<float>(value - settings.mean[colour]);
    table[level] = static_cast<float>(value / settings.std[colour]);
  }
  return table;
}

// [1, 3, H, W]; what the image does not cover is 0.
Array normalised(const Image& image, const Settings& settings) {
  Array array;
  array.shape = {1, 3, settings.height, settings.width};
  const size_t plane = static_cast<size_t>(settings.height) * settings.width;
  array.values.assign(3 * plane, 0.0f);
  const int height = std::min(image.height, settings.height), width = std::min(image.width, settings.width);
  for (int colour = 0; colour < 3; ++colour) {
    const std::vector<float> table = levels(settings, colour);
    for (int row = 0; row < height; ++row) {
      const uint8_t* from = &image.rgb[static_cast<size_t>(row) * image.width * 3 + colour];
      float* to = &array.values[colour * plane + static_cast<size_t>(row) * settings.width];
      for (int column = 0; column < width; ++column) to[column] = table[from[3 * column]];
    }
  }
  return array;
}

}  // namespace

Input preprocess(const Image& image, const Settings& settings) {
  double factor_y = static_cast<double>(settings.height) / image.height;
  double factor_x = static_cast<double>(settings.width) / image.width;
  if (settings.keep_ratio) {
    const double shorter = std::min(settings.height, settings.width), longer = std::max(settings.height, settings.width);
    factor_y = factor_x = std::min(shorter / std::min(image.height, image.width),
                                   longer / std::max(image.height, image.width));
  }
  const bool same = factor_y == 1 && factor_x == 1;
  const Image resized = same ? Image() : resize(image, factor_y, factor_x, settings.interpolation);
  const Image& fitting = same ? image : resized;
  Input input;
  input.scale_y = static_cast<float>(factor_y);
  input.scale_x = static_cast<float>(factor_x);
  for (const std::string& name : settings.inputs) {
    if (name == "scale_factor") {
      input.arrays.push_back(Array{{1, 2}, {input.scale_y, input.scale_x}});
    } else if (name == "im_shape") {
      input.arrays.push_back(
          Array{{1, 2}, {static_cast<float>(fitting.height), static_cast<float>(fitting.width)}});
    } else if (name == settings.inputs.front() || name == "image") {
      input.arrays.push_back(normalised(fitting, settings));
    } else {
      throw BadInput("the model has an input unknown here: " + name);
    }
  }
  return input;
}

}  // namespace board
