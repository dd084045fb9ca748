// The network in TensorFlow Lite, by its C API: on the CPU, or on an NPU by an external delegate.
//
// TFLITE_DELEGATE names the delegate's library, which is opened as TensorFlow Lite's own external delegate opens one
// (delegates/external: tflite_plugin_create_delegate, tflite_plugin_destroy_delegate), so that the library of the C API
// alone is enough.
#include <dlfcn.h>
#include <tensorflow/lite/c/c_api.h>

#include <algorithm>
#include <cmath>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <string>

#include "errors.h"
#include "network.h"

namespace board {

namespace {

// What TensorFlow Lite says, of which the last line is the reason.
std::string said;

void keep(void*, const char* format, va_list arguments) {
  char line[512];
  std::vsnprintf(line, sizeof line, format, arguments);
  if (*line != '\0') said = line;
}

void keep_delegates(const char* line) {
  if (line != nullptr && *line != '\0') said = line;
}

std::string because() { return said.empty() ? "no reason given" : said; }

class Delegate {
 public:
  explicit Delegate(const char* path) : path_(path != nullptr ? path : "") {
    if (path_.empty()) return;
    library_ = dlopen(path_.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (library_ == nullptr) throw BadInput("TFLITE_DELEGATE: " + std::string(dlerror()));
    const auto create = reinterpret_cast<Create>(dlsym(library_, "tflite_plugin_create_delegate"));
    destroy_ = reinterpret_cast<Destroy>(dlsym(library_, "tflite_plugin_destroy_delegate"));
    if (create == nullptr || destroy_ == nullptr) {
      throw BadInput("TFLITE_DELEGATE: " + path_ + " is no delegate (it has no tflite_plugin_create_delegate)");
    }
    handle_ = create(nullptr, nullptr, 0, keep_delegates);
    if (handle_ == nullptr) throw BadInput("TFLITE_DELEGATE: " + path_ + " gives no delegate: " + because());
  }
  ~Delegate() {
    if (handle_ != nullptr) destroy_(handle_);  // the library stays loaded: it may have threads of its own
  }
  Delegate(const Delegate&) = delete;
  Delegate& operator=(const Delegate&) = delete;

  TfLiteDelegate* handle() const { return handle_; }
  const std::string& path() const { return path_; }

 private:
  using Create = TfLiteDelegate* (*)(char**, char**, size_t, void (*)(const char*));
  using Destroy = void (*)(TfLiteDelegate*);

  const std::string path_;
  void* library_ = nullptr;
  Destroy destroy_ = nullptr;
  TfLiteDelegate* handle_ = nullptr;
};

template <class Integer>
void quantise(const Array& image, const TfLiteTensor* tensor, std::vector<char>* bytes) {
  const TfLiteQuantizationParams params = TfLiteTensorQuantizationParams(tensor);
  const float least = std::numeric_limits<Integer>::min(), most = std::numeric_limits<Integer>::max();
  const int64_t channels = image.shape[1], cells = image.shape[2] * image.shape[3];
  bytes->resize(static_cast<size_t>(channels * cells) * sizeof(Integer));
  Integer* to = reinterpret_cast<Integer*>(bytes->data());
  for (int64_t cell = 0; cell < cells; ++cell) {  // channels last
    for (int64_t channel = 0; channel < channels; ++channel) {
      const float step = std::round(image.values[channel * cells + cell] / params.scale);
      *to++ = static_cast<Integer>(std::min(most, std::max(least, step + static_cast<float>(params.zero_point))));
    }
  }
}

template <class Integer>
std::vector<float> values_of(const TfLiteTensor* tensor) {
  const TfLiteQuantizationParams params = TfLiteTensorQuantizationParams(tensor);
  const Integer* from = static_cast<const Integer*>(TfLiteTensorData(tensor));
  std::vector<float> values(TfLiteTensorByteSize(tensor) / sizeof(Integer));
  for (float& value : values) value = static_cast<float>(*from++ - params.zero_point) * params.scale;
  return values;
}

class TfliteNetwork : public Network {
 public:
  TfliteNetwork(const Settings& settings, const NetworkOptions& options)
      : file_(settings.model.file), delegate_(std::getenv("TFLITE_DELEGATE")) {
    const std::string path = options.package + "/" + file_;
    const std::string ending = ".tflite";
    if (file_.size() < ending.size() || file_.compare(file_.size() - ending.size(), ending.size(), ending) != 0) {
      throw BadInput(file_ + " is no .tflite: name one of settings.json, for example --model tflite");
    }
    if (!std::ifstream(path, std::ios::binary)) throw BadInput(path + " cannot be read");
    try {
      open(path, options.threads);
    } catch (...) {
      close();
      throw;
    }
  }
  ~TfliteNetwork() override { close(); }

