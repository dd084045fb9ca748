// A camera and a framebuffer for programs that open /dev/video0 and /dev/fb0, preloaded (LD_PRELOAD).
//
// The camera's memory is a real file in memory, so that mmap is the kernel's own; only open, ioctl and poll are answered
// here, as the documentation of Video4Linux2 says. What it gives comes from the environment:
//   CAMERA_FORMATS   FourCCs, "YUYV,MJPG"
//   CAMERA_SIZE      "64x48", whatever size is asked for; CAMERA_STRIDE: bytes a line
//   CAMERA_PLANAR    "1": the multi-planar interface; CAMERA_FULL "1": full range
//   CAMERA_FRAMES    a file: of each frame its size (uint32) and its data; then the camera is unplugged
//   CAMERA_BURST     frames that wait after each poll (default 1); CAMERA_DAMAGED "1": the driver calls each damaged
//   CAMERA_NOT       "camera": it takes no pictures; "streaming": not into memory; "v4l2": it is none; "frames": it never
//                    gives one; "here": it is not there; "mine": no permission
//   SCREEN_MEMORY    a file that is the screen's memory; SCREEN "WxHxBITS", SCREEN_LINE bytes a line,
//                    SCREEN_SHIFTS "R,G,B", SCREEN_OFFSET lines (yoffset)
#include <cerrno>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include <fcntl.h>
#include <linux/fb.h>
#include <linux/videodev2.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace {

const size_t kMemory = 1 << 16;  // of a buffer
int g_camera = -1, g_screen = -1;
bool g_streaming = false;
int g_ready = 0;
std::vector<bool> g_queued;
FILE* g_frames = nullptr;

std::string setting(const char* name) {
  const char* text = std::getenv(name);
  return text ? text : "";
}

uint32_t number(const char* name, uint32_t usual) {
  const std::string text = setting(name);
  return text.empty() ? usual : static_cast<uint32_t>(std::strtoul(text.c_str(), nullptr, 10));
}

int no(int reason) {
  errno = reason;
  return -1;
}

bool is_not(const char* what) { return setting("CAMERA_NOT") == what; }

int dequeue(v4l2_buffer* buffer) {
  if (!g_streaming) return no(EINVAL);
  if (!g_ready || is_not("frames")) return no(EAGAIN);
  uint32_t size = 0;
  if (!g_frames || std::fread(&size, 4, 1, g_frames) != 1) return no(ENODEV);
  std::vector<char> data(size);
  if (std::fread(data.data(), 1, size, g_frames) != size || size > kMemory) return no(EIO);
  for (uint32_t index = 0; index < g_queued.size(); ++index) {
    if (!g_queued[index]) continue;
    if (pwrite(g_camera, data.data(), size, static_cast<off_t>(index * kMemory)) < 0) return -1;
    g_queued[index] = false;
    --g_ready;
    buffer->index = index;
    buffer->flags = setting("CAMERA_DAMAGED") == "1" ? V4L2_BUF_FLAG_ERROR : 0;
    if (setting("CAMERA_PLANAR") == "1") {
      buffer->m.planes[0].bytesused = size;
      buffer->m.planes[0].data_offset = 0;
    } else {
      buffer->bytesused = size;
    }
    return 0;
  }
  return no(EIO);
}

int camera(unsigned long request, void* argument) {
  const bool planar = setting("CAMERA_PLANAR") == "1";
  const uint32_t type = planar ? V4L2_BUF_TYPE_VIDEO_CAPTURE_MPLANE : V4L2_BUF_TYPE_VIDEO_CAPTURE;
  switch (request) {
    case VIDIOC_QUERYCAP: {
      if (is_not("v4l2")) return no(ENOTTY);
      v4l2_capability* about = static_cast<v4l2_capability*>(argument);
      about->capabilities = V4L2_CAP_DEVICE_CAPS | V4L2_CAP_VIDEO_CAPTURE | V4L2_CAP_STREAMING;
      about->device_caps = is_not("camera") ? V4L2_CAP_META_CAPTURE : planar ? V4L2_CAP_VIDEO_CAPTURE_MPLANE : V4L2_CAP_VIDEO_CAPTURE;
      if (!is_not("streaming")) about->device_caps |= V4L2_CAP_STREAMING;
      return 0;
    }
    case VIDIOC_ENUM_FMT: {
      v4l2_fmtdesc* one = static_cast<v4l2_fmtdesc*>(argument);
      const std::string all = setting("CAMERA_FORMATS");
      if (one->type != type || one->index * 5 + 4 > all.size()) return no(EINVAL);
      std::memcpy(&one->pixelformat, &all[one->index * 5], 4);
      return 0;
    }
    case VIDIOC_S_FMT: {
      v4l2_format* format = static_cast<v4l2_format*>(argument);
      if (format->type != type) return no(EINVAL);
      unsigned width = 0, height = 0;
      std::sscanf(setting("CAMERA_SIZE").c_str(), "%ux%u", &width, &height);
      const uint32_t line = number("CAMERA_STRIDE", 0);
      const uint32_t range = setting("CAMERA_FULL") == "1" ? V4L2_QUANTIZATION_FULL_RANGE : V4L2_QUANTIZATION_DEFAULT;
      if (planar) {
        format->fmt.pix_mp.width = width;
        format->fmt.pix_mp.height = height;
        format->fmt.pix_mp.num_planes = 1;
        format->fmt.pix_mp.plane_fmt[0].bytesperline = line;
        format->fmt.pix_mp.quantization = static_cast<uint8_t>(range);
      } else {
        format->fmt.pix.width = width;
        format->fmt.pix.height = height;
        format->fmt.pix.bytesperline = line;
        format->fmt.pix.quantization = range;
      }
      return 0;
    }
    case VIDIOC_G_PARM: {
      v4l2_streamparm* parameters = static_cast<v4l2_streamparm*>(argument);
      parameters->parm.capture.timeperframe.numerator = 1;
      parameters->parm.capture.timeperframe.denominator = 15;
      return 0;
    }
    case VIDIOC_REQBUFS: {
      g_queued.assign(static_cast<v4l2_requestbuffers*>(argument)->count, false);
      return ftruncate(g_camera, static_cast<off_t>(g_queued.size() * kMemory));
    }
    case VIDIOC_QUERYBUF: {
      v4l2_buffer* buffer = static_cast<v4l2_buffer*>(argument);
      if (buffer->type != type || buffer->index >= g_queued.size()) return no(EINVAL);
      const uint32_t offset = buffer->index * static_cast<uint32_t>(kMemory);
      if (planar) {
        buffer->m.planes[0].length = kMemory;
        buffer->m.planes[0].m.mem_offset = offset;
      } else {
        buffer->length = kMemory;
        buffer->m.offset = offset;
      }
      return 0;
    }
    case VIDIOC_QBUF: {
      const v4l2_buffer* buffer = static_cast<v4l2_buffer*>(argument);
      if (buffer->type != type || buffer->index >= g_queued.size() || g_queued[buffer->index]) return no(EINVAL);
      g_queued[buffer->index] = true;
      return 0;
    }
    case VIDIOC_DQBUF: return dequeue(static_cast<v4l2_buffer*>(argument));
    case VIDIOC_STREAMON: g_streaming = true; return 0;
    case VIDIOC_STREAMOFF: g_streaming = false; return 0;
    default: return no(ENOTTY);
  }
}

