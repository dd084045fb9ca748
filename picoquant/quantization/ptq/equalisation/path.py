"""The way of a factor through a network: from a tensor to the convolutions that multiply it back."""

from __future__ import annotations

from typing import Any

import numpy as np

from picoquant.paddle_program.layers import CONVOLUTIONS, adds_bias
from picoquant.paddle_program.static.programs import Inserter, read_variable, write_variable

PASSING_ACTIVATIONS = ("relu", "leaky_relu")
_SAME_CHANNELS = ("pool2d", "nearest_interp_v2", "bilinear_interp_v2")
SUFFIX = ".equalised"  # of new names


class Obstacle(Exception):  # noqa: N818  not an error: this tensor stays as it is
    """A factor cannot pass an operator."""


class FactorPath:
    """The way from a tensor to the convolutions that multiply its factors back.

    Each tensor on the way is traced as an array of its shape without the batch, which holds for each value the
    number (from 1) of the first tensor's channel that it comes from; 0: from elsewhere.

    Attributes:
        renamed: the names that `apply` has given them.

    Raises: `Obstacle` where a factor cannot pass.
    """

    def __init__(self, block: Any, scope: Any, name: str) -> None:
        self._block, self._scope = block, scope
        self.renamed: dict[str, str] = {}
        shape = _shape(block, name)
        channels = np.arange(1, shape[0] + 1, dtype=np.int32)
        self._sources = {name: np.broadcast_to(_column(channels), shape)}
        self._convs: list[tuple[Any, np.ndarray]] = []
        for op in block.ops:
            if any(n in self._sources for n in op.input_arg_names):
                self._sources.update(self._through(op))

    @property
    def names(self) -> set[str]:
        """The tensors on the way, the first one included."""
        return set(self._sources)

    def channels(self) -> dict[str, np.ndarray]:
        """`[C]` of each tensor on the way whose channels hold one factor each, by name: its number, from 1; 0: none."""
        found = {}
        for name, values in self._sources.items():
            if values.ndim == 3:
                try:
                    found[name] = _channels(values)
                except Obstacle:
                    continue
        return found

    def weights(self) -> list[tuple[str, np.ndarray, np.ndarray]]:
        """Of each convolution at the end: its weight's name, the number of each input's factor, absmax; `[O, I]`."""
        found = []
        for op, column in self._convs:
            name = op.input("Filter")[0]
            weight = np.abs(read_variable(self._scope, name)).max(axis=(2, 3))
            found.append((name, _rows(op, weight, column), weight))
        return found

    def _through(self, op: Any) -> dict[str, np.ndarray]:
        block, sources = self._block, self._sources
        if op.type in CONVOLUTIONS:
            weight = op.input("Filter")[0]
            if use_count(block, weight) > 1 or not block.var(weight).persistable:
                raise Obstacle(f"weight {weight} is shared")
            self._convs.append((op, _channels(sources[op.input("Input")[0]])))
            return {}
        outputs = op.output("Out") if "Out" in op.output_names else []
        shapes = [_shape(block, output) for output in outputs]
        inputs = [sources.get(n) for n in op.input("X")] if "X" in op.input_names else []
        if op.type in _SAME_CHANNELS:
            return {outputs[0]: np.broadcast_to(_column(_channels(inputs[0])), shapes[0])}
        if op.type in PASSING_ACTIVATIONS:
            return {outputs[0]: inputs[0]}
        if op.type == "concat" and op.attr("axis") >= 1:
            parts = [
                np.zeros(_shape(block, n), np.int32) if part is None else part
                for n, part in zip(op.input("X"), inputs)
            ]
            return {outputs[0]: np.concatenate(parts, op.attr("axis") - 1)}
        if op.type == "split" and op.attr("axis") >= 1:
            axis = op.attr("axis") - 1
            cuts = np.cumsum([shape[axis] for shape in shapes])[:-1]
            return dict(zip(outputs, np.split(inputs[0], cuts, axis)))
        if op.type == "reshape2" and inputs[0].size == np.prod(shapes[0]):  # else values move between images
            return {outputs[0]: inputs[0].reshape(shapes[0])}
        if op.type == "transpose2" and op.attr("axis")[0] == 0:
            return {outputs[0]: inputs[0].transpose([axis - 1 for axis in op.attr("axis")[1:]])}
        if op.type == "elementwise_mul" and op.attr("axis") == -1:
            other = sources.get(op.input("Y")[0])
            if (inputs[0] is None) == (other is None):
                raise Obstacle("a tensor is multiplied by itself")
            mine = other if inputs[0] is None else inputs[0]
            return {outputs[0]: np.broadcast_to(mine, shapes[0])}
        raise Obstacle(f"{op.type} is in the way")

    def apply(self, factor: np.ndarray) -> dict[str, np.ndarray]:
        """Multiply the convolutions' weights, and rename every tensor on the way, whose values are others now.

        Args:
            factor: `[channels]`.

        Returns: what each weight was multiplied by, see `Equalised.scales`.
        """
        table = np.concatenate([[1.0], factor])
        scales = {}
        for op, column in self._convs:
            name = op.input("Filter")[0]
            weight = read_variable(self._scope, name)
            scales[name] = table[_rows(op, weight, column)][:, :, None, None]
            write_variable(self._scope, name, (weight * scales[name]).astype(np.float32))
        self.renamed = {name: rename_tensor(self._block, name) for name in self._sources}
        return scales


