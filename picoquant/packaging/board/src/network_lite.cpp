// The network in Paddle Lite, on an NPU through NNAdapter or on the CPU.
//
// By default the light API runs the package's .nb. With -DUSE_FULL_API=ON the full API compiles the Paddle model
// on the board instead, which is where a partition file is read; in a .nb the partition is decided already.
#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <fstream>

#include "errors.h"
#include "network.h"
#include "paddle_api.h"  // NOLINT  Paddle Lite's

namespace board {

namespace lite = paddle::lite_api;

namespace {

void check_readable(const std::string& path) {
  if (!std::ifstream(path, std::ios::binary)) throw BadInput(path + " cannot be read");
}

// The model's own folder in the cache: the driver's compiled network must never meet another model.
std::string cache_folder(const Settings& settings, const std::string& cache) {
  std::string folder = cache;
  for (const std::string& part : {std::string(), "/" + settings.model.sha256.substr(0, 16)}) {
    folder += part;
    if (mkdir(folder.c_str(), 0755) != 0 && errno != EEXIST)
      throw BadInput("the cache folder " + folder + " cannot be made: " + std::strerror(errno));
  }
  return folder;
}

lite::PowerMode power_mode(const std::string& name) {
  if (name == "high") return lite::LITE_POWER_HIGH;
  if (name == "low") return lite::LITE_POWER_LOW;
  if (name == "full") return lite::LITE_POWER_FULL;
  return lite::LITE_POWER_NO_BIND;
}

template <typename Config>
void set_common(const Settings& settings, const NetworkOptions& options, Config* config) {
  config->set_threads(options.threads);
  config->set_power_mode(power_mode(options.power));
  if (settings.device.empty()) return;
  if (!config->check_nnadapter_device_name(settings.device))
    throw BadInput("NNAdapter does not reach the device " + settings.device + ": lib" + settings.device +
                   ".so or a library it needs is not in LD_LIBRARY_PATH, or the NPU's driver is not loaded");
  config->set_nnadapter_device_names({settings.device});
  config->set_nnadapter_context_properties(settings.context_properties);
  if (!options.cache.empty()) config->set_nnadapter_model_cache_dir(cache_folder(settings, options.cache));
}

std::shared_ptr<lite::PaddlePredictor> open_model(const Settings& settings, const NetworkOptions& options) {
#ifdef USE_FULL_API
  lite::CxxConfig config;
  if (settings.model_chosen)
    throw BadInput("--model: this program was built with USE_FULL_API and compiles paddle/; build it without for a .nb");
  const std::string model = options.package + "/paddle/model.pdmodel", params = options.package + "/paddle/model.pdiparams";
  check_readable(model);
  check_readable(params);
  config.set_model_file(model);
  config.set_param_file(params);
  std::vector<lite::Place> places;
  if (!settings.device.empty()) {
    places.push_back(lite::Place{TARGET(kNNAdapter), PRECISION(kInt8)});
    places.push_back(lite::Place{TARGET(kNNAdapter), PRECISION(kFloat)});
  }
  places.push_back(lite::Place{TARGET(kARM), PRECISION(kInt8)});
  places.push_back(lite::Place{TARGET(kARM), PRECISION(kFloat)});
  config.set_valid_places(places);
  if (!settings.partition.empty()) {
    const std::string partition = options.package + "/" + settings.partition;
    check_readable(partition);
    config.set_nnadapter_subgraph_partition_config_path(partition);
  }
  set_common(settings, options, &config);
  return lite::CreatePaddlePredictor<lite::CxxConfig>(config);
#else
  lite::MobileConfig config;
  if (settings.model.precision == "compiled")
    throw BadInput("--model: Paddle Lite does not run the compiled network: build this program with OPENVX_DIR");
  const std::string model = options.package + "/" + settings.model.file;
  check_readable(model);
  config.set_model_from_file(model);
  set_common(settings, options, &config);
  return lite::CreatePaddlePredictor<lite::MobileConfig>(config);
#endif
}

template <typename T>
void append(const lite::Tensor& tensor, size_t count, std::vector<float>* values) {
  const T* data = tensor.data<T>();
  for (size_t index = 0; index < count; ++index) values->push_back(static_cast<float>(data[index]));
}

Array copied(const lite::Tensor& tensor) {
  Array array;
  array.shape = tensor.shape();
  size_t count = 1;
  for (const int64_t side : array.shape) count *= static_cast<size_t>(side);
  switch (tensor.precision()) {
    case PRECISION(kInt32): append<int>(tensor, count, &array.values); break;
    case PRECISION(kInt64): append<int64_t>(tensor, count, &array.values); break;
    case PRECISION(kFloat): append<float>(tensor, count, &array.values); break;
    default: throw std::runtime_error("an output of the network is neither float32 nor a whole number");
  }
  return array;
}

class LiteNetwork : public Network {
 public:
  LiteNetwork(const Settings& settings, const NetworkOptions& options) : predictor_(open_model(settings, options)) {
    if (!predictor_) throw BadInput("Paddle Lite did not open " + settings.model.file);
    outputs_ = predictor_->GetOutputNames().size();
  }

  std::vector<Array> run(const std::vector<Array>& inputs) override {
    for (size_t index = 0; index < inputs.size(); ++index) {
      const std::unique_ptr<lite::Tensor> tensor = predictor_->GetInput(static_cast<int>(index));
      tensor->Resize(inputs[index].shape);
      std::memcpy(tensor->mutable_data<float>(), inputs[index].values.data(),
                  inputs[index].values.size() * sizeof(float));
    }
    predictor_->Run();
    std::vector<Array> outputs;
    for (size_t index = 0; index < outputs_; ++index)
      outputs.push_back(copied(*predictor_->GetOutput(static_cast<int>(index))));
    return outputs;
  }

  std::string runtime() const override { return "Paddle Lite " + predictor_->GetVersion(); }

 private:
  const std::shared_ptr<lite::PaddlePredictor> predictor_;
  size_t outputs_;
};

}  // namespace

std::unique_ptr<Network> open_network(const Settings& settings, const NetworkOptions& options) {
  return std::unique_ptr<Network>(new LiteNetwork(settings, options));
}

}  // namespace board
