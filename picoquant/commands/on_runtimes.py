"""A model on a runtime with the settings of a recipe."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from picoquant.backends.base import MACHINE, Machine
from picoquant.backends.table import BACKENDS
from picoquant.backends.verisilicon import toolchain as verisilicon
from picoquant.errors import ToolError
from picoquant.runtimes.backends import Running, emulating, in_acuity, running, simulating
from picoquant.runtimes.model import Model
from picoquant.stages.evaluating import (
    trained_network,
)
from picoquant.stages.model import BEST_WEIGHTS
from picoquant.stages.stage import Context
from picoquant.targets.profiles import Target

LOG = logging.getLogger("picoquant")

CACHE = "emulator"  # folder of the emulator's results, among those of the comparison


@dataclass(frozen=True)
class Emulate:
    """Whether and how targets run on VeriSilicon's emulator, too.

    Attributes:
        folder: of the comparison's results.
        every_tensor: compare every tensor with the simulation.
    """

    folder: Path
    every_tensor: bool = False


def require_chips(targets: Sequence[Target]) -> None:
    """Check, before anything runs, that VeriSilicon's emulator is there and has the NPUs of these targets.

    Raises: `ToolError` saying what to install, or which NPUs it has.
    """
    tool = verisilicon.find(MACHINE)
    for target in targets:
        verisilicon.chip_of(target, tool)


@contextmanager
def ready_on(
    context: Context,
    model: Model,
    backend: str,
    machine: Machine,
    known: Mapping[str, str] = BACKENDS,
) -> Iterator[Running]:
    """A model on a runtime, with the recipe's NMS.

    Raises: `ToolError`, `WeightsError`, `UserError` saying why it does not run.
    """
    with running(model, backend, machine, context.plan.nms, known) as ready:
        yield ready


@contextmanager
def simulated_on(context: Context, model: Model, target: Target) -> Iterator[Running]:
    """An INT8 model in a target's integers, with the recipe's NMS.

    Raises: `ToolError`, `WeightsError`, `UserError` saying why it cannot be simulated.
    """
    with simulating(model, target, context.plan.nms) as ready:
        yield ready


@contextmanager
def emulated_on(context: Context, model: Model, target: Target, how: Emulate) -> Iterator[Running]:
    """An INT8 model on VeriSilicon's emulator of a target, with the recipe's NMS.

    Raises: `ToolError`, `WeightsError`, `UserError` saying why it does not run there.
    """
    with emulating(model, target, context.plan.nms, how.folder / CACHE, how.every_tensor) as ready:
        yield ready


@contextmanager
def acuity_on(context: Context, model: Model) -> Iterator[Running]:
    """An INT8 model in acuity's own simulation, with the recipe's NMS.

    Raises: `ToolError`, `WeightsError`, `UserError` saying why it does not run there.
    """
    with in_acuity(model, context.plan.nms) as ready:
        yield ready


@contextmanager
def dygraph_on(context: Context, dataset: Any) -> Iterator[Running]:
    """The trained network itself: `Global.weights`, or the best of the run.

    Args:
        context: the recipe, and the run where there is one.
        dataset: whose classes weights from outside a run are taken to have.

    Raises: `UserError` when there are no weights.
    """
    if context.run is None and not context.plan.common.weights:
        raise ToolError(f"it needs trained weights: --weights FILE, or a run with train/{BEST_WEIGHTS}")
    yield trained_network(context, dataset)
