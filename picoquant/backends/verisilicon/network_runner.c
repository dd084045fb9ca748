/* Builds a network from a description and runs it on VeriSilicon's OpenVX driver (on a board, or in its emulator), once
 * for each line of its input.
 *
 *   network_runner DESCRIPTION DATA ANSWERS
 *   network_runner DESCRIPTION DATA compile FILE
 *
 * The second way writes the network as the driver compiles it for the chip (NBG), and runs nothing. In the first, each line of stdin is `INPUT RESULT`, two paths: the bytes of all inputs in their order are read from one, those of all
 * outputs are written to the other. After each the line `done` goes to the file descriptor ANSWERS, before the first
 * `ready`.
 *
 * DESCRIPTION is whitespace-separated: the number of tensors, then a line each
 *     role type scheme scale zero_point channel_dim scales_offset scales_count rank size_0 … offset
 * (role: i input, o output, c constant, v between; type: u8 i8 i16 i32; scheme: a asymmetric, c per channel; size_0 is
 * the innermost; offset: of its bytes in DATA, for constants), then the number of nodes, then a line each
 *     operator parameters_count parameter… inputs_count input… outputs_count output…
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "vsi_nn_pub.h"

#define MOST 4096

static void fail(const char *what, int number) {
    fprintf(stderr, "network_runner: %s %d\n", what, number);
    exit(3);
}

static char *read_all(const char *path) {
    FILE *file = fopen(path, "rb");
    if (!file) fail("cannot open a file", 0);
    fseek(file, 0, SEEK_END);
    long size = ftell(file);
    rewind(file);
    char *bytes = malloc(size + 1);
    if (size && fread(bytes, 1, size, file) != (size_t)size) fail("cannot read a file", 0);
    fclose(file);
    bytes[size] = 0;
    return bytes;
}

static vsi_nn_type_e type_of(const char *name) {
    if (!strcmp(name, "u8")) return VSI_NN_TYPE_UINT8;
    if (!strcmp(name, "i8")) return VSI_NN_TYPE_INT8;
    if (!strcmp(name, "i16")) return VSI_NN_TYPE_INT16;
    if (!strcmp(name, "i32")) return VSI_NN_TYPE_INT32;
    fail("unknown type", name[0]);
    return VSI_NN_TYPE_NONE;
}

typedef struct { vsi_nn_tensor_id_t id; char role; long offset; } Tensor;

static void set_window(uint32_t *ksize, uint32_t *stride, uint32_t *pad, const double *p) {
    for (int i = 0; i < 2; i++) { ksize[i] = p[i]; stride[i] = p[2 + i]; }
    for (int i = 0; i < 4; i++) pad[i] = p[4 + i]; /* left, right, top, bottom */
}

/* Numbers that a node keeps a pointer to. */
static uint32_t *kept(const double *p, int count) {
    uint32_t *values = malloc(count * sizeof *values);
    for (int i = 0; i < count; i++) values[i] = p[i];
    return values;
}

