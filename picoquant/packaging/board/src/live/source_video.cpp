// Videos that need no codec: Y4M, AVI of Motion JPEG or raw frames, raw frames alone. All are read from the beginning
// to the end, so that a pipe is as good as a file.
#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <sstream>
#include <vector>

#include "errors.h"
#include "jpeg.h"
#include "live/source.h"

namespace board {

namespace {

const size_t kLongestLine = 1024;        // of Y4M
const uint32_t kLargestChunk = 1 << 27;  // of a frame in an AVI, bytes
const size_t kPiece = 1 << 20;           // memory is taken as the data comes, whatever a head promises

// Nothing readable follows.
struct Cut : BadInput {
  using BadInput::BadInput;
};

// A stream with a look at its first bytes.
class Bytes {
 public:
  explicit Bytes(const std::string& where) : name(where == "-" ? "standard input" : where), stream_(&std::cin) {
    if (where != "-") {
      file_.open(where, std::ios::binary);
      if (!file_) throw BadInput(where + " cannot be read");
      stream_ = &file_;
    }
    ahead_.resize(12);
    stream_->read(&ahead_[0], 12);
    ahead_.resize(static_cast<size_t>(stream_->gcount()));
  }

  const std::string& ahead() const { return ahead_; }

  bool at_end() { return used_ == ahead_.size() && stream_->peek() == std::char_traits<char>::eof(); }

  // Into a buffer that grows with the data; as many bytes as there are, at most `count`.
  size_t read(std::vector<uint8_t>* to, size_t count) {
    size_t got = 0;
    to->clear();
    for (; got < count && used_ < ahead_.size(); ++got) to->push_back(static_cast<uint8_t>(ahead_[used_++]));
    while (got < count) {
      const size_t piece = std::min(count - got, kPiece);
      to->resize(got + piece);
      stream_->read(reinterpret_cast<char*>(to->data() + got), static_cast<std::streamsize>(piece));
      const size_t now = static_cast<size_t>(stream_->gcount());
      got += now;
      if (now < piece) break;
    }
    to->resize(got);
    return got;
  }

  // Up to a line's end, which is taken and not returned; all there is without one.
  std::string line() {
    std::string text;
    std::vector<uint8_t> letter;
    while (text.size() < kLongestLine && read(&letter, 1) == 1 && letter[0] != '\n')
      text += static_cast<char>(letter[0]);
    return text;
  }

  const std::string name;

 private:
  std::ifstream file_;
  std::istream* stream_;
  std::string ahead_;
  size_t used_ = 0;  // of it
};

class Video : public FrameSource {
 public:
  Video(std::unique_ptr<Bytes> bytes, const std::string& where)
      : bytes_(std::move(bytes)), stem_(where == "-" ? "stdin" : stem_of(where)) {}

  double rate() const override { return rate_; }

  bool next(Frame* frame) override {
    if (ended_) return false;
    *frame = Frame();
    frame->source = bytes_->name;
    frame->number = number_;
    frame->name = numbered(stem_, number_);
    const std::string at = bytes_->name + ": frame " + std::to_string(number_) + ": ";
    try {
      size_t size = 0;
      if (!head(&size)) {
        ended_ = true;
        if (number_ == 0) throw BadInput("it is missing: the file holds none");
        return false;
      }
      if (bytes_->read(&data_, size) != size) throw Cut("the file ends within it");
      ++number_;
      frame->image = decoded();
    } catch (const Cut& cut) {
      ended_ = true;
      frame->error = at + cut.what();
    } catch (const BadInput& error) {
      frame->error = at + error.what();
    }
    return true;
  }

 protected:
  // Reads up to the next frame's data; false at the end. Throws Cut.
  virtual bool head(size_t* size) = 0;

  Image decoded() const {
    return layout_.format == Format::kMjpeg ? decode_jpeg(data_.data(), data_.size())
                                            : to_rgb(data_.data(), data_.size(), layout_);
  }

  const std::unique_ptr<Bytes> bytes_;
  std::vector<uint8_t> data_;
  Layout layout_;
  double rate_ = 0;

