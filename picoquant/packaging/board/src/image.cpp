#include "image.h"

#include <fstream>
#include <iterator>

#include "errors.h"
#include "jpeg.h"

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

Image read_file(const std::string& path) {
  std::ifstream stream(path, std::ios::binary);
  if (!stream) throw BadInput(path + " cannot be read");
  char magic[2] = {0, 0};
  stream.read(magic, 2);
  if (magic[0] == '\xFF' && magic[1] == '\xD8' && knows_jpeg()) {
    stream.seekg(0);
    const std::string data{std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
    try {
      return decode_jpeg(reinterpret_cast<const uint8_t*>(data.data()), data.size(), true);
    } catch (const BadInput& error) {
      throw BadInput(path + ": " + error.what());
    }
  }
  if (magic[0] != 'P' || magic[1] != '6') {
#ifdef WITH_OPENCV
    throw BadInput(path + " is no image that OpenCV or this program reads");
#else
    throw BadInput(path + " is no binary PPM image (P6)" + (knows_jpeg() ? " and no JPEG" : "") +
                   "; built with OpenCV this program reads other formats, too");
#endif
  }
  Image image;
  image.width = static_cast<int>(head_number(stream, path));
  image.height = static_cast<int>(head_number(stream, path));
  if (head_number(stream, path) != 255) throw BadInput(path + ": only PPM images of 8 bits a colour are read");
  // A line at a time, so that memory is taken as the data comes, whatever the head says.
  const size_t line = static_cast<size_t>(image.width) * 3;
  for (int row = 0; row < image.height; ++row) {
    image.rgb.resize(line * (static_cast<size_t>(row) + 1));
    stream.read(reinterpret_cast<char*>(&image.rgb[line * static_cast<size_t>(row)]), static_cast<std::streamsize>(line));
    if (stream.gcount() != static_cast<std::streamsize>(line)) throw BadInput(path + " is truncated");
  }
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
  return read_file(path);
}

}  // namespace board
