// Something to link with: a library that opens no model and knows no device but "verisilicon_timvx". With LITE_STUB_SAYS
// set it says on stderr what it is told.
#include <cstdio>
#include <cstdlib>

#include "paddle_api.h"

namespace paddle {
namespace lite_api {

namespace {

void say(const char* what, int value) {
  if (std::getenv("LITE_STUB_SAYS")) std::fprintf(stderr, "%s %d\n", what, value);
}

}  // namespace

Place::Place(TargetType, PrecisionType, DataLayoutType, int16_t) {}
void Tensor::Resize(const shape_t&) {}
shape_t Tensor::shape() const { return {}; }
PrecisionType Tensor::precision() const { return PRECISION(kFloat); }
template <>
const float* Tensor::data<float>() const { return nullptr; }
template <>
const int* Tensor::data<int>() const { return nullptr; }
template <>
const int64_t* Tensor::data<int64_t>() const { return nullptr; }
template <>
float* Tensor::mutable_data<float>(TargetType) const { return nullptr; }
void ConfigBase::set_threads(int threads) { say("threads", threads); }
void ConfigBase::set_power_mode(PowerMode mode) { say("power", mode); }
bool ConfigBase::check_nnadapter_device_name(const std::string& name) { return name == "verisilicon_timvx"; }
void ConfigBase::set_nnadapter_device_names(const std::vector<std::string>&) {}
void ConfigBase::set_nnadapter_context_properties(const std::string&) {}
void ConfigBase::set_nnadapter_model_cache_dir(const std::string&) {}
void CxxConfig::set_valid_places(const std::vector<Place>&) {}
void CxxConfig::set_model_file(const std::string&) {}
void CxxConfig::set_param_file(const std::string&) {}
void CxxConfig::set_nnadapter_subgraph_partition_config_path(const std::string&) {}
void MobileConfig::set_model_from_file(const std::string&) {}
template <>
std::shared_ptr<PaddlePredictor> CreatePaddlePredictor<MobileConfig>(const MobileConfig&) { return nullptr; }
template <>
std::shared_ptr<PaddlePredictor> CreatePaddlePredictor<CxxConfig>(const CxxConfig&) { return nullptr; }

}  // namespace lite_api
}  // namespace paddle
