"""Cross-layer equalisation: the channels of a tensor are given ranges that cost little, without changing the outputs.

INT8 has one scale for a tensor, so a channel that reaches 3 beside one that reaches 600 has one quantised value. Each
channel of a convolution's result is divided by a factor (in the weights and the bias, which have a scale for each
output channel and lose nothing), and the layers that use it next multiply it back in their own weights (Nagel et al.
2019, https://arxiv.org/abs/1906.04721). The factors are not the paper's, which make ranges equal, but those for which
rounding costs the detections least (`cost.py`). A positive factor must be able to pass what is between:

- nothing, ReLU and leaky ReLU, pooling, resizing, concat, split, reshape, transpose and a product let it pass;
- hard-swish does not. It is written out with the factor inside, `x * relu6(s*x + 3)`: a depthwise 1x1
  convolution with ReLU6 and a product, both of which an NPU runs in INT8. That costs two operators for
  one, and the gate is rounded, too, so it is done only where it saves at least the part of what all rounding costs
  that its values are of the results of all convolutions;
- ReLU6 would need another limit in each channel. It is left alone: its results are at most 6, so their
  channels cannot be far apart.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from picoquant.paddle_program.layers import CONVOLUTIONS
from picoquant.paddle_program.static.programs import InferenceModel, Inserter, read_variable, write_variable
from picoquant.quantization.ptq.equalisation.cost import OneScale, Weights, best_factors, rounding_costs
from picoquant.quantization.ptq.equalisation.path import (
    FactorPath,
    Obstacle,
    own_bias,
    producer_of,
    rename_tensor,
    use_count,
)
from picoquant.quantization.ptq.equalisation.sites import GATE, HARD_SWISH, Site, sites_of
from picoquant.quantization.ptq.sensitivity import Sensitivity

LOG = logging.getLogger("picoquant")

_NOTICEABLE = 0.002  # part of all that rounding costs, the least that a hard-swish is written out for
_GAIN = 1.2


@dataclass(frozen=True)
class Equalised:
    """One tensor whose channels were equalised.

    Attributes:
        name: of the convolution's result.
        activation: type of the activation behind it; empty for none.
        gain: what rounding was expected to cost before, divided by that after.
        scales: by stored variable, what it was multiplied by, in a shape that broadcasts to the variable's; 0 for the
            constants of a hard-swish that was written out.
    """

    name: str
    activation: str
    gain: float
    scales: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class _Choice:
    """The best factors of a site's result.

    Attributes:
        path: of the factors.
        factor: `[C]`.
        before, after: what rounding costs without them, and with them.
        depends_on: tensors that all of this was computed from.
    """

    path: FactorPath
    factor: np.ndarray
    before: float
    after: float
    depends_on: frozenset[str]


def needed_ranges(block: Any, groups: Sequence[Sequence[str]], more: Sequence[str] = ()) -> list[str]:
    """The tensors `[N, C, H, W]` whose channels' ranges `equalise` takes.

    Args:
        block: of the network.
        groups: see `equalise`.
        more: activations whose tensors are wanted, too, see `sites_of`.
    """
    held = [name for group in groups for name in group]
    between = [name for site in sites_of(block, more) for name in (site.name, site.result)]
    return [name for name in dict.fromkeys([*held, *between]) if len(block.var(name).shape) == 4]


def equalise(
    model: InferenceModel,
    scope: Any,
    groups: Sequence[Sequence[str]],
    ranges: Mapping[str, np.ndarray],
    sensitivity: Sensitivity,
) -> list[Equalised]:
    """Equalise a folded network; its FP32 outputs change by float rounding only.

    Args:
        model: its program is changed in place.
        scope: holds its stored variables; they are changed.
        groups: names of the tensors that are held in INT8; those of a group share a scale.
        ranges: absmax of each channel that has an effect, `[C]`, of the tensors `needed_ranges`, by name.
        sensitivity: of the network.

    Returns: the tensors that were equalised, in the network's order.
    """
    return _Equalisation(model.program.global_block(), scope, groups, ranges, sensitivity).run(model.program)


class _Equalisation:
    """The network with what is known of its tensors; all of it follows the factors."""

    def __init__(
        self,
        block: Any,
        scope: Any,
        groups: Sequence[Sequence[str]],
        ranges: Mapping[str, np.ndarray],
        sensitivity: Sensitivity,
    ) -> None:
        self._block, self._scope = block, scope
        self._groups = [list(group) for group in groups]
        self._ranges = dict(ranges)
        self._costs = dict(sensitivity.tensors)
        self._gates = sensitivity.gates
        self._weights = dict(sensitivity.weights)
        convolutions = [op for op in block.ops if op.type in CONVOLUTIONS]
        self._results = sum(_values(block, op.output("Output")[0]) for op in convolutions)
        self._changed: set[str] = set()  # tensors that are others since a round began

    def run(self, program: Any) -> list[Equalised]:
        """Equalise every tensor for which it is worth it.

        What is worth it, of a hard-swish, goes by all that rounding costs. At first that is far more than in the end,
        so there are rounds until one changes nothing.
        """
        sites = sites_of(self._block)
        choices = {site: choice for site in sites if (choice := self._choose(site)) is not None}
        done: dict[Site, Equalised] = {}
        applied = -1
        while len(done) > applied:
            applied = len(done)
            waiting = [site for site in choices if site not in done]
            choices.update(
                (site, self._choose(site)) for site in waiting if self._changed & choices[site].depends_on
            )
            self._changed.clear()
            total = self._total(done)
            for site in waiting:
                if self._changed & choices[site].depends_on:
                    choices[site] = self._choose(site)
                choice = choices[site]
                if self._is_worth_it(site, choice, total):
                    done[site] = self._apply(site, choice)
        program._sync_with_cpp()
        return [done[site] for site in sites if site in done]

    def _is_worth_it(self, site: Site, choice: _Choice, total: float) -> bool:
        if site.activation != HARD_SWISH:
            return choice.before >= _GAIN * choice.after
        part = max(_NOTICEABLE, _values(self._block, site.result) / self._results)
        return choice.before - choice.after >= part * total

    def _total(self, done: Iterable[Site]) -> float:
        """What rounding costs, of all tensors as they are and the gates of what was done."""
        tensors = [self._one_scale(group, {}) for group in self._groups]
        gates = [
            self._gates[site.result]
            for site in done
            if site.activation == HARD_SWISH and site.result in self._gates
        ]
        parts = [(one.reach.max(), one.cost) for one in tensors] + [(GATE, cost) for cost in gates]
        return float(sum(rounding_costs(*part).sum() for part in parts))

    def _choose(self, site: Site) -> _Choice | None:
        """The best factors; None where a factor cannot pass."""
        block = self._block
        try:
            if use_count(block, producer_of(block, site.raw).input("Filter")[0]) > 1:
                raise Obstacle("its weight is shared")
            is_hard_swish = site.activation == HARD_SWISH
            if is_hard_swish and _numbers(producer_of(block, site.result)) != (6.0, 6.0, 3.0):
                raise Obstacle("its hard_swish is not the usual one")
            path = FactorPath(block, self._scope, site.result)
        except Obstacle as obstacle:
            LOG.debug("%s is not equalised: %s", site.name, obstacle)
            return None
        count = len(self._ranges[site.result])
        channels = path.channels()
        concerned = self._groups_of({*path.names, site.name})
        tensors = [self._one_scale(group, channels) for group in self._groups_of(channels)]
        if is_hard_swish:
            own = {site.name: np.arange(1, count + 1)}
            tensors += [self._one_scale(group, own) for group in self._groups_of(own)]
        weights = [
            Weights(rows, absmax, self._weights.get(name, np.zeros(absmax.shape)))
            for name, rows, absmax in path.weights()
            if absmax.shape[1] > 1  # a depthwise weight takes any factor
        ]
        factor, before, after = best_factors(count, tensors, weights)
        if is_hard_swish and site.result in self._gates:
            after += float(rounding_costs(GATE, self._gates[site.result]).sum())
        if not self._shared(path):  # the size of all is free
            reach = self._ranges[site.result]
            factor = factor * ((reach / factor).max() / reach.max() or 1.0)
        depends_on = frozenset({site.name, *path.names, *(name for group in concerned for name in group)})
        return _Choice(path, factor, before, after, depends_on)

    def _shared(self, path: FactorPath) -> bool:
        """Whether a tensor on the way shares its scale with one that is not."""
        names = path.names
        return any(set(group) - names for group in self._groups_of(names))

    def _groups_of(self, names: Iterable[str]) -> list[list[str]]:
        names = set(names)
        return [group for group in self._groups if names & set(group)]

    def _one_scale(self, group: Sequence[str], channels: Mapping[str, np.ndarray]) -> OneScale:
        """The channels of a group, each with the number of its factor."""
        known = [name for name in group if name in self._ranges]
        sizes = [len(self._ranges[name]) for name in known]
        reach = np.concatenate([self._ranges[name] for name in known] or [np.zeros(1)])
        return OneScale(
            np.concatenate(
                [channels.get(name, np.zeros(size, int)) for name, size in zip(known, sizes)] or [[0]]
            ),
            np.maximum(reach, 1e-6 * max(reach.max(), 1e-9)),
            np.concatenate(
                [self._costs.get(name, np.zeros(size)) for name, size in zip(known, sizes)] or [np.zeros(1)]
            ),
        )

    def _apply(self, site: Site, choice: _Choice) -> Equalised:
        """Divide the site's result by the factors, and multiply them back behind."""
        block, scope, factor, path = self._block, self._scope, choice.factor, choice.path
        times = GATE if site.activation == HARD_SWISH else 1.0
        of_input = factor * times
        activation = producer_of(block, site.result) if site.name != site.result else None
        scales = _divide_producer(block, scope, site.raw, site.name, of_input)
        producer = producer_of(block, site.raw).input("Filter")[0]
        if producer in self._weights:
            self._weights[producer] = self._weights[producer] * (of_input**2)[:, None]
        table = np.concatenate([[1.0], factor])
        for name, rows, _ in path.weights():
            if name in self._weights:
                self._weights[name] = self._weights[name] / table[rows] ** 2
        for name, channels in path.channels().items():
            self._divide(name, table[channels])
        scales.update(path.apply(factor))
        for name, other in path.renamed.items():
            self._rename(name, other)
        if site.name != site.result:
            self._divide(site.name, of_input)
            self._rename(site.name, rename_tensor(block, site.name))
        if site.activation == HARD_SWISH:
            scales.update(_write_out_hard_swish(block, scope, activation, of_input))
        gain = choice.before / max(choice.after, 1e-30)
        return Equalised(site.name, site.activation, float(gain), scales)

    def _divide(self, name: str, factor: np.ndarray) -> None:
        if name in self._ranges:
            self._ranges[name] = self._ranges[name] / factor
        if name in self._costs:
            self._costs[name] = self._costs[name] * factor**2

    def _rename(self, name: str, other: str) -> None:
        self._changed.update((name, other))
        for known in (self._ranges, self._costs):
            if name in known:
                known[other] = known.pop(name)
        self._groups = [[other if one == name else one for one in group] for group in self._groups]


def _values(block: Any, name: str) -> int:
    """Values of a tensor, of one image."""
    return int(np.prod([max(size, 1) for size in block.var(name).shape[1:]]))


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
    weight, bias = producer_of(block, raw).input("Filter")[0], own_bias(block, scope, name)
    value = read_variable(scope, weight) / factor[:, None, None, None]
    write_variable(scope, weight, value.astype(np.float32))
    write_variable(scope, bias, (read_variable(scope, bias) / factor).astype(np.float32))
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
