// The network, whatever runs it: arrays in, arrays out.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "settings.h"

namespace board {

struct Array {
  std::vector<int64_t> shape;
  std::vector<float> values;
};

class Network {
 public:
  virtual ~Network() = default;
  // One array for each of the settings' inputs, in their order.
  virtual std::vector<Array> run(const std::vector<Array>& inputs) = 0;
  // Who runs it, for the report.
  virtual std::string runtime() const = 0;
};

struct NetworkOptions {
  std::string package;  // folder
  std::string cache;    // folder for what the NPU's driver has compiled; empty: none
  int threads;          // of the operators on the CPU
  std::string power;    // which cores they take, in Paddle Lite: high, low, full or none (the system's choice)
};

// Opens the package's model in the runtime that this program was built with. Throws BadInput when it cannot be
// opened, or when there is none.
std::unique_ptr<Network> open_network(const Settings& settings, const NetworkOptions& options);

// A map [1, C, H, W] with a row for each cell, [1, H * W, C]; any other array as it is.
Array rows_of_map(Array array);

// Arrays in a file: "PQA1", their number, then for each its rank, its shape (int64) and its float32 values; numbers
// are int32, all little-endian.
std::vector<Array> read_arrays(const std::string& path);
void write_arrays(const std::string& path, const std::vector<Array>& arrays);

// Gives back what a file holds, whatever goes in: to try everything but the network without a board.
std::unique_ptr<Network> recorded_network(const std::string& path);

}  // namespace board
