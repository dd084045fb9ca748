// A driver whose networks give their input back. A compiled network is a line of text here:
//   uint8|int8 input_scale input_zero_point output_scale output_zero_point channels height width bits
// where bits are those of the sizes that are told (32 or 64, as drivers differ). Anything else is refused.
#include <VX/vx.h>
#include <VX/vx_khr_import_kernel.h>

#include <cstring>
#include <fstream>
#include <string>
#include <vector>

struct stub_object {};
struct stub_context {};
struct stub_graph {};
struct stub_meta {
  vx_enum type;
  float scale;
  int zero_point;
  std::vector<uint64_t> sizes;
  bool wide;
};
struct stub_kernel { stub_meta ends[2]; };
struct stub_parameter { stub_meta* meta; vx_uint32 index; };
struct stub_tensor {
  vx_enum type;
  std::vector<uint8_t> bytes;
};
struct stub_node { vx_tensor ends[2]; };

namespace {

stub_node* the_node = nullptr;

template <typename T>
vx_status put(T given, void* value, vx_size size) {
  if (size != sizeof(T)) return VX_FAILURE;
  std::memcpy(value, &given, size);
  return VX_SUCCESS;
}

}  // namespace

vx_context vxCreateContext() { return new stub_context; }
vx_graph vxCreateGraph(vx_context) { return new stub_graph; }
vx_status vxGetStatus(vx_reference object) { return object ? VX_SUCCESS : VX_FAILURE; }

vx_kernel vxImportKernelFromURL(vx_context, const vx_char* type, const vx_char* url) {
  if (std::string(type) != VX_VIVANTE_IMPORT_KERNEL_FROM_FILE) return nullptr;
  std::ifstream file(url);
  std::string kind;
  float scales[2];
  int zeros[2], bits;
  uint64_t channels, height, width;
  if (!(file >> kind >> scales[0] >> zeros[0] >> scales[1] >> zeros[1] >> channels >> height >> width >> bits)) return nullptr;
  vx_kernel kernel = new stub_kernel;
  for (int end = 0; end < 2; ++end)
    kernel->ends[end] = {kind == "int8" ? VX_TYPE_INT8 : VX_TYPE_UINT8, scales[end], zeros[end],
                         {width, height, channels, 1}, bits == 64};
  return kernel;
}

vx_node vxCreateGenericNode(vx_graph, vx_kernel) { return the_node = new stub_node; }

vx_tensor vxCreateTensor2(vx_context, const vx_tensor_create_params_t* wanted, vx_size size) {
  if (size != sizeof *wanted || wanted->quant_format != VX_QUANT_AFFINE_SCALE) return nullptr;
  vx_tensor tensor = new stub_tensor;
  tensor->type = wanted->data_format;
  size_t count = 1;
  for (vx_uint32 axis = 0; axis < wanted->num_of_dims; ++axis) count *= wanted->sizes[axis];
  tensor->bytes.resize(count);
  return tensor;
}

vx_parameter vxGetKernelParameterByIndex(vx_kernel kernel, vx_uint32 index) {
  return new stub_parameter{&kernel->ends[index], index};
}

vx_status vxQueryContext(vx_context, vx_enum, void* value, vx_size size) {
  std::strncpy(static_cast<char*>(value), "stub", size);
  return VX_SUCCESS;
}

vx_status vxQueryKernel(vx_kernel, vx_enum, void* value, vx_size size) { return put<vx_uint32>(2, value, size); }

vx_status vxQueryParameter(vx_parameter parameter, vx_enum attribute, void* value, vx_size size) {
  if (attribute == VX_PARAMETER_DIRECTION) return put<vx_enum>(parameter->index == 0 ? VX_INPUT : VX_OUTPUT, value, size);
  return put<vx_meta_format>(parameter->meta, value, size);
}

vx_status vxQueryMetaFormatAttribute(vx_meta_format meta, vx_enum attribute, void* value, vx_size size) {
  const size_t axes = meta->sizes.size();
  switch (attribute) {
    case VX_TENSOR_NUMBER_OF_DIMS: return put<vx_size>(axes, value, size);
    case VX_TENSOR_DATA_TYPE: return put<vx_enum>(meta->type, value, size);
    case VX_TENSOR_QUANT_FORMAT: return put<vx_enum>(VX_QUANT_AFFINE_SCALE, value, size);
    case VX_TENSOR_SCALE: return put<float>(meta->scale, value, size);
    case VX_TENSOR_ZERO_POINT: return put<int32_t>(meta->zero_point, value, size);
    default: break;
  }
  if (meta->wide) {  // copies what fits, as VeriSilicon's does
    std::memcpy(value, meta->sizes.data(), size < axes * 8 ? size : axes * 8);
    return VX_SUCCESS;
  }
  if (size != axes * 4) return VX_FAILURE;
  for (size_t axis = 0; axis < axes; ++axis) static_cast<uint32_t*>(value)[axis] = static_cast<uint32_t>(meta->sizes[axis]);
  return VX_SUCCESS;
}

vx_status vxSetParameterByIndex(vx_node node, vx_uint32 index, vx_reference value) {
  node->ends[index] = reinterpret_cast<vx_tensor>(value);
  return VX_SUCCESS;
}

vx_status vxVerifyGraph(vx_graph) { return VX_SUCCESS; }

vx_status vxProcessGraph(vx_graph) {
  the_node->ends[1]->bytes = the_node->ends[0]->bytes;
  return VX_SUCCESS;
}

vx_status vxCopyTensorPatch(vx_tensor tensor, vx_size axes, const vx_size*, const vx_size* end, const vx_size* stride,
                            void* bytes, vx_enum usage, vx_enum) {
  size_t count = 1;
  for (vx_size axis = 0; axis < axes; ++axis) {
    if (stride[axis] != count) return VX_FAILURE;
    count *= end[axis];
  }
  if (count != tensor->bytes.size()) return VX_FAILURE;
  if (usage == VX_READ_ONLY) std::memcpy(bytes, tensor->bytes.data(), count);
  else std::memcpy(tensor->bytes.data(), bytes, count);
  return VX_SUCCESS;
}

vx_status vxReleaseNode(vx_node*) { return VX_SUCCESS; }
vx_status vxReleaseTensor(vx_tensor*) { return VX_SUCCESS; }
vx_status vxReleaseKernel(vx_kernel*) { return VX_SUCCESS; }
vx_status vxReleaseGraph(vx_graph*) { return VX_SUCCESS; }
vx_status vxReleaseContext(vx_context*) { return VX_SUCCESS; }
vx_status vxReleaseParameter(vx_parameter*) { return VX_SUCCESS; }
