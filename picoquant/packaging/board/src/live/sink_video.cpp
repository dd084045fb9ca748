// Videos without a codec: Y4M (4:2:0, BT.601), or AVI of Motion JPEG.
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <vector>

#include "errors.h"
#include "jpeg.h"
#include "live/sink.h"
#include "live/source.h"

namespace board {

namespace {

const double kRate = 25;  // where the source states none
const int kQuality = 92;
const uint64_t kLongestAvi = 0xFFF00000;  // bytes; its sizes have 32 bits

class VideoFile : public FrameSink {
 public:
  VideoFile(const std::string& where, double rate) : where_(where), rate_(rate > 0 ? rate : kRate) {
    struct stat about;
    aside_ = stat(where.c_str(), &about) != 0 || S_ISREG(about.st_mode);
    place_ = aside_ ? where + ".part" : where;
    stream_.open(place_, std::ios::binary);
    check();
  }

  ~VideoFile() override {
    if (aside_ && !closed_) std::remove(place_.c_str());
  }

  void write(const Image& image, const std::string&) override {
    if (!width_) {
      width_ = image.width;
      height_ = image.height;
      begin();
    }
    if (image.width != width_ || image.height != height_)
      throw BadInput("--draw " + where_ + ": a video's frames are of one size, and one is of " +
                     std::to_string(image.width) + "x" + std::to_string(image.height) + ": name a folder");
    frame(image);
    check();
  }

  void close() override {
    if (width_) end();
    stream_.close();
    check();
    if (aside_ && std::rename(place_.c_str(), where_.c_str()) != 0) stream_.setstate(std::ios::failbit);
    check();
    closed_ = true;
  }

 protected:
  virtual void begin() = 0;
  virtual void frame(const Image& image) = 0;
  virtual void end() {}

  void check() {
    if (!stream_) throw BadInput(where_ + " cannot be written: " + std::strerror(errno));
  }

  const std::string where_;
  const double rate_;
  std::ofstream stream_;
  int width_ = 0, height_ = 0;
  bool aside_ = true;

 private:
  std::string place_;
  bool closed_ = false;
};

class Y4mFile : public VideoFile {
 public:
  using VideoFile::VideoFile;

 protected:
  void begin() override {
    stream_ << "YUV4MPEG2 W" << width_ << " H" << height_ << " F" << std::lround(rate_ * 1000)
            << ":1000 Ip A1:1 C420jpeg XCOLORRANGE=LIMITED\n";
  }

  void frame(const Image& image) override {
    const int half = (width_ + 1) / 2, half_rows = (height_ + 1) / 2;
    std::vector<char> y(static_cast<size_t>(width_) * height_), u(static_cast<size_t>(half) * half_rows), v(u.size());
    for (int row = 0; row < height_; ++row)
      for (int column = 0; column < width_; ++column) {
        const uint8_t* rgb = &image.rgb[(static_cast<size_t>(row) * width_ + column) * 3];
        y[static_cast<size_t>(row) * width_ + column] = luma(rgb[0], rgb[1], rgb[2]);
      }
    for (int row = 0; row < half_rows; ++row)
      for (int column = 0; column < half; ++column) {
        double sum[3] = {0, 0, 0};  // of the four pixels that share a sample
        for (int corner = 0; corner < 4; ++corner) {
          const int at_y = std::min(2 * row + corner / 2, height_ - 1),
                    at_x = std::min(2 * column + corner % 2, width_ - 1);
          for (int colour = 0; colour < 3; ++colour)
            sum[colour] += image.rgb[(static_cast<size_t>(at_y) * width_ + at_x) * 3 + colour] / 4.0;
        }
        const size_t place = static_cast<size_t>(row) * half + column;
        u[place] = rounded(128 + (-0.168736 * sum[0] - 0.331264 * sum[1] + 0.5 * sum[2]) * 224 / 255);
        v[place] = rounded(128 + (0.5 * sum[0] - 0.418688 * sum[1] - 0.081312 * sum[2]) * 224 / 255);
      }
    stream_ << "FRAME\n";
    for (const std::vector<char>* plane : {&y, &u, &v})
      stream_.write(plane->data(), static_cast<std::streamsize>(plane->size()));
  }

