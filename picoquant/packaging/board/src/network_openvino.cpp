// The network in OpenVINO on the CPU.
#include <openvino/openvino.hpp>

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <set>
#include <string>

#include "errors.h"
#include "network.h"

namespace board {

namespace {

// Whether the CPU adds products of INT8 in 32 bits; without VNNI OpenVINO does in 16, which saturate.
bool adds_exactly() {
  const char* limit = std::getenv("ONEDNN_MAX_CPU_ISA");
  if (limit != nullptr && std::set<std::string>{"SSE41", "AVX", "AVX2", "AVX512_CORE"}.count(limit)) return false;
  std::ifstream lines("/proc/cpuinfo");
  for (std::string line; std::getline(lines, line);) {
    if (line.compare(0, 5, "flags") != 0) continue;
    line += ' ';
    return line.find(" avx512_vnni ") != std::string::npos || line.find(" avx_vnni ") != std::string::npos;
  }
  return false;
}

ov::CompiledModel open_model(const std::string& path, int threads) {
  if (!std::ifstream(path, std::ios::binary)) throw BadInput(path + " cannot be read");
  try {
    // Without f32 what is not INT8 may be computed as bfloat16: another result.
    ov::AnyMap properties{ov::hint::inference_precision(ov::element::f32),
                          ov::hint::performance_mode(ov::hint::PerformanceMode::LATENCY),
                          ov::inference_num_threads(threads)};
    if (!adds_exactly()) properties["LP_TRANSFORMS_MODE"] = "NO";  // INT8 in float: the same results, slower
    return ov::Core().compile_model(path, "CPU", properties);
  } catch (const ov::Exception& error) {
    throw BadInput("OpenVINO did not open " + path + ": " + error.what());
  }
}

class OpenvinoNetwork : public Network {
 public:
  OpenvinoNetwork(const Settings& settings, const NetworkOptions& options)
      : names_(settings.inputs),
        model_(open_model(options.package + "/" + settings.model.file, options.threads)),
        request_(model_.create_infer_request()) {}

  std::vector<Array> run(const std::vector<Array>& inputs) override {
    for (size_t index = 0; index < inputs.size(); ++index) {
      ov::Tensor tensor(ov::element::f32, ov::Shape(inputs[index].shape.begin(), inputs[index].shape.end()));
      std::memcpy(tensor.data<float>(), inputs[index].values.data(), tensor.get_byte_size());
      request_.set_tensor(names_[index], tensor);
    }
    request_.infer();
    std::vector<Array> outputs;
    for (size_t index = 0; index < model_.outputs().size(); ++index) outputs.push_back(copied(index));
    return outputs;
  }

  std::string runtime() const override { return std::string("OpenVINO ") + ov::get_openvino_version().buildNumber; }

 private:
  Array copied(size_t index) {
    const ov::Tensor tensor = request_.get_output_tensor(index);
    Array array;
    for (const size_t side : tensor.get_shape()) array.shape.push_back(static_cast<int64_t>(side));
    if (tensor.get_element_type() == ov::element::f32) {
      const float* data = tensor.data<const float>();
      array.values.assign(data, data + tensor.get_size());
    } else if (tensor.get_element_type() == ov::element::i32) {
      const int32_t* data = tensor.data<const int32_t>();
      array.values.assign(data, data + tensor.get_size());
    } else if (tensor.get_element_type() == ov::element::i64) {
      const int64_t* data = tensor.data<const int64_t>();
      for (size_t at = 0; at < tensor.get_size(); ++at) array.values.push_back(static_cast<float>(data[at]));
    } else {
      throw std::runtime_error("an output of the network is neither float32 nor a whole number");
    }
    return array;
  }

  const std::vector<std::string> names_;
  ov::CompiledModel model_;
  ov::InferRequest request_;
};

}  // namespace

std::unique_ptr<Network> open_network(const Settings& settings, const NetworkOptions& options) {
  return std::unique_ptr<Network>(new OpenvinoNetwork(settings, options));
}

}  // namespace board
