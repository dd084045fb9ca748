#include "live/pixels.h"

#include <algorithm>
#include <cmath>

#include "errors.h"

namespace board {

namespace {

struct Named {
  const char* name;
  Format format;
};

const Named kNames[] = {{"yuyv", Format::kYuyv},   {"uyvy", Format::kUyvy},  {"nv12", Format::kNv12},
                        {"nv21", Format::kNv21},   {"i420", Format::kI420},  {"rgb24", Format::kRgb24},
                        {"bgr24", Format::kBgr24}, {"mjpeg", Format::kMjpeg}};

const int kBits = 16;  // of the fractions below

// What a step of Y, and of U and V, adds to red, green and blue.
struct Matrix {
  int black;  // Y of black
  int y, red_v, green_u, green_v, blue_u;
};

// From the luma coefficients of ITU-R BT.601 and BT.709, kr and kb.
Matrix matrix_of(const Colours& colours) {
  const double kr = colours.bt709 ? 0.2126 : 0.299, kb = colours.bt709 ? 0.0722 : 0.114, kg = 1 - kr - kb;
  const double luma = colours.full_range ? 1.0 : 255.0 / 219.0, chroma = colours.full_range ? 1.0 : 255.0 / 224.0;
  const auto fixed = [](double value) { return static_cast<int>(std::lround(value * (1 << kBits))); };
  return Matrix{colours.full_range ? 0 : 16,
                fixed(luma),
                fixed(2 * (1 - kr) * chroma),
                fixed(-2 * (1 - kb) * kb / kg * chroma),
                fixed(-2 * (1 - kr) * kr / kg * chroma),
                fixed(2 * (1 - kb) * chroma)};
}

uint8_t clipped(int value) {
  return static_cast<uint8_t>(std::min(std::max((value + (1 << (kBits - 1))) >> kBits, 0), 255));
}

// Where the samples of a line are.
struct Line {
  const uint8_t *y, *u, *v;
  int y_step, uv_step;  // bytes from a sample to the next
  int shared;           // a chroma sample is that of 2^shared pixels
};

void convert(const Line& line, int width, const Matrix& matrix, uint8_t* rgb) {
  for (int x = 0; x < width; ++x) {
    const int place = (x >> line.shared) * line.uv_step;
    const int y = (line.y[x * line.y_step] - matrix.black) * matrix.y;
    const int u = line.u[place] - 128, v = line.v[place] - 128;
    rgb[3 * x] = clipped(y + matrix.red_v * v);
    rgb[3 * x + 1] = clipped(y + matrix.green_u * u + matrix.green_v * v);
    rgb[3 * x + 2] = clipped(y + matrix.blue_u * u);
  }
}

// Bytes from a line to the next, and how many lines, of the first plane and of each of the others.
struct Planes {
  size_t first, other;
  size_t rows, other_rows;
  int others;
};

Planes planes_of(const Layout& layout) {
  const size_t width = static_cast<size_t>(layout.width), rows = static_cast<size_t>(layout.height);
  const size_t half = (width + 1) / 2, half_rows = (rows + 1) / 2;
  const auto or_tight = [&](size_t tight) { return layout.stride ? layout.stride : tight; };
  switch (layout.format) {
    case Format::kYuyv:
    case Format::kUyvy:
      return {or_tight(4 * half), 0, rows, 0, 0};
    case Format::kRgb24:
    case Format::kBgr24:
      return {or_tight(3 * width), 0, rows, 0, 0};
    case Format::kNv12:
    case Format::kNv21:
      return {or_tight(width), or_tight(2 * half), rows, half_rows, 1};
    case Format::kI420:
      return {or_tight(width), layout.stride ? layout.stride / 2 : half, rows, half_rows, 2};
    case Format::kI422:
      return {or_tight(width), layout.stride ? layout.stride / 2 : half, rows, rows, 2};
    case Format::kI444:
      return {or_tight(width), or_tight(width), rows, rows, 2};
    default:
      return {or_tight(width), 0, rows, 0, 0};
  }
}

Line line_of(const uint8_t* data, const Layout& layout, const Planes& planes, size_t row) {
  const uint8_t* first = data + row * planes.first;
  const uint8_t* second = data + planes.rows * planes.first;
  static const uint8_t kNoColour = 128;
  switch (layout.format) {
    case Format::kYuyv:
      return {first, first + 1, first + 3, 2, 4, 1};
    case Format::kUyvy:
      return {first + 1, first, first + 2, 2, 4, 1};
    case Format::kNv12:
    case Format::kNv21: {
      const uint8_t* pair = second + row / 2 * planes.other;
      const bool swapped = layout.format == Format::kNv21;
      return {first, pair + swapped, pair + !swapped, 1, 2, 1};
    }
    case Format::kI420:
    case Format::kI422:
    case Format::kI444: {
      const uint8_t* u = second + (layout.format == Format::kI420 ? row / 2 : row) * planes.other;
      return {first, u, u + planes.other_rows * planes.other, 1, 1, layout.format == Format::kI444 ? 0 : 1};
    }
    default:
      return {first, &kNoColour, &kNoColour, 1, 0, 0};
  }
}

}  // namespace

Format format_named(const std::string& option, const std::string& name) {
  std::string known;
  for (const Named& one : kNames) {
    if (name == one.name) return one.format;
    known += std::string(known.empty() ? "" : ", ") + one.name;
  }
  throw BadInput(option + ": " + name + " is none of " + known);
}

const char* name_of(Format format) {
  for (const Named& one : kNames)
    if (one.format == format) return one.name;
  return "planar";
}

void check_size(const std::string& where, long width, long height) {
  if (width < 1 || height < 1 || width > kLargestFrame || height > kLargestFrame / width)
    throw BadInput(where + ": " + std::to_string(width) + "x" + std::to_string(height) + " is no frame's size");
}

size_t frame_bytes(const Layout& layout) {
  const Planes planes = planes_of(layout);
  return planes.rows * planes.first + static_cast<size_t>(planes.others) * planes.other_rows * planes.other;
}

Image to_rgb(const uint8_t* data, size_t bytes, const Layout& layout) {
  Layout tight = layout;
  tight.stride = 0;
  const Planes planes = planes_of(layout), least = planes_of(tight);
  if (planes.first < least.first || planes.other < least.other)
    throw BadInput("a line of " + std::to_string(layout.stride) + " bytes holds no " + std::to_string(layout.width) +
                   " pixels of " + name_of(layout.format));
  // A driver need not give the rest of the last line.
  const size_t padding = planes.others ? planes.other - least.other : planes.first - least.first;
  if (bytes < frame_bytes(layout) - padding)
    throw BadInput("a frame of " + std::to_string(bytes) + " bytes, " + std::to_string(frame_bytes(layout)) +
                   " expected");
  Image image;
  image.width = layout.width;
  image.height = layout.height;
  const size_t line = static_cast<size_t>(layout.width) * 3;
  image.rgb.resize(line * static_cast<size_t>(layout.height));
  const Matrix matrix = matrix_of(layout.colours);
  for (size_t row = 0; row < static_cast<size_t>(layout.height); ++row) {
    uint8_t* to = &image.rgb[row * line];
    if (layout.format == Format::kRgb24 || layout.format == Format::kBgr24) {
      std::copy(data + row * planes.first, data + row * planes.first + line, to);
      if (layout.format == Format::kBgr24)
        for (size_t place = 0; place < line; place += 3) std::swap(to[place], to[place + 2]);
    } else {
      convert(line_of(data, layout, planes, row), layout.width, matrix, to);
    }
  }
  return image;
}

}  // namespace board
