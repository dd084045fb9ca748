"""Cross-layer equalisation: a tensor whose channels have very different ranges is made even, exactly.

INT8 has one range for a tensor, so a channel that reaches 3 beside one that reaches 600 has one level. Each
channel of a convolution's result is divided by a factor (in the weights and the bias, which have a range
for each output channel and lose nothing), and whoever uses it next multiplies it back in its own weights
(Nagel et al. 2019, https://arxiv.org/abs/1906.04721). What is between must let a positive factor pass:

- nothing, ReLU and leaky ReLU do, as do pooling, resizing, concat, split, reshape, transpose and a product;
- hard-swish does not. It is written out with the factor inside, `x * relu6(s*x + 3)`, a depthwise 1x1
  convolution with ReLU6 and a product, both of which an NPU runs in INT8. That costs two operators for
  one, so it is done only where the expected noise falls to a fourth or less;
- ReLU6 would need another limit in each channel. It is left alone: its results are at most 6, so their
  channels cannot be far apart.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from picoquant.int8.activations import target_tensors
from picoquant.paddle_program.batch_norm_folding import CONVOLUTIONS, stored_bias
from picoquant.paddle_program.static import InferenceModel, Inserter, read_variable, write_variable

LOG = logging.getLogger("picoquant")

_PASSING_ACTIVATIONS = ("relu", "leaky_relu")
_SAME_CHANNELS = ("pool2d", "nearest_interp_v2", "bilinear_interp_v2")
_GAIN_OF_HARD_SWISH = 4.0
_GAIN_OF_OTHERS = 1.2
_LARGEST_FACTOR = 1e3
_SUFFIX = ".equalised"


@dataclass(frozen=True)
class Equalised:
    """One tensor that was made even.

    Attributes:
        name: of the convolution's result.
        activation: type of the activation behind it; empty for none.
        gain: expected noise before over after.
        scales: what stored variables were multiplied by, in a shape that broadcasts to theirs; 0 for the constants
            of a hard-swish that was written out.
    """

    name: str
    activation: str
    gain: float
    scales: dict[str, np.ndarray] = field(default_factory=dict)


class _Obstacle(Exception):  # noqa: N818  not an error: this tensor stays as it is
    """A factor cannot pass an operator."""


def equalise(
    model: InferenceModel, scope: Any, channel_ranges: Callable[[list[str]], dict[str, np.ndarray]]
) -> list[Equalised]:
    """Equalise a folded network; its FP32 outputs stay what they were but for rounding.

    Args:
        model: its program is changed in place.
        scope: holds its stored variables.
        channel_ranges: given tensors `[N, C, H, W]`, gives the largest absolute value of each channel.
    """
    block = model.program.global_block()
    sites = _sites(block)
    tensors = target_tensors(model.graph())
    groups = {name: group for group in tensors.groups for name in group}
    ranges = channel_ranges(list(dict.fromkeys(name for site in sites for name in site[1:] if name)))
    done = []
    for raw, name, result in sites:
        partners = set(groups.get(result, ())) - {result}
        found = _equalise(block, scope, raw, name, result, ranges, partners)
        if found:
            done.append(found)
    model.program._sync_with_cpp()
    return done


def _sites(block: Any) -> list[tuple[str, str, str]]:
    """Results of a convolution, of its bias, and of the activation behind it (the same for none)."""
    sites = []
    for add in [op for op in block.ops if stored_bias(block, op)]:
        conv = _producer(block, add.input("X")[0])
        if conv is None or conv.type not in CONVOLUTIONS or len(_users(block, add.input("X")[0])) != 1:
            continue
        name = add.output("Out")[0]
        users = _users(block, name)
        if len(users) == 1 and users[0].type in (*_PASSING_ACTIVATIONS, "hard_swish"):
            sites.append((add.input("X")[0], name, users[0].output("Out")[0]))
        elif all(user.type not in ("relu6", "fetch") for user in users):
            sites.append((add.input("X")[0], name, name))
    return sites


def _equalise(
    block: Any,
    scope: Any,
    raw: str,
    name: str,
    result: str,
    ranges: dict[str, np.ndarray],
    partners: set[str],
) -> Equalised | None:
    """Equalise one tensor, and note its new range; `partners` are those it shares a range with."""
    activation = _producer(block, result) if name != result else None
    kind = activation.type if activation is not None else ""
    reach = np.maximum(ranges[result], 1e-6 * max(ranges[result].max(), 1e-12))
    if kind == "hard_swish":  # what it makes of -3 to 3 is small, but it needs all of that
        reach = np.maximum(reach, 3.0)
    try:
        if _uses(block, _producer(block, raw).input("Filter")[0]) > 1:
            raise _Obstacle("its weight is shared")
        if kind == "hard_swish" and _numbers(activation) != (6.0, 6.0, 3.0):
            raise _Obstacle("its hard_swish is not the usual one")
        path = _Path(block, scope, result)
    except _Obstacle as obstacle:
        LOG.debug("%s is not equalised: %s", name, obstacle)
        return None
    felt = path.felt_weight(len(reach))
    felt = np.maximum(felt, 1e-6 * max(felt.max(), 1e-12))
    # A depthwise weight has a range for each channel and takes any factor; others share theirs, so range and
    # weight meet half-way.
    factor = reach if path.depthwise else np.sqrt(reach / felt)
    factor = np.maximum(factor / factor.max(), 1 / _LARGEST_FACTOR)
    before = reach.max() ** 2 * (felt**2).sum()
    after = (reach / factor).max() ** 2 * ((felt * factor) ** 2).sum()
    gain = float(before / after)
    if gain < (_GAIN_OF_HARD_SWISH if kind == "hard_swish" else _GAIN_OF_OTHERS):
        return None
    # The whole tensor may be multiplied, too: to what those need that it shares a range with.
    others = [ranges[n].max() for n in partners if n in ranges and n not in path.names]
    wanted = max(others, default=ranges[result].max()) or 1.0
    times = 6.0 if kind == "hard_swish" else 1.0
    factor = factor * (times * (ranges[result] / factor).max() / wanted)
    scales = _divide_producer(block, scope, raw, name, factor)
    scales.update(path.apply(factor / times))
    ranges[result] = ranges[result] * times / factor
    if name != result:
        _rename(block, name)
    if kind == "hard_swish":
        scales.update(_write_out_hard_swish(block, scope, activation, factor))
    return Equalised(name, kind, gain, scales)


def weight_scales(done: Sequence[Equalised]) -> dict[str, np.ndarray]:
    """What each stored variable was multiplied by in all, see `Equalised.scales`."""
    total: dict[str, np.ndarray] = {}
    for item in done:
        for name, scale in item.scales.items():
            total[name] = total.get(name, np.float32(1)) * scale.astype(np.float32)
    return total


class _Path:
    """The way from a tensor to the convolutions that take its factors back.

    What is followed is an array of each tensor's shape without the images, holding for each value the number
    of the channel of the first tensor that it came from, from 1 on; 0: from elsewhere.

    Raises: `_Obstacle` where a factor cannot pass.
    """

    def __init__(self, block: Any, scope: Any, name: str) -> None:
        self._block, self._scope = block, scope
        shape = _shape(block, name)
        channels = np.arange(1, shape[0] + 1, dtype=np.int32)
        self._sources = {name: np.broadcast_to(_column(channels), shape)}
        self._taken: list[tuple[Any, np.ndarray]] = []
        for op in block.ops:
            if any(n in self._sources for n in op.input_arg_names):
                self._sources.update(self._through(op))

    @property
    def names(self) -> set[str]:
        """The tensors on the way, the first one included."""
        return set(self._sources)

    @property
    def depthwise(self) -> bool:
        """Whether all convolutions at the end have one input channel for each output channel."""
        return all(self._block.var(op.input("Filter")[0]).shape[1] == 1 for op, _ in self._taken)

    def _through(self, op: Any) -> dict[str, np.ndarray]:
        block, sources = self._block, self._sources
        if op.type in CONVOLUTIONS:
            weight = op.input("Filter")[0]
            if _uses(block, weight) > 1 or not block.var(weight).persistable:
                raise _Obstacle(f"weight {weight} is shared")
            self._taken.append((op, _channels(sources[op.input("Input")[0]])))
            return {}
        outputs = op.output("Out") if "Out" in op.output_names else []
        shapes = [_shape(block, output) for output in outputs]
        given = [sources.get(n) for n in op.input("X")] if "X" in op.input_names else []
        if op.type in _SAME_CHANNELS:
            return {outputs[0]: np.broadcast_to(_column(_channels(given[0])), shapes[0])}
        if op.type in _PASSING_ACTIVATIONS:
            return {outputs[0]: given[0]}
        if op.type == "concat" and op.attr("axis") >= 1:
            parts = [
                np.zeros(_shape(block, n), np.int32) if part is None else part
                for n, part in zip(op.input("X"), given)
            ]
            return {outputs[0]: np.concatenate(parts, op.attr("axis") - 1)}
        if op.type == "split" and op.attr("axis") >= 1:
            axis = op.attr("axis") - 1
            cuts = np.cumsum([shape[axis] for shape in shapes])[:-1]
            return dict(zip(outputs, np.split(given[0], cuts, axis)))
        if op.type == "reshape2" and given[0].size == np.prod(shapes[0]):  # else values move between images
            return {outputs[0]: given[0].reshape(shapes[0])}
        if op.type == "transpose2" and op.attr("axis")[0] == 0:
            return {outputs[0]: given[0].transpose([axis - 1 for axis in op.attr("axis")[1:]])}
        if op.type == "elementwise_mul" and op.attr("axis") == -1:
            other = sources.get(op.input("Y")[0])
            if (given[0] is None) == (other is None):
                raise _Obstacle("a tensor is multiplied by itself")
            mine = other if given[0] is None else given[0]
            return {outputs[0]: np.broadcast_to(mine, shapes[0])}
        raise _Obstacle(f"{op.type} is in the way")

    def felt_weight(self, channels: int) -> np.ndarray:
        """`[channels]`: the largest weight that values of each channel meet."""
        felt = np.zeros(channels + 1)
        for op, column in self._taken:
            weight = np.abs(read_variable(self._scope, op.input("Filter")[0])).max(axis=(2, 3))
            sources = _rows(op, weight, column)
            np.maximum.at(felt, sources.reshape(-1), weight.reshape(-1))
        return felt[1:]

    def apply(self, factor: np.ndarray) -> dict[str, np.ndarray]:
        """Multiply the users' weights, and give every tensor on the way another name; gives the factors."""
        table = np.concatenate([[1.0], factor])
        scales = {}
        for op, column in self._taken:
            name = op.input("Filter")[0]
            weight = read_variable(self._scope, name)
            scales[name] = table[_rows(op, weight, column)][:, :, None, None]
            write_variable(self._scope, name, (weight * scales[name]).astype(np.float32))
        for name in self._sources:
            _rename(self._block, name)
        return scales


