// A library that opens a "model" made of text and answers with the image itself: outputs are maps [1, 3, H, W] of the
// pixels' integers, at a scale of 1/4, twice for a model of two outputs. A model is "SCALE OUTPUTS", anything else is
// refused. RKNN's native buffers have rows of 2 cells more than the image is wide.
#include "rknn_api.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <vector>

namespace {
const uint32_t kHeight = 64, kWidth = 96, kStride = kWidth + 2, kChannels = 3;
float scale = 0;
uint32_t outputs = 0;
std::vector<int8_t> image(kHeight* kWidth* kChannels);
std::vector<std::vector<float>> made;
rknn_tensor_mem* input_memory = nullptr;
std::vector<rknn_tensor_mem*> output_memory;
}  // namespace

int rknn_init(rknn_context* context, void* model, uint32_t size, uint32_t, rknn_init_extend*) {
  char text[64] = {0};
  if (size >= sizeof(text)) return -6;
  memcpy(text, model, size);
  if (sscanf(text, "%f %u", &scale, &outputs) != 2) return -6;
  *context = 1;
  return RKNN_SUCC;
}
int rknn_destroy(rknn_context) { return RKNN_SUCC; }
int rknn_query(rknn_context, rknn_query_cmd command, void* info, uint32_t) {
  if (command == RKNN_QUERY_IN_OUT_NUM) {
    *static_cast<rknn_input_output_num*>(info) = {1, outputs};
  } else if (command == RKNN_QUERY_SDK_VERSION) {
    strcpy(static_cast<rknn_sdk_version*>(info)->api_version, "2.5.0");
    strcpy(static_cast<rknn_sdk_version*>(info)->drv_version, "stub");
  } else {
    rknn_tensor_attr* attr = static_cast<rknn_tensor_attr*>(info);
    const bool first = command == RKNN_QUERY_OUTPUT_ATTR;
    const uint32_t last[] = {1, kHeight, kWidth, kChannels}, before[] = {1, kChannels, kHeight, kWidth};
    attr->n_dims = 4;
    memcpy(attr->dims, first ? before : last, sizeof(last));
    attr->n_elems = kHeight * kWidth * kChannels;
    attr->fmt = first ? RKNN_TENSOR_NCHW : RKNN_TENSOR_NHWC;
    attr->type = RKNN_TENSOR_INT8;
    attr->zp = command == RKNN_QUERY_NATIVE_INPUT_ATTR ? 0 : 5;
    attr->scale = command == RKNN_QUERY_NATIVE_INPUT_ATTR ? scale : 0.25f;
    attr->w_stride = kStride;
    attr->size_with_stride = kHeight * kStride * kChannels;
  }
  return RKNN_SUCC;
}
int rknn_inputs_set(rknn_context, uint32_t count, rknn_input inputs[]) {
  if (count != 1 || inputs[0].fmt != RKNN_TENSOR_NHWC || inputs[0].type != RKNN_TENSOR_FLOAT32) return -1;
  if (inputs[0].size != image.size() * sizeof(float)) return -5;
  const float* values = static_cast<const float*>(inputs[0].buf);
  for (size_t at = 0; at < image.size(); ++at) image[at] = static_cast<int8_t>(nearbyint(values[at] / scale));
  return RKNN_SUCC;
}
int rknn_run(rknn_context, rknn_run_extend*) {
  if (input_memory != nullptr) {
    const int8_t* given = static_cast<const int8_t*>(input_memory->virt_addr);
    for (rknn_tensor_mem* memory : output_memory) {
      int8_t* place = static_cast<int8_t*>(memory->virt_addr);
      for (uint32_t at = 0; at < memory->size; ++at) place[at] = static_cast<int8_t>(given[at] + 5);
    }
  }
  return RKNN_SUCC;
}
int rknn_outputs_get(rknn_context, uint32_t count, rknn_output wanted[], rknn_output_extend*) {
  made.assign(count, std::vector<float>(image.size()));
  for (uint32_t index = 0; index < count; ++index) {
    if (!wanted[index].want_float) return -1;
    for (uint32_t cell = 0; cell < kHeight * kWidth; ++cell) {
      for (uint32_t channel = 0; channel < kChannels; ++channel) {
        made[index][channel * kHeight * kWidth + cell] = 0.25f * image[cell * kChannels + channel];
      }
    }
    wanted[index].buf = made[index].data();
  }
  return RKNN_SUCC;
}
int rknn_outputs_release(rknn_context, uint32_t, rknn_output[]) {
  made.clear();
  return RKNN_SUCC;
}
rknn_tensor_mem* rknn_create_mem(rknn_context, uint32_t size) {
  rknn_tensor_mem* memory = new rknn_tensor_mem();
  memory->virt_addr = calloc(size, 1);
  memory->size = size;
  if (input_memory == nullptr) {
    input_memory = memory;
  } else {
    output_memory.push_back(memory);
  }
  return memory;
}
int rknn_destroy_mem(rknn_context, rknn_tensor_mem* memory) {
  free(memory->virt_addr);
  delete memory;
  return RKNN_SUCC;
}
int rknn_set_io_mem(rknn_context, rknn_tensor_mem*, rknn_tensor_attr*) { return RKNN_SUCC; }
