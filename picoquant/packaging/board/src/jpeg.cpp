#include "jpeg.h"

#include <cstdio>
#include <cstdlib>
#include <string>

#include "errors.h"
#include "live/pixels.h"

#ifdef WITH_JPEG
#include <csetjmp>

#include <jerror.h>
#include <jpeglib.h>
#elif defined(WITH_OPENCV)
#include <opencv2/imgcodecs.hpp>
#include <opencv2/imgproc.hpp>
#endif

namespace board {

const char kNoJpeg[] = "built without a JPEG decoder: install libjpeg's development files or OpenCV and build it again";

#ifdef WITH_JPEG

bool knows_jpeg() { return true; }

namespace {

// libjpeg's errors: jumps back instead of ending the process, and remembers damage that it only warns of.
struct Errors {
  jpeg_error_mgr base;
  std::jmp_buf back;
  bool damaged;
  char text[JMSG_LENGTH_MAX];
};

void on_error(j_common_ptr info) {
  Errors* errors = reinterpret_cast<Errors*>(info->err);
  errors->base.format_message(info, errors->text);
  std::longjmp(errors->back, 1);
}

void on_message(j_common_ptr info, int level) {
  Errors* errors = reinterpret_cast<Errors*>(info->err);
  if (level >= 0) return;
  const int code = errors->base.msg_code;  // cameras often write a few bytes too many, which harms nothing
  if (code == JWRN_JPEG_EOF || code == JWRN_HIT_MARKER || code == JWRN_HUFF_BAD_CODE) {
    if (!errors->damaged) errors->base.format_message(info, errors->text);
    errors->damaged = true;
  }
}

void set_up(Errors* errors) {
  jpeg_std_error(&errors->base);
  errors->base.error_exit = on_error;
  errors->base.emit_message = on_message;
  errors->damaged = false;
  errors->text[0] = '\0';
}

// Of the EXIF block (TIFF: byte order, offset of the first directory, entries of 12 bytes), 1 to 8; 1 without.
int orientation_of(const jpeg_saved_marker_ptr first) {
  for (jpeg_saved_marker_ptr marker = first; marker; marker = marker->next) {
    const uint8_t* data = marker->data;
    const size_t size = marker->data_length;
    if (marker->marker != JPEG_APP0 + 1 || size < 14 || std::string(data, data + 4) != "Exif") continue;
    const bool big = data[6] == 'M';
    const auto number = [&](size_t at, size_t bytes) {
      size_t value = 0;
      for (size_t byte = 0; byte < bytes && at <= size && bytes <= size - at; ++byte)
        value = value << 8 | data[big ? at + byte : at + bytes - 1 - byte];
      return value;
    };
    const size_t offset = number(10, 4), entries = 6 + offset;
    if (offset > size) continue;
    for (size_t entry = 0; entry < number(entries, 2); ++entry) {
      const size_t at = entries + 2 + 12 * entry;
      if (at + 12 > size) break;
      if (number(at, 2) == 0x0112) return static_cast<int>(number(at + 8, 2));
    }
  }
  return 1;
}

// EXIF: 2 to 4 mirror or turn by half, 5 to 8 swap the sides, too.
Image turned_by(const Image& image, int orientation) {
  if (orientation < 2 || orientation > 8) return image;
  const bool swap = orientation >= 5;
  const bool flip_x = orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
  const bool flip_y = orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
  Image result;
  result.width = swap ? image.height : image.width;
  result.height = swap ? image.width : image.height;
  result.rgb.resize(image.rgb.size());
  for (int row = 0; row < result.height; ++row)
    for (int column = 0; column < result.width; ++column) {
      int x = swap ? row : column, y = swap ? column : row;
      if (flip_x) x = image.width - 1 - x;
      if (flip_y) y = image.height - 1 - y;
      for (int colour = 0; colour < 3; ++colour)
        result.rgb[(static_cast<size_t>(row) * result.width + column) * 3 + colour] =
            image.rgb[(static_cast<size_t>(y) * image.width + x) * 3 + colour];
    }
  return result;
}

}  // namespace

Image decode_jpeg(const uint8_t* data, size_t bytes, bool turned) {
  jpeg_decompress_struct info;
  Errors errors;
  Image image;  // before setjmp, so that no destructor is jumped over
  volatile int orientation = 1;
  set_up(&errors);
  info.err = &errors.base;
  jpeg_create_decompress(&info);
  if (setjmp(errors.back)) {
    jpeg_destroy_decompress(&info);
    throw BadInput(std::string("no JPEG: ") + errors.text);
  }
  jpeg_mem_src(&info, const_cast<uint8_t*>(data), static_cast<unsigned long>(bytes));
  jpeg_save_markers(&info, JPEG_APP0 + 1, 0xFFFF);
  jpeg_read_header(&info, TRUE);
  const bool fits = info.image_height >= 1 && info.image_width >= 1 &&
                    info.image_width <= static_cast<unsigned>(kLargestFrame) / info.image_height;
  if (fits) {
    info.out_color_space = JCS_RGB;
    if (turned) orientation = orientation_of(info.marker_list);
    jpeg_start_decompress(&info);
    image.width = static_cast<int>(info.output_width);
    image.height = static_cast<int>(info.output_height);
    image.rgb.resize(static_cast<size_t>(image.width) * image.height * 3);
    while (info.output_scanline < info.output_height) {
      JSAMPROW row = &image.rgb[static_cast<size_t>(info.output_scanline) * image.width * 3];
      jpeg_read_scanlines(&info, &row, 1);
    }
    jpeg_finish_decompress(&info);
  }
  jpeg_destroy_decompress(&info);
  if (!fits) throw BadInput("a JPEG of that size is none of a frame");
  if (errors.damaged) throw BadInput(std::string("a damaged JPEG: ") + errors.text);
  return turned_by(image, orientation);
}

std::vector<uint8_t> encode_jpeg(const Image& image, int quality) {
  jpeg_compress_struct info;
  Errors errors;
  unsigned char* data = nullptr;
  unsigned long bytes = 0;
  set_up(&errors);
  info.err = &errors.base;
  jpeg_create_compress(&info);
  if (setjmp(errors.back)) {
    jpeg_destroy_compress(&info);
    std::free(data);
    throw std::runtime_error(std::string("JPEG: ") + errors.text);
  }
  jpeg_mem_dest(&info, &data, &bytes);
  info.image_width = static_cast<JDIMENSION>(image.width);
  info.image_height = static_cast<JDIMENSION>(image.height);
  info.input_components = 3;
  info.in_color_space = JCS_RGB;
  jpeg_set_defaults(&info);
  jpeg_set_quality(&info, quality, TRUE);
  jpeg_start_compress(&info, TRUE);
  while (info.next_scanline < info.image_height) {
    JSAMPROW row = const_cast<uint8_t*>(&image.rgb[static_cast<size_t>(info.next_scanline) * image.width * 3]);
    jpeg_write_scanlines(&info, &row, 1);
  }
  jpeg_finish_compress(&info);
  jpeg_destroy_compress(&info);
  const std::vector<uint8_t> result(data, data + bytes);
  std::free(data);
  return result;
}

#elif defined(WITH_OPENCV)

bool knows_jpeg() { return true; }

Image decode_jpeg(const uint8_t* data, size_t bytes, bool turned) {
  const cv::Mat given(1, static_cast<int>(bytes), CV_8UC1, const_cast<uint8_t*>(data));
  const cv::Mat bgr = cv::imdecode(given, turned ? cv::IMREAD_COLOR : cv::IMREAD_COLOR | cv::IMREAD_IGNORE_ORIENTATION);
  if (bgr.empty()) throw BadInput("no JPEG that OpenCV reads");
  Image image;
  image.height = bgr.rows;
  image.width = bgr.cols;
  image.rgb.resize(static_cast<size_t>(bgr.rows) * bgr.cols * 3);
  cv::Mat rgb(bgr.rows, bgr.cols, CV_8UC3, image.rgb.data());
  cv::cvtColor(bgr, rgb, cv::COLOR_BGR2RGB);
  return image;
}

std::vector<uint8_t> encode_jpeg(const Image& image, int quality) {
  const cv::Mat rgb(image.height, image.width, CV_8UC3, const_cast<uint8_t*>(image.rgb.data()));
  cv::Mat bgr;
  cv::cvtColor(rgb, bgr, cv::COLOR_RGB2BGR);
  std::vector<uint8_t> data;
  cv::imencode(".jpg", bgr, data, {cv::IMWRITE_JPEG_QUALITY, quality});
  return data;
}

#else

bool knows_jpeg() { return false; }

Image decode_jpeg(const uint8_t*, size_t, bool) { throw BadInput(std::string("a JPEG: this program was ") + kNoJpeg); }

std::vector<uint8_t> encode_jpeg(const Image&, int) {
  throw BadInput(std::string("a JPEG: this program was ") + kNoJpeg);
}

#endif

}  // namespace board