def _rows(op: Any, weight: np.ndarray, column: np.ndarray) -> np.ndarray:
    """A value for each input channel, `column` `[in]`, arranged like the weight: `[out, in / groups]`."""
    groups = op.attr("groups")
    return np.repeat(column.reshape(groups, weight.shape[1]), weight.shape[0] // groups, axis=0)


def rename_tensor(block: Any, name: str) -> str:
    """Rename a tensor that now has other values, so that nothing refers to it by the old name; returns the new one."""
    other = Inserter(block, 0).variable(f"{name}{SUFFIX}", block.var(name)).name
    for op in block.ops:
        if name in op.input_arg_names:
            op._rename_input(name, other)
        if name in op.output_arg_names:
            op._rename_output(name, other)
    return other


def _shape(block: Any, name: str) -> tuple[int, ...]:
    shape = tuple(block.var(name).shape[1:])
    if not shape or any(size < 1 for size in shape):
        raise Obstacle(f"the shape of {name} is not known")
    return shape


def _column(values: np.ndarray) -> np.ndarray:
    return np.asarray(values)[:, None, None]


def _channels(values: np.ndarray) -> np.ndarray:
    """`[C]` of `[C, H, W]`, each of whose channels holds one value.

    Raises: `Obstacle` when a channel holds several.
    """
    column = values[:, 0, 0]
    if not (values == column[:, None, None]).all():
        raise Obstacle("its channels are not channels any more")
    return column


def producer_of(block: Any, name: str) -> Any | None:
    """The operator that computes a tensor; None for an input or a stored variable."""
    return next((op for op in block.ops if name in op.output_arg_names), None)


def stored_bias(block: Any, op: Any) -> str | None:
    """Name of the stored bias `[C]` that an `elementwise_add` adds at axis 1; None for other operators."""
    if op.type != "elementwise_add":
        return None
    variable = block._find_var_recursive(op.input("Y")[0])
    if variable is None or not adds_bias(op.type, op.attr("axis"), variable.persistable, len(variable.shape)):
        return None
    return variable.name


def own_bias(block: Any, scope: Any, name: str) -> str:
    """Name of the stored bias whose addition gives a tensor; where others use it, too, it gets a copy."""
    add = producer_of(block, name)
    bias = add.input("Y")[0]
    if use_count(block, bias) == 1:
        return bias
    own = Inserter(block, 0).variable(f"{name}.bias{SUFFIX}", block.var(bias), persistable=True).name
    write_variable(scope, own, read_variable(scope, bias))
    add._rename_input(bias, own)
    return own


def users_of(block: Any, name: str) -> list[Any]:
    """The operators that use a tensor, in the program's order."""
    return [op for op in block.ops if name in op.input_arg_names]


def use_count(block: Any, name: str) -> int:
    """How many operators use a tensor."""
    return len(users_of(block, name))