int screen(unsigned long request, void* argument) {
  unsigned width = 0, height = 0, bits = 0, shifts[3] = {0, 0, 0};
  if (std::sscanf(setting("SCREEN").c_str(), "%ux%ux%u", &width, &height, &bits) != 3) return no(ENOTTY);
  std::sscanf(setting("SCREEN_SHIFTS").c_str(), "%u,%u,%u", &shifts[0], &shifts[1], &shifts[2]);
  if (request == FBIOGET_FSCREENINFO) {
    fb_fix_screeninfo* fixed = static_cast<fb_fix_screeninfo*>(argument);
    fixed->line_length = number("SCREEN_LINE", width * bits / 8);
    fixed->smem_len = static_cast<uint32_t>(lseek(g_screen, 0, SEEK_END));
    return 0;
  }
  if (request != FBIOGET_VSCREENINFO) return no(ENOTTY);
  fb_var_screeninfo* shown = static_cast<fb_var_screeninfo*>(argument);
  std::memset(shown, 0, sizeof *shown);
  shown->xres = width;
  shown->yres = height;
  shown->yoffset = number("SCREEN_OFFSET", 0);
  shown->bits_per_pixel = bits;
  shown->red = {shifts[0], bits == 16 ? 5u : 8u, 0};
  shown->green = {shifts[1], bits == 16 ? 6u : 8u, 0};
  shown->blue = {shifts[2], bits == 16 ? 5u : 8u, 0};
  return 0;
}

}  // namespace

extern "C" {

int open(const char* path, int flags, ...) {
  std::va_list more;
  va_start(more, flags);
  const int mode = flags & O_CREAT ? va_arg(more, int) : 0;
  va_end(more);
  if (std::strcmp(path, "/dev/video0") == 0) {
    if (is_not("here")) return no(ENOENT);
    if (is_not("mine")) return no(EACCES);
    const std::string frames = setting("CAMERA_FRAMES");
    if (!frames.empty()) g_frames = std::fopen(frames.c_str(), "rb");
    return g_camera = static_cast<int>(syscall(SYS_memfd_create, "camera", 0));
  }
  const bool is_screen = std::strcmp(path, "/dev/fb0") == 0 && !setting("SCREEN_MEMORY").empty();
  const std::string place = is_screen ? setting("SCREEN_MEMORY") : path;
  const int file = static_cast<int>(syscall(SYS_openat, AT_FDCWD, place.c_str(), flags, mode));
  if (is_screen) g_screen = file;
  return file;
}

int open64(const char* path, int flags, ...) {
  std::va_list more;
  va_start(more, flags);
  const int mode = flags & O_CREAT ? va_arg(more, int) : 0;
  va_end(more);
  return open(path, flags, mode);
}

int ioctl(int file, unsigned long request, ...) {
  std::va_list more;
  va_start(more, request);
  void* argument = va_arg(more, void*);
  va_end(more);
  if (file >= 0 && file == g_camera) return camera(request, argument);
  if (file >= 0 && file == g_screen) return screen(request, argument);
  return static_cast<int>(syscall(SYS_ioctl, file, request, argument));
}

int poll(pollfd* waits, nfds_t count, int milliseconds) {
  if (count == 1 && waits[0].fd == g_camera && g_camera >= 0) {
    g_ready = static_cast<int>(number("CAMERA_BURST", 1));
    waits[0].revents = POLLIN;
    return is_not("frames") ? 0 : 1;
  }
  (void)milliseconds;
  return no(ENOSYS);
}

}  // extern "C"