static vsi_nn_node_t *add_node(vsi_nn_graph_t *graph, const char *name, const double *p, int count, int ins, int outs,
                               const char *data) {
    static const struct { const char *name; vsi_nn_op_t op; } known[] = {
        {"conv", VSI_NN_OP_CONV2D}, {"depthwise", VSI_NN_OP_CONV2D}, {"average", VSI_NN_OP_POOL}, {"max", VSI_NN_OP_POOL},
        {"add", VSI_NN_OP_ADD}, {"multiply", VSI_NN_OP_MULTIPLY}, {"relu", VSI_NN_OP_RELU}, {"relu6", VSI_NN_OP_RELU6},
        {"sigmoid", VSI_NN_OP_SIGMOID}, {"hard_sigmoid", VSI_NN_OP_HARD_SIGMOID}, {"hard_swish", VSI_NN_OP_SWISH},
        {"concat", VSI_NN_OP_CONCAT}, {"resize", VSI_NN_OP_RESIZE}, {"reshape", VSI_NN_OP_RESHAPE2},
        {"permute", VSI_NN_OP_PERMUTE}, {"split", VSI_NN_OP_SPLIT}, {"slice", VSI_NN_OP_SLICE},
        {"transposed", VSI_NN_OP_DECONVOLUTION}, {"convert", VSI_NN_OP_DATACONVERT},
        {"compiled", VSI_NN_OP_NBG}, /* DATA is a compiled network */
    };
    vsi_nn_op_t op = VSI_NN_OP_NA;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) if (!strcmp(name, known[i].name)) op = known[i].op;
    if (op == VSI_NN_OP_NA) fail(name, 0);
    vsi_nn_node_t *node = vsi_nn_AddNode(graph, op, ins, outs, NULL);
    if (!node) fail("a node was refused", 0);
    node->vx_param.overflow_policy = VX_CONVERT_POLICY_SATURATE;
    node->vx_param.rounding_policy = VX_ROUND_POLICY_TO_NEAREST_EVEN;
    node->vx_param.down_scale_size_rounding = VX_CONVOLUTIONAL_NETWORK_DS_SIZE_ROUNDING_FLOOR;
    if (op == VSI_NN_OP_CONV2D) { /* kx ky sx sy left right top bottom dx dy results */
        set_window(node->nn_param.conv2d.ksize, node->nn_param.conv2d.stride, node->nn_param.conv2d.pad, p);
        node->nn_param.conv2d.pad_type = VSI_NN_PAD_AUTO;
        node->nn_param.conv2d.dilation[0] = p[8];
        node->nn_param.conv2d.dilation[1] = p[9];
        node->nn_param.conv2d.weights = p[10];
        node->nn_param.conv2d.group = 1;
        if (!strcmp(name, "depthwise")) node->nn_param.conv2d.multiplier = 1;
    } else if (op == VSI_NN_OP_POOL) {
        node->nn_param.pool.type = !strcmp(name, "max") ? VX_CONVOLUTIONAL_NETWORK_POOLING_MAX : VX_CONVOLUTIONAL_NETWORK_POOLING_AVG;
        node->nn_param.pool.round_type = VSI_NN_ROUND_FLOOR;
        node->nn_param.pool.pad_type = VSI_NN_PAD_AUTO;
        set_window(node->nn_param.pool.ksize, node->nn_param.pool.stride, node->nn_param.pool.pad, p);
    } else if (op == VSI_NN_OP_MULTIPLY) {
        node->nn_param.multiply.scale = 1.0f;
    } else if (op == VSI_NN_OP_HARD_SIGMOID) {
        node->nn_param.hard_sigmoid.alpha = p[0];
        node->nn_param.hard_sigmoid.beta = p[1];
    } else if (op == VSI_NN_OP_SWISH) {
        node->nn_param.swish.type = VSI_NN_HSWISH;
        node->nn_param.swish.beta = 1.0f;
    } else if (op == VSI_NN_OP_CONCAT) {
        node->nn_param.concat.axis = p[0];
    } else if (op == VSI_NN_OP_RESIZE) {
        node->nn_param.resize.type = VSI_NN_INTERPOLATION_NEAREST_NEIGHBOR;
        node->nn_param.resize.size[0] = p[0];
        node->nn_param.resize.size[1] = p[1];
    } else if (op == VSI_NN_OP_RESHAPE2) { /* size_0 … */
        vsi_size_t *size = malloc(count * sizeof *size);
        for (int i = 0; i < count; i++) size[i] = p[i];
        node->nn_param.reshape2.size = size;
        node->nn_param.reshape2.dim_num = count;
    } else if (op == VSI_NN_OP_PERMUTE) { /* axis_0 … */
        node->nn_param.permute.perm = kept(p, count);
        node->nn_param.permute.dim_num = count;
    } else if (op == VSI_NN_OP_SPLIT) { /* axis size … */
        node->nn_param.split.axis = p[0];
        node->nn_param.split.slices = kept(p + 1, count - 1);
        node->nn_param.split.slices_num = count - 1;
    } else if (op == VSI_NN_OP_SLICE) { /* start_0 … length_0 … */
        node->nn_param.slice.dims = count / 2;
        node->nn_param.slice.start = kept(p, count / 2);
        node->nn_param.slice.length = kept(p + count / 2, count / 2);
    } else if (op == VSI_NN_OP_DECONVOLUTION) { /* kx ky sx sy left right top bottom results group */
        for (int i = 0; i < 2; i++) {
            node->nn_param.deconv.ksize[i] = p[i];
            node->nn_param.deconv.stride[i] = p[2 + i];
        }
        for (int i = 0; i < 4; i++) node->nn_param.deconv.pad[i] = p[4 + i];
        node->nn_param.deconv.pad_type = VSI_NN_PAD_AUTO;
        node->nn_param.deconv.weights = p[8];
        node->nn_param.deconv.group = p[9];
    } else if (op == VSI_NN_OP_NBG) {
        node->nn_param.nbg.type = VSI_NN_NBG_POINTER;
        node->nn_param.nbg.url = data;
    }
    return node;
}

