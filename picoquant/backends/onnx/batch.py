"""An ONNX model of one image as one of several images, or of any number, and proof that it computes the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx

from picoquant.backends.onnx.graph import Graph
from picoquant.backends.onnx.qdq import checked
from picoquant.backends.onnx.runtime import OnnxPredictor
from picoquant.errors import ToolError
from picoquant.utils.batching import DYNAMIC, Batch

_SHAPED = ("Reshape", "Expand", "ConstantOfShape", "Tile", "Resize")  # what takes a shape as an input
_TOLERANCE = 1e-4  # of values that are computed in float; what is INT8 came out equal to the bit


def with_batch(model: onnx.ModelProto, batch: Batch) -> onnx.ModelProto:
    """A model whose inputs and outputs hold `batch` images in their first dimension.

    Args:
        model: for one image, with fixed shapes; not changed.
        batch: images a call; `DYNAMIC`: any number, the first dimension is then named `batch`.

    Raises: `ToolError` naming an operator that works on one image only, as NMS does.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = Graph(copy)
    for value in [*copy.graph.input, *copy.graph.output]:
        first = value.type.tensor_type.shape.dim[0]
        if first.dim_value != 1:
            raise ToolError(f"{value.name} of the ONNX model is not of one image, so it cannot be of several")
        if batch == DYNAMIC:
            first.dim_param = "batch"
        else:
            first.dim_value = int(batch)
    of_images = set(graph.inputs)
    for node in graph.nodes:
        if of_images.isdisjoint(node.input):
            continue
        of_images.update(node.output)
        if node.op_type == "Reshape" and node.input[1] in graph.constants:
            node.input[1] = _for_images(graph, node.input[1], batch)
        elif node.op_type in _SHAPED and any(
            graph.constants[name].dtype == np.int64 for name in node.input[1:] if name in graph.constants
        ):
            raise ToolError(
                f"{node.name} ({node.op_type}) of the ONNX model has the shape of one image: no other batch"
            )
    try:
        return checked(graph)
    except onnx.shape_inference.InferenceError as error:
        raise ToolError(f"the ONNX model cannot take {batch} images: {str(error).splitlines()[0]}") from error


def _for_images(graph: Graph, name: str, batch: Batch) -> str:
    """A constant with the shape of one image as one for more; returns its name, the same where it stays."""
    shape = graph.constants[name].copy()
    if shape[0] != 1:
        return name
    free = 0 if -1 in shape else -1  # 0: as the input's
    shape[0] = free if batch == DYNAMIC else int(batch)
    made = f"{name}.images"
    graph.constants[made] = shape
    return made


def require_same(single: Path, batched: Path, images: np.ndarray) -> float:
    """Run images one by one in one model, and together in the other, in ONNX Runtime.

    Args:
        single: model of one image.
        batched: the same from `with_batch`.
        images: network inputs `[N, 3, H, W]`, as many as it takes at once; some for one that takes any number, which
            is then tried with one image, too.

    Returns: the largest difference of an output; 0 where all values are equal to the bit.

    Raises: `ToolError` when they differ by more than rounding, or ONNX Runtime refuses one.
    """
    alone, together = OnnxPredictor(single, threads=1), OnnxPredictor(batched, threads=1)
    (name,) = alone.input_names
    expected = alone({name: images})  # one after the other
    found = [together({name: images})]
    if together.inputs[0][1][0] == -1:
        parts = [together({name: image[None]}) for image in images]
        found.append([np.concatenate(outputs) for outputs in zip(*parts)])
    worst = 0.0
    for outputs in found:
        for name, one, other in zip((name for name, _ in alone.outputs), expected, outputs):
            if one.shape != other.shape:
                raise ToolError(f"{batched.name} gives {name} {list(other.shape)}, not {list(one.shape)}")
            difference = float(np.abs(one.astype(np.float64) - other).max(initial=0))
            if not difference <= _TOLERANCE * max(1.0, float(np.abs(one).max(initial=0))):
                raise ToolError(
                    f"{batched.name} computes {name} of {len(images)} images otherwise than of each alone (by "
                    f"{difference:.3g}): package with Package.batch=1 and report the model to picoquant"
                )
            worst = max(worst, difference)
    return float(f"{worst:.3g}")
