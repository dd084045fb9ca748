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

// [1, 3, H, W]; what the image does not cover is padding.
Array normalised(const Image& image, const Settings& settings, const Place& place) {
  Array array;
  array.shape = {1, 3, settings.height, settings.width};
  const size_t plane = static_cast<size_t>(settings.height) * settings.width;
  array.values.resize(3 * plane);
  for (int colour = 0; colour < 3; ++colour) {
    std::fill_n(&array.values[colour * plane], plane, static_cast<float>(settings.fill[colour]));
    const std::vector<float> table = levels(settings, colour);
    for (int row = 0; row < image.height; ++row) {
      const uint8_t* from = &image.rgb[static_cast<size_t>(row) * image.width * 3 + colour];
      float* to = &array.values[colour * plane + static_cast<size_t>(row + place.top) * settings.width + place.left];
      for (int column = 0; column < image.width; ++column) to[column] = table[from[3 * column]];
    }
  }
  return array;
}

// What is before an image of `inner` pixels in an input of `whole`.
int before(int whole, int inner, const std::string& padding) {
  if (padding == "end") return 0;
  return padding == "centre" ? (whole - inner) / 2 : whole - inner;
}

}  // namespace

Input preprocess(const Image& image, const Settings& settings) {
  int height = settings.height, width = settings.width;
  if (settings.keep_ratio) {
    const double scale = std::min(static_cast<double>(settings.height) / image.height,
                                  static_cast<double>(settings.width) / image.width);
    height = std::max(static_cast<int>(image.height * scale + 0.5), 1);
    width = std::max(static_cast<int>(image.width * scale + 0.5), 1);
  }
  const double factor_y = static_cast<double>(height) / image.height;
  const double factor_x = static_cast<double>(width) / image.width;
  const bool same = factor_y == 1 && factor_x == 1;
  const Image resized = same ? Image() : resize(image, factor_y, factor_x, settings.interpolation);
  const Image& fitting = same ? image : resized;
  Input input;
  Place& place = input.place;
  place.scale_y = static_cast<float>(factor_y);
  place.scale_x = static_cast<float>(factor_x);
  place.top = before(settings.height, fitting.height, settings.padding);
  place.left = before(settings.width, fitting.width, settings.padding);
  for (const std::string& name : settings.inputs) {
    if (name == "scale_factor") {
      input.arrays.push_back(Array{{1, 2}, {place.scale_y, place.scale_x}});
    } else if (name == "im_shape") {
      input.arrays.push_back(
          Array{{1, 2}, {static_cast<float>(fitting.height), static_cast<float>(fitting.width)}});
    } else if (name == settings.inputs.front() || name == "image") {
      input.arrays.push_back(normalised(fitting, settings, place));
    } else {
      throw BadInput("the model has an input unknown here: " + name);
    }
  }
  return input;
}

}  // namespace board
