"""Cross-layer equalisation: the channels of a tensor are given similar ranges, without changing the outputs.

INT8 has one scale for a tensor, so a channel that reaches 3 beside one that reaches 600 has one quantised value. Each
channel of a convolution's result is divided by a factor (in the weights and the bias, which have a scale for each
output channel and lose nothing), and the layers that use it next multiply it back in their own weights (Nagel et al.
2019, https://arxiv.org/abs/1906.04721). A positive factor must be able to pass what is between:

- nothing, ReLU and leaky ReLU, pooling, resizing, concat, split, reshape, transpose and a product let it pass;
- hard-swish does not. It is written out with the factor inside, `x * relu6(s*x + 3)`: a depthwise 1x1
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

from picoquant.int8.passes.activations import target_tensors
from picoquant.paddle_program.layers import CONVOLUTIONS
from picoquant.paddle_program.static.programs import InferenceModel, Inserter, read_variable, write_variable
from picoquant.quantization.ptq.equalisation_path import (
    PASSING_ACTIVATIONS,
    SUFFIX,
    FactorPath,
    Obstacle,
    producer_of,
    rename_tensor,
    stored_bias,
    use_count,
    users_of,
)

LOG = logging.getLogger("picoquant")

_GAIN_OF_HARD_SWISH = 4.0
_GAIN_OF_OTHERS = 1.2
_LARGEST_FACTOR = 1e3


@dataclass(frozen=True)
class Equalised:
    """One tensor whose channels were equalised.

    Attributes:
        name: of the convolution's result.
        activation: type of the activation behind it; empty for none.
        gain: expected noise before, divided by that after.
        scales: by stored variable, what it was multiplied by, in a shape that broadcasts to the variable's; 0 for the
            constants of a hard-swish that was written out.
    """

    name: str
    activation: str
    gain: float
    scales: dict[str, np.ndarray] = field(default_factory=dict)


def equalise(
    model: InferenceModel, scope: Any, channel_ranges: Callable[[list[str]], dict[str, np.ndarray]]
) -> list[Equalised]:
    """Equalise a folded network; its FP32 outputs change by float rounding only.

    Args:
        model: its program is changed in place.
        scope: holds its stored variables; they are changed.
        channel_ranges: given names of tensors `[N, C, H, W]`, returns the absmax of each channel, `[C]`, by name.

    Returns: the tensors that were equalised, in the network's order.
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
    """Results of a convolution, of its bias addition, and of the activation behind it (the same without one)."""
    sites = []
    for add in [op for op in block.ops if stored_bias(block, op)]:
        conv = producer_of(block, add.input("X")[0])
        if conv is None or conv.type not in CONVOLUTIONS or len(users_of(block, add.input("X")[0])) != 1:
            continue
        name = add.output("Out")[0]
        users = users_of(block, name)
        if len(users) == 1 and users[0].type in (*PASSING_ACTIVATIONS, "hard_swish"):
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
    """Equalise one tensor, if that is worth it, and update its entry in `ranges`.

    Args:
        block, scope: of the network; changed in place.
        raw: the convolution's result.
        name: the result of its bias addition.
        result: that of the activation behind; `name` without one.
        ranges: absmax of each channel, `[C]`, by tensor.
        partners: tensors that share a scale with `result`.
    """
    activation = producer_of(block, result) if name != result else None
    kind = activation.type if activation is not None else ""
    reach = np.maximum(ranges[result], 1e-6 * max(ranges[result].max(), 1e-12))
    if kind == "hard_swish":  # its results for -3 to 3 are small, but it needs all of that
        reach = np.maximum(reach, 3.0)
    try:
        if use_count(block, producer_of(block, raw).input("Filter")[0]) > 1:
            raise Obstacle("its weight is shared")
        if kind == "hard_swish" and _numbers(activation) != (6.0, 6.0, 3.0):
            raise Obstacle("its hard_swish is not the usual one")
        path = FactorPath(block, scope, result)
    except Obstacle as obstacle:
        LOG.debug("%s is not equalised: %s", name, obstacle)
        return None
    weight = path.weight_absmax(len(reach))
    weight = np.maximum(weight, 1e-6 * max(weight.max(), 1e-12))
    # A depthwise weight has a scale for each channel and takes any factor; others share theirs, so activation and
    # weight each take half of the factor.
    factor = reach if path.depthwise else np.sqrt(reach / weight)
    factor = np.maximum(factor / factor.max(), 1 / _LARGEST_FACTOR)
    before = reach.max() ** 2 * (weight**2).sum()
    after = (reach / factor).max() ** 2 * ((weight * factor) ** 2).sum()
    gain = float(before / after)
    if gain < (_GAIN_OF_HARD_SWISH if kind == "hard_swish" else _GAIN_OF_OTHERS):
        return None
    # The whole tensor may be multiplied, too: to the range of those that it shares a scale with.
    others = [ranges[n].max() for n in partners if n in ranges and n not in path.names]
    target = max(others, default=ranges[result].max()) or 1.0
    times = 6.0 if kind == "hard_swish" else 1.0
    factor = factor * (times * (ranges[result] / factor).max() / target)
    scales = _divide_producer(block, scope, raw, name, factor)
    scales.update(path.apply(factor / times))
    ranges[result] = ranges[result] * times / factor
    if name != result:
        rename_tensor(block, name)
    if kind == "hard_swish":
        scales.update(_write_out_hard_swish(block, scope, activation, factor))
    return Equalised(name, kind, gain, scales)


def weight_scales(done: Sequence[Equalised]) -> dict[str, np.ndarray]:
    """What each stored variable was multiplied by in total, float32, see `Equalised.scales`."""
    total: dict[str, np.ndarray] = {}
    for item in done:
        for name, scale in item.scales.items():
            total[name] = total.get(name, np.float32(1)) * scale.astype(np.float32)
    return total


def _divide_producer(
    block: Any, scope: Any, raw: str, name: str, factor: np.ndarray
) -> dict[str, np.ndarray]:
    """Divide weight and bias by `factor` `[C]`; what they were multiplied by is returned."""
    weight, bias = producer_of(block, raw).input("Filter")[0], producer_of(block, name).input("Y")[0]
    value = read_variable(scope, weight) / factor[:, None, None, None]
    write_variable(scope, weight, value.astype(np.float32))
    value = (read_variable(scope, bias) / factor).astype(np.float32)
    if use_count(block, bias) > 1:
        own = Inserter(block, 0).variable(f"{name}.bias{SUFFIX}", block.var(bias), persistable=True)
        producer_of(block, name)._rename_input(bias, own.name)
        bias = own.name
    write_variable(scope, bias, value)
    return {weight: 1 / factor[:, None, None, None], bias: 1 / factor}


def _write_out_hard_swish(block: Any, scope: Any, op: Any, factor: np.ndarray) -> dict[str, np.ndarray]:
    """Write `6 * hard_swish(s * x) / s` as `x * relu6(s * x + 3)`, `factor` `[C]` being `s`.

    Returns: 0 by name of the two new constants, which must not be trained.
    """
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


def _numbers(op: Any) -> tuple[float, ...]:
    return tuple(float(op.attr(name)) for name in ("threshold", "scale", "offset"))
