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
  that its values are of the results of all convolutions; with zero points, where there are twice as many levels, ten
  times that part;
- ReLU6 would need another limit in each channel. It is left alone: its results are at most 6, so their
  channels cannot be far apart.

The factors of one tensor change what those of others should be: they share scales and weights. So all are found before
any is applied. One after the other gets the best for what the others have, several times over; then hard-swish that
save too little stay as they are, and the factors of what is left are found once more.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from picoquant.paddle_program.editing.operator import EditableOperator
from picoquant.paddle_program.editing.program_model import ProgramModel
from picoquant.paddle_program.layers import CONVOLUTIONS
from picoquant.quantization.ptq.equalisation.cost import (
    Descent,
    OneScale,
    Weights,
    best_factors,
    cost_of,
    rounding_costs,
)
from picoquant.quantization.ptq.equalisation.path import (
    FactorPath,
    Obstacle,
    rename_tensor,
    use_count,
)
from picoquant.quantization.ptq.equalisation.rewrite import divide_producer, write_out_hard_swish
from picoquant.quantization.ptq.equalisation.sites import GATE, HARD_SWISH, Site, sites_of
from picoquant.quantization.ptq.sensitivity import Sensitivity

LOG = logging.getLogger("picoquant")

_NOTICEABLE = 0.002  # part of all that rounding costs, the least that a hard-swish is written out for
_OF_ZERO_POINTS = 10.0  # such parts, where tensors have zero points
_GAIN = 1.2
_SWEEPS = (Descent(200, 0.2), Descent(100, 0.1), Descent(60, 0.05))
_LAST_SWEEP = Descent(60, 0.05)


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
class _Gain:
    """What a site's factors are worth, all others staying as they are.

    Attributes:
        before, after: what rounding costs without them, and with them.
    """

    before: float
    after: float


def needed_ranges(
    model: ProgramModel, groups: Sequence[Sequence[str]], more: Sequence[str] = ()
) -> list[str]:
    """The tensors `[N, C, H, W]` whose channels' ranges `equalise` takes.

    Args:
        model: the network.
        groups: see `equalise`.
        more: activations whose tensors are wanted, too, see `sites_of`.
    """
    held = [name for group in groups for name in group]
    between = [name for site in sites_of(model, more) for name in (site.name, site.result)]
    return [name for name in dict.fromkeys([*held, *between]) if len(model.shape(name)) == 4]


def equalise(
    model: ProgramModel,
    groups: Sequence[Sequence[str]],
    ranges: Mapping[str, np.ndarray],
    sensitivity: Sensitivity,
    per_channel: bool = True,
    symmetric: bool = True,
) -> list[Equalised]:
    """Equalise a folded network; its FP32 outputs change by float rounding only.

    Args:
        model: changed in place.
        groups: names of the tensors that are held in INT8; those of a group share a scale.
        ranges: absmax of each channel that has an effect, `[C]`, of the tensors `needed_ranges`, by name.
        sensitivity: of the network.
        per_channel: whether each output channel of a weight has a scale of its own.
        symmetric: whether tensors have no zero points.

    Returns: the tensors that were equalised, in the network's order.
    """
    least = 1.0 if symmetric else _OF_ZERO_POINTS
    return _Equalisation(model, groups, ranges, sensitivity, per_channel, least).run()


