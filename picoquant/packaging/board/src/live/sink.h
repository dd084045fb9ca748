// Where drawn frames go: images in a folder, one image, a video, the screen.
#pragma once

#include <memory>
#include <string>

#include "image.h"

namespace board {

class FrameSink {
 public:
  virtual ~FrameSink() = default;
  // name: of an image's file, without suffix. Throws BadInput when it cannot be written.
  virtual void write(const Image& image, const std::string& name) = 0;
  // Makes what was written whole; without it a video is not there.
  virtual void close() {}
};

// where: FILE.y4m or FILE.avi (Motion JPEG), FILE.ppm or FILE.jpg for one image, /dev/fb0 … for the screen, else a
// folder, which is made. rate: of a video, frames a second. Throws BadInput.
std::unique_ptr<FrameSink> open_sink(const std::string& where, double rate);

// The parts of it, a file each.
std::unique_ptr<FrameSink> open_screen(const std::string& where);
std::unique_ptr<FrameSink> open_video_file(const std::string& where, double rate);

// Writes aside and renames, so that a file is whole or not there. A device or a pipe is written to directly.
void write_whole(const std::string& path, const std::string& data);

}  // namespace board
