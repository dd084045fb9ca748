#include "live/sink.h"

#include <sys/stat.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <vector>

#include "errors.h"
#include "jpeg.h"
#include "live/source.h"

namespace board {

namespace {

const int kQuality = 92;  // of JPEG, as `picoquant predict` writes it

std::string as_file(const Image& image, bool jpeg) {
  if (jpeg) {
    const std::vector<uint8_t> data = encode_jpeg(image, kQuality);
    return std::string(data.begin(), data.end());
  }
  std::string data = "P6\n" + std::to_string(image.width) + " " + std::to_string(image.height) + "\n255\n";
  data.append(image.rgb.begin(), image.rgb.end());
  return data;
}

class ImageFolder : public FrameSink {
 public:
  explicit ImageFolder(const std::string& where) : where_(where) {
    struct stat about;
    if (mkdir(where.c_str(), 0755) != 0 &&
        !(errno == EEXIST && stat(where.c_str(), &about) == 0 && S_ISDIR(about.st_mode)))
      throw BadInput("--draw: the folder " + where + " cannot be made: " + std::strerror(errno));
  }

  void write(const Image& image, const std::string& name) override {
    const bool jpeg = knows_jpeg();
    write_whole(where_ + "/" + name + (jpeg ? ".jpg" : ".ppm"), as_file(image, jpeg));
  }

 private:
  const std::string where_;
};

class OneImage : public FrameSink {
 public:
  explicit OneImage(const std::string& where) : where_(where), jpeg_(!ends_with(where, ".ppm")) {
    if (jpeg_ && !knows_jpeg()) throw BadInput("--draw " + where + ": this program was " + kNoJpeg);
  }

  void write(const Image& image, const std::string&) override {
    if (written_) throw BadInput("--draw " + where_ + " holds one image, and there are more: name a folder or a video");
    write_whole(where_, as_file(image, jpeg_));
    written_ = true;
  }

 private:
  const std::string where_;
  const bool jpeg_;
  bool written_ = false;
};

}  // namespace

void write_whole(const std::string& path, const std::string& data) {
  struct stat about;
  const bool aside = stat(path.c_str(), &about) != 0 || S_ISREG(about.st_mode);
  const std::string place = aside ? path + ".part" : path;
  std::ofstream stream(place, std::ios::binary);
  stream.write(data.data(), static_cast<std::streamsize>(data.size()));
  stream.close();
  if (!stream || (aside && std::rename(place.c_str(), path.c_str()) != 0)) {
    const std::string reason = std::strerror(errno);
    if (aside) std::remove(place.c_str());
    throw BadInput(path + " cannot be written: " + reason);
  }
}

std::unique_ptr<FrameSink> open_sink(const std::string& where, double rate) {
  if (where.compare(0, 7, "/dev/fb") == 0) return open_screen(where);
  if (ends_with(where, ".y4m") || ends_with(where, ".avi")) return open_video_file(where, rate);
  if (ends_with(where, ".ppm") || ends_with(where, ".jpg") || ends_with(where, ".jpeg"))
    return std::unique_ptr<FrameSink>(new OneImage(where));
  for (const char* other : {".mp4", ".mkv", ".mov", ".png"})
    if (ends_with(where, other))
      throw BadInput("--draw " + where +
                     ": written are a folder of images, FILE.ppm, FILE.jpg, FILE.y4m, FILE.avi and /dev/fb0");
  return std::unique_ptr<FrameSink>(new ImageFolder(where));
}

}  // namespace board