class _Equalisation:
    """A network with what is known of its tensors and weights, which are taken to have the factors found so far."""

    def __init__(
        self,
        model: ProgramModel,
        groups: Sequence[Sequence[str]],
        ranges: Mapping[str, np.ndarray],
        sensitivity: Sensitivity,
        per_channel: bool,
        least: float,
    ) -> None:
        self._model, self._per_channel, self._least = model, per_channel, least
        self._groups = [list(group) for group in groups]
        self._ranges = dict(ranges)
        self._costs = dict(sensitivity.tensors)
        self._gates = sensitivity.gates
        self._weights = dict(sensitivity.weights)
        convolutions = [op for op in model.operators if op.type in CONVOLUTIONS]
        self._results = sum(_values(model, op.output("Output")[0]) for op in convolutions)
        self._moved: dict[str, np.ndarray] = {}  # `[O, I]`, what each weight is taken to be multiplied by

    def run(self) -> list[Equalised]:
        """Equalise every tensor for which it is worth it."""
        paths = {site: path for site in sites_of(self._model) if (path := self._path(site)) is not None}
        factors = {site: np.ones(len(self._ranges[site.result])) for site in paths}
        for descent in _SWEEPS:
            self._sweep(paths, factors, descent)
        gains = {site: self._gain(site, path, factors[site]) for site, path in paths.items()}
        total = self._total(paths)
        kept = {site: path for site, path in paths.items() if self._is_worth_it(site, gains[site], total)}
        for site in [site for site in paths if site not in kept]:
            self._pretend(site, paths[site], 1 / factors[site])
        self._sweep(kept, factors, _LAST_SWEEP)
        return [self._apply(site, self._path(site), factors[site], gains[site]) for site in kept]

    def _sweep(
        self, paths: Mapping[Site, FactorPath], factors: dict[Site, np.ndarray], descent: Descent
    ) -> None:
        """Make each site's factors the best for what the others are; `factors` are changed."""
        for site, path in paths.items():
            factor = self._best(site, path, descent)
            self._pretend(site, path, factor)
            factors[site] = factors[site] * factor

    def _gain(self, site: Site, path: FactorPath, factor: np.ndarray) -> _Gain:
        """What the factors are worth that a site is taken to have."""
        rounded = self._rounded(site, path)
        after = cost_of(np.ones(len(factor)), *rounded)
        if site.activation == HARD_SWISH and site.result in self._gates:
            after += float(rounding_costs(GATE, self._gates[site.result]).sum())
        return _Gain(cost_of(1 / factor, *rounded), after)

    def _is_worth_it(self, site: Site, gain: _Gain, total: float) -> bool:
        if site.activation != HARD_SWISH:
            return gain.before > _GAIN * gain.after
        part = max(_NOTICEABLE, _values(self._model, site.result) / self._results)
        return gain.before - gain.after > self._least * part * total

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

    def _path(self, site: Site) -> FactorPath | None:
        """The way of a site's factors; None where they cannot pass."""
        model = self._model
        try:
            if use_count(model, model.producer(site.raw).input("Filter")[0]) > 1:
                raise Obstacle("its weight is shared")
            if site.activation == HARD_SWISH and _numbers(model.producer(site.result)) != (6.0, 6.0, 3.0):
                raise Obstacle("its hard_swish is not the usual one")
            return FactorPath(model, site.result)
        except Obstacle as obstacle:
            LOG.debug("%s is not equalised: %s", site.name, obstacle)
            return None

    def _best(self, site: Site, path: FactorPath, descent: Descent) -> np.ndarray:
        """The best factors, `[C]`, in addition to those that it is taken to have."""
        reach = self._ranges[site.result]
        factor = best_factors(len(reach), *self._rounded(site, path), descent)
        if not self._shared(path):  # the size of all is free
            factor = factor * ((reach / factor).max() / reach.max() or 1.0)
        return factor

    def _pretend(self, site: Site, path: FactorPath, factor: np.ndarray) -> None:
        """Take a site's result as divided by factors, and all that follows from it; the network is not changed."""
        table = np.concatenate([[1.0], factor])
        divisors = {name: 1 / table[rows] for name, rows, _ in path.weights()}
        divisors[self._weight_of(site)] = factor[:, None]
        for name, divisor in divisors.items():
            self._moved[name] = self._moved.get(name, 1.0) / divisor
            if name in self._weights:
                self._weights[name] = self._weights[name] * divisor**2
        for name, numbers in path.channels().items():
            self._divide(name, table[numbers])
        if site.name != site.result:
            self._divide(site.name, factor)

    def _weight_of(self, site: Site) -> str:
        """Name of the weight that computes a site."""
        return self._model.producer(site.raw).input("Filter")[0]

    def _rounded(self, site: Site, path: FactorPath) -> tuple[list[OneScale], list[Weights]]:
        """All that is rounded and depends on a site's factors."""
        channels = path.channels()
        tensors = [self._one_scale(group, channels) for group in self._groups_of(channels)]
        if site.activation == HARD_SWISH:
            own = {site.name: np.arange(1, len(self._ranges[site.result]) + 1)}
            tensors += [self._one_scale(group, own) for group in self._groups_of(own)]
        weights = [Weights(rows, *self._known_of(name, absmax)) for name, rows, absmax in path.weights()]
        if self._per_channel:
            several = [one for one in weights if one.reach.shape[1] > 1]  # a depthwise one takes any factor
            return tensors, several
        return [*tensors, self._rows_before(site)], [one.with_one_scale() for one in weights]

    def _known_of(self, weight: str, absmax: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Reach and cost of a weight, `[O, I]` both, as it is taken to be."""
        reach = absmax * self._moved.get(weight, 1.0)
        return reach, self._weights.get(weight, np.zeros(reach.shape))

    def _rows_before(self, site: Site) -> OneScale:
        """The weight that computes a site, whose rows are divided by its factors."""
        name = self._weight_of(site)
        reach, cost = self._known_of(name, np.abs(self._model.values[name]).max(axis=(2, 3)))
        rows = np.repeat(np.arange(1, len(reach) + 1), reach.shape[1])
        return OneScale(rows, np.maximum(reach, 1e-9 * reach.max()).reshape(-1), cost.reshape(-1))

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

    def _apply(self, site: Site, path: FactorPath, factor: np.ndarray, gain: _Gain) -> Equalised:
        """Divide the site's result by the factors, and multiply them back behind."""
        model = self._model
        times = GATE if site.activation == HARD_SWISH else 1.0
        of_input = factor * times
        activation = model.producer(site.result) if site.name != site.result else None
        scales = divide_producer(model, site.raw, site.name, of_input)
        scales.update(path.apply(factor))
        if site.name != site.result:
            rename_tensor(model, site.name)
        if site.activation == HARD_SWISH:
            scales.update(write_out_hard_swish(model, activation, of_input))
        return Equalised(site.name, site.activation, float(gain.before / max(gain.after, 1e-30)), scales)

    def _divide(self, name: str, factor: np.ndarray) -> None:
        if name in self._ranges:
            self._ranges[name] = self._ranges[name] / factor
        if name in self._costs:
            self._costs[name] = self._costs[name] * factor**2


def _values(model: ProgramModel, name: str) -> int:
    """Values of a tensor, of one image."""
    return int(np.prod([max(size, 1) for size in model.shape(name)[1:]]))


def weight_scales(done: Sequence[Equalised]) -> dict[str, np.ndarray]:
    """What each stored variable was multiplied by in total, float32, see `Equalised.scales`."""
    total: dict[str, np.ndarray] = {}
    for item in done:
        for name, scale in item.scales.items():
            total[name] = total.get(name, np.float32(1)) * scale.astype(np.float32)
    return total


def _numbers(op: EditableOperator) -> tuple[float, ...]:
    defaults = {"threshold": 6.0, "scale": 6.0, "offset": 3.0}
    return tuple(float(op.attributes.get(name, default)) for name, default in defaults.items())
