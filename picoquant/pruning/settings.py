"""Settings of pruning, with PaddleDetection's names and defaults.

Source of names and meanings: PaddleDetection 2.6, ppdet/slim/unstructured_prune.py and prune.py; PaddleSlim 2.6,
dygraph/prune.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from picoquant.errors import ConfigError
from picoquant.utils import setting_checks as checks

MODES = ("gmp", "ratio", "threshold")
CRITERIA = ("fpgm", "l1_norm")
CONV1X1_ONLY = "conv1x1_only"
ALL = "all"


def _part(where: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1:
        raise ConfigError(f"{where}: expected a part of at least 0 and below 1, found {value!r}")


def _whole(where: str, value: Any, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigError(f"{where}: expected a whole number of {least} or more, found {value!r}")


@dataclass(frozen=True)
class UnstructuredPrunerSettings:
    """Section `UnstructuredPruner`: weights that become 0 while the network trains, the smallest ones.

    Attributes:
        mode: `gmp`: the part of zeros grows along a ramp, as in PaddleDetection. `ratio`: it is `ratio` from the first
            update on. `threshold`: weights smaller than `threshold` are 0. In the last two the zeros are chosen anew
            after every update.
        ratio: part of the weights that are 0 in the end; not used by `threshold`.
        threshold: of `threshold`.
        initial_ratio: with which the ramp begins.
        stable_epochs: before the ramp, without zeros.
        pruning_epochs: of the ramp.
        tunning_epochs: behind it, with `ratio`. With fewer epochs than all three the training must end behind the
            ramp; with more `ratio` stays.
        pruning_steps: how often the part is raised on the ramp.
        prune_params_type: `conv1x1_only`: weights of 1x1 convolutions; None: all weights but those of batch norms, and
            biases.
        local_sparsity: each layer has the part of zeros; false: all layers together.
        skip_params: layers that keep all their weights: names, also with `*`, or PaddleDetection's (`conv2d_17`).
    """

    mode: str = "gmp"
    ratio: float = 0.55
    threshold: float = 0.01
    initial_ratio: float = 0.15
    stable_epochs: int = 0
    pruning_epochs: int = 150
    tunning_epochs: int = 150
    pruning_steps: int = 300
    prune_params_type: str | None = None
    local_sparsity: bool = True
    skip_params: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        name = "UnstructuredPruner"
        checks.one_of(f"{name}.mode", self.mode, MODES)
        _part(f"{name}.ratio", self.ratio)
        _part(f"{name}.initial_ratio", self.initial_ratio)
        number = isinstance(self.threshold, (int, float)) and not isinstance(self.threshold, bool)
        if not number or not math.isfinite(self.threshold) or self.threshold < 0:
            raise ConfigError(f"{name}.threshold: expected a number of 0 or more, found {self.threshold!r}")
        for key, least in (
            ("stable_epochs", 0), ("pruning_epochs", 1), ("tunning_epochs", 0), ("pruning_steps", 1),
        ):  # fmt: skip
            _whole(f"{name}.{key}", getattr(self, key), least)
        if self.mode == "gmp" and self.initial_ratio > self.ratio:
            raise ConfigError(
                f"{name}.initial_ratio: {self.initial_ratio:g} is more than ratio, {self.ratio:g}: the ramp rises"
            )
        if self.prune_params_type not in (None, CONV1X1_ONLY):
            raise ConfigError(
                f"{name}.prune_params_type: expected {CONV1X1_ONLY} or null, found {self.prune_params_type!r}"
            )
        if not isinstance(self.local_sparsity, bool):
            raise ConfigError(f"{name}.local_sparsity: expected true or false, found {self.local_sparsity!r}")
        if self.mode == "threshold" and self.local_sparsity:
            object.__setattr__(self, "local_sparsity", False)  # one threshold is that of all layers
        skipped = checks.listed(self.skip_params)
        if not all(isinstance(one, str) for one in skipped):
            raise ConfigError(f"{name}.skip_params: expected names of layers, found {self.skip_params!r}")
        object.__setattr__(self, "skip_params", tuple(skipped))


@dataclass(frozen=True)
class PrunerSettings:
    """Section `Pruner`: filters of convolutions that are removed from trained weights before they are trained on.

    Attributes:
        criterion: `fpgm`: filters nearest to all others of their layer go first (https://arxiv.org/abs/1811.00250);
            `l1_norm`: those with the smallest weights.
        pruned_params: weights whose filters are removed, PaddleDetection's names (`conv2d_27.w_0`) or picoquant's
            (`neck.conv.weight`), also with `*`; `all`: of every convolution whose filters can be. Layers whose channels
            are the same, by a sum, a depthwise convolution and so on, lose the same ones: the first that is named
            chooses.
        pruned_ratios: which part of the filters of each; one number is that of all.
        print_params: print the names and shapes of all parameters.
    """

    criterion: str = "fpgm"
    pruned_params: Any = ALL
    pruned_ratios: Any = 0.3
    print_params: bool = False

    def __post_init__(self) -> None:
        checks.one_of("Pruner.criterion", self.criterion, CRITERIA)
        if not isinstance(self.print_params, bool):
            raise ConfigError(f"Pruner.print_params: expected true or false, found {self.print_params!r}")
        names, ratios = checks.listed(self.pruned_params), checks.listed(self.pruned_ratios)
        if not names or not all(isinstance(name, str) for name in names):
            raise ConfigError(
                f"Pruner.pruned_params: expected {ALL} or names of weights, found {self.pruned_params!r}"
            )
        # PaddleDetection turns texts into numbers.
        ratios = [_number(one) for one in ratios]
        for one in ratios:
            _part("Pruner.pruned_ratios", one)
        if len(ratios) == 1:
            ratios *= len(names)
        if len(ratios) != len(names):
            raise ConfigError(
                f"Pruner.pruned_ratios: {len(ratios)} numbers for {len(names)} pruned_params; give one for each, "
                "or one for all"
            )
        object.__setattr__(self, "pruned_params", tuple(names))
        object.__setattr__(self, "pruned_ratios", tuple(ratios))


def _number(value: Any) -> Any:
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value
