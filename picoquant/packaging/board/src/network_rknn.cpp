// The network on a Rockchip NPU, through the C interface of librknnrt (RK35xx, RV1126B), or with RKNN_ZERO_COPY of
// librknnmrt (RV1103, RV1106), where buffers are shared with the NPU and hold integers.
#include <rknn_api.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "errors.h"
#include "network.h"

namespace board {

namespace {

void require(int code, const std::string& what) {
  if (code != RKNN_SUCC) throw std::runtime_error(what + " ended with " + std::to_string(code));
}

std::vector<char> content_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw BadInput(path + " cannot be read");
  return std::vector<char>((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
}

// One run of the network's life in the driver.
class Context {
 public:
  explicit Context(const std::string& path) {
    std::vector<char> model = content_of(path);
    const int code = rknn_init(&handle, model.data(), static_cast<uint32_t>(model.size()), 0, nullptr);
    if (code != RKNN_SUCC) {
      throw BadInput("librknn did not open " + path + " (" + std::to_string(code) +
                     "): it must be for this chip, and the library not older than the toolkit that built it");
    }
  }
  ~Context() { rknn_destroy(handle); }
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  rknn_tensor_attr tensor(rknn_query_cmd command, uint32_t index) const {
    rknn_tensor_attr attr;
    std::memset(&attr, 0, sizeof(attr));
    attr.index = index;
    require(rknn_query(handle, command, &attr, sizeof(attr)), "rknn_query");
    return attr;
  }

  rknn_input_output_num counts() const {
    rknn_input_output_num numbers;
    std::memset(&numbers, 0, sizeof(numbers));
    require(rknn_query(handle, RKNN_QUERY_IN_OUT_NUM, &numbers, sizeof(numbers)), "rknn_query");
    return numbers;
  }

  std::string version() const {
    rknn_sdk_version said;
    std::memset(&said, 0, sizeof(said));
    require(rknn_query(handle, RKNN_QUERY_SDK_VERSION, &said, sizeof(said)), "rknn_query");
    return std::string("RKNN ") + said.api_version + ", driver " + said.drv_version;
  }

  rknn_context handle = 0;
};

// An input of [1, C, H, W] as [1, H, W, C].
std::vector<float> channels_last(const Array& image) {
  const int64_t channels = image.shape[1], cells = image.shape[2] * image.shape[3];
  std::vector<float> values(image.values.size());
  for (int64_t cell = 0; cell < cells; ++cell) {
    for (int64_t channel = 0; channel < channels; ++channel) {
      values[cell * channels + channel] = image.values[channel * cells + cell];
    }
  }
  return values;
}

void check_inputs(const std::vector<Array>& inputs, size_t wanted) {
  if (inputs.size() != wanted) throw BadInput("the .rknn has another number of inputs than settings.json");
  for (const Array& input : inputs) {
    if (input.shape.size() != 4) throw BadInput("the .rknn takes images alone: export the model as raw");
  }
}

#ifndef RKNN_ZERO_COPY

class RknnNetwork : public Network {
 public:
  explicit RknnNetwork(const std::string& path) : context_(path), counts_(context_.counts()) {}

  std::vector<Array> run(const std::vector<Array>& inputs) override {
    check_inputs(inputs, counts_.n_input);
    std::vector<std::vector<float>> images;
    std::vector<rknn_input> given(inputs.size());
    for (const Array& input : inputs) images.push_back(channels_last(input));
    for (uint32_t index = 0; index < given.size(); ++index) {
      std::memset(&given[index], 0, sizeof(rknn_input));
      given[index].index = index;
      given[index].buf = images[index].data();
      given[index].size = static_cast<uint32_t>(images[index].size() * sizeof(float));
      given[index].type = RKNN_TENSOR_FLOAT32;  // the library quantises it
      given[index].fmt = RKNN_TENSOR_NHWC;
    }
    require(rknn_inputs_set(context_.handle, counts_.n_input, given.data()), "rknn_inputs_set");
    require(rknn_run(context_.handle, nullptr), "rknn_run");
    std::vector<rknn_output> made(counts_.n_output);
    for (uint32_t index = 0; index < made.size(); ++index) {
      std::memset(&made[index], 0, sizeof(rknn_output));
      made[index].index = index;
      made[index].want_float = 1;
    }
    require(rknn_outputs_get(context_.handle, counts_.n_output, made.data(), nullptr), "rknn_outputs_get");
    std::vector<Array> outputs;
    for (uint32_t index = 0; index < made.size(); ++index) {
      const rknn_tensor_attr attr = context_.tensor(RKNN_QUERY_OUTPUT_ATTR, index);
      outputs.push_back(rows(static_cast<const float*>(made[index].buf), attr));
    }
    rknn_outputs_release(context_.handle, counts_.n_output, made.data());
    return outputs;
  }

  std::string runtime() const override { return context_.version(); }

 private:
  // Maps [1, C, H, W] with a row for each of their cells, [1, H * W, C]; another output as it is.
  static Array rows(const float* values, const rknn_tensor_attr& attr) {
    Array array;
    array.values.assign(values, values + attr.n_elems);
    if (attr.n_dims != 4) {
      array.shape.assign(attr.dims, attr.dims + attr.n_dims);
      return array;
    }
    const bool last = attr.fmt == RKNN_TENSOR_NHWC;
    const int64_t channels = attr.dims[last ? 3 : 1];
    const int64_t cells = static_cast<int64_t>(attr.n_elems) / (channels * attr.dims[0]);
    array.shape = {attr.dims[0], cells, channels};
    for (int64_t cell = 0; !last && cell < cells; ++cell) {
      for (int64_t channel = 0; channel < channels; ++channel) {
        array.values[cell * channels + channel] = values[channel * cells + cell];
      }
    }
    return array;
  }

  Context context_;
  const rknn_input_output_num counts_;
};

#else

// A buffer that the NPU reads or writes: int8, channels last, rows of w_stride cells.
struct Buffer {
  rknn_tensor_attr attr;
  rknn_tensor_mem* memory;

  int64_t rows() const { return attr.n_dims == 4 ? attr.dims[1] : 1; }
  int64_t columns() const { return attr.n_dims == 4 ? attr.dims[2] : attr.dims[1]; }
  int64_t channels() const { return attr.dims[attr.n_dims - 1]; }
  int64_t stride() const { return attr.w_stride ? attr.w_stride : columns(); }
  int8_t* data() const { return static_cast<int8_t*>(memory->virt_addr); }
};

class RknnNetwork : public Network {
 public:
  explicit RknnNetwork(const std::string& path) : context_(path) {
    const rknn_input_output_num counts = context_.counts();
    for (uint32_t index = 0; index < counts.n_input; ++index) {
      add(RKNN_QUERY_NATIVE_INPUT_ATTR, index, &inputs_);
    }
    for (uint32_t index = 0; index < counts.n_output; ++index) {
      add(RKNN_QUERY_NATIVE_NHWC_OUTPUT_ATTR, index, &outputs_);
    }
  }
  ~RknnNetwork() override {
    for (const Buffer& buffer : inputs_) rknn_destroy_mem(context_.handle, buffer.memory);
    for (const Buffer& buffer : outputs_) rknn_destroy_mem(context_.handle, buffer.memory);
  }

  std::vector<Array> run(const std::vector<Array>& inputs) override {
    check_inputs(inputs, inputs_.size());
    for (size_t index = 0; index < inputs.size(); ++index) fill(inputs_[index], channels_last(inputs[index]));
    require(rknn_run(context_.handle, nullptr), "rknn_run");
    std::vector<Array> outputs;
    for (const Buffer& buffer : outputs_) outputs.push_back(read(buffer));
    return outputs;
  }

  std::string runtime() const override { return context_.version(); }

 private:
  void add(rknn_query_cmd command, uint32_t index, std::vector<Buffer>* buffers) {
    Buffer buffer;
    buffer.attr = context_.tensor(command, index);
    if (buffer.attr.type != RKNN_TENSOR_INT8 || buffer.attr.n_dims < 2) {
      throw BadInput("the .rknn has an input or an output that is no INT8 tensor");
    }
    buffer.attr.fmt = RKNN_TENSOR_NHWC;
    buffer.memory = rknn_create_mem(context_.handle, buffer.attr.size_with_stride);
    if (buffer.memory == nullptr) throw std::runtime_error("rknn_create_mem gave no memory");
    buffers->push_back(buffer);
    require(rknn_set_io_mem(context_.handle, buffer.memory, &buffers->back().attr), "rknn_set_io_mem");
  }

  static void fill(const Buffer& buffer, const std::vector<float>& values) {
    const int64_t row = buffer.columns() * buffer.channels();
    if (static_cast<int64_t>(values.size()) != buffer.rows() * row) {
      throw BadInput("the .rknn takes images of another size than settings.json");
    }
    for (int64_t y = 0; y < buffer.rows(); ++y) {
      int8_t* place = buffer.data() + y * buffer.stride() * buffer.channels();
      for (int64_t x = 0; x < row; ++x) {
        const float step = std::nearbyint(values[y * row + x] / buffer.attr.scale) + static_cast<float>(buffer.attr.zp);
        place[x] = static_cast<int8_t>(step < -128 ? -128 : step > 127 ? 127 : step);
      }
    }
  }

  static Array read(const Buffer& buffer) {
    Array array;
    array.shape = {1, buffer.rows() * buffer.columns(), buffer.channels()};
    for (int64_t y = 0; y < buffer.rows(); ++y) {
      const int8_t* place = buffer.data() + y * buffer.stride() * buffer.channels();
      for (int64_t x = 0; x < buffer.columns() * buffer.channels(); ++x) {
        array.values.push_back(static_cast<float>(place[x] - buffer.attr.zp) * buffer.attr.scale);
      }
    }
    return array;
  }

  Context context_;
  std::vector<Buffer> inputs_, outputs_;
};

#endif

}  // namespace

std::unique_ptr<Network> open_network(const Settings& settings, const NetworkOptions& options) {
  return std::unique_ptr<Network>(new RknnNetwork(options.package + "/" + settings.model.file));
}

}  // namespace board
