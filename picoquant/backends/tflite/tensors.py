"""The tensors of a TFLite file being written of an INT8 network, and what moves them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from picoquant.backends.tflite.flatbuffer import ModelWriter
from picoquant.backends.tflite.layout import Layout
from picoquant.backends.tflite.params import same, symmetric
from picoquant.errors import ToolError
from picoquant.int8.network import Int8Network
from picoquant.int8.quant_params import QuantParams


class TfliteWriter:
    """What of a network is written.

    Attributes:
        network, graph: what is written.
        params: of each held tensor in the file.
        bits: of activations.
        model: the file.
        index: tensors of the file by the network's names.
        layouts: how they are stored, by the network's names.
    """

    def __init__(self, network: Int8Network, params: dict[str, QuantParams], bits: int) -> None:
        self.network, self.graph, self.params, self.bits = network, network.graph, params, bits
        self.model = ModelWriter(bits)
        self.index: dict[str, int] = {}
        self.layouts: dict[str, Layout] = {}
        self._taken: set[int] = set()  # outputs
        self._in_layout: dict[tuple[str, Layout], int] = {}

    @property
    def kind(self) -> str:
        """Type of an activation's integers."""
        return f"int{self.bits}"

    @property
    def lowest(self) -> int:
        """The smallest integer of an activation."""
        return -(2 ** (self.bits - 1))

    def shape(self, name: str) -> tuple[int, ...]:
        """Paddle's shape of a tensor."""
        shape = self.graph.tensor(name).shape
        if shape is None:
            raise ToolError(f"the shape of tensor {name} is not known: export the model again")
        return shape

    def computed(self, name: str, layout: Layout | None = None) -> int:
        """A computed tensor of the network, in a layout or the usual one."""
        layout = layout or Layout.of(self.shape(name))
        self.layouts[name] = layout
        self.index[name] = self.between(name, layout.stored(self.shape(name)), self.params[name])
        return self.index[name]

    def between(self, name: str, shape: Sequence[int], params: QuantParams) -> int:
        """A computed tensor of the file alone; `shape` as it is stored."""
        return self.model.tensor(name, shape, self.kind, params)

    def stored_shape(self, name: str) -> list[int]:
        """Shape of a computed tensor as it is stored."""
        return self.layouts[name].stored(self.shape(name))

    def read(self, name: str) -> int:
        """A tensor in the usual layout: an image with its channels last."""
        return self._read(name, Layout.of(self.shape(name)))

    def plain(self, name: str) -> int:
        """A tensor in Paddle's order."""
        return self._read(name, Layout(len(self.shape(name))))

    def _read(self, name: str, layout: Layout) -> int:
        if self.layouts[name] == layout:
            return self.index[name]
        key = name, layout
        if key not in self._in_layout:
            order, shape = self.layouts[name].order, self.shape(name)
            made = self.between(f"{name}.moved", layout.stored(shape), self.params[name])
            stored = self.stored_shape(name)
            self.transpose(self.index[name], stored, [order.index(axis) for axis in layout.order], made, name)
            self._in_layout[key] = made
        return self._in_layout[key]

    def output(self, name: str) -> int:
        """A result of the network in Paddle's order, a tensor of its name that nothing else is."""
        index = self.plain(name)
        if index in self._taken or index in (self.index[source] for source in self.graph.inputs):
            source, index = index, self.between(name, self.shape(name), self.params[name])
            self.reshape(source, index)
        self._taken.add(index)
        self.model.graph.tensors[index].name = name
        return index

    def transpose(
        self, source: int, shape: Sequence[int], axes: Sequence[int], result: int, name: str
    ) -> None:
        """Move stored axes; those that stay together move as one: some NPUs take four at most."""
        runs: list[list[int]] = []
        for axis in axes:
            if runs and axis == runs[-1][-1] + 1:
                runs[-1].append(axis)
            else:
                runs.append([axis])
        if len(runs) == 1:
            self.reshape(source, result)
            return
        if len(runs) == len(axes):
            self.model.operator("TRANSPOSE", [source, self.model.numbers(axes)], [result], "TransposeOptions")
            return
        starts = sorted(run[0] for run in runs)
        sizes = {run[0]: int(np.prod([shape[axis] for axis in run])) for run in runs}
        params = self.params[name]
        before = self.between(f"{name}.before", [sizes[start] for start in starts], params)
        after = self.between(f"{name}.after", [sizes[run[0]] for run in runs], params)
        self.reshape(source, before)
        order = self.model.numbers([starts.index(run[0]) for run in runs])
        self.model.operator("TRANSPOSE", [before, order], [after], "TransposeOptions")
        self.reshape(after, result)

    def reshape(self, source: int, result: int) -> None:
        """The same values in another shape."""
        shape = list(self.model.graph.tensors[result].shape)
        self.model.operator(
            "RESHAPE", [source, self.model.numbers(shape)], [result], "ReshapeOptions", newShape=shape
        )

    def requantised(self, index: int, source: QuantParams, result: QuantParams, name: str) -> int:
        """A tensor in another quantisation; itself where that is its own."""
        if same(source, result):
            return index
        made = self.between(f"{name}.requantised", self.model.graph.tensors[index].shape, result)
        self.model.operator("QUANTIZE", [index], [made], "QuantizeOptions")
        return made

    def constant(self, name: str, value: np.ndarray, layout: Layout | None = None) -> int:
        """A stored tensor beside computed ones, in integers with its own largest value as range."""
        params = constant_params(value, self.bits)
        integers = params.quantise(value.astype(np.float64))
        layout = layout or Layout.of(value.shape)
        return self.model.tensor(name, layout.stored(value.shape), self.kind, params, layout.store(integers))


def constant_params(value: np.ndarray, bits: int = 8) -> QuantParams:
    """The quantisation of a stored tensor that is added or multiplied."""
    return symmetric(float(np.abs(value).max()), bits)
