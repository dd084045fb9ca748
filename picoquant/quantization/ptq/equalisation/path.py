"""The way of a factor through a network: from a tensor to the convolutions that multiply it back."""

from __future__ import annotations

import numpy as np

from picoquant.paddle_program.editing.operator import EditableOperator
from picoquant.paddle_program.editing.program_model import ProgramModel
from picoquant.paddle_program.layers import CONVOLUTIONS, adds_bias

PASSING_ACTIVATIONS = ("relu", "leaky_relu")
_SAME_CHANNELS = ("pool2d", "nearest_interp_v2", "bilinear_interp_v2")
SUFFIX = ".equalised"  # of new names
_DEFAULT_AXIS = {"concat": 0, "split": 0, "elementwise_mul": -1, "elementwise_add": -1}


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

    def __init__(self, model: ProgramModel, name: str) -> None:
        self._model = model
        self.renamed: dict[str, str] = {}
        shape = _shape(model, name)
        channels = np.arange(1, shape[0] + 1, dtype=np.int32)
        self._sources = {name: np.broadcast_to(_column(channels), shape)}
        self._convs: list[tuple[EditableOperator, np.ndarray]] = []
        for op in model.operators:
            if any(n in self._sources for n in op.inputs):
                self._sources.update(self._through(op))
        if any(name in self._sources for name in model.outputs):
            raise Obstacle("it reaches an output")

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
            weight = np.abs(self._model.values[name]).max(axis=(2, 3))
            found.append((name, _rows(op, weight, column), weight))
        return found

    def _through(self, op: EditableOperator) -> dict[str, np.ndarray]:
        model, sources, attributes = self._model, self._sources, op.attributes
        if op.type in CONVOLUTIONS:
            weight = op.input("Filter")[0]
            if use_count(model, weight) > 1 or not model.is_stored(weight):
                raise Obstacle(f"weight {weight} is shared")
            self._convs.append((op, _channels(sources[op.input("Input")[0]])))
            return {}
        outputs = op.output("Out")
        shapes = [_shape(model, output) for output in outputs]
        inputs = [sources.get(n) for n in op.input("X")]
        if op.type in _SAME_CHANNELS:
            return {outputs[0]: np.broadcast_to(_column(_channels(inputs[0])), shapes[0])}
        if op.type in PASSING_ACTIVATIONS:
            return {outputs[0]: inputs[0]}
        axis = attributes.get("axis", _DEFAULT_AXIS.get(op.type))
        if op.type == "concat" and axis >= 1:
            parts = [
                np.zeros(_shape(model, n), np.int32) if part is None else part
                for n, part in zip(op.input("X"), inputs)
            ]
            return {outputs[0]: np.concatenate(parts, axis - 1)}
        if op.type == "split" and axis >= 1:
            cuts = np.cumsum([shape[axis - 1] for shape in shapes])[:-1]
            return dict(zip(outputs, np.split(inputs[0], cuts, axis - 1)))
        if op.type == "reshape2" and inputs[0].size == np.prod(shapes[0]):  # else values move between images
            return {outputs[0]: inputs[0].reshape(shapes[0])}
        if op.type == "transpose2" and axis[0] == 0:
            return {outputs[0]: inputs[0].transpose([one - 1 for one in axis[1:]])}
        if op.type == "elementwise_mul" and axis == -1:
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
            weight = self._model.values[name]
            scales[name] = table[_rows(op, weight, column)][:, :, None, None]
            self._model.write(name, weight * scales[name])
        self.renamed = {name: rename_tensor(self._model, name) for name in self._sources}
        return scales


def _rows(op: EditableOperator, weight: np.ndarray, column: np.ndarray) -> np.ndarray:
    """A value for each input channel, `column` `[in]`, arranged like the weight: `[out, in / groups]`."""
    groups = op.attributes.get("groups", 1)
    return np.repeat(column.reshape(groups, weight.shape[1]), weight.shape[0] // groups, axis=0)


def rename_tensor(model: ProgramModel, name: str) -> str:
    """Rename a tensor that now has other values, so that nothing refers to it by the old name; returns the new one."""
    other = f"{name}{SUFFIX}"
    model.rename(name, other)
    return other


def _shape(model: ProgramModel, name: str) -> tuple[int, ...]:
    shape = model.shape(name)[1:]
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


def stored_bias(model: ProgramModel, op: EditableOperator) -> str | None:
    """Name of the stored bias `[C]` that an `elementwise_add` adds at axis 1; None for other operators."""
    if op.type != "elementwise_add":
        return None
    name, axis = op.input("Y")[0], op.attributes.get("axis", _DEFAULT_AXIS[op.type])
    return name if adds_bias(op.type, axis, model.is_stored(name), len(model.shape(name))) else None


def own_bias(model: ProgramModel, name: str) -> str:
    """Name of the stored bias whose addition gives a tensor; where others use it, too, it gets a copy."""
    add = model.producer(name)
    bias = add.input("Y")[0]
    if use_count(model, bias) == 1:
        return bias
    own = model.store(f"{name}.bias{SUFFIX}", model.values[bias])
    add.rename_input(bias, own)
    return own


def use_count(model: ProgramModel, name: str) -> int:
    """How many operators use a tensor; being an output is a use, too."""
    return len(model.users(name)) + (name in model.outputs)
