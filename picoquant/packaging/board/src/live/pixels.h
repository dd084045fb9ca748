// Frames as cameras and video files hold them, and how they become RGB.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "image.h"

namespace board {

// kMjpeg: a JPEG a frame. The planar ones without a name on the command line are Y4M's.
enum class Format { kYuyv, kUyvy, kNv12, kNv21, kI420, kI422, kI444, kGrey, kRgb24, kBgr24, kMjpeg };

const int kLargestFrame = 1 << 25;  // pixels; 7680x4320 fits

// Which numbers black, white and the colours have. By default those of SD video: 16 to 235, BT.601.
struct Colours {
  bool full_range = false;  // 0 to 255, as in JPEG
  bool bt709 = false;       // HD video's colours
};

struct Layout {
  Format format = Format::kYuyv;
  int width = 0, height = 0;
  size_t stride = 0;  // bytes from a line of the first plane to the next; 0: lines follow one another
  Colours colours;
};

// yuyv, uyvy, nv12, nv21, i420, rgb24, bgr24 or mjpeg. Throws BadInput naming `option`.
Format format_named(const std::string& option, const std::string& name);
const char* name_of(Format format);

// Throws BadInput naming `where` for a size that is no frame's.
void check_size(const std::string& where, long width, long height);

// Bytes of a frame that is not kMjpeg.
size_t frame_bytes(const Layout& layout);

// The frame as RGB; chroma is that of the nearest sample. Throws BadInput when `bytes` are too few.
Image to_rgb(const uint8_t* data, size_t bytes, const Layout& layout);

}  // namespace board
