// settings.json: the package's model, how its input is made and how its outputs are read.
#pragma once

#include <string>
#include <vector>

namespace board {

struct Nms {
  float score_threshold;  // only scores above it take part
  float nms_threshold;    // of two boxes of a class, the lower-scored goes if their IoU is above it
  int nms_top_k;          // at most so many boxes of a class take part; -1: all
  int keep_top_k;         // at most so many detections stay; -1: all
};

struct Model {
  std::string precision;  // int8, fp32, fp16 or compiled
  std::string file;       // the .nb, .xml …, relative to the package
  std::string sha256;
};

struct Settings {
  std::vector<Model> models;       // of the package
  Model model;                     // the one to run: the first, or what choose_model took
  bool model_chosen = false;
  std::string device;              // NNAdapter's name of the NPU; empty: the CPU
  std::string context_properties;  // for NNAdapter, "KEY=VALUE;"
  std::string partition;           // which operators stay on the CPU; empty: none is forced there
  std::vector<std::string> inputs;  // names: image, scale_factor, im_shape
  int height, width;                // of the network's input, pixels
  bool keep_ratio;
  std::string padding;       // with keep_ratio: end (right and below), centre or start
  std::vector<double> fill;  // of R, G and B, as normalised values
  int interpolation;  // OpenCV's number
  bool is_scale;      // pixels are divided by 255 first
  std::vector<double> mean, std;
  std::string outputs;        // raw, boxes or detections
  std::string class_outputs;  // of raw: scores, 0 to 1, or logits
  std::vector<int> strides;   // pixels per cell, a level each
  float cell_offset;          // of a cell's point within it
  Nms nms;
  std::vector<std::string> labels;
};

// Makes the model of a precision the one to run. Throws BadInput naming those there are.
void choose_model(Settings* settings, const std::string& precision);

// Throws BadInput naming the key.
Settings read_settings(const std::string& path);

}  // namespace board