def _rows(op: Any, weight: np.ndarray, column: np.ndarray) -> np.ndarray:
    """`[out, in / groups]`: what stands at each input channel `[in]`, as a weight meets it."""
    groups = op.attr("groups")
    return np.repeat(column.reshape(groups, weight.shape[1]), weight.shape[0] // groups, axis=0)


def _divide_producer(
    block: Any, scope: Any, raw: str, name: str, factor: np.ndarray
) -> dict[str, np.ndarray]:
    """Divide weight and bias; gives what they were multiplied by."""
    weight, bias = _producer(block, raw).input("Filter")[0], _producer(block, name).input("Y")[0]
    value = read_variable(scope, weight) / factor[:, None, None, None]
    write_variable(scope, weight, value.astype(np.float32))
    value = (read_variable(scope, bias) / factor).astype(np.float32)
    if _uses(block, bias) > 1:
        own = Inserter(block, 0).variable(f"{name}.bias{_SUFFIX}", block.var(bias), persistable=True)
        _producer(block, name)._rename_input(bias, own.name)
        bias = own.name
    write_variable(scope, bias, value)
    return {weight: 1 / factor[:, None, None, None], bias: 1 / factor}


def _write_out_hard_swish(block: Any, scope: Any, op: Any, factor: np.ndarray) -> dict[str, np.ndarray]:
    """`6 * hard_swish(s * x) / s` as `x * relu6(s * x + 3)`; gives 0 for the two constants."""
    name, result = op.input("X")[0], op.output("Out")[0]
    index = next(i for i, other in enumerate(block.ops) if other is op)
    inserter, source, channels = Inserter(block, index), block.var(name), len(factor)

    def stored(part: str, value: np.ndarray) -> Any:
        full = f"{result}.{part}"
        write_variable(scope, full, value.astype(np.float32))
        return inserter.variable(full, source, persistable=True, shape=list(value.shape))

    def tensor(part: str) -> Any:
        return inserter.variable(f"{result}.{part}", source)

    inserter.operator(
        "depthwise_conv2d",
        {"Input": source, "Filter": stored("factor", factor.reshape(-1, 1, 1, 1))},
        {"Output": tensor("multiplied")},
        {
            "strides": [1, 1],
            "paddings": [0, 0],
            "dilations": [1, 1],
            "groups": channels,
            "padding_algorithm": "EXPLICIT",
            "data_format": "NCHW",
        },
    )
    three = stored("three", np.full(channels, 3.0))
    constants = (f"{result}.factor", three.name)
    inputs = {"X": tensor("multiplied"), "Y": three}
    inserter.operator("elementwise_add", inputs, {"Out": tensor("shifted")}, {"axis": 1})
    inserter.operator("relu6", {"X": tensor("shifted")}, {"Out": tensor("gate")}, {"threshold": 6.0})
    inputs = {"X": source, "Y": tensor("gate")}
    inserter.operator("elementwise_mul", inputs, {"Out": block.var(result)}, {"axis": -1})
    block._remove_op(next(i for i, other in enumerate(block.ops) if other is op), sync=False)
    return dict.fromkeys(constants, np.zeros(1))


def _rename(block: Any, name: str) -> None:
    """Another name for a tensor that now has other values."""
    other = Inserter(block, 0).variable(f"{name}{_SUFFIX}", block.var(name)).name
    for op in block.ops:
        if name in op.input_arg_names:
            op._rename_input(name, other)
        if name in op.output_arg_names:
            op._rename_output(name, other)


def _numbers(op: Any) -> tuple[float, ...]:
    return tuple(float(op.attr(name)) for name in ("threshold", "scale", "offset"))


def _shape(block: Any, name: str) -> tuple[int, ...]:
    shape = tuple(block.var(name).shape[1:])
    if not shape or any(size < 1 for size in shape):
        raise _Obstacle(f"the shape of {name} is not known")
    return shape


def _column(values: np.ndarray) -> np.ndarray:
    return np.asarray(values)[:, None, None]


def _channels(values: np.ndarray) -> np.ndarray:
    """`[C]` of `[C, H, W]` whose channels are each of one value."""
    column = values[:, 0, 0]
    if not (values == column[:, None, None]).all():
        raise _Obstacle("its channels are not channels any more")
    return column


def _producer(block: Any, name: str) -> Any | None:
    return next((op for op in block.ops if name in op.output_arg_names), None)


def _users(block: Any, name: str) -> list[Any]:
    return [op for op in block.ops if name in op.input_arg_names]


def _uses(block: Any, name: str) -> int:
    return len(_users(block, name))
