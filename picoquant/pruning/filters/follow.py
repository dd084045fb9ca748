"""Channels followed through the operators of a program, from its input to its outputs.

Each tensor is an array of channel numbers of the tensor's own shape, for one small image: what reshapes, transposes,
splits and joins values does so with the numbers, and a channel shuffle or a part of a concatenation needs no rule of
its own. An operator that is not known keeps all its channels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from picoquant.paddle_program.graph import Graph, Operator
from picoquant.paddle_program.layers import CONVOLUTIONS
from picoquant.pruning.filters.channels import NONE, Channels

_SAME_SHAPE = (
    "relu", "relu6", "leaky_relu", "hard_swish", "hard_sigmoid", "sigmoid", "swish", "silu", "mish", "gelu", "tanh",
    "sqrt", "scale", "cast", "clip", "assign", "dropout", "elu", "softplus", "abs", "exp", "pow", "square",
)  # fmt: skip
_BINARY = (
    "elementwise_add", "elementwise_sub", "elementwise_mul", "elementwise_div", "elementwise_max", "elementwise_min",
)  # fmt: skip
_SPATIAL = (
    "pool2d", "nearest_interp", "nearest_interp_v2", "bilinear_interp", "bilinear_interp_v2", "bicubic_interp_v2",
    "pad3d", "pad2d",
)  # fmt: skip

Tensors = dict[str, np.ndarray]


def follow(graph: Graph, shapes: Mapping[str, Sequence[int]]) -> Channels:
    """The channels of a network.

    Args:
        graph: of a program for one image; its tensors have known shapes.
        shapes: of the stored tensors that may become smaller; others are constants.
    """
    return _Follower(graph, shapes).channels


class _Follower:
    def __init__(self, graph: Graph, shapes: Mapping[str, Sequence[int]]) -> None:
        self.channels = Channels()
        self._graph, self._shapes, self._tensors = graph, shapes, Tensors()
        self._fixed: set[str] = set()  # stored tensors that an unknown operator reads
        rules: dict[str, Callable[[Operator], None]] = {
            **dict.fromkeys(CONVOLUTIONS, self._convolution),
            **dict.fromkeys(_SAME_SHAPE, self._same),
            **dict.fromkeys(_BINARY, self._binary),
            **dict.fromkeys(_SPATIAL, self._spatial),
            "batch_norm": self._batch_norm,
            "concat": self._concat,
            "split": self._split,
            "reshape2": self._reshape,
            "transpose2": self._transpose,
            "flatten_contiguous_range": self._reshape,
            "squeeze2": self._reshape,
            "unsqueeze2": self._reshape,
        }
        for name in graph.inputs:
            self._tensors[name] = np.full(self._shape(name), NONE)
        for operator in graph.operators:
            try:
                rules.get(operator.op_type, self._unknown)(operator)
            except _StrangeError:
                self._unknown(operator)
        for name in graph.outputs:
            self.channels.keep(self._value(name))
        for name in self._fixed:
            for key in (f"{name}@0", f"{name}@1"):
                self.channels.keep(self._tensors.get(key, np.empty(0, int)))

    def _shape(self, name: str) -> tuple[int, ...]:
        shape = self._graph.tensor(name).shape
        if shape is None:
            raise _StrangeError
        return tuple(max(1, size) for size in shape)

    def _value(self, name: str) -> np.ndarray:
        """The channels of a tensor; a stored vector has its own, any other stored value none."""
        if name not in self._tensors:
            shape = self._shapes.get(name)
            if shape is not None and len(shape) == 1 and shape[0] > 1:
                self._tensors[name] = self.channels.new_rows(name, 0, shape[0])
            else:
                self._tensors[name] = np.full(self._shape(name), NONE)
        return self._tensors[name]

    def _along(self, name: str) -> np.ndarray:
        """The channel at each position of axis 1, `[C]`.

        Raises: `_StrangeError` where positions of an image differ in it.
        """
        value = self._value(name)
        flat = np.moveaxis(value, 1, 0).reshape(value.shape[1], -1)
        if (flat != flat[:, :1]).any():
            raise _StrangeError
        return flat[:, 0]

    def _put(self, operator: Operator, value: np.ndarray, slot: str = "Out0") -> None:
        name = dict(operator.outputs)[slot]
        shape = self._shape(name)
        if value.size != int(np.prod(shape)):
            raise _StrangeError
        self._tensors[name] = value.reshape(shape)

    def _put_channels(self, operator: Operator, along: np.ndarray, slot: str) -> None:
        shape = self._shape(dict(operator.outputs)[slot])
        if len(shape) < 2 or shape[1] != len(along):
            raise _StrangeError
        wide = along.reshape((1, -1) + (1,) * (len(shape) - 2))
        self._put(operator, np.broadcast_to(wide, shape), slot)

    def _unknown(self, operator: Operator) -> None:
        for _, name in operator.inputs:
            self.channels.keep(self._value(name))
            self._fixed.add(name)
        for name in operator.results:
            shape = self._graph.tensor(name).shape or (1,)
            self._tensors[name] = np.full(tuple(max(1, size) for size in shape), NONE)

    def _convolution(self, operator: Operator) -> None:
        name = _input(operator, "Filter0")
        shape, groups = self._shapes.get(name), operator.attributes.get("groups") or 1
        layout = operator.attributes.get("data_format", "NCHW")
        if shape is None or layout not in ("NCHW", "AnyLayout") or operator.op_type == "conv2d_transpose":
            raise _StrangeError
        given = self._along(_input(operator, "Input0"))
        made = self._filters(name, shape[0])
        if groups == 1:
            self._inputs_of(name, given)
        else:
            # A group is removed as a whole: its inputs and its filters are joined.
            of_group = np.concatenate([given.reshape(groups, -1), made.reshape(groups, -1)], axis=1)
            for column in range(1, of_group.shape[1]):
                self._tie(of_group[:, 0], of_group[:, column])
        self._put_channels(operator, made, "Output0")

    def _tie(self, first: np.ndarray, second: np.ndarray) -> None:
        """Join channels; one that is tied to a value without a channel is kept."""
        self.channels.join(first, second)
        self.channels.keep(first[second == NONE])
        self.channels.keep(second[first == NONE])

    def _filters(self, name: str, count: int) -> np.ndarray:
        """Channels of a convolution's filters; a convolution that runs several times has them once."""
        key = f"{name}@0"
        if key not in self._tensors:
            self._tensors[key] = self.channels.new_rows(name, 0, count)
        return self._tensors[key]

    def _inputs_of(self, name: str, given: np.ndarray) -> None:
        key = f"{name}@1"
        if key in self._tensors:
            self._tie(self._tensors[key], given)
        else:
            self._tensors[key] = given
            self.channels.add_rows(given, name, 1)

    def _batch_norm(self, operator: Operator) -> None:
        along = self._along(_input(operator, "X0"))
        for slot in ("Scale0", "Bias0", "Mean0", "Variance0"):
            self._tie(along, self._value(_input(operator, slot)))
        self._put_channels(operator, along, "Y0")

    def _same(self, operator: Operator) -> None:
        self._put(operator, self._value(_input(operator, "X0")))

    def _spatial(self, operator: Operator) -> None:
        self._put_channels(operator, self._along(_input(operator, "X0")), "Out0")

    def _binary(self, operator: Operator) -> None:
        first, second = self._value(_input(operator, "X0")), self._value(_input(operator, "Y0"))
        axis = operator.attributes.get("axis", -1)
        if axis not in (-1, None) and second.ndim < first.ndim:
            second = second.reshape(second.shape + (1,) * (first.ndim - axis - second.ndim))
        shape = np.broadcast_shapes(first.shape, second.shape)
        for one in (first, second):
            if len(shape) > 1 and self._channel_axis(one, len(shape)) == 1 and shape[1] > 1:
                self.channels.keep(one)  # one channel for all of the other's
        first, second = (np.broadcast_to(one, shape) for one in (first, second))
        if (first != NONE).any() and (second != NONE).any():
            alone = (self._axis_of_one(operator, slot, shape) for slot in ("X0", "Y0"))
            if not any(alone):
                self._tie(first.ravel(), second.ravel())
        self._put(operator, np.where(first == NONE, second, first))

    def _channel_axis(self, value: np.ndarray, axes: int) -> int:
        """The length of a value's axis 1 after it was given `axes` axes."""
        shape = (1,) * (axes - value.ndim) + value.shape
        return shape[1]

    def _axis_of_one(self, operator: Operator, slot: str, shape: Sequence[int]) -> bool:
        value = self._value(_input(operator, slot))
        return len(shape) > 1 and shape[1] > 1 and value.ndim == len(shape) and value.shape[1] == 1

    def _concat(self, operator: Operator) -> None:
        values = [self._value(name) for slot, name in operator.inputs if slot.startswith("X")]
        if any(slot.startswith("AxisTensor") for slot, _ in operator.inputs):
            raise _StrangeError
        self._put(operator, np.concatenate(values, axis=operator.attributes["axis"]))

    def _split(self, operator: Operator) -> None:
        value, axis = self._value(_input(operator, "X0")), operator.attributes["axis"]
        names = [name for slot, name in operator.outputs if slot.startswith("Out")]
        sizes = [self._shape(name)[axis] for name in names]
        if sum(sizes) != value.shape[axis] or len(set(sizes)) > 1:
            raise _StrangeError  # the network splits at a fixed place
        parts = np.split(value, len(names), axis=axis)
        for other in parts[1:]:  # so that the parts stay alike
            self._tie(parts[0].ravel(), other.ravel())
        for (slot, _), part in zip([one for one in operator.outputs if one[0].startswith("Out")], parts):
            self._put(operator, part, slot)

    def _reshape(self, operator: Operator) -> None:
        value = self._value(_input(operator, "X0"))
        shape = self._shape(dict(operator.outputs)["Out0"])
        made = value.reshape(shape)
        if value.ndim > 1 and len(shape) > value.ndim and shape[1] != value.shape[1]:
            # Channels in groups, as a shuffle has them: the groups stay alike.
            for group in range(1, shape[1]):
                self._tie(made[:, 0].ravel(), made[:, group].ravel())
        self._put(operator, made)

    def _transpose(self, operator: Operator) -> None:
        value = self._value(_input(operator, "X0"))
        self._put(operator, value.transpose(operator.attributes["axis"]))


def _input(operator: Operator, slot: str) -> str:
    name = operator.input(slot)
    if name is None:
        raise _StrangeError
    return name


class _StrangeError(Exception):
    """An operator that is used as the rule for it does not expect."""
