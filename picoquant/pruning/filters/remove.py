"""Filters removed from a trained network: chosen by a criterion, with all that depends on them."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import paddle
from paddle import nn
from paddle.static import InputSpec

from picoquant.detector.modes import evaluation_mode
from picoquant.detector.resizing import require_fitting, resize_layers
from picoquant.errors import ConfigError
from picoquant.export.paddle_export import RawForm, write_layer
from picoquant.paddle_program.graph import read_graph
from picoquant.paddle_program.model_folder import MODEL
from picoquant.paddle_program.program import read_program
from picoquant.pruning.filters.channels import Row
from picoquant.pruning.filters.criteria import SCORES, least
from picoquant.pruning.filters.follow import follow
from picoquant.pruning.names import chosen_weights, numbered, weights_of
from picoquant.pruning.settings import ALL, PrunerSettings

LOG = logging.getLogger("picoquant")

_SIDE = 64  # pixels of the image for which the network is traced: its channels are those of any size


@dataclass(frozen=True)
class Removed:
    """Filters that were removed of one convolution.

    Attributes:
        name: of its weights.
        before, after: number of filters.
    """

    name: str
    before: int
    after: int


def remove_filters(model: nn.Layer, settings: PrunerSettings) -> list[Removed]:
    """Remove filters, with everything that depends on them; the network becomes smaller in place.

    Args:
        model: a `PicoDet` with trained weights; its mode is restored.
        settings: which, and how many.

    Returns: every convolution that has fewer filters now, in the network's order.

    Raises: `ConfigError` for weights that the network does not have, or whose filters make its outputs.
    """
    groups = find_groups(model)
    chosen = _choose(model, settings, groups)
    state = {name: value.numpy() for name, value in model.state_dict().items()}
    dropped: dict[str, dict[int, set[int]]] = {}
    for root in chosen:
        for row in groups.rows[root]:
            dropped.setdefault(row.name, {}).setdefault(row.axis, set()).add(row.position)
    smaller = {}
    for name, axes in dropped.items():
        value = state[name]
        for axis, indices in axes.items():
            value = np.delete(value, sorted(indices), axis=axis)
        smaller[name] = value
    convolutions = weights_of(model)
    resize_layers(model, smaller)
    require_fitting(model)
    return [
        Removed(name, len(state[name]), len(smaller[name]))
        for name in convolutions
        if name in smaller and len(state[name]) != len(smaller[name])
    ]


@dataclass(frozen=True)
class Groups:
    """The channels of a network that are removed together.

    Attributes:
        rows: what belongs to each group, by its number.
        kept: the groups that are never removed.
    """

    rows: Mapping[int, Sequence[Row]]
    kept: frozenset[int]

    def of(self, name: str, count: int) -> list[int]:
        """The group of each filter of a convolution, `count` of them."""
        found = [-1] * count
        for number, rows in self.rows.items():
            for row in rows:
                if row.name == name and row.axis == 0:
                    found[row.position] = number
        return found


def find_groups(model: nn.Layer) -> Groups:
    """The groups of a network's channels, found on the program that it is exported as."""
    names: dict[str, str] = {}  # variable -> name
    shapes = {}
    for name, value in model.state_dict().items():
        if value.name not in names:
            names[value.name] = name
            shapes[value.name] = tuple(value.shape)
    form = RawForm(model)
    with tempfile.TemporaryDirectory(prefix="picoquant-groups-") as scratch, evaluation_mode(form):
        spec = InputSpec([1, 3, _SIDE, _SIDE], "float32", "image")
        write_layer(form, [spec], Path(scratch))
        graph = read_graph(read_program(Path(scratch) / MODEL))
    channels = follow(graph, shapes)
    rows = {
        number: [row._replace(name=names[row.name]) for row in found]
        for number, found in channels.rows().items()
    }
    return Groups(rows, frozenset(channels.kept_roots()))


def _choose(model: nn.Layer, settings: PrunerSettings, groups: Groups) -> set[int]:
    """The groups that are removed."""
    weights, by_number = weights_of(model), numbered(model)
    if settings.print_params:
        numbers = {name: number for number, name in by_number.items()}
        for name, value in weights.items():
            LOG.info("prune: %s %s %s", numbers.get(name, "-"), name, list(value.shape))
    seen: set[int] = set()
    chosen: set[int] = set()
    for wanted, ratio in zip(settings.pruned_params, settings.pruned_ratios):
        every = wanted == ALL or "*" in wanted
        names = (
            list(weights)
            if wanted == ALL
            else chosen_weights("Pruner.pruned_params", wanted, weights, by_number)
        )
        for name in names:
            if len(weights[name].shape) == 4:
                chosen |= _of_one(name, weights[name], ratio, settings.criterion, groups, seen, every)
    return chosen


def _of_one(
    name: str, value: paddle.Tensor, ratio: float, criterion: str, groups: Groups, seen: set[int], every: bool
) -> set[int]:
    """The groups that the filters of one convolution choose; `seen` gets all of its groups."""
    of_filter = np.array(groups.of(name, value.shape[0]))
    numbers = np.array(list(dict.fromkeys(of_filter.tolist())))
    if seen & set(numbers.tolist()):
        if not every:
            LOG.info("prune: %s has the channels of a layer that was named before; it goes with that", name)
        return set()
    free = [number for number in numbers.tolist() if number not in groups.kept and number >= 0]
    if not free:
        if every:
            return set()
        raise ConfigError(
            f"Pruner.pruned_params: {name} cannot lose filters: they make the network's outputs, or what fixes their "
            "number"
        )
    seen.update(free)
    scores = SCORES[criterion](value.numpy())
    of_group = np.array([scores[of_filter == number].mean() for number in free])
    return {free[position] for position in least(of_group, ratio)}


def shapes_of(model: nn.Layer) -> dict[str, list[int]]:
    """Shapes of a network's parameters and buffers, by name; JSON-able."""
    return {name: [int(size) for size in value.shape] for name, value in model.state_dict().items()}
