// The network as VeriSilicon's compiler made it for the chip (network_binary.nb), through the driver's OpenVX library.
#include <VX/vx.h>
#include <VX/vx_khr_cnn.h>
#include <VX/vx_khr_import_kernel.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <limits>
#include <string>
#include <type_traits>
#include <vector>

#include "errors.h"
#include "network.h"

namespace board {

namespace {

using Size = std::remove_pointer<decltype(vx_tensor_create_params_t::sizes)>::type;
constexpr vx_uint32 kMostAxes = 6;

void require(vx_status status, const std::string& what) {
  if (status != VX_SUCCESS) throw std::runtime_error(what + " ended with " + std::to_string(status));
}

// An input or output of the network, as the compiled file describes it, and the driver's tensor for it.
struct Tensor {
  vx_tensor handle = nullptr;
  std::vector<size_t> sizes;  // the innermost first
  vx_enum type = VX_TYPE_UINT8;
  float scale = 1.0f;
  int32_t zero_point = 0;

  size_t count() const {
    size_t elements = 1;
    for (const size_t size : sizes) elements *= size;
    return elements;
  }

  std::vector<int64_t> shape() const { return std::vector<int64_t>(sizes.rbegin(), sizes.rend()); }
};

class OpenVxNetwork : public Network {
 public:
  explicit OpenVxNetwork(const std::string& path) {
    if (!std::ifstream(path, std::ios::binary)) throw BadInput(path + " cannot be read");
    context_ = vxCreateContext();
    if (vxGetStatus(reinterpret_cast<vx_reference>(context_)) != VX_SUCCESS)
      throw BadInput("the driver gave no OpenVX context: is the NPU's kernel driver loaded?");
    graph_ = vxCreateGraph(context_);
    kernel_ = vxImportKernelFromURL(context_, VX_VIVANTE_IMPORT_KERNEL_FROM_FILE, path.c_str());
    if (kernel_ == nullptr || vxGetStatus(reinterpret_cast<vx_reference>(kernel_)) != VX_SUCCESS) refuse(path);
    node_ = vxCreateGenericNode(graph_, kernel_);
    if (node_ == nullptr || vxGetStatus(reinterpret_cast<vx_reference>(node_)) != VX_SUCCESS) refuse(path);
    vx_uint32 count = 0;
    require(vxQueryKernel(kernel_, VX_KERNEL_PARAMETERS, &count, sizeof(count)), "vxQueryKernel");
    for (vx_uint32 index = 0; index < count; ++index) add(index);
    if (vxVerifyGraph(graph_) != VX_SUCCESS) refuse(path);
  }

  ~OpenVxNetwork() override {
    if (node_ != nullptr) vxReleaseNode(&node_);
    for (Tensor& tensor : inputs_) vxReleaseTensor(&tensor.handle);
    for (Tensor& tensor : outputs_) vxReleaseTensor(&tensor.handle);
    if (kernel_ != nullptr) vxReleaseKernel(&kernel_);
    if (graph_ != nullptr) vxReleaseGraph(&graph_);
    if (context_ != nullptr) vxReleaseContext(&context_);
  }

  std::vector<Array> run(const std::vector<Array>& inputs) override {
    if (inputs.size() != inputs_.size()) throw BadInput("network_binary.nb has another number of inputs than settings.json");
    for (size_t index = 0; index < inputs.size(); ++index) write(inputs_[index], inputs[index].values);
    require(vxProcessGraph(graph_), "vxProcessGraph");
    std::vector<Array> outputs;
    for (const Tensor& tensor : outputs_) outputs.push_back(read(tensor));
    return outputs;
  }

  std::string runtime() const override {
    char name[VX_MAX_IMPLEMENTATION_NAME] = {0};
    vxQueryContext(context_, VX_CONTEXT_IMPLEMENTATION, name, sizeof(name));
    return std::string("OpenVX, ") + name;
  }

 private:
  [[noreturn]] static void refuse(const std::string& path) {
    throw BadInput("the NPU's driver did not open " + path +
                   ": it must be compiled for this chip, and the driver not older than what compiled it");
  }

  void add(vx_uint32 index) {
    Tensor tensor;
    vx_enum direction = 0;
    vx_meta_format meta = nullptr;
    vx_parameter parameter = vxGetKernelParameterByIndex(kernel_, index);
    require(vxQueryParameter(parameter, VX_PARAMETER_DIRECTION, &direction, sizeof(direction)), "vxQueryParameter");
    require(vxQueryParameter(parameter, VX_PARAMETER_META_FORMAT, &meta, sizeof(meta)), "vxQueryParameter");
    describe(meta, &tensor);
    vxReleaseParameter(&parameter);
    vx_tensor_create_params_t wanted;
    std::memset(&wanted, 0, sizeof(wanted));
    wanted.num_of_dims = static_cast<vx_uint32>(tensor.sizes.size());
    std::vector<Size> sizes(tensor.sizes.begin(), tensor.sizes.end());
    wanted.sizes = sizes.data();
    wanted.data_format = tensor.type;
    wanted.quant_format = VX_QUANT_AFFINE_SCALE;
    wanted.quant_data.affine.scale = tensor.scale;
    wanted.quant_data.affine.zeroPoint = tensor.zero_point;
    tensor.handle = vxCreateTensor2(context_, &wanted, sizeof(wanted));
    require(vxGetStatus(reinterpret_cast<vx_reference>(tensor.handle)), "vxCreateTensor2");
    (direction == VX_INPUT ? inputs_ : outputs_).push_back(tensor);
    require(vxSetParameterByIndex(node_, index, reinterpret_cast<vx_reference>(tensor.handle)), "vxSetParameterByIndex");
  }

