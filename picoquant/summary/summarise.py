"""A network's parameters, multiply-accumulates, shapes and memory, for one image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import paddle

from picoquant.detector.picodet import PicoDet
from picoquant.summary.counting import Record, Use, count_parameters, recording

_BYTES = {"fp32": 4, "int8": 1}


@dataclass(frozen=True)
class Row:
    """One stage of the backbone, level of the neck or output of the head.

    Attributes:
        name: for example `stride 8`, in input pixels per cell.
        shape: of its output, without the batch dimension: (channels, height, width); of a head (points,
            values).
        parameters, macs: of a backbone's stage; None where levels share layers.
    """

    name: str
    shape: tuple[int, ...]
    parameters: int | None = None
    macs: int | None = None


@dataclass(frozen=True)
class Part:
    """Backbone, neck or head: its parameters, multiply-accumulates and rows."""

    name: str
    parameters: int
    macs: int
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Memory:
    """Bytes at one precision, of the network as it is deployed: batch-norms folded into convolutions.

    Attributes:
        weights: of convolutions and fully connected layers that run. The bias has 4 bytes per output channel;
            INT8 adds a scale of 4 bytes per output channel.
        activations: the sum of the outputs of all those layers.
        largest_layer: the largest sum of input and output of one layer, which is the least memory of a device
            that runs layer by layer.
    """

    weights: int
    activations: int
    largest_layer: int


@dataclass(frozen=True)
class Summary:
    """The result of `summarise`.

    Attributes:
        input_size: height and width, pixels.
        parameters: number of weights and biases, trained or not; without running means and variances.
        macs: multiply-accumulates of convolutions and fully connected layers, for one image, up to the
            head's raw outputs (decoding the boxes and NMS are not counted).
        parts: backbone, neck, head.
        memory: `fp32` and `int8`.
    """

    input_size: tuple[int, int]
    parameters: int
    macs: int
    parts: tuple[Part, ...]
    memory: dict[str, Memory]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def summarise(model: PicoDet, input_size: tuple[int, int]) -> Summary:
    """Count a network's parameters, multiply-accumulates and memory, running it once on a black image.

    Args:
        model: the network; its modes and weights are not changed.
        input_size: height and width, pixels, multiples of 32.

    Raises: `UserError` when height or width is not a multiple of 32.
    """
    height, width = (int(side) for side in input_size)
    stages = {f"backbone.{name}": layer for name, layer in model.backbone.named_children()}
    with recording(model, stages) as record:
        features = model.features(paddle.zeros([1, 3, height, width]))
        scores, logits = model.head.raw(features)
    children = {name: count_parameters(layer) for name, layer in stages.items()}
    rows = {
        "backbone": _stages(record, children, height),
        "neck": [Row(f"stride {s}", tuple(f.shape[1:])) for s, f in zip(model.strides, features)],
        "head": [
            Row(f"stride {s} {name}", tuple(output.shape[1:]))
            for name, outputs in (("scores", scores), ("distances", logits))
            for s, output in zip(model.strides, outputs)
        ],
    }
    parts = tuple(
        Part(name, count_parameters(getattr(model, name)), _macs_below(record, name), tuple(rows[name]))
        for name in ("backbone", "neck", "head")
    )
    return Summary(
        (height, width),
        count_parameters(model),
        sum(use.macs for use in record.uses),
        parts,
        {name: _memory(record.uses, name) for name in _BYTES},
    )


def _macs_below(record: Record, name: str) -> int:
    """Multiply-accumulates of all layers within the layer `name`."""
    return sum(use.macs for use in record.uses if f"{use.name}.".startswith(f"{name}."))


def _stages(record: Record, parameters: dict[str, int], height: int) -> list[Row]:
    """The backbone's stages in the order they ran; consecutive blocks of one stride form one stage."""
    rows: list[Row] = []
    for name, (_, *shape) in record.outputs:
        stride = f"stride {-(-height // shape[1])}"
        count, macs = parameters[name], _macs_below(record, name)
        if rows and rows[-1].name == stride:
            before = rows.pop()
            count, macs = count + (before.parameters or 0), macs + (before.macs or 0)
        rows.append(Row(stride, tuple(shape), count, macs))
    return rows


def _memory(uses: Sequence[Use], precision: str) -> Memory:
    size = _BYTES[precision]
    per_channel = 4 if precision == "fp32" else 8  # bytes: bias, and the scale of INT8
    layers = {use.name: use for use in uses}  # the weights of a layer that runs more than once count once
    return Memory(
        weights=sum(use.weights * size + use.channels * per_channel for use in layers.values()),
        activations=size * sum(use.outputs for use in uses),
        largest_layer=size * max(use.inputs + use.outputs for use in uses),
    )