  std::vector<Array> run(const std::vector<Array>& inputs) override {
    if (static_cast<int>(inputs.size()) != TfLiteInterpreterGetInputTensorCount(interpreter_)) {
      throw BadInput(file_ + " takes another number of inputs than settings.json");
    }
    for (size_t index = 0; index < inputs.size(); ++index) give(inputs[index], static_cast<int>(index));
    if (TfLiteInterpreterInvoke(interpreter_) != kTfLiteOk) {
      throw std::runtime_error("TensorFlow Lite did not run " + file_ + ": " + because());
    }
    std::vector<Array> outputs;
    for (int index = 0; index < TfLiteInterpreterGetOutputTensorCount(interpreter_); ++index) {
      outputs.push_back(taken(TfLiteInterpreterGetOutputTensor(interpreter_, index)));
    }
    return outputs;
  }

  std::string runtime() const override {
    const std::string by = delegate_.handle() != nullptr ? " by " + delegate_.path() : "";
    return std::string("TensorFlow Lite ") + TfLiteVersion() + by;
  }

 private:
  void open(const std::string& path, int threads) {
    options_ = TfLiteInterpreterOptionsCreate();
    TfLiteInterpreterOptionsSetErrorReporter(options_, keep, nullptr);
    TfLiteInterpreterOptionsSetNumThreads(options_, threads);
    if (delegate_.handle() != nullptr) TfLiteInterpreterOptionsAddDelegate(options_, delegate_.handle());
    model_ = TfLiteModelCreateFromFile(path.c_str());
    if (model_ == nullptr) throw BadInput("TensorFlow Lite did not open " + path + ": it is no whole .tflite");
    interpreter_ = TfLiteInterpreterCreate(model_, options_);
    if (interpreter_ == nullptr || TfLiteInterpreterAllocateTensors(interpreter_) != kTfLiteOk) {
      throw BadInput("TensorFlow Lite did not open " + path + ": " + because());
    }
    for (int index = 0; index < TfLiteInterpreterGetInputTensorCount(interpreter_); ++index) {
      check(TfLiteInterpreterGetInputTensor(interpreter_, index));
    }
    for (int index = 0; index < TfLiteInterpreterGetOutputTensorCount(interpreter_); ++index) {
      check(TfLiteInterpreterGetOutputTensor(interpreter_, index));
    }
  }

  void close() {
    if (interpreter_ != nullptr) TfLiteInterpreterDelete(interpreter_);
    if (model_ != nullptr) TfLiteModelDelete(model_);
    if (options_ != nullptr) TfLiteInterpreterOptionsDelete(options_);
  }

  void check(const TfLiteTensor* tensor) const {
    const TfLiteType type = TfLiteTensorType(tensor);
    if ((type != kTfLiteInt8 && type != kTfLiteInt16) || TfLiteTensorQuantizationParams(tensor).scale <= 0) {
      throw BadInput(file_ + " is not full integer: " + TfLiteTensorName(tensor) + " is not in INT8 or INT16");
    }
  }

  void give(const Array& image, int index) {
    TfLiteTensor* tensor = TfLiteInterpreterGetInputTensor(interpreter_, index);
    const std::vector<int64_t>& shape = image.shape;  // [1, C, H, W]
    const bool fits = shape.size() == 4 && TfLiteTensorNumDims(tensor) == 4 && TfLiteTensorDim(tensor, 0) == 1 &&
                      TfLiteTensorDim(tensor, 1) == shape[2] && TfLiteTensorDim(tensor, 2) == shape[3] &&
                      TfLiteTensorDim(tensor, 3) == shape[1];
    if (!fits) throw BadInput(file_ + " takes images of another size than settings.json");
    if (TfLiteTensorType(tensor) == kTfLiteInt8) {
      quantise<int8_t>(image, tensor, &bytes_);
    } else {
      quantise<int16_t>(image, tensor, &bytes_);
    }
    if (TfLiteTensorCopyFromBuffer(tensor, bytes_.data(), bytes_.size()) != kTfLiteOk) {
      throw std::runtime_error("TensorFlow Lite did not take the image: " + because());
    }
  }

  static Array taken(const TfLiteTensor* tensor) {
    Array array;
    for (int axis = 0; axis < TfLiteTensorNumDims(tensor); ++axis) array.shape.push_back(TfLiteTensorDim(tensor, axis));
    array.values = TfLiteTensorType(tensor) == kTfLiteInt8 ? values_of<int8_t>(tensor) : values_of<int16_t>(tensor);
    return array;
  }

  const std::string file_;
  Delegate delegate_;  // outlives the interpreter
  std::vector<char> bytes_;
  TfLiteInterpreterOptions* options_ = nullptr;
  TfLiteModel* model_ = nullptr;
  TfLiteInterpreter* interpreter_ = nullptr;
};

}  // namespace

std::unique_ptr<Network> open_network(const Settings& settings, const NetworkOptions& options) {
  return std::unique_ptr<Network>(new TfliteNetwork(settings, options));
}

}  // namespace board
