"""Networks described for `network_runner.c`.

Tensors here are quantised values `[C, H, W]`, or `[rows, columns]`, of one image: an integer minus its zero point, as
in the simulation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

_BETWEEN = 16  # bytes that stored arrays are aligned to


@dataclass(frozen=True)
class Form:
    """How tensors are stored.

    Attributes:
        name: of the type in a description: `u8`, `i8`.
        dtype: NumPy's.
        zero_point: of every tensor.
        per_channel: whether weights have a scale for each channel.
    """

    name: str
    dtype: type
    zero_point: int
    per_channel: bool = False


FORMS = {
    "uint8_per_tensor": Form("u8", np.uint8, 128),
    "int8_per_tensor": Form("i8", np.int8, 0),
    "int8_per_channel": Form("i8", np.int8, 0, per_channel=True),
    "uint8_per_channel": Form("u8", np.uint8, 128, per_channel=True),
}


Shape = tuple[int, ...]
_CONVOLUTIONS = ("conv", "depthwise")


@dataclass(frozen=True)
class Node:
    """An operator of a description.

    Attributes:
        name: of what it computes; several operators may compute it together.
        operator: of `network_runner.c`.
        elements: of its results.
        kernel: width, height and channels of a convolution's; empty for others.
    """

    name: str
    operator: str
    elements: int
    kernel: tuple[int, ...] = ()


@dataclass
class Description:
    """A network under construction; see `network_runner.c` for what is written.

    Attributes:
        form: of its tensors.
        inputs: name, shape and zero point of each input, in the order in which they are read.
        outputs: the same of each result, in the order in which they are written.
        nodes: the operators, in order.
    """

    form: Form
    inputs: list[tuple[str, Shape, int]] = field(default_factory=list)
    outputs: list[tuple[str, Shape, int]] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    _tensors: list[str] = field(default_factory=list)
    _shapes: list[tuple[int, ...]] = field(default_factory=list)
    _lines: list[str] = field(default_factory=list)
    _data: bytearray = field(default_factory=bytearray)

    def input(self, name: str, shape: Shape, scale: float, zero_point: int | None = None) -> int:
        """An input of quantised values, with the form's zero point or its own; returns its number."""
        zero = self._zero(zero_point)
        self.inputs.append((name, shape, zero))
        return self._add("i", self.form.name, scale, zero, (*shape[::-1], 1))

    def output(self, name: str, shape: Shape, scale: float, zero_point: int | None = None) -> int:
        """A result, with the form's zero point or its own; returns its number."""
        zero = self._zero(zero_point)
        self.outputs.append((name, shape, zero))
        return self._add("o", self.form.name, scale, zero, (*shape[::-1], 1))

    def between(self, shape: Shape, scale: float, zero_point: int | None = None) -> int:
        """A tensor that is not looked at; returns its number."""
        return self._add("v", self.form.name, scale, self._zero(zero_point), (*shape[::-1], 1))

    def constant(self, values: np.ndarray, scale: float, zero_point: int | None = None) -> int:
        """A stored tensor of quantised values; returns its number."""
        zero = self._zero(zero_point)
        stored = (values + zero).astype(self.form.dtype)
        return self._add("c", self.form.name, scale, zero, (*values.shape[::-1], 1), stored)

    def weight(self, values: np.ndarray, scales: np.ndarray, depthwise: bool) -> int:
        """A weight `[O, I, kh, kw]`, with one scale or one for each result; returns its number."""
        results, sources, height, width = values.shape
        shape = (width, height, results, 1) if depthwise else (width, height, sources, results)
        if self.form.per_channel:
            return self._add("c", "i8", 1.0, 0, shape, values.astype(np.int8), scales, 2 if depthwise else 3)
        stored = (values.astype(np.int16) + self.form.zero_point).astype(self.form.dtype)
        return self._add("c", self.form.name, float(scales[0]), self.form.zero_point, shape, stored)

    def bias(self, values: np.ndarray, scales: np.ndarray) -> int:
        """A bias `[O]` in INT32; returns its number."""
        several = scales if self.form.per_channel else None
        return self._add("c", "i32", float(scales[0]), 0, values.shape, values.astype(np.int32), several, 0)

    def node(
        self,
        operator: str,
        parameters: Sequence[float],
        inputs: Sequence[int],
        outputs: Sequence[int],
        name: str,
    ) -> None:
        """An operator of `network_runner.c` with its parameters, on tensors by number; for `name` see `Node`."""
        parts = (parameters, inputs, outputs)
        self._lines.append(" ".join([operator, *(f"{len(part)} {_joined(part)}" for part in parts)]))
        elements = sum(int(np.prod(self._shapes[number])) for number in outputs)
        kernel = (*map(int, parameters[:2]), self._shapes[inputs[0]][2]) if operator in _CONVOLUTIONS else ()
        self.nodes.append(Node(name, operator, elements, kernel))

    def compiled(self, content: bytes) -> None:
        """A network that the driver has compiled (NBG), in place of operators: it reads all inputs declared before, in
        order, and computes all outputs declared before."""
        self._data = bytearray(content)
        roles = [line[0] for line in self._tensors]
        sources = [number for number, role in enumerate(roles) if role == "i"]
        results = [number for number, role in enumerate(roles) if role == "o"]
        self.node("compiled", (), sources, results, "")

    @property
    def text(self) -> str:
        """What `network_runner.c` reads first."""
        lines = [str(len(self._tensors)), *self._tensors, str(len(self._lines)), *self._lines]
        return "\n".join(lines) + "\n"

    @property
    def data(self) -> bytes:
        """The constants that the text points into."""
        return bytes(self._data)

    def stored(self, values: Mapping[str, np.ndarray]) -> bytes:
        """Quantised values of all inputs, by name, as they are stored; a first axis of one image may be there."""
        parts = [
            (values[name].reshape(shape) + zero).astype(self.form.dtype) for name, shape, zero in self.inputs
        ]
        return b"".join(part.tobytes() for part in parts)

    def read(self, content: bytes) -> dict[str, np.ndarray]:
        """Stored results as quantised values, int16, by name."""
        stored = np.frombuffer(content, self.form.dtype).astype(np.int16)
        parts = np.split(stored, np.cumsum([int(np.prod(shape)) for _, shape, _ in self.outputs])[:-1])
        return {
            name: part.reshape(shape) - np.int16(zero)
            for (name, shape, zero), part in zip(self.outputs, parts)
        }

    @property
    def result_bytes(self) -> int:
        """How many bytes one run writes."""
        return sum(int(np.prod(shape)) for _, shape, _ in self.outputs) * np.dtype(self.form.dtype).itemsize

    def _zero(self, own: int | None) -> int:
        return self.form.zero_point if own is None else own

    def _add(
        self,
        role: str,
        kind: str,
        scale: float,
        zero: int,
        shape: tuple[int, ...],
        values: np.ndarray | None = None,
        scales: np.ndarray | None = None,
        axis: int = -1,
    ) -> int:
        several = (-1, 0, 0)
        if scales is not None:
            several = (axis, self._store(np.asarray(scales, np.float32)), len(scales))
        place = 0 if values is None else self._store(values)
        scheme = "a" if scales is None else "c"
        self._tensors.append(
            f"{role} {kind} {scheme} {float(scale)!r} {zero} {_joined(several)} {len(shape)} {_joined(shape)} {place}"
        )
        self._shapes.append(shape)
        return len(self._tensors) - 1

    def _store(self, values: np.ndarray) -> int:
        self._data += b"\0" * (-len(self._data) % _BETWEEN)
        place = len(self._data)
        self._data += np.ascontiguousarray(values).tobytes()
        return place


def _joined(values: Sequence[float]) -> str:
    return " ".join(map(str, values))
