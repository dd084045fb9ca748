"""An INT8 network in acuity's own simulation, called like every other runtime, and how many values differ from ours.

acuity multiplies sums with more bits than the emulator of the A311D, S905D3 and C308X does (16, truncated): what it
computes is the simulation with a multiplier of 31 bits, and tables of all 256 values.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType

import numpy as np

from picoquant.backends.acuity.form import make_form
from picoquant.backends.acuity.simulator import Session
from picoquant.backends.own_environment.package import OwnTool
from picoquant.errors import ToolError
from picoquant.npu.emulated.describe import form_of
from picoquant.npu.emulated.differences import Difference, said_of
from picoquant.npu.simulation.arithmetic import dequantise
from picoquant.npu.simulation.simulation import NpuSimulation
from picoquant.targets.integer_rules import Arithmetic, MultiplierRule, Rules
from picoquant.utils.batching import in_batches

RULES = Rules(Arithmetic("uint8", "half_to_even", MultiplierRule(31)))
_OFF = 0.05  # levels that a value may be beside an integer, for float32's sake


class AcuityNetwork:
    """Runs images in acuity's simulation, and counts how many values differ from ours; use it in a `with`.

    Attributes:
        input_names, outputs: see `NpuSimulation`.
        differences: by name of the network's outputs.

    Args:
        simulation: of an INT8 network, with `RULES`.
        tool: see `acuity.toolchain.find`.

    Raises: `ToolError` when paddle2onnx refuses the network.
    """

    def __init__(self, simulation: NpuSimulation, tool: OwnTool) -> None:
        self._simulation, self._tool = simulation, tool
        self.input_names, self.outputs = simulation.input_names, simulation.outputs
        self.differences = {name: Difference() for name, _ in self.outputs}
        form = make_form(simulation.graph.network, simulation.params)
        self._session = Session(tool, form, "uint8" if form_of(simulation).zero_point else "int8")

    def __enter__(self) -> AcuityNetwork:
        self._session.__enter__()
        try:
            self._session.load()
        except BaseException:
            self._session.__exit__()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._session.__exit__(kind, error, trace)

    @property
    def remark(self) -> str:
        """What is known after the images: differing values."""
        return said_of(self.differences, "picoquant's simulation with a multiplier of 31 bits")

    def __call__(self, feed: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Run a batch, image by image; returns the outputs, float32, in the order of `outputs`.

        Raises: `ToolError` when acuity ends, or its outputs are not those of the INT8 network.
        """
        return in_batches(self._run, feed, 1)

    def _run(self, feed: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        _, found = self._session.run([feed[name] for name in self.input_names])
        simulated = self._simulation.run_steps(feed)
        if [value.shape for value in found] != [simulated[name].shape for name, _ in self.outputs]:
            shapes = ", ".join(str(list(value.shape)) for value in found)
            raise ToolError(
                f"{self._tool.title} {self._tool.version} gives outputs {shapes}, which are not the network's"
            )
        outputs = []
        for (name, _), value in zip(self.outputs, found):
            params = self._simulation.params[name]
            levels = value.astype(np.float64) / params.scale
            integers = np.rint(levels)
            off = np.abs(levels - integers).max(initial=0)
            if not off < _OFF:  # NaN, too
                raise ToolError(
                    f"{self._tool.title} {self._tool.version} gives {name} values that are no integers times its scale "
                    f"(off by {off:.2f} of it): it has not computed the INT8 network"
                )
            self.differences[name].add(integers, simulated[name])
            outputs.append(dequantise(integers, params))
        return outputs
