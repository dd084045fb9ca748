"""An ncnn model being written: layers of its `.param` and their data of its `.bin`.

Source of both formats: ncnn's documentation ("param and model file structure", "operators").
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Union

import numpy as np

MAGIC = 7767517
HINTS = 30  # the parameter with the shapes of a layer's results: dims, width, height, channels of each
ARRAY = -23300  # the key of parameter N with several values is this minus N
_FLOAT, _HALF, _INT8 = 0, 0x01306B47, 0x000D4B38  # in front of weights, which say how they are stored
WIDTHS = {_FLOAT: 4, _HALF: 2, _INT8: 1}  # bytes of a weight
ALIGNED = 4

Value = Union[int, float, Sequence[int], Sequence[float]]


@dataclass(frozen=True)
class Layer:
    """A line of the `.param`, with its part of the `.bin`.

    Attributes:
        kind, name: ncnn's type, and what it is called.
        inputs, outputs: names of blobs.
        params: by number.
        data: as stored.
    """

    kind: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    params: Mapping[int, Value]
    data: bytes = b""

    @property
    def line(self) -> str:
        """The layer in the `.param`."""
        words = [f"{self.kind:24}", f"{self.name:24}", str(len(self.inputs)), str(len(self.outputs))]
        words += [*self.inputs, *self.outputs, *(_text(*item) for item in self.params.items())]
        return " ".join(words)


def _text(number: int, value: Value) -> str:
    if isinstance(value, (int, float, np.number)):
        return f"{number}={_number(value)}"
    return f"{ARRAY - number}={','.join([str(len(value)), *map(_number, value)])}"


def _number(value: float) -> str:
    return (
        str(value) if isinstance(value, (int, np.integer)) else f"{value:.8e}"
    )  # a float by its point; 15 characters at most


def weights(value: np.ndarray, half: bool = False) -> bytes:
    """Weights as a layer stores them: int8 as they are, else float32 or float16."""
    if value.dtype == np.int8:
        tag, data = _INT8, value.tobytes()
    elif half:
        tag, data = _HALF, value.astype("<f2").tobytes()
    else:
        tag, data = _FLOAT, value.astype("<f4").tobytes()
    return tag.to_bytes(4, "little") + data + bytes(-len(data) % ALIGNED)


def numbers(value: np.ndarray) -> bytes:
    """Biases and scales as a layer stores them."""
    return np.asarray(value).astype("<f4").tobytes()


def sizes(shape: Sequence[int]) -> tuple[int, int, int, int]:
    """Number of axes, width, height and channels of Paddle's shape with its batch of one."""
    inside = list(shape[1:])
    width, height, channels = (*reversed(inside), 0, 0, 0)[:3]
    return len(inside), width, height, channels


def model_files(
    layers: Sequence[Layer], outputs: Sequence[str], shapes: Mapping[str, Sequence[int]]
) -> tuple[str, bytes]:
    """The content of `.param` and `.bin`.

    A blob that several layers read goes through a Split. Layers that make the outputs come last, in the outputs' order,
    with the outputs' shapes, as ncnn has neither the one nor the other from elsewhere.

    Args:
        layers: in an order in which they can be computed.
        outputs: names of blobs.
        shapes: of the outputs, with a batch of one.
    """
    ordered = _outputs_last(_split(layers, outputs), outputs)
    hinted = [
        replace(layer, params={**layer.params, HINTS: sizes(shapes[layer.outputs[0]])})
        if layer.outputs[0] in outputs
        else layer
        for layer in ordered
    ]
    blobs = sum(len(layer.outputs) for layer in hinted)
    lines = [str(MAGIC), f"{len(hinted)} {blobs}", *(layer.line for layer in hinted)]
    return "".join(f"{line}\n" for line in lines), b"".join(layer.data for layer in hinted)


def _split(layers: Sequence[Layer], outputs: Sequence[str]) -> list[Layer]:
    uses = Counter([*(name for layer in layers for name in layer.inputs), *outputs])
    given: Counter[str] = Counter()
    found = []
    for layer in layers:
        inputs = []
        for name in layer.inputs:
            inputs.append(f"{name}.{given[name]}" if uses[name] > 1 else name)
            given[name] += 1
        found.append(replace(layer, inputs=tuple(inputs)))
        for name in layer.outputs:
            if uses[name] > 1:
                parts = tuple(f"{name}.{index}" for index in range(uses[name]))
                found.append(Layer("Split", f"{name}.split", (name,), parts, {}))
    ends = []
    for name in outputs:
        if uses[name] > 1:
            ends.append((f"{name}.{given[name]}", name))
            given[name] += 1
    # What an output was called is now the Split's input: an output of its own gets the name.
    renamed = {name: f"{name}.whole" for _, name in ends}
    found = [
        replace(
            layer,
            inputs=tuple(renamed.get(name, name) for name in layer.inputs),
            outputs=tuple(renamed.get(name, name) for name in layer.outputs),
        )
        for layer in found
    ]
    return [*found, *(Layer("Noop", f"{name}.output", (source,), (name,), {}) for source, name in ends)]


def _outputs_last(layers: Sequence[Layer], outputs: Sequence[str]) -> list[Layer]:
    ends: dict[str, Layer] = {}
    before = []
    for layer in layers:
        made = [name for name in layer.outputs if name in outputs]
        if len(layer.outputs) == 1 and made and layer.inputs:
            ends[made[0]] = layer
            continue
        for name in made:
            ends[name] = Layer("Noop", f"{name}.output", (f"{name}.whole",), (name,), {})
        renamed = tuple(f"{name}.whole" if name in made else name for name in layer.outputs)
        before.append(replace(layer, outputs=renamed))
    return [*before, *(ends[name] for name in outputs)]
