"""An INT8 network as a full-integer TFLite model: each operator written with the network's own scales."""

from __future__ import annotations

from picoquant.backends.tflite.hard_sigmoid import fold_hard_sigmoids
from picoquant.backends.tflite.operators import write_operator
from picoquant.backends.tflite.params import tensor_params
from picoquant.backends.tflite.tensors import TfliteWriter
from picoquant.errors import ToolError
from picoquant.int8.network import Int8Network
from picoquant.paddle_program.layers import BATCH_NORM

BITS = (8, 16)


def make_tflite(network: Int8Network, bits: int = 8) -> bytes:
    """The content of a `.tflite` whose tensors and operators are all integers.

    Args:
        network: for one image, exported as raw.
        bits: of activations; with 16 the largest integer stands for the value that the network's largest one stands
            for, weights stay int8, biases are int64.

    Raises: `ToolError` naming what TFLite cannot hold: a tensor without a range, a layer in float, an operator.
    """
    if bits not in BITS:
        raise ToolError(f"TFLite has activations of 8 or 16 bits, not {bits}")
    for op in network.graph.operators:
        if op.op_type == BATCH_NORM:
            raise ToolError(
                f"batch_norm {op.name} does not follow an INT8 convolution: quantise the model again"
            )
    if len(network.graph.inputs) != 1:
        raise ToolError(
            f"the model takes {', '.join(network.graph.inputs)}: a .tflite holds the network alone, so export the "
            "model as raw (export.post_process: false)"
        )
    network = fold_hard_sigmoids(network)
    made = TfliteWriter(network, tensor_params(network, bits), bits)
    for name in network.graph.inputs:
        made.computed(name)
    absorbed = {op.name for layer in network.layers.values() for op in layer.fused}
    for op in network.graph.operators:
        if op.name not in absorbed:
            write_operator(made, op)
    inputs = [made.index[name] for name in network.graph.inputs]
    outputs = [made.output(name) for name in network.graph.outputs]
    return made.model.finish(inputs, outputs)
