#include "live/source.h"

#include <dirent.h>
#include <sys/stat.h>

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <set>
#include <vector>

#include "errors.h"
#include "jpeg.h"

namespace board {

namespace {

class ImageFiles : public FrameSource {
 public:
  explicit ImageFiles(std::vector<std::string> paths) : paths_(std::move(paths)) {}

  bool next(Frame* frame) override {
    if (place_ == paths_.size()) return false;
    *frame = Frame();
    frame->source = paths_[place_++];
    frame->name = stem_of(frame->source);
    for (int again = 2; !names_.insert(frame->name).second; ++again)
      frame->name = stem_of(frame->source) + "_" + std::to_string(again);
    try {
      frame->image = read_image(frame->source);
    } catch (const BadInput& error) {
      frame->error = error.what();
    }
    return true;
  }

 private:
  const std::vector<std::string> paths_;
  std::set<std::string> names_;
  size_t place_ = 0;
};

std::vector<std::string> suffixes() {
#ifdef WITH_OPENCV
  return {".ppm", ".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"};
#else
  if (knows_jpeg()) return {".ppm", ".jpg", ".jpeg"};
  return {".ppm"};
#endif
}

bool is_image(const std::string& path) {
  const std::vector<std::string> known = suffixes();
  return std::any_of(known.begin(), known.end(), [&](const std::string& suffix) { return ends_with(path, suffix); });
}

}  // namespace

std::string stem_of(const std::string& path) {
  const size_t slash = path.find_last_of('/');
  const std::string name = slash == std::string::npos ? path : path.substr(slash + 1);
  const size_t dot = name.find_last_of('.');
  return dot == std::string::npos || dot == 0 ? name : name.substr(0, dot);
}

std::string numbered(const std::string& name, long number) {
  char text[32];
  std::snprintf(text, sizeof text, "_%06ld", number);
  return name + text;
}

bool ends_with(const std::string& path, const std::string& ending) {
  return path.size() >= ending.size() &&
         std::equal(ending.begin(), ending.end(), path.end() - static_cast<long>(ending.size()),
                    [](char one, char other) { return one == std::tolower(static_cast<unsigned char>(other)); });
}

std::unique_ptr<FrameSource> open_images(const std::string& given) {
  std::string where = given;
  while (where.size() > 1 && where.back() == '/') where.pop_back();
  std::vector<std::string> paths;
  if (DIR* folder = opendir(where.c_str())) {
    while (const dirent* entry = readdir(folder))
      if (entry->d_name[0] != '.' && is_image(entry->d_name)) paths.push_back(where + "/" + entry->d_name);
    closedir(folder);
    std::sort(paths.begin(), paths.end());
    if (paths.empty()) {
      std::string known;
      for (const std::string& suffix : suffixes()) known += (known.empty() ? "" : ", ") + suffix;
      throw BadInput(where + " holds no image that this program reads (" + known + ")");
    }
  } else {
    paths.push_back(where);
  }
  return std::unique_ptr<FrameSource>(new ImageFiles(paths));
}

std::unique_ptr<FrameSource> open_source(const std::string& where, const SourceOptions& options) {
  struct stat about;
  // A device that is not plugged in must be named as one.
  if (where.compare(0, 10, "/dev/video") == 0) return open_camera(where, options);
  if (where != "-") {
    if (stat(where.c_str(), &about) != 0) throw BadInput(where + " cannot be read: no such file, folder or device");
    if (S_ISCHR(about.st_mode)) return open_camera(where, options);
    if (S_ISDIR(about.st_mode) || (options.format.empty() && is_image(where))) return open_images(where);
  }
  return open_video(where, options);
}

}  // namespace board
