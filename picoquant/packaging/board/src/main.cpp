// Runs the package's model on one image and prints detections and times as JSON; or on every frame of a source (loop.h).
#include <algorithm>
#include <cstdio>
#include <exception>
#include <memory>
#include <string>
#include <vector>

#include "compare.h"
#include "decode.h"
#include "errors.h"
#include "json.h"
#include "live/draw.h"
#include "live/loop.h"
#include "live/sink.h"
#include "live/source.h"
#include "network.h"
#include "options.h"
#include "preprocess.h"
#include "report.h"
#include "settings.h"
#include "watch.h"

namespace board {

namespace {

struct Times {
  double load = 0, preprocess = 0, first_run = 0, decode = 0;
  std::vector<double> runs;
};

void print_comparison(const Comparison& comparison, const Tolerance& tolerance) {
  std::printf(",\n  \"comparison\": {\"as_expected\": %s, \"expected\": %d, \"min_score\": %g, \"score_tolerance\": %g, "
              "\"least_iou\": %g, \"wrong\": [",
              comparison.wrong.empty() ? "true" : "false", comparison.expected, tolerance.min_score, tolerance.score,
              tolerance.iou);
  for (size_t index = 0; index < comparison.wrong.size(); ++index)
    std::printf("%s%s", index ? ", " : "", quoted(comparison.wrong[index]).c_str());
  std::printf("]}");
}

void print_times(const Times& times) {
  double sum = 0;
  for (const double run : times.runs) sum += run;
  std::printf(",\n  \"milliseconds\": {\"load\": %.2f, \"preprocess\": %.2f, \"first_run\": %.2f, \"run_mean\": %.2f, "
              "\"run_least\": %.2f, \"run_most\": %.2f, \"runs\": %zu, \"decode\": %.2f}",
              times.load, times.preprocess, times.first_run, sum / static_cast<double>(times.runs.size()),
              *std::min_element(times.runs.begin(), times.runs.end()),
              *std::max_element(times.runs.begin(), times.runs.end()), times.runs.size(), times.decode);
}

int run(const Options& options) {
  Settings settings = read_settings(options.package + "/settings.json");
#ifdef WITH_OPENVX
  if (options.model.empty()) choose_model(&settings, "compiled");
#endif
  if (!options.model.empty()) choose_model(&settings, options.model);
  const std::string path = options.image.empty() ? options.package + "/sample/image.ppm" : options.image;
  Tolerance tolerance{};
  std::vector<Detection> expected;
  if (!options.expected.empty()) expected = read_expected(options.expected, &tolerance);
  const Image image = read_image(path);
  const std::unique_ptr<FrameSink> sink = options.draw.empty() ? nullptr : open_sink(options.draw, 0);
  Times times;
  Watch watch;
  const Input input = preprocess(image, settings);
  times.preprocess = watch.lap();
  if (!options.save_input.empty()) write_arrays(options.save_input, input.arrays);
  watch.lap();
  const std::unique_ptr<Network> network =
      options.outputs.empty()
          ? open_network(settings, network_options(options))
          : recorded_network(options.outputs);
  times.load = watch.lap();
  std::vector<Array> outputs = network->run(input.arrays);
  times.first_run = watch.lap();
  for (int left = options.warmup; left > 1; --left) network->run(input.arrays);
  for (int left = options.runs; left > 0; --left) {
    watch.lap();
    outputs = network->run(input.arrays);
    times.runs.push_back(watch.lap());
  }
  if (!options.save_outputs.empty()) write_arrays(options.save_outputs, outputs);
  watch.lap();
  const std::vector<Detection> found = decode(outputs, settings, input.place);
  times.decode = watch.lap();
  std::printf("{\n  \"model\": %s,\n  \"precision\": %s,\n  \"device\": %s,\n  \"runtime\": %s,\n  \"image\": %s,\n  \"size\": [%d, %d],\n"
              "  \"detections\": [",
              quoted(settings.model.file).c_str(), quoted(settings.model.precision).c_str(),
              quoted(settings.device.empty() ? "cpu" : settings.device).c_str(),
              quoted(network->runtime()).c_str(), quoted(path).c_str(), image.height, image.width);
  std::printf("%s]", as_json(found, settings.labels, options.min_score, "\n    ").c_str());
  print_times(times);
  bool good = true;
  if (!options.expected.empty()) {
    const Comparison comparison = compare(expected, found, tolerance, settings.labels);
    print_comparison(comparison, tolerance);
    good = comparison.wrong.empty();
  }
  std::printf("\n}\n");
  if (sink) {
    Image drawn = image;
    draw(found, settings.labels, options.min_score, "", &drawn);
    sink->write(drawn, stem_of(path));
    sink->close();
  }
  return good ? 0 : 1;
}

}  // namespace

}  // namespace board

int main(int count, char** texts) {
  try {
    bool help = false;
    const board::Options options = board::read_options(count, texts, &help);
    if (help) {
      std::fputs(board::kHelp, stdout);
      return 0;
    }
    return options.source.empty() ? board::run(options) : board::run_loop(options);
  } catch (const board::BadInput& error) {
    std::fprintf(stderr, "detect: %s\n", error.what());
    return 2;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "detect: failed: %s\n", error.what());
    return 1;
  }
}
