#include "options.h"

#include <cstdlib>
#include <map>

#include "errors.h"
#include "live/pixels.h"

namespace board {

const char kHelp[] =
    "detect [options]: detections of one image, and times, as JSON on stdout\n"
    "  --package DIR       the package (default: the working folder)\n"
    "  --model PRECISION   which model of the package: int8, fp32, fp16 or compiled (default: int8 where there\n"
    "                      is one; of a program for OpenVX, compiled)\n"
    "  --image FILE        a binary PPM, JPEG with libjpeg; with OpenCV any image (default: the package's sample)\n"
    "  --expected FILE     compare with these detections; exit code 1 when they differ too much\n"
    "  --cache DIR         keep the network as the NPU's driver has compiled it\n"
    "  --runs N            timed runs (default 5), after --warmup N (default 1)\n"
    "  --threads N         CPU threads of the runtime (default 2)\n"
    "  --power MODE        cores of the CPU, in Paddle Lite: high, low, full, or none: the system chooses (default high)\n"
    "  --min-score S       of the detections that are printed and drawn (default 0.3)\n"
    "  --draw WHERE        boxes drawn into FILE.ppm or FILE.jpg; of a source FILE.avi, FILE.y4m, /dev/fb0 (the screen) or\n"
    "                      a folder of images\n"
    "  --outputs FILE      take the network's outputs from this file: no network runs\n"
    "  --save-input FILE   write what goes into the network; --save-outputs FILE: what comes out\n"
    "Live, a line of JSON a frame, the last one with the frame rate:\n"
    "  --source WHERE      a camera (/dev/video0), a folder of images, a video (Y4M, AVI of Motion JPEG; - is standard\n"
    "                      input), or an image\n"
    "  --frames N          stop after N frames (default: at the end, or at Ctrl-C)\n"
    "  --video-size WxH    of a camera (default 640x480), or of raw frames in a file\n"
    "  --video-format F    yuyv, uyvy, nv12, nv21, i420, rgb24, bgr24 or mjpeg: what the camera is to give (default: its\n"
    "                      best), or what a file of raw frames holds\n"
    "Exit code: 0 good; 1 not as expected, or a failure; 2 bad input.\n";

namespace {

float number(const std::string& option, const std::string& text, float least, float most) {
  char* end = nullptr;
  const float value = std::strtof(text.c_str(), &end);
  if (text.empty() || *end != '\0' || !(value >= least && value <= most))
    throw BadInput(option + ": " + text + " is no number from " + std::to_string(static_cast<int>(least)) + " to " +
                   std::to_string(static_cast<int>(most)));
  return value;
}

int whole(const std::string& option, const std::string& text, int least, int most) {
  const float value = number(option, text, static_cast<float>(least), static_cast<float>(most));
  if (value != static_cast<float>(static_cast<int>(value))) throw BadInput(option + ": a whole number expected");
  return static_cast<int>(value);
}

// "640x480"
void read_size(const std::string& text, Options* options) {
  char* end = nullptr;
  const long width = std::strtol(text.c_str(), &end, 10);
  const bool parted = *end == 'x' && end != text.c_str();
  const char* second = parted ? end + 1 : end;
  const long height = std::strtol(second, &end, 10);
  if (!parted || end == second || *end != '\0')
    throw BadInput("--video-size: " + text + " is no size like 640x480");
  check_size("--video-size", width, height);
  options->video_width = static_cast<int>(width);
  options->video_height = static_cast<int>(height);
}

// Options that would do nothing are a mistake.
void check(const Options& options) {
  const bool live = !options.source.empty();
  for (const std::string* single : {&options.image, &options.expected, &options.save_input, &options.save_outputs})
    if (live && !single->empty()) throw BadInput("--source is for every frame, " + *single + " for one --image: give one of both");
  if (!live && (options.frames || options.video_width || !options.video_format.empty()))
    throw BadInput("--frames, --video-size and --video-format need --source");
  if (!options.video_format.empty()) format_named("--video-format", options.video_format);
  for (const char* known : {"high", "low", "full", "none"})
    if (options.power == known) return;
  throw BadInput("--power: " + options.power + " is none of high, low, full, none");
}

}  // namespace

NetworkOptions network_options(const Options& options) {
  return NetworkOptions{options.package, options.cache, options.threads, options.power};
}

Options read_options(int count, char** texts, bool* help) {
  Options options;
  const std::map<std::string, std::string*> named = {
      {"--package", &options.package},       {"--model", &options.model},
      {"--image", &options.image},
      {"--expected", &options.expected},     {"--cache", &options.cache},
      {"--outputs", &options.outputs},       {"--save-input", &options.save_input},
      {"--save-outputs", &options.save_outputs}, {"--source", &options.source},
      {"--draw", &options.draw},             {"--video-format", &options.video_format},
      {"--power", &options.power}};
  for (int index = 1; index < count; ++index) {
    const std::string option = texts[index];
    if (option == "--help" || option == "-h") {
      *help = true;
      return options;
    }
    if (index + 1 == count) throw BadInput(option + ": unknown, or its value is missing; see --help");
    const std::string value = texts[++index];
    const auto found = named.find(option);
    if (found != named.end()) {
      *found->second = value;
    } else if (option == "--runs") {
      options.runs = whole(option, value, 1, 1000000);
    } else if (option == "--warmup") {
      options.warmup = whole(option, value, 0, 1000);
    } else if (option == "--threads") {
      options.threads = whole(option, value, 1, 64);
    } else if (option == "--frames") {
      options.frames = whole(option, value, 1, 1000000);
    } else if (option == "--video-size") {
      read_size(value, &options);
    } else if (option == "--min-score") {
      options.min_score = number(option, value, 0, 1);
    } else {
      throw BadInput(option + " is no option; see --help");
    }
  }
  check(options);
  return options;
}

}  // namespace board
