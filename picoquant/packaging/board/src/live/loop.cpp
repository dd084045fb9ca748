#include "live/loop.h"

#include <cstdio>
#include <memory>
#include <string>

#include "decode.h"
#include "errors.h"
#include "json.h"
#include "live/draw.h"
#include "live/sink.h"
#include "live/source.h"
#include "live/stop.h"
#include "network.h"
#include "preprocess.h"
#include "report.h"
#include "settings.h"
#include "watch.h"

namespace board {

namespace {

const double kSay = 5000;  // milliseconds between two lines of the frame rate

// Sums over all frames, milliseconds.
struct Sums {
  long frames = 0, detections = 0, failed = 0;
  double first_run = 0;  // the network's, in which an NPU's driver may compile it; not in the others
  double read = 0, preprocess = 0, network = 0, decode = 0, draw = 0;

  void print(double whole) const {
    const double of = frames ? static_cast<double>(frames) : 1, rate = frames ? 1000 * of / whole : 0;
    std::printf(
        "{\"summary\": {\"frames\": %ld, \"detections\": %ld, \"failed\": %ld, \"seconds\": %.3f, "
        "\"frames_per_second\": %.2f, \"first_run\": %.2f, \"milliseconds\": {\"read\": %.2f, \"preprocess\": %.2f, "
        "\"network\": %.2f, \"decode\": %.2f, \"draw\": %.2f}}}\n",
        frames, detections, failed, whole / 1000, rate, first_run, read / of, preprocess / of, network / of,
        decode / of, draw / of);
    std::fprintf(stderr, "detect: %ld frames, %ld detections, %.1f frames/s\n", frames, detections, rate);
  }
};

// The line of a frame up to its detections or its error.
std::string head(const Frame& frame) {
  std::string text = "{\"source\": " + quoted(frame.source);
  if (frame.number >= 0) text += ", \"frame\": " + std::to_string(frame.number);
  return text;
}

class Loop {
 public:
  explicit Loop(const Options& options)
      : options_(options), settings_(read_settings(options.package + "/settings.json")) {
    if (!options.model.empty()) choose_model(&settings_, options.model);
    // What is wrong with the options is said before the network is opened, which may take minutes.
    SourceOptions asked;
    asked.format = options.video_format;
    asked.width = options.video_width;
    asked.height = options.video_height;
    source_ = open_source(options.source, asked);
    if (!options.draw.empty()) sink_ = open_sink(options.draw, source_->rate());
    network_ =
        options.outputs.empty() ? open_network(settings_, network_options(options)) : recorded_network(options.outputs);
  }

  int run() {
    Watch whole, said;
    try {
      Frame frame;
      Watch watch;
      while (!stop_asked() && (options_.frames == 0 || sums_.frames + sums_.failed < options_.frames) &&
             source_->next(&frame)) {
        sums_.read += watch.lap();
        if (!frame.error.empty()) {
          ++sums_.failed;
          std::fprintf(stderr, "detect: %s\n", frame.error.c_str());
          std::printf("%s, \"error\": %s}\n", head(frame).c_str(), quoted(frame.error).c_str());
          watch.lap();
          continue;
        }
        one(&frame, &watch);
        if (said.so_far() > kSay) {
          said.lap();
          std::fprintf(stderr, "detect: %ld frames, %.1f frames/s\n", sums_.frames, rate_);
        }
      }
    } catch (...) {
      // A camera that was unplugged: what was done so far is whole.
      if (sums_.frames) finish(whole.so_far());
      throw;
    }
    finish(whole.so_far());
    return sums_.failed ? 2 : 0;
  }

 private:
  void one(Frame* frame, Watch* watch) {
    const Input input = preprocess(frame->image, settings_);
    sums_.preprocess += watch->lap();
    if (sums_.frames == 0) {
      network_->run(input.arrays);
      sums_.first_run = watch->lap();
      since_.lap();
    }
    const std::vector<Array> outputs = network_->run(input.arrays);
    sums_.network += watch->lap();
    const std::vector<Detection> found = decode(outputs, settings_, input.place);
    sums_.decode += watch->lap();
    ++sums_.frames;
    for (const Detection& box : found) sums_.detections += box.score >= options_.min_score;
    const std::string boxes = as_json(found, settings_.labels, options_.min_score, " ");
    std::printf("%s, \"width\": %d, \"height\": %d, \"detections\": [%s]}\n", head(*frame).c_str(), frame->image.width,
                frame->image.height, boxes.empty() ? "" : boxes.c_str() + 1);
    if (std::fflush(stdout) != 0) throw BadInput("standard output cannot be written");
    if (sink_) {
      char note[32] = "";
      if (frame->number > 0) std::snprintf(note, sizeof note, "%.1f fps", rate_);
      draw(found, settings_.labels, options_.min_score, note, &frame->image);
      sink_->write(frame->image, frame->name);
    }
    sums_.draw += watch->lap();
    // Smoothed over about ten frames, reading included.
    const double now = 1000 / since_.lap();
    rate_ = sums_.frames <= 2 ? now : 0.9 * rate_ + 0.1 * now;
  }

  void finish(double milliseconds) {
    if (sink_) sink_->close();
    sink_.reset();
    sums_.print(milliseconds - sums_.first_run);
  }

  const Options options_;
  Settings settings_;
  std::unique_ptr<FrameSource> source_;
  std::unique_ptr<FrameSink> sink_;
  std::unique_ptr<Network> network_;
  Sums sums_;
  Watch since_;
  double rate_ = 0;
};

}  // namespace

int run_loop(const Options& options) {
  Loop loop(options);
  catch_stop();
  return loop.run();
}

}  // namespace board
