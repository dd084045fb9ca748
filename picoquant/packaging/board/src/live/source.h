// Where pictures come from: a folder of images, a video file or pipe, a camera.
#pragma once

#include <memory>
#include <string>

#include "image.h"
#include "live/pixels.h"

namespace board {

struct Frame {
  Image image;
  std::string source;  // the file or device
  std::string name;    // for a file made of it, without suffix; unique
  long number = -1;    // in a video, from 0; -1 for an image file
  std::string error;   // why there is no image; empty: there is one
};

struct SourceOptions {
  std::string format;         // a video's, see format_named; empty: what the file says, the camera's best one
  int width = 0, height = 0;  // of a video; 0: what the file says, 640x480 of a camera
};

class FrameSource {
 public:
  virtual ~FrameSource() = default;
  // False at the end. A frame that cannot be read has an `error`, and others may follow.
  virtual bool next(Frame* frame) = 0;
  virtual double rate() const { return 0; }  // frames a second as the source states them; 0: unknown
};

// where: an image, a folder of images, a video (Y4M; AVI of Motion JPEG or raw frames; raw frames where `format`
// says of which kind), `-` for a video on the standard input, a V4L2 device. Throws BadInput.
std::unique_ptr<FrameSource> open_source(const std::string& where, const SourceOptions& options);

// The parts of it, a file each.
std::unique_ptr<FrameSource> open_images(const std::string& where);
std::unique_ptr<FrameSource> open_video(const std::string& where, const SourceOptions& options);
std::unique_ptr<FrameSource> open_camera(const std::string& where, const SourceOptions& options);

// A path without its folder and suffix.
std::string stem_of(const std::string& path);

// "name_000012" of a video's frame.
std::string numbered(const std::string& name, long number);

// Whether a path ends so, in whatever case.
bool ends_with(const std::string& path, const std::string& ending);

}  // namespace board