  // Drivers give these sizes in 32 or in 64 bits, and their headers do not say which. No size is 0, so a 0 in the
  // second word is the upper half of a first one in 64 bits.
  static void read_sizes(vx_meta_format meta, vx_size axes, Tensor* tensor) {
    uint32_t words[2 * kMostAxes] = {0};
    vx_status status = vxQueryMetaFormatAttribute(meta, VX_TENSOR_DIMS, words, axes * sizeof(uint32_t));
    const bool wide = status != VX_SUCCESS || words[1] == 0;
    if (wide) status = vxQueryMetaFormatAttribute(meta, VX_TENSOR_DIMS, words, axes * sizeof(uint64_t));
    require(status, "the sizes of a tensor");
    for (vx_size axis = 0; axis < axes; ++axis) tensor->sizes.push_back(words[wide ? 2 * axis : axis]);
  }

  static void describe(vx_meta_format meta, Tensor* tensor) {
    vx_size axes = 0;
    require(vxQueryMetaFormatAttribute(meta, VX_TENSOR_NUMBER_OF_DIMS, &axes, sizeof(axes)), "the number of axes");
    if (axes < 2 || axes > kMostAxes) throw BadInput("network_binary.nb has a tensor of " + std::to_string(axes) + " axes");
    read_sizes(meta, axes, tensor);
    require(vxQueryMetaFormatAttribute(meta, VX_TENSOR_DATA_TYPE, &tensor->type, sizeof(tensor->type)), "the type");
    vx_enum quantised = 0;
    require(vxQueryMetaFormatAttribute(meta, VX_TENSOR_QUANT_FORMAT, &quantised, sizeof(quantised)), "the format");
    if (quantised != VX_QUANT_AFFINE_SCALE || (tensor->type != VX_TYPE_UINT8 && tensor->type != VX_TYPE_INT8))
      throw BadInput("network_binary.nb has an input or output that is no 8-bit tensor with a scale and a zero point");
    require(vxQueryMetaFormatAttribute(meta, VX_TENSOR_SCALE, &tensor->scale, sizeof(tensor->scale)), "the scale");
    require(vxQueryMetaFormatAttribute(meta, VX_TENSOR_ZERO_POINT, &tensor->zero_point, sizeof(tensor->zero_point)),
            "the zero point");
  }

  template <class Stored>
  static void quantise(const std::vector<float>& values, const Tensor& tensor, std::vector<uint8_t>* bytes) {
    const float low = std::numeric_limits<Stored>::min(), high = std::numeric_limits<Stored>::max();
    for (size_t index = 0; index < values.size(); ++index) {
      const float level = std::nearbyint(values[index] / tensor.scale) + static_cast<float>(tensor.zero_point);
      (*bytes)[index] = static_cast<uint8_t>(static_cast<Stored>(level < low ? low : level > high ? high : level));
    }
  }

  void write(const Tensor& tensor, const std::vector<float>& values) const {
    if (values.size() != tensor.count()) throw BadInput("network_binary.nb takes images of another size than settings.json");
    std::vector<uint8_t> bytes(values.size());
    if (tensor.type == VX_TYPE_INT8) quantise<int8_t>(values, tensor, &bytes);
    else quantise<uint8_t>(values, tensor, &bytes);
    copy(tensor, bytes.data(), VX_WRITE_ONLY);
  }

  Array read(const Tensor& tensor) const {
    Array array;
    array.shape = tensor.shape();
    std::vector<uint8_t> bytes(tensor.count());
    copy(tensor, bytes.data(), VX_READ_ONLY);
    for (const uint8_t byte : bytes) {
      const int level = tensor.type == VX_TYPE_INT8 ? static_cast<int8_t>(byte) : byte;
      array.values.push_back(static_cast<float>(level - tensor.zero_point) * tensor.scale);
    }
    return array;
  }

  // All of a tensor, one byte a value.
  void copy(const Tensor& tensor, void* bytes, vx_enum usage) const {
    vx_size start[kMostAxes] = {0}, end[kMostAxes], stride[kMostAxes], step = 1;
    for (size_t axis = 0; axis < tensor.sizes.size(); ++axis) {
      end[axis] = tensor.sizes[axis];
      stride[axis] = step;
      step *= tensor.sizes[axis];
    }
    require(vxCopyTensorPatch(tensor.handle, tensor.sizes.size(), start, end, stride, bytes, usage, VX_MEMORY_TYPE_HOST),
            "vxCopyTensorPatch");
  }

  vx_context context_ = nullptr;
  vx_graph graph_ = nullptr;
  vx_kernel kernel_ = nullptr;
  vx_node node_ = nullptr;
  std::vector<Tensor> inputs_, outputs_;
};

}  // namespace

std::unique_ptr<Network> open_network(const Settings& settings, const NetworkOptions& options) {
  if (settings.model.precision != "compiled")
    throw BadInput("--model: this program was built with OPENVX_DIR and runs the compiled network alone");
  return std::unique_ptr<Network>(new OpenVxNetwork(options.package + "/" + settings.model.file));
}

}  // namespace board
