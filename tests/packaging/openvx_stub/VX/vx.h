// The part of OpenVX (Khronos) and of its extensions by VeriSilicon that the package's program uses, declared anew so
// that the program can be compiled and linked where the driver is not. Names, parameters and the order of the fields
// are those that programs in public use; the numbers of constants are the stub's own.
#pragma once

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct stub_object* vx_reference;
typedef struct stub_context* vx_context;
typedef struct stub_graph* vx_graph;
typedef struct stub_kernel* vx_kernel;
typedef struct stub_node* vx_node;
typedef struct stub_tensor* vx_tensor;
typedef struct stub_parameter* vx_parameter;
typedef struct stub_meta* vx_meta_format;
typedef int32_t vx_status;
typedef int32_t vx_enum;
typedef uint32_t vx_uint32;
typedef int32_t vx_int32;
typedef float vx_float32;
typedef char vx_char;
typedef size_t vx_size;

enum { VX_SUCCESS = 0, VX_FAILURE = -1 };
enum { VX_INPUT = 0, VX_OUTPUT = 1 };
enum { VX_TYPE_UINT8 = 3, VX_TYPE_INT8 = 2 };
enum { VX_READ_ONLY = 17, VX_WRITE_ONLY = 18, VX_MEMORY_TYPE_HOST = 19, VX_QUANT_AFFINE_SCALE = 20 };
enum { VX_KERNEL_PARAMETERS = 30, VX_PARAMETER_DIRECTION, VX_PARAMETER_META_FORMAT, VX_CONTEXT_IMPLEMENTATION };
enum { VX_TENSOR_NUMBER_OF_DIMS = 40, VX_TENSOR_DIMS, VX_TENSOR_DATA_TYPE, VX_TENSOR_QUANT_FORMAT, VX_TENSOR_SCALE, VX_TENSOR_ZERO_POINT };
#define VX_MAX_IMPLEMENTATION_NAME 64

typedef union {
  struct { int8_t fixed_point_pos; } dfp;
  struct { vx_float32 scale; vx_int32 zeroPoint; } affine;
} vx_tensor_quant_param;
typedef struct {
  vx_uint32 num_of_dims;
  vx_uint32* sizes;
  vx_enum data_format, quant_format;
  vx_tensor_quant_param quant_data;
} vx_tensor_create_params_t;

vx_context vxCreateContext(void);
vx_graph vxCreateGraph(vx_context context);
vx_kernel vxImportKernelFromURL(vx_context context, const vx_char* type, const vx_char* url);
vx_node vxCreateGenericNode(vx_graph graph, vx_kernel kernel);
vx_tensor vxCreateTensor2(vx_context context, const vx_tensor_create_params_t* wanted, vx_size size);
vx_parameter vxGetKernelParameterByIndex(vx_kernel kernel, vx_uint32 index);
vx_status vxGetStatus(vx_reference object);
vx_status vxQueryContext(vx_context context, vx_enum attribute, void* value, vx_size size);
vx_status vxQueryKernel(vx_kernel kernel, vx_enum attribute, void* value, vx_size size);
vx_status vxQueryParameter(vx_parameter parameter, vx_enum attribute, void* value, vx_size size);
vx_status vxQueryMetaFormatAttribute(vx_meta_format meta, vx_enum attribute, void* value, vx_size size);
vx_status vxSetParameterByIndex(vx_node node, vx_uint32 index, vx_reference value);
vx_status vxVerifyGraph(vx_graph graph);
vx_status vxProcessGraph(vx_graph graph);
vx_status vxCopyTensorPatch(vx_tensor tensor, vx_size axes, const vx_size* start, const vx_size* end,
                            const vx_size* stride, void* bytes, vx_enum usage, vx_enum memory);
vx_status vxReleaseNode(vx_node* node);
vx_status vxReleaseTensor(vx_tensor* tensor);
vx_status vxReleaseKernel(vx_kernel* kernel);
vx_status vxReleaseGraph(vx_graph* graph);
vx_status vxReleaseContext(vx_context* context);
vx_status vxReleaseParameter(vx_parameter* parameter);

#ifdef __cplusplus
}
#endif
