// The network in ncnn on the CPU.
#include <net.h>

#include <cstring>
#include <fstream>
#include <string>

#include "errors.h"
#include "network.h"

namespace board {

namespace {

class NcnnNetwork : public Network {
 public:
  NcnnNetwork(const Settings& settings, const NetworkOptions& options) : names_(settings.inputs) {
    const std::string param = options.package + "/" + settings.model.file;
    // What is not INT8 in float32, as in the package's expected detections; take these lines out for more speed on a CPU
    // that computes float16.
    net_.opt.use_fp16_packed = false;
    net_.opt.use_fp16_storage = false;
    net_.opt.use_fp16_arithmetic = false;
    net_.opt.use_bf16_storage = false;
    net_.opt.use_vulkan_compute = false;
    net_.opt.num_threads = options.threads;
    load(param, [this](const char* path) { return net_.load_param(path); });
    load(param.substr(0, param.rfind('.')) + ".bin", [this](const char* path) { return net_.load_model(path); });
  }

  std::vector<Array> run(const std::vector<Array>& inputs) override {
    ncnn::Extractor extractor = net_.create_extractor();
    std::vector<ncnn::Mat> mats;
    for (size_t index = 0; index < inputs.size(); ++index) {
      const std::vector<int64_t>& shape = inputs[index].shape;  // [1, C, H, W]
      mats.emplace_back(static_cast<int>(shape[3]), static_cast<int>(shape[2]), static_cast<int>(shape[1]));
      const size_t side = static_cast<size_t>(shape[2] * shape[3]);
      for (int channel = 0; channel < mats[index].c; ++channel) {
        float* to = mats[index].channel(channel);
        std::memcpy(to, inputs[index].values.data() + channel * side, side * sizeof(float));
      }
      extractor.input(names_[index].c_str(), mats[index]);
    }
    std::vector<Array> outputs;
    for (const char* name : net_.output_names()) {
      ncnn::Mat mat;
      const int code = extractor.extract(name, mat);
      if (code != 0) throw std::runtime_error("ncnn ended with " + std::to_string(code) + " before " + name);
      outputs.push_back(copied(mat));
    }
    return outputs;
  }

  std::string runtime() const override { return std::string("ncnn ") + NCNN_VERSION_STRING; }

 private:
  template <class Load>
  static void load(const std::string& path, Load from) {
    if (!std::ifstream(path, std::ios::binary)) throw BadInput(path + " cannot be read");
    if (from(path.c_str()) != 0) throw BadInput("ncnn did not open " + path);
  }

  // A batch of one in front of what ncnn has: [1, H, W] or [1, C, H, W].
  static Array copied(const ncnn::Mat& mat) {
    Array array;
    array.shape.push_back(1);
    if (mat.dims == 3) array.shape.push_back(mat.c);
    if (mat.dims >= 2) array.shape.push_back(mat.h);
    array.shape.push_back(mat.w);
    for (int channel = 0; channel < mat.c; ++channel) {
      const float* from = mat.channel(channel);
      array.values.insert(array.values.end(), from, from + static_cast<size_t>(mat.w) * mat.h);
    }
    return array;
  }

  const std::vector<std::string> names_;
  ncnn::Net net_;
};

}  // namespace

std::unique_ptr<Network> open_network(const Settings& settings, const NetworkOptions& options) {
  return std::unique_ptr<Network>(new NcnnNetwork(settings, options));
}

}  // namespace board
