// Separable resampling in whole numbers: weights of 11 bits, columns first, rounded once at the end, as OpenCV
// does it for 8-bit images (modules/imgproc/src/resize.cpp, INTER_RESIZE_COEF_BITS).
#include <algorithm>
#include <cmath>

#include "errors.h"
#include "image.h"

namespace board {

namespace {

const int kBits = 11;
const double kSharpness = -0.75;  // of the cubic kernel (R. Keys, 1981); OpenCV's value

// From which places along an axis one result is made, and with which weights.
struct Taps {
  int place[4];
  int weight[4];
};

// Keys' kernel at distance t from a pixel's centre.
double keys(double t) {
  t = std::fabs(t);
  if (t <= 1) return ((kSharpness + 2) * t - (kSharpness + 3)) * t * t + 1;
  if (t < 2) return ((kSharpness * t - 5 * kSharpness) * t + 8 * kSharpness) * t - 4 * kSharpness;
  return 0;
}

std::vector<Taps> taps_of(int from, int to, double factor, int interpolation) {
  std::vector<Taps> all(to);
  const double step = 1.0 / factor;
  for (int index = 0; index < to; ++index) {
    Taps& taps = all[index];
    // OpenCV works with float32 here; so does this, to fall on the same side of a rounding.
    const float centre = static_cast<float>((index + 0.5) * step - 0.5);
    int first = static_cast<int>(std::floor(centre));
    const float part = centre - static_cast<float>(first);
    double weights[4] = {0, 0, 0, 0};
    if (interpolation == 0) {
      first = static_cast<int>(std::floor(index * step)) + 1;  // so that place[0] is the pixel
      weights[0] = 1;
    } else if (interpolation == 1) {
      weights[1] = 1 - part;
      weights[2] = part;
    } else {
      for (int tap = 0; tap < 4; ++tap) weights[tap] = keys(part - (tap - 1));
    }
    for (int tap = 0; tap < 4; ++tap) {
      taps.place[tap] = std::min(std::max(first - 1 + tap, 0), from - 1);
      taps.weight[tap] = static_cast<int>(std::lrint(weights[tap] * (1 << kBits)));
    }
  }
  return all;
}

}  // namespace

Image resize(const Image& image, double factor_y, double factor_x, int interpolation) {
  if (interpolation < 0 || interpolation > 2)
    throw BadInput("this program resizes with interpolation 0 (nearest), 1 (linear) and 2 (cubic) only");
  Image result;
  result.height = static_cast<int>(std::lrint(image.height * factor_y));
  result.width = static_cast<int>(std::lrint(image.width * factor_x));
  if (result.height < 1 || result.width < 1) throw BadInput("the image is too thin to be resized");
  const std::vector<Taps> columns = taps_of(image.width, result.width, factor_x, interpolation);
  const std::vector<Taps> rows = taps_of(image.height, result.height, factor_y, interpolation);
  const size_t line = static_cast<size_t>(result.width) * 3;
  std::vector<int> wide(line * image.height);  // every row at its new width, times 2^11
  for (int row = 0; row < image.height; ++row) {
    const uint8_t* from = &image.rgb[static_cast<size_t>(row) * image.width * 3];
    int* to = &wide[row * line];
    for (int column = 0; column < result.width; ++column) {
      const Taps& taps = columns[column];
      for (int colour = 0; colour < 3; ++colour) {
        int sum = 0;
        for (int tap = 0; tap < 4; ++tap) sum += from[taps.place[tap] * 3 + colour] * taps.weight[tap];
        to[column * 3 + colour] = sum;
      }
    }
  }
  result.rgb.resize(line * result.height);
  for (int row = 0; row < result.height; ++row) {
    const Taps& taps = rows[row];
    for (size_t place = 0; place < line; ++place) {
      int64_t sum = int64_t{1} << (2 * kBits - 1);  // to round
      for (int tap = 0; tap < 4; ++tap) sum += int64_t{wide[taps.place[tap] * line + place]} * taps.weight[tap];
      sum >>= 2 * kBits;
      result.rgb[row * line + place] = static_cast<uint8_t>(std::min<int64_t>(std::max<int64_t>(sum, 0), 255));
    }
  }
  return result;
}

}  // namespace board
