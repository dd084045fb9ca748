// The part of Paddle Lite's C++ interface (lite/api/paddle_api.h and paddle_place.h, release v2.13-rc) that the
// package's program uses, declared anew so that the program can be compiled and linked where Paddle Lite is not.
// Names, parameters and return types are those of the release; nothing here computes.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace paddle {
namespace lite_api {

enum class TargetType : int { kUnk = 0, kHost = 1, kARM = 4, kNNAdapter = 18 };
enum class PrecisionType : int { kUnk = 0, kFloat = 1, kInt8 = 2, kInt32 = 3, kInt64 = 7 };
enum class DataLayoutType : int { kUnk = 0, kNCHW = 1 };
typedef enum { LITE_POWER_HIGH = 0, LITE_POWER_LOW = 1, LITE_POWER_FULL = 2, LITE_POWER_NO_BIND = 3 } PowerMode;

#define TARGET(name) paddle::lite_api::TargetType::name
#define PRECISION(name) paddle::lite_api::PrecisionType::name
#define DATALAYOUT(name) paddle::lite_api::DataLayoutType::name

using shape_t = std::vector<int64_t>;

struct Place {
  Place() = default;
  Place(TargetType target, PrecisionType precision = PRECISION(kFloat), DataLayoutType layout = DATALAYOUT(kNCHW),
        int16_t device = 0);
};

struct Tensor {
  void Resize(const shape_t& shape);
  template <typename T>
  const T* data() const;
  template <typename T>
  T* mutable_data(TargetType type = TargetType::kHost) const;
  shape_t shape() const;
  PrecisionType precision() const;
};

class PaddlePredictor {
 public:
  virtual ~PaddlePredictor() = default;
  virtual std::unique_ptr<Tensor> GetInput(int i) = 0;
  virtual std::unique_ptr<const Tensor> GetOutput(int i) const = 0;
  virtual void Run() = 0;
  virtual std::string GetVersion() const = 0;
  virtual std::vector<std::string> GetOutputNames() = 0;
};

class ConfigBase {
 public:
  void set_threads(int threads);
  void set_power_mode(PowerMode mode);
  bool check_nnadapter_device_name(const std::string& device_name);
  void set_nnadapter_device_names(const std::vector<std::string>& device_names);
  void set_nnadapter_context_properties(const std::string& context_properties);
  void set_nnadapter_model_cache_dir(const std::string& model_cache_dir);
};

class CxxConfig : public ConfigBase {
 public:
  void set_valid_places(const std::vector<Place>& x);
  void set_model_file(const std::string& path);
  void set_param_file(const std::string& path);
  void set_nnadapter_subgraph_partition_config_path(const std::string& subgraph_partition_config_path);
};

class MobileConfig : public ConfigBase {
 public:
  void set_model_from_file(const std::string& x);
};

template <typename ConfigT>
std::shared_ptr<PaddlePredictor> CreatePaddlePredictor(const ConfigT&);

}  // namespace lite_api
}  // namespace paddle
