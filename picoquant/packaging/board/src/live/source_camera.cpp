// A camera through Video4Linux2: single- and multi-planar capture with memory-mapped buffers, always the newest frame.
#include <fcntl.h>
#include <linux/videodev2.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <set>
#include <vector>

#include "errors.h"
#include "jpeg.h"
#include "live/source.h"
#include "live/stop.h"

namespace board {

namespace {

const unsigned kBuffers = 4;
const int kWait = 5000;                 // for a frame, milliseconds
const int kWidth = 640, kHeight = 480;  // what every camera has
const unsigned kMostFormats = 64, kDamagedInARow = 30;

struct Known {
  uint32_t code;
  Format format;
};

// Best first: those that come from the sensor as they are, then what costs a decoder.
const Known kKnown[] = {
    {V4L2_PIX_FMT_NV12, Format::kNv12},   {V4L2_PIX_FMT_YUYV, Format::kYuyv},   {V4L2_PIX_FMT_UYVY, Format::kUyvy},
    {V4L2_PIX_FMT_NV21, Format::kNv21},   {V4L2_PIX_FMT_YUV420, Format::kI420}, {V4L2_PIX_FMT_RGB24, Format::kRgb24},
    {V4L2_PIX_FMT_BGR24, Format::kBgr24}, {V4L2_PIX_FMT_MJPEG, Format::kMjpeg}, {V4L2_PIX_FMT_JPEG, Format::kMjpeg}};

std::string letters(uint32_t code) {
  std::string text;
  for (int byte = 0; byte < 4; ++byte) {
    const char letter = static_cast<char>(code >> (8 * byte) & 0x7F);
    text += letter > ' ' && letter <= '~' ? letter : '?';
  }
  return text;
}

class Camera : public FrameSource {
 public:
  Camera(const std::string& path, const SourceOptions& options) : path_(path) {
    device_ = open(path.c_str(), O_RDWR | O_NONBLOCK);
    if (device_ < 0) fail("cannot be opened");
    try {
      start(options);
    } catch (...) {
      stop();
      throw;
    }
  }

  ~Camera() override { stop(); }
  Camera(const Camera&) = delete;
  Camera& operator=(const Camera&) = delete;

  double rate() const override { return rate_; }

  bool next(Frame* frame) override {
    *frame = Frame();
    frame->source = path_;
    frame->number = number_;
    frame->name = numbered(stem_of(path_), number_);
    unsigned damaged = 0;
    while (true) {
      v4l2_plane plane;
      v4l2_buffer buffer;
      if (!newest(&buffer, &plane)) return false;
      const Buffer& place = buffers_[buffer.index];
      const size_t bytes = std::min<size_t>(planar_ ? plane.bytesused : buffer.bytesused, place.bytes);
      const size_t offset = planar_ ? std::min<size_t>(plane.data_offset, bytes) : 0;
      std::string wrong = buffer.flags & V4L2_BUF_FLAG_ERROR ? "the driver says that the frame is damaged" : "";
      if (wrong.empty()) {
        try {
          const uint8_t* data = static_cast<const uint8_t*>(place.data) + offset;
          frame->image = layout_.format == Format::kMjpeg ? decode_jpeg(data, bytes - offset)
                                                          : to_rgb(data, bytes - offset, layout_);
        } catch (const BadInput& error) {
          wrong = error.what();
        }
      }
      give_back(&buffer);
      if (wrong.empty()) break;
      // A camera's first frames are often cut; one that only sends such is broken.
      if (++damaged == kDamagedInARow)
        throw BadInput(path_ + ": " + std::to_string(damaged) + " damaged frames in a row: " + wrong);
    }
    ++number_;
    return true;
  }

 private:
  struct Buffer {
    void* data;
    size_t bytes;
  };

  [[noreturn]] void fail(const std::string& what) const {
    const int reason = errno;
    std::string hint;
    if (reason == EACCES) hint = "; the user must be in the group video";
    if (reason == EBUSY) hint = "; another program has it";
    throw BadInput(path_ + " " + what + ": " + std::strerror(reason) + hint);
  }

  bool ask(unsigned request, void* argument) const {  // Android's ioctl takes no long
    int done;
    do done = ioctl(device_, request, argument);
    while (done < 0 && errno == EINTR);
    return done == 0;
  }