 private:
  static char rounded(double value) {
    return static_cast<char>(static_cast<uint8_t>(std::min(std::max(std::lround(value), 0L), 255L)));
  }

  static char luma(int red, int green, int blue) {
    return rounded(16 + (0.299 * red + 0.587 * green + 0.114 * blue) * 219 / 255);
  }
};

class AviFile : public VideoFile {
 public:
  AviFile(const std::string& where, double rate) : VideoFile(where, rate) {
    if (!knows_jpeg()) throw BadInput("--draw " + where + ": this program was " + kNoJpeg + "; FILE.y4m needs none");
    if (!aside_) throw BadInput("--draw " + where + ": an AVI is written to a file");
  }

 protected:
  // Sizes and counts are written again at the end.
  void begin() override {
    const uint32_t rate = static_cast<uint32_t>(std::lround(rate_ * 1000)), scale = 1000;
    const uint32_t width = static_cast<uint32_t>(width_), height = static_cast<uint32_t>(height_);
    const uint32_t frames = static_cast<uint32_t>(sizes_.size()), data = movi_;
    uint32_t most = 0;
    for (const uint32_t size : sizes_) most = std::max(most, size);
    letters("RIFF");
    words({total_});
    letters("AVI LIST");
    words({4 + 64 + 12 + 64 + 48});
    letters("hdrlavih");
    const uint32_t microseconds = static_cast<uint32_t>(std::lround(1e6 / rate_));
    words({56, microseconds, 0, 0, 0x10, frames, 0, 1, most, width, height, 0, 0, 0, 0});
    letters("LIST");
    words({4 + 64 + 48});
    letters("strlstrh");
    words({56});
    letters("vidsMJPG");
    words({0, 0, 0, scale, rate, 0, frames, most, 0xFFFFFFFF, 0, 0, width | height << 16});
    letters("strf");
    words({40, 40, width, height, 1 | 24 << 16});
    letters("MJPG");
    words({width * height * 3, 0, 0, 0, 0});
    letters("LIST");
    words({4 + data});
    letters("movi");
  }

  void frame(const Image& image) override {
    const std::vector<uint8_t> data = encode_jpeg(image, kQuality);
    const uint32_t size = static_cast<uint32_t>(data.size());
    if (uint64_t{movi_} + size + 16 * (sizes_.size() + 2) > kLongestAvi)
      throw BadInput("--draw " + where_ +
                     " is at 4 GB, which is all that an AVI holds: give --frames, or name a folder");
    letters("00dc");
    words({size});
    stream_.write(reinterpret_cast<const char*>(data.data()), static_cast<std::streamsize>(data.size()));
    if (size % 2) stream_.put('\0');
    sizes_.push_back(size);
    movi_ += 8 + size + size % 2;
  }

  void end() override {
    letters("idx1");
    words({static_cast<uint32_t>(16 * sizes_.size())});
    uint32_t place = 4;
    for (const uint32_t size : sizes_) {
      letters("00dc");
      words({0x10, place, size});
      place += 8 + size + size % 2;
    }
    total_ = static_cast<uint32_t>(static_cast<std::streamoff>(stream_.tellp()) - 8);
    stream_.seekp(0);
    begin();
  }

 private:
  void letters(const char* text) { stream_ << text; }

  void words(std::initializer_list<uint32_t> values) {
    for (const uint32_t value : values)
      for (int byte = 0; byte < 4; ++byte) stream_.put(static_cast<char>(value >> (8 * byte) & 0xFF));
  }

  std::vector<uint32_t> sizes_;
  uint32_t movi_ = 0, total_ = 0;
};

}  // namespace

std::unique_ptr<FrameSink> open_video_file(const std::string& where, double rate) {
  if (ends_with(where, ".y4m")) return std::unique_ptr<FrameSink>(new Y4mFile(where, rate));
  return std::unique_ptr<FrameSink>(new AviFile(where, rate));
}

}  // namespace board
