"""The ncnn files of a model, float or INT8: written directly, with the network's own scales."""

from __future__ import annotations

from pathlib import Path

from picoquant.backends.base import Exported, Found
from picoquant.backends.ncnn.files import Layer, model_files
from picoquant.backends.ncnn.network import NcnnNetwork
from picoquant.backends.ncnn.operators import layers_of
from picoquant.backends.source import Source
from picoquant.errors import ToolError
from picoquant.paddle_program.batch_norm_folding import fold_float
from picoquant.paddle_program.graph import read_graph
from picoquant.paddle_program.layers import CONVOLUTIONS
from picoquant.paddle_program.params import read_params
from picoquant.storage.files import whole_file
from picoquant.targets.profiles import Target

DEPTHWISE = "depthwise_conv2d"
NOTE = "dense convolutions in integers, depthwise ones in float with the weights' integers"


def export(
    source: Source,
    out: Path,
    tool: Found,
    target: Target | None = None,
    half: bool = False,
    depthwise: bool = False,
) -> Exported:
    """Write `.param` and `.bin`, see `base.Export`; they are the same for every target.

    Args:
        source, out, tool, target: see `base.Export`.
        half: store float weights as float16.
        depthwise: compute depthwise convolutions of an INT8 model on integers, too; else in float with the weights
            that their integers stand for, which on x86 is twice as fast (docs/ncnn.md).

    Raises: `ToolError` naming what ncnn's files cannot hold.
    """
    network = ncnn_network(source, half, depthwise)
    text, data = make_ncnn(network)
    paths = tuple(out.with_name(f"{out.name}{suffix}") for suffix in (".param", ".bin"))
    for path, content in zip(paths, (text.encode(), data)):
        with whole_file(path, "wb") as stream:
            stream.write(content)
    return Exported(paths, source=source, note=NOTE if source.quantised and not depthwise else "")


def ncnn_network(source: Source, half: bool = False, depthwise: bool = False) -> NcnnNetwork:
    """A model as `make_ncnn` takes it.

    Raises: `ToolError` for an operator on integers that ncnn has no such layer for.
    """
    if source.quantised:
        network = source.network
        for operator in network.operators:
            if operator.op_type not in CONVOLUTIONS:
                raise ToolError(
                    f"ncnn's files cannot hold {operator.op_type} {operator.output}: only convolutions are in INT8"
                )
        params = {
            name: tensor.params for name, tensor in network.tensors.items() if tensor.params is not None
        }
        chosen = {
            operator.output: operator
            for operator in network.operators
            if depthwise or operator.op_type != DEPTHWISE or operator.integers.shape[1] != 1
        }
        return NcnnNetwork(network.graph, network.values, chosen, params, half)
    program = type(source.program).FromString(source.program.SerializeToString())
    values = read_params(program, source.folder.params)
    fold_float(program, values)
    return NcnnNetwork(read_graph(program), values, {}, {}, half)


def make_ncnn(network: NcnnNetwork) -> tuple[str, bytes]:
    """The content of `.param` and `.bin`.

    Raises: `ToolError` naming what ncnn's files cannot hold.
    """
    graph = network.graph
    if len(graph.inputs) != 1:
        raise ToolError(
            f"the model takes {', '.join(graph.inputs)}: ncnn's files hold the network alone, so export the model as "
            "raw (export.post_process: false)"
        )
    (image,) = graph.inputs
    _, channels, height, width = network.shape(image)
    layers = [Layer("Input", image, (), (image,), {0: width, 1: height, 2: channels})]
    absorbed = {name for fused in network.fused.values() for name in fused.absorbed}
    for op in graph.operators:
        if op.name not in absorbed:
            layers += layers_of(network, op)
    shapes = {name: network.shape(name) for name in graph.outputs}
    for name, shape in shapes.items():
        if len(shape) > 4 or shape[0] != 1:
            raise ToolError(f"output {name} has shape {list(shape)}, which ncnn's files do not say")
    return model_files(layers, graph.outputs, shapes)