  void start(const SourceOptions& options) {
    v4l2_capability about;
    std::memset(&about, 0, sizeof about);
    if (!ask(VIDIOC_QUERYCAP, &about)) throw BadInput(path_ + " is no Video4Linux2 device");
    const uint32_t can = about.capabilities & V4L2_CAP_DEVICE_CAPS ? about.device_caps : about.capabilities;
    planar_ = !(can & V4L2_CAP_VIDEO_CAPTURE) && (can & V4L2_CAP_VIDEO_CAPTURE_MPLANE);
    if (!planar_ && !(can & V4L2_CAP_VIDEO_CAPTURE))
      throw BadInput(path_ + " takes no pictures: a camera often has several devices, try the others");
    if (!(can & V4L2_CAP_STREAMING)) throw BadInput(path_ + " does not stream into memory");
    type_ = planar_ ? V4L2_BUF_TYPE_VIDEO_CAPTURE_MPLANE : V4L2_BUF_TYPE_VIDEO_CAPTURE;
    choose_format(options);
    v4l2_streamparm parameters;
    std::memset(&parameters, 0, sizeof parameters);
    parameters.type = type_;
    if (ask(VIDIOC_G_PARM, &parameters) && parameters.parm.capture.timeperframe.numerator)
      rate_ = static_cast<double>(parameters.parm.capture.timeperframe.denominator) /
              parameters.parm.capture.timeperframe.numerator;
    map_buffers();
    if (!ask(VIDIOC_STREAMON, &type_)) fail("does not start");
    streaming_ = true;
  }

  void choose_format(const SourceOptions& options) {
    std::set<uint32_t> offered;
    std::string said;
    for (unsigned index = 0; index < kMostFormats; ++index) {
      v4l2_fmtdesc one;
      std::memset(&one, 0, sizeof one);
      one.index = index;
      one.type = type_;
      if (!ask(VIDIOC_ENUM_FMT, &one)) break;
      offered.insert(one.pixelformat);
      said += (said.empty() ? "" : ", ") + letters(one.pixelformat);
    }
    uint32_t code = 0;
    for (const Known& known : kKnown) {
      if (!offered.count(known.code)) continue;
      if (!options.format.empty() && format_named("--video-format", options.format) != known.format) continue;
      if (known.format == Format::kMjpeg && !knows_jpeg()) continue;
      code = known.code;
      break;
    }
    if (!options.format.empty()) format_named("--video-format", options.format);
    if (!code) {
      const bool jpeg = offered.count(V4L2_PIX_FMT_MJPEG) || offered.count(V4L2_PIX_FMT_JPEG);
      const bool asked = options.format.empty() || options.format == "mjpeg";
      throw BadInput(path_ + " gives " + (said.empty() ? "no format" : said) +
                     (options.format.empty() ? ", which this program does not read" : ", and no " + options.format) +
                     (jpeg && asked && !knows_jpeg() ? std::string("; it was ") + kNoJpeg : ""));
    }
    set_format(code, options.width ? options.width : kWidth, options.height ? options.height : kHeight);
  }

  void set_format(uint32_t code, int width, int height) {
    v4l2_format format;
    std::memset(&format, 0, sizeof format);
    format.type = type_;
    if (planar_) {
      format.fmt.pix_mp.width = static_cast<uint32_t>(width);
      format.fmt.pix_mp.height = static_cast<uint32_t>(height);
      format.fmt.pix_mp.pixelformat = code;
      format.fmt.pix_mp.field = V4L2_FIELD_NONE;
      format.fmt.pix_mp.num_planes = 1;
    } else {
      format.fmt.pix.width = static_cast<uint32_t>(width);
      format.fmt.pix.height = static_cast<uint32_t>(height);
      format.fmt.pix.pixelformat = code;
      format.fmt.pix.field = V4L2_FIELD_NONE;
    }
    if (!ask(VIDIOC_S_FMT, &format)) fail("does not take " + letters(code));
    const auto& pix = format.fmt.pix;
    const auto& many = format.fmt.pix_mp;
    const uint32_t given = planar_ ? many.pixelformat : pix.pixelformat;
    if (given != code)
      throw BadInput(path_ + " gives " + letters(given) + " where " + letters(code) + " was asked for");
    if (planar_ && many.num_planes != 1)
      throw BadInput(path_ + " gives " + letters(code) + " in " + std::to_string(many.num_planes) +
                     " parts of memory, one is read");
    check_size(path_, planar_ ? many.width : pix.width, planar_ ? many.height : pix.height);
    layout_.width = static_cast<int>(planar_ ? many.width : pix.width);
    layout_.height = static_cast<int>(planar_ ? many.height : pix.height);
    layout_.stride = planar_ ? many.plane_fmt[0].bytesperline : pix.bytesperline;
    for (const Known& known : kKnown)
      if (known.code == code) layout_.format = known.format;
    const uint32_t space = planar_ ? many.colorspace : pix.colorspace;
    const uint32_t range = planar_ ? many.quantization : pix.quantization;
    const uint32_t encoding = planar_ ? many.ycbcr_enc : pix.ycbcr_enc;
    // The kernel's own defaults: V4L2_MAP_QUANTIZATION_DEFAULT and V4L2_MAP_YCBCR_ENC_DEFAULT.
    layout_.colours.full_range =
        range == V4L2_QUANTIZATION_FULL_RANGE || (range == V4L2_QUANTIZATION_DEFAULT && space == V4L2_COLORSPACE_JPEG);
    layout_.colours.bt709 =
        encoding == V4L2_YCBCR_ENC_709 || (encoding == V4L2_YCBCR_ENC_DEFAULT && space == V4L2_COLORSPACE_REC709);
  }

