// The Linux framebuffer: 16 and 32 bits a pixel, whatever the places of the colours (RGB565, BGRA32 …).
#include <fcntl.h>
#include <linux/fb.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <vector>

#include "errors.h"
#include "live/sink.h"

namespace board {

namespace {

class Screen : public FrameSink {
 public:
  explicit Screen(const std::string& path) : path_(path), device_(open(path.c_str(), O_RDWR)) {
    if (device_ < 0) fail("cannot be opened");
    try {
      look();
    } catch (...) {
      ::close(device_);
      throw;
    }
  }

  ~Screen() override {
    munmap(memory_, bytes_);
    ::close(device_);
  }

  Screen(const Screen&) = delete;
  Screen& operator=(const Screen&) = delete;

  // As large as fits, in the middle; around it black.
  void write(const Image& image, const std::string&) override {
    if (ioctl(device_, FBIOGET_VSCREENINFO, &shown_) != 0) fail("says nothing of itself");
    check();
    const double factor =
        std::min(static_cast<double>(shown_.xres) / image.width, static_cast<double>(shown_.yres) / image.height);
    const size_t width = at_least_1(image.width * factor, shown_.xres),
                 height = at_least_1(image.height * factor, shown_.yres);
    const size_t left = (shown_.xres - width) / 2, top = (shown_.yres - height) / 2;
    const size_t step = shown_.bits_per_pixel / 8;
    std::vector<uint8_t> line(shown_.xres * step);
    for (size_t row = 0; row < shown_.yres; ++row) {
      std::fill(line.begin(), line.end(), uint8_t{0});
      if (row >= top && row < top + height) {
        const uint8_t* from = &image.rgb[(row - top) * image.height / height * image.width * 3];
        for (size_t column = 0; column < width; ++column)
          put(from + column * image.width / width * 3, &line[(left + column) * step]);
      }
      std::memcpy(static_cast<uint8_t*>(memory_) + (row + shown_.yoffset) * stride_ + shown_.xoffset * step,
                  line.data(), line.size());
    }
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    const int reason = errno;
    const char* hint = reason == EACCES ? "; the user must be in the group video" : "";
    throw BadInput(path_ + " " + what + ": " + std::strerror(reason) + hint);
  }

  static size_t at_least_1(double value, size_t most) {
    return std::min(std::max<size_t>(static_cast<size_t>(value + 0.5), 1), most);
  }

  void look() {
    fb_fix_screeninfo fixed;
    if (ioctl(device_, FBIOGET_FSCREENINFO, &fixed) != 0 || ioctl(device_, FBIOGET_VSCREENINFO, &shown_) != 0)
      throw BadInput(path_ + " is no framebuffer");
    stride_ = fixed.line_length;
    bytes_ = fixed.smem_len;
    check();
    memory_ = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_SHARED, device_, 0);
    if (memory_ == MAP_FAILED) fail("gives no memory");
  }

  // The screen may change while the program runs.
  void check() const {
    const uint32_t bits = shown_.bits_per_pixel;
    const bool fits =
        shown_.red.offset + shown_.red.length <= bits && shown_.green.offset + shown_.green.length <= bits &&
        shown_.blue.offset + shown_.blue.length <= bits && shown_.red.length <= 8 && shown_.green.length <= 8 &&
        shown_.blue.length <= 8 && shown_.red.length && shown_.green.length && shown_.blue.length;
    if ((bits != 16 && bits != 32) || !fits)
      throw BadInput(path_ + " has " + std::to_string(bits) +
                     " bits a pixel; screens of 16 and 32 bits in red, green and blue are known");
    const uint64_t line = (uint64_t{shown_.xoffset} + shown_.xres) * (bits / 8);
    const uint64_t rows = uint64_t{shown_.yoffset} + shown_.yres;
    if (!shown_.xres || !shown_.yres || line > stride_ || rows > bytes_ / std::max<size_t>(stride_, 1))
      throw BadInput(path_ + " says that it is larger than its memory");
  }

  void put(const uint8_t* rgb, uint8_t* to) const {
    const fb_bitfield* const fields[] = {&shown_.red, &shown_.green, &shown_.blue};
    uint32_t value = 0;
    for (int colour = 0; colour < 3; ++colour)
      value |= static_cast<uint32_t>(rgb[colour] >> (8 - fields[colour]->length)) << fields[colour]->offset;
    if (shown_.transp.length && shown_.transp.length <= 8 && shown_.transp.offset <= 24)  // what is shown is opaque
      value |= ((1u << shown_.transp.length) - 1) << shown_.transp.offset;
    for (size_t byte = 0; byte < shown_.bits_per_pixel / 8; ++byte)
      to[byte] = static_cast<uint8_t>(value >> (8 * byte));
  }

  const std::string path_;
  const int device_;
  fb_var_screeninfo shown_;
  size_t stride_ = 0, bytes_ = 0;
  void* memory_ = nullptr;
};

}  // namespace

std::unique_ptr<FrameSink> open_screen(const std::string& where) {
  return std::unique_ptr<FrameSink>(new Screen(where));
}

}  // namespace board