static int next_int(FILE *text) {
    int value;
    if (fscanf(text, "%d", &value) != 1) fail("the description ends early", 0);
    return value;
}

/* One run: inputs from a file, outputs to another, written aside and renamed. */
static void run(vsi_nn_graph_t *graph, const char *from, const char *to) {
    char *bytes = read_all(from), *place = bytes;
    for (uint32_t i = 0; i < graph->input.num; i++) {
        vsi_nn_tensor_t *tensor = vsi_nn_GetTensor(graph, graph->input.tensors[i]);
        if (vsi_nn_CopyDataToTensor(graph, tensor, (uint8_t *)place) != VSI_SUCCESS) fail("input", i);
        place += vsi_nn_GetTensorSize(tensor->attr.size, tensor->attr.dim_num, tensor->attr.dtype.vx_type);
    }
    free(bytes);
    if (vsi_nn_RunGraph(graph) != VSI_SUCCESS) fail("the run failed", 0);
    char aside[4200];
    snprintf(aside, sizeof aside, "%s.part", to);
    FILE *results = fopen(aside, "wb");
    if (!results) fail("cannot write a file", 0);
    for (uint32_t i = 0; i < graph->output.num; i++) {
        vsi_nn_tensor_t *tensor = vsi_nn_GetTensor(graph, graph->output.tensors[i]);
        uint32_t size = vsi_nn_GetTensorSize(tensor->attr.size, tensor->attr.dim_num, tensor->attr.dtype.vx_type);
        uint8_t *values = vsi_nn_ConvertTensorToData(graph, tensor);
        if (!values || fwrite(values, 1, size, results) != size) fail("output", i);
        vsi_nn_safe_free(values);
    }
    if (fclose(results) || rename(aside, to)) fail("cannot write a file", 1);
}

/* The network compiled for the chip, in a file written aside and renamed. The first call says how many bytes there are. */
static void compile(vsi_nn_graph_t *graph, const char *to) {
    size_t size = 0;
    if (vsi_nn_GenerateNBG(graph, NULL, &size) != VSI_SUCCESS || !size) fail("the driver refused to compile the network", 0);
    char *bytes = malloc(size);
    if (!bytes || vsi_nn_GenerateNBG(graph, bytes, &size) != VSI_SUCCESS) fail("the driver refused to compile the network", 1);
    char aside[4200];
    snprintf(aside, sizeof aside, "%s.part", to);
    FILE *file = fopen(aside, "wb");
    if (!file || fwrite(bytes, 1, size, file) != size || fclose(file) || rename(aside, to)) fail("cannot write a file", 2);
    free(bytes);
}

static void say(FILE *answers, const char *word) {
    if (answers) fprintf(answers, "%s\n", word), fflush(answers);
}