  void map_buffers() {
    v4l2_requestbuffers request;
    std::memset(&request, 0, sizeof request);
    request.count = kBuffers;
    request.type = type_;
    request.memory = V4L2_MEMORY_MMAP;
    if (!ask(VIDIOC_REQBUFS, &request)) fail("gives no memory");
    if (request.count < 1 || request.count > 32) throw BadInput(path_ + " gives no memory");
    for (unsigned index = 0; index < request.count; ++index) {
      v4l2_plane plane;
      v4l2_buffer buffer = empty(&plane);
      buffer.index = index;
      if (!ask(VIDIOC_QUERYBUF, &buffer)) fail("gives no memory");
      const size_t bytes = planar_ ? plane.length : buffer.length;
      const off_t offset = static_cast<off_t>(planar_ ? plane.m.mem_offset : buffer.m.offset);
      void* data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, device_, offset);
      if (data == MAP_FAILED) fail("gives no memory");
      buffers_.push_back(Buffer{data, bytes});
      give_back(&buffer);
    }
  }

  v4l2_buffer empty(v4l2_plane* plane) const {
    v4l2_buffer buffer;
    std::memset(&buffer, 0, sizeof buffer);
    std::memset(plane, 0, sizeof *plane);
    buffer.type = type_;
    buffer.memory = V4L2_MEMORY_MMAP;
    if (planar_) {
      buffer.m.planes = plane;
      buffer.length = 1;
    }
    return buffer;
  }

  void give_back(v4l2_buffer* buffer) const {
    if (!ask(VIDIOC_QBUF, buffer)) fail("does not take its memory back");
  }

  // The newest of the frames that wait; older ones are given back. False when the program is to end.
  bool newest(v4l2_buffer* kept, v4l2_plane* plane) {
    for (size_t taken = 0; taken < buffers_.size();) {
      v4l2_plane other;
      v4l2_buffer buffer = empty(&other);
      if (ask(VIDIOC_DQBUF, &buffer)) {
        if (buffer.index >= buffers_.size()) throw BadInput(path_ + " names memory that it has not given");
        if (taken++) give_back(kept);
        *kept = buffer;
        *plane = other;
        if (planar_) kept->m.planes = plane;
        continue;
      }
      if (errno != EAGAIN) fail("gives no more frames");
      if (taken) break;
      pollfd waits = {device_, POLLIN, 0};
      const int ready = poll(&waits, 1, kWait);
      if (stop_asked()) return false;
      if (ready == 0) throw BadInput(path_ + " gave no frame for 5 seconds");
      if (ready < 0 && errno != EINTR) fail("gives no more frames");
      if (ready > 0 && !(waits.revents & POLLIN)) {
        errno = ENODEV;
        fail("gives no more frames");
      }
    }
    return true;
  }

  void stop() {
    if (streaming_) ask(VIDIOC_STREAMOFF, &type_);
    for (const Buffer& buffer : buffers_) munmap(buffer.data, buffer.bytes);
    buffers_.clear();
    streaming_ = false;
    if (device_ >= 0) close(device_);
    device_ = -1;
  }

  const std::string path_;
  int device_ = -1;
  bool planar_ = false, streaming_ = false;
  uint32_t type_ = 0;
  Layout layout_;
  double rate_ = 0;
  long number_ = 0;
  std::vector<Buffer> buffers_;
};

}  // namespace

std::unique_ptr<FrameSource> open_camera(const std::string& where, const SourceOptions& options) {
  return std::unique_ptr<FrameSource>(new Camera(where, options));
}

}  // namespace board