 private:
  const std::string stem_;
  long number_ = 0;
  bool ended_ = false;
};

// YUV4MPEG2: a line of parameters, then a line "FRAME" and the planes of each frame.
class Y4m : public Video {
 public:
  Y4m(std::unique_ptr<Bytes> bytes, const std::string& where) : Video(std::move(bytes), where) {
    std::istringstream words(bytes_->line());
    std::string word, chroma = "420";
    words >> word;
    long width = 0, height = 0;
    while (words >> word) {
      const std::string value = word.substr(1);
      if (word[0] == 'W') width = std::strtol(value.c_str(), nullptr, 10);
      if (word[0] == 'H') height = std::strtol(value.c_str(), nullptr, 10);
      if (word[0] == 'C') chroma = value;
      if (word[0] == 'F') {
        char* end = nullptr;
        const double frames = std::strtod(value.c_str(), &end);
        const double seconds = *end == ':' ? std::strtod(end + 1, nullptr) : 1;
        rate_ = seconds > 0 ? frames / seconds : 0;
      }
      if (word == "XCOLORRANGE=FULL") layout_.colours.full_range = true;
    }
    check_size(bytes_->name, width, height);
    layout_.width = static_cast<int>(width);
    layout_.height = static_cast<int>(height);
    const char* const kinds[] = {"420", "420jpeg", "420mpeg2", "420paldv", "422", "444", "mono"};
    const Format formats[] = {Format::kI420, Format::kI420, Format::kI420, Format::kI420,
                              Format::kI422, Format::kI444, Format::kGrey};
    const auto found = std::find(std::begin(kinds), std::end(kinds), chroma);
    if (found == std::end(kinds))
      throw BadInput(bytes_->name + ": Y4M with C" + chroma + " is not read; 8 bits of 420, 422, 444 and mono are");
    layout_.format = formats[found - std::begin(kinds)];
  }

 protected:
  bool head(size_t* size) override {
    if (bytes_->at_end()) return false;
    const std::string line = bytes_->line();
    if (line.compare(0, 5, "FRAME") != 0 || (line.size() > 5 && line[5] != ' '))
      throw Cut("its line FRAME is missing, the file is damaged");
    *size = frame_bytes(layout_);
    return true;
  }
};

class RawFrames : public Video {
 public:
  RawFrames(std::unique_ptr<Bytes> bytes, const std::string& where, const SourceOptions& options)
      : Video(std::move(bytes), where) {
    layout_.format = format_named("--video-format", options.format);
    if (layout_.format == Format::kMjpeg) throw BadInput(where + ": frames of mjpeg are read from an AVI or a camera");
    if (options.width == 0)
      throw BadInput("--video-format " + options.format + " of a file needs --video-size WIDTHxHEIGHT");
    layout_.width = options.width;
    layout_.height = options.height;
  }

 protected:
  bool head(size_t* size) override {
    *size = frame_bytes(layout_);
    return !bytes_->at_end();
  }
};

// AVI (RIFF): chunks of a name, a size and data; LIST and RIFF hold chunks. The first video stream is taken.
class Avi : public Video {
 public:
  Avi(std::unique_ptr<Bytes> bytes, const std::string& where) : Video(std::move(bytes), where) {
    std::string name;
    uint32_t size = 0;
    // "movi" begins the frames; head() goes on behind it.
    while (next_chunk(&name, &size)) {
      if (name == "movi") {
        if (stream_ < 0) throw BadInput(bytes_->name + " holds no video before its data: the AVI is damaged");
        return;
      }
      if (name == "strh") {
        ++streams_;
        stream_header(body(size));
      } else if (name == "strf" && stream_ == streams_ - 1) {
        format(body(size));
      } else if (!is_list(name)) {
        skip(size);
      }
    }
    throw BadInput(bytes_->name + " holds no frames: the AVI is damaged");
  }

 protected:
  bool head(size_t* size) override {
    std::string name;
    uint32_t bytes = 0;
    while (next_chunk(&name, &bytes)) {
      const bool frame = name.size() == 4 && name[0] == '0' + stream_ / 10 && name[1] == '0' + stream_ % 10 &&
                         (name.substr(2) == "dc" || name.substr(2) == "db");
      if (frame && bytes > 0) {  // empty: the frame before it stays
        if (bytes > kLargestChunk) throw Cut("it has " + std::to_string(bytes) + " bytes, the AVI is damaged");
        padded_ = bytes % 2;
        place_ += bytes;
        *size = bytes;
        return true;
      }
      if (!is_list(name)) skip(bytes);
    }
    if (place_ < riff_end_) throw Cut("the file ends before its time: it was cut off");
    return false;
  }

 private:
  static bool is_list(const std::string& name) { return name.empty() || name == "movi"; }

  static uint32_t number(const std::vector<uint8_t>& data, size_t at) {
    return at + 4 > data.size()
               ? 0
               : data[at] | data[at + 1] << 8 | data[at + 2] << 16 | static_cast<uint32_t>(data[at + 3]) << 24;
  }

  static std::string letters(const std::vector<uint8_t>& data, size_t at) {
    return at + 4 > data.size()
               ? ""
               : std::string(data.begin() + static_cast<long>(at), data.begin() + static_cast<long>(at) + 4);
  }

