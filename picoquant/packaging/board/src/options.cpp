#include "options.h"

#include <cstdlib>
#include <map>

#include "errors.h"

namespace board {

const char kHelp[] =
    "detect [options]: detections of one image, and times, as JSON on stdout\n"
    "  --package DIR       the package (default: the working folder)\n"
    "  --model PRECISION   which model of the package: int8, fp32, fp16 or compiled (default: int8 where there\n"
    "                      is one; of a program for OpenVX, compiled)\n"
    "  --image FILE        a binary PPM; with OpenCV any image (default: the package's sample)\n"
    "  --expected FILE     compare with these detections; exit code 1 when they differ too much\n"
    "  --cache DIR         keep the network as the NPU's driver has compiled it\n"
    "  --runs N            timed runs (default 5), after --warmup N (default 1)\n"
    "  --threads N         CPU threads of the runtime (default 1)\n"
    "  --min-score S       of the detections that are printed (default 0.3)\n"
    "  --outputs FILE      take the network's outputs from this file: no network runs\n"
    "  --save-input FILE   write what goes into the network; --save-outputs FILE: what comes out\n"
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

}  // namespace

Options read_options(int count, char** texts, bool* help) {
  Options options;
  const std::map<std::string, std::string*> named = {
      {"--package", &options.package},       {"--model", &options.model},
      {"--image", &options.image},
      {"--expected", &options.expected},     {"--cache", &options.cache},
      {"--outputs", &options.outputs},       {"--save-input", &options.save_input},
      {"--save-outputs", &options.save_outputs}};
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
    } else if (option == "--min-score") {
      options.min_score = number(option, value, 0, 1);
    } else {
      throw BadInput(option + " is no option; see --help");
    }
  }
  return options;
}

}  // namespace board
