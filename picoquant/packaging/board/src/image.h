// Images: reading one, and bringing it to the network's size.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace board {

struct Image {
  int height = 0, width = 0;
  std::vector<uint8_t> rgb;  // height * width * 3
};

// Reads a binary PPM (P6), with libjpeg JPEG, too; with OpenCV every format it knows. Throws BadInput.
Image read_image(const std::string& path);

// Resizes by the factors given, as cv2.resize(image, None, fx=…, fy=…) does, to one level of 255.
// interpolation: OpenCV's number; 0 nearest, 1 linear, 2 cubic. Throws BadInput for another.
Image resize(const Image& image, double factor_y, double factor_x, int interpolation);

}  // namespace board