int main(int argc, char **argv) {
    int compiles = argc == 5 && !strcmp(argv[3], "compile");
    if (argc != 4 && !compiles) fail("arguments: DESCRIPTION DATA ANSWERS, or DESCRIPTION DATA compile FILE", 0);
    FILE *text = fopen(argv[1], "r");
    if (!text) fail("no description", 0);
    char *data = read_all(argv[2]);
    vsi_nn_context_t context = vsi_nn_CreateContext();
    if (!context) fail("no OpenVX context", 0);
    int count = next_int(text);
    if (count > MOST) fail("too many tensors", count);
    vsi_nn_graph_t *graph = vsi_nn_CreateGraph(context, count + 8, MOST);
    vsi_nn_SetGraphVersion(graph, VSI_NN_VERSION_MAJOR, VSI_NN_VERSION_MINOR, VSI_NN_VERSION_PATCH);
    static Tensor tensors[MOST];
    int inputs = 0, outputs = 0;
    for (int i = 0; i < count; i++) {
        char role[2], type[4], scheme[2];
        double scale;
        int zero, dim, scales_offset, scales_count, rank;
        if (fscanf(text, "%1s %3s %1s %lf %d %d %d %d %d", role, type, scheme, &scale, &zero, &dim, &scales_offset,
                   &scales_count, &rank) != 9)
            fail("tensor", i);
        vsi_nn_tensor_attr_t attr;
        memset(&attr, 0, sizeof attr);
        for (int d = 0; d < rank; d++) attr.size[d] = next_int(text);
        attr.dim_num = rank;
        tensors[i].role = role[0];
        tensors[i].offset = next_int(text);
        attr.vtl = role[0] == 'v';
        attr.is_const = role[0] == 'c';
        attr.dtype.fmt = VSI_NN_DIM_FMT_NCHW;
        attr.dtype.vx_type = type_of(type);
        attr.dtype.qnt_type = VSI_NN_QNT_TYPE_AFFINE_ASYMMETRIC;
        attr.dtype.scale = scale;
        attr.dtype.zero_point = zero;
        if (scheme[0] == 'c') {
            attr.dtype.qnt_type = VSI_NN_QNT_TYPE_AFFINE_PERCHANNEL_SYMMETRIC;
            attr.dtype.scales = (const float *)(data + scales_offset);
            attr.dtype.scale_dim = scales_count;
            attr.dtype.channel_dim = dim;
            attr.dtype.zero_points = calloc(scales_count, sizeof(int32_t));
            attr.dtype.zero_points_dim = scales_count;
        }
        tensors[i].id = vsi_nn_AddTensor(graph, VSI_NN_TENSOR_ID_AUTO, &attr,
                                         role[0] == 'c' ? (uint8_t *)data + tensors[i].offset : NULL);
        if (tensors[i].id == VSI_NN_TENSOR_ID_NA) fail("a tensor was refused:", i);
        inputs += role[0] == 'i';
        outputs += role[0] == 'o';
    }
    vsi_nn_SetGraphInputs(graph, NULL, inputs);
    vsi_nn_SetGraphOutputs(graph, NULL, outputs);
    int in = 0, out = 0;
    for (int i = 0; i < count; i++) {
        if (tensors[i].role == 'i') graph->input.tensors[in++] = tensors[i].id;
        if (tensors[i].role == 'o') graph->output.tensors[out++] = tensors[i].id;
    }
    int nodes = next_int(text);
    for (int n = 0; n < nodes; n++) {
        char name[32];
        double p[64] = {0};
        int ids[64];
        if (fscanf(text, "%31s", name) != 1) fail("node", n);
        int parameters = next_int(text);
        if (parameters > 64) fail("too many parameters of node", n);
        for (int i = 0; i < parameters; i++)
            if (fscanf(text, "%lf", &p[i]) != 1) fail("parameter of node", n);
        int ins = next_int(text);
        if (ins > 64) fail("too many inputs of node", n);
        for (int i = 0; i < ins; i++) ids[i] = next_int(text);
        int outs = next_int(text);
        vsi_nn_node_t *node = add_node(graph, name, p, parameters, ins, outs, data);
        for (int i = 0; i < ins; i++) node->input.tensors[i] = tensors[ids[i]].id;
        for (int i = 0; i < outs; i++) node->output.tensors[i] = tensors[next_int(text)].id;
    }
    fclose(text);
    if (vsi_nn_SetupGraph(graph, TRUE) != VSI_SUCCESS) fail("the driver refused to set the graph up", 0);
    if (compiles) {
        compile(graph, argv[4]);
        return 0;
    }
    if (vsi_nn_VerifyGraph(graph) != VSI_SUCCESS) fail("the driver refused the graph", 0);
    FILE *answers = fdopen(atoi(argv[3]), "w");
    say(answers, "ready");
    static char from[4096], to[4096];
    while (scanf("%4095s %4095s", from, to) == 2) {
        run(graph, from, to);
        say(answers, "done");
    }
    return 0;
}
