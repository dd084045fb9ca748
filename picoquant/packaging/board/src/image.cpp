#include "image.h"

#include <fstream>
#include <iterator>

#include "errors.h"

#ifdef WITH_OPENCV
#include <opencv2/imgcodecs.hpp>
#include <opencv2/imgproc.hpp>
#endif

namespace board {

namespace {

const long kLargest = 1 << 15;  // side of an image, pixels

// The next number of a PPM's head; comments begin with '#' and end with the line.
long head_number(std::istream& stream, const std::string& path) {
  int letter = stream.get();
  while (letter == '#' || letter == ' ' || letter == '\t' || letter == '\r' || letter == '\n') {
    if (letter == '#')
      while (letter != '\n' && letter != EOF) letter = stream.get();
    letter = stream.get();
  }
  long value = 0;
  bool any = false;
  for (; letter >= '0' && letter <= '9' && value <= kLargest; letter = stream.get()) {
    value = value * 10 + (letter - '0');
    any = true;
  }
  if (!any || value < 1 || value > kLargest) throw BadInput(path + " is no binary PPM image (P6)");
  return value;  // the one blank behind the number is taken, too
}

Image read_ppm(const std::string& path) {
  std::ifstream stream(path, std::ios::binary);
  if (!stream) throw BadInput(path + " cannot be read");
  char magic[2] = {0, 0};
  stream.read(magic, 2);
  if (magic[0] != 'P' || magic[1] != '6') {
#ifdef WITH_OPENCV
    throw BadInput(path + " is no image that OpenCV or this program reads");
#else
    throw BadInput(path + " is no binary PPM image (P6); built with OpenCV this program reads other formats, too");
#endif
  }
  Image image;
  image.width = static_cast<int>(head_number(stream, path));
  image.height = static_cast<int>(head_number(stream, path));
  if (head_number(stream, path) != 255) throw BadInput(path + ": only PPM images of 8 bits a colour are read");
  image.rgb.resize(static_cast<size_t>(image.height) * image.width * 3);
  stream.read(reinterpret_cast<char*>(image.rgb.data()), static_cast<std::streamsize>(image.rgb.size()));
  if (stream.gcount() != static_cast<std::streamsize>(image.rgb.size())) throw BadInput(path + " is truncated");
  return image;
}

}  // namespace

Image read_image(const std::string& path) {
#ifdef WITH_OPENCV
  const cv::Mat bgr = cv::imread(path, cv::IMREAD_COLOR);
  if (!bgr.empty()) {
    cv::Mat rgb;
    cv::cvtColor(bgr, rgb, cv::COLOR_BGR2RGB);
    Image image;
    image.height = rgb.rows;
    image.width = rgb.cols;
    for (int row = 0; row < rgb.rows; ++row)
      image.rgb.insert(image.rgb.end(), rgb.ptr<uint8_t>(row), rgb.ptr<uint8_t>(row) + 3 * rgb.cols);
    return image;
  }
#endif
  return read_ppm(path);
}

}  // namespace board