  // A chunk's name and size; of a list that begins, its type "movi", or no name. False at the end.
  bool next_chunk(std::string* name, uint32_t* size) {
    std::vector<uint8_t> head;
    if (padded_) bytes_->read(&head, 1);
    place_ += padded_;
    padded_ = 0;
    if (bytes_->at_end()) return false;
    if (bytes_->read(&head, 8) != 8) throw Cut("the file ends before it");
    place_ += 8;
    *name = letters(head, 0);
    *size = number(head, 4);
    if (*name != "RIFF" && *name != "LIST") return true;
    // A recorder that was switched off has not written a size.
    if (*name == "RIFF") riff_end_ = *size == 0 || *size == 0xFFFFFFFF ? 0 : place_ + *size;
    if (bytes_->read(&head, 4) != 4) throw Cut("the file ends before it");
    place_ += 4;
    *name = letters(head, 0) == "movi" ? "movi" : "";
    return true;
  }

  std::vector<uint8_t> body(uint32_t size) {
    std::vector<uint8_t> data;
    if (size > (1u << 20) || bytes_->read(&data, size) != size) throw BadInput(bytes_->name + ": the AVI is damaged");
    place_ += size;
    padded_ = size % 2;
    return data;
  }

  void skip(uint32_t size) {
    std::vector<uint8_t> data;
    for (uint32_t left = size; left > 0;) {
      const uint32_t piece = std::min<uint32_t>(left, kPiece);
      if (bytes_->read(&data, piece) != piece) throw Cut("the file ends before it");
      left -= piece;
      place_ += piece;
    }
    padded_ = size % 2;
  }

  void stream_header(const std::vector<uint8_t>& data) {
    if (stream_ >= 0 || letters(data, 0) != "vids") return;
    stream_ = streams_ - 1;
    const uint32_t scale = number(data, 20), rate = number(data, 24);
    rate_ = scale ? static_cast<double>(rate) / scale : 0;
  }

  void format(const std::vector<uint8_t>& data) {
    if (layout_.width) return;
    const long width = static_cast<int32_t>(number(data, 4)), height = static_cast<int32_t>(number(data, 8));
    check_size(bytes_->name, width, height);
    layout_.width = static_cast<int>(width);
    layout_.height = static_cast<int>(height);
    const std::string codec = letters(data, 16);
    const char* const names[] = {"MJPG", "mjpg", "YUY2", "YUYV", "UYVY", "NV12", "I420", "IYUV"};
    const Format formats[] = {Format::kMjpeg, Format::kMjpeg, Format::kYuyv, Format::kYuyv,
                              Format::kUyvy,  Format::kNv12,  Format::kI420, Format::kI420};
    const auto found = std::find(std::begin(names), std::end(names), codec);
    if (found == std::end(names)) {
      std::string shown;
      for (const char letter : codec) shown += letter > ' ' && letter <= '~' ? letter : '?';
      throw BadInput(bytes_->name + ": the AVI's codec " + shown +
                     " is not read; make it Motion JPEG, or pipe it in: ffmpeg -i FILE -f yuv4mpegpipe - | detect "
                     "--source -");
    }
    layout_.format = formats[found - std::begin(names)];
    if (layout_.format == Format::kMjpeg && !knows_jpeg())
      throw BadInput(bytes_->name + " is of Motion JPEG, and this program was " + kNoJpeg);
  }

  int streams_ = 0, stream_ = -1;  // number of streams so far; which is the video
  unsigned padded_ = 0;            // a byte to come that only makes the size even
  uint64_t place_ = 0, riff_end_ = 0;
};

}  // namespace

std::unique_ptr<FrameSource> open_video(const std::string& where, const SourceOptions& options) {
  std::unique_ptr<Bytes> bytes(new Bytes(where));
  const std::string head = bytes->ahead();
  if (!options.format.empty()) return std::unique_ptr<FrameSource>(new RawFrames(std::move(bytes), where, options));
  if (head.compare(0, 9, "YUV4MPEG2") == 0) return std::unique_ptr<FrameSource>(new Y4m(std::move(bytes), where));
  if (head.compare(0, 4, "RIFF") == 0 && head.size() == 12 && head.compare(8, 4, "AVI ") == 0)
    return std::unique_ptr<FrameSource>(new Avi(std::move(bytes), where));
  throw BadInput(bytes->name +
                 " is no image and no video that is read without a codec (Y4M, AVI of Motion JPEG; raw frames with "
                 "--video-format); pipe it in: ffmpeg -i FILE -f yuv4mpegpipe - | detect --source -");
}

}  // namespace board
