// JPEG through libjpeg, or through OpenCV where the program is built with that alone.
#pragma once

#include <cstdint>
#include <vector>

#include "image.h"

namespace board {

// Whether this program was built with one of them.
bool knows_jpeg();

// What a message says where it was not.
extern const char kNoJpeg[];

// Throws BadInput for data that is no whole JPEG. A Motion JPEG frame may lack its Huffman tables (libjpeg-turbo has
// the standard ones). `turned`: as the EXIF orientation says.
Image decode_jpeg(const uint8_t* data, size_t bytes, bool turned = false);

// quality: 1 to 100.
std::vector<uint8_t> encode_jpeg(const Image& image, int quality);

}  // namespace board
