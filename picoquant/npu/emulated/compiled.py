"""A network as VeriSilicon's driver compiles it for a chip (NBG): made here, and run on the emulator of that chip.

The driver takes it as it is: nothing is compiled on the board, and Paddle Lite has no part in it. Its outputs are maps
`[C, H, W]` where the network's are rows, see `backends/paddle_lite/output_maps.py`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from picoquant.backends.paddle_lite.output_maps import rows
from picoquant.backends.verisilicon.description import FORMS, Description, Form
from picoquant.backends.verisilicon.emulator import Emulation, compile_network
from picoquant.backends.verisilicon.toolchain import Emulator, chip_of
from picoquant.errors import ToolError, UserError
from picoquant.int8.quant_params import QuantParams
from picoquant.npu.simulation.arithmetic import dequantise, quantise
from picoquant.paddle_program.model_folder import ModelFolder
from picoquant.targets.profiles import Target

if TYPE_CHECKING:
    from picoquant.npu.simulation.simulation import NpuSimulation

LOG = logging.getLogger("picoquant")

FILE = "network_binary.nb"
_OF_MAPS = 3  # axes of one image


@dataclass(frozen=True)
class EndTensor:
    """An input or an output of a compiled network.

    Attributes:
        name: of the network's tensor.
        shape: of one image.
        scale, zero_point: what its stored integers mean.
    """

    name: str
    shape: tuple[int, ...]
    scale: float
    zero_point: int


@dataclass(frozen=True)
class CompiledFacts:
    """What there is to know of a compiled network; all JSON-able.

    Attributes:
        file: its name in a package.
        chip: whose it is, by the emulator's name.
        emulator: version of the package that compiled it.
        form: of its tensors, a key of `FORMS`.
        inputs, outputs: in its order.
    """

    file: str
    chip: str
    emulator: str
    form: str
    inputs: tuple[EndTensor, ...]
    outputs: tuple[EndTensor, ...]

    def to_json(self) -> dict[str, Any]:
        """For a manifest."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Any, where: str) -> CompiledFacts:
        """What a manifest says.

        Raises: `UserError` naming `where` when something is missing, or is not what it should be.
        """
        try:
            inputs, outputs = (
                tuple(
                    EndTensor(
                        str(one["name"]),
                        tuple(int(side) for side in one["shape"]),
                        float(one["scale"]),
                        int(one["zero_point"]),
                    )
                    for one in values[key]
                )
                for key in ("inputs", "outputs")
            )
            facts = cls(*(str(values[key]) for key in ("file", "chip", "emulator", "form")), inputs, outputs)
            if facts.form not in FORMS or not inputs or not outputs:
                raise ValueError(facts.form)
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"{where} does not say what the compiled network is: package the model again"
            ) from error
        return facts


def compile_for(simulation: NpuSimulation, tool: Emulator, chip: str) -> tuple[bytes, CompiledFacts]:
    """Compile a network for a chip; takes about as long as one image on the emulator.

    Args:
        simulation: of an INT8 network, with the target's rules.
        tool, chip: see `Emulation`.

    Raises: `ToolError` for an operator that is not known there, and when the driver ends.
    """
    from picoquant.npu.emulated.describe import describe_network, ends, form_of

    form = form_of(simulation)
    content = compile_network(tool, chip, describe_network(simulation, form))
    inputs = tuple(_end(simulation, form, name, name) for name in simulation.input_names)
    outputs = tuple(_end(simulation, form, name, at) for name, at in ends(simulation).items())
    name = next(name for name, one in FORMS.items() if one is form)
    return content, CompiledFacts(FILE, chip, tool.version, name, inputs, outputs)


def compile_into(folder: Path, model: ModelFolder, target: Target, tool: Emulator) -> dict[str, Any]:
    """Write a model's compiled network into a package.

    Args:
        folder: of the package.
        model: an INT8 model.
        target: with `verisilicon`.
        tool: the emulator.

    Returns: what the manifest says of it; of a network that the driver does not take, why (`left_out`).

    Raises: `ToolError` when the target's NPU is none of the emulator's.
    """
    from picoquant.npu.simulation.simulation import NpuSimulation

    chip = chip_of(target, tool)
    LOG.info("package %s: %s by acuitylite %s, for %s", target.name, FILE, tool.version, chip)
    try:
        content, facts = compile_for(NpuSimulation(model, target.integer_rules), tool, chip)
    except ToolError as error:
        LOG.warning("package %s: %s is left out: %s", target.name, FILE, error)
        return {"left_out": str(error)}
    (folder / FILE).write_bytes(content)
    return facts.to_json()


def _end(simulation: NpuSimulation, form: Form, name: str, at: str) -> EndTensor:
    params = simulation.params[at]
    shape = tuple(simulation.graph.graph.tensor(at).shape[1:])
    zero_point = int(params.zero_point) if form.name == "u8" else 0
    return EndTensor(name, shape, float(params.scale), zero_point)


class CompiledNetwork:
    """A compiled network on the emulator of its chip, called like every other runtime; one image after another.

    Attributes:
        input_names: of the network.
        outputs: names and shapes, of one image.

    Args:
        content: the compiled network.
        facts: of it.
        tool: the emulator.
    """

    def __init__(self, content: bytes, facts: CompiledFacts, tool: Emulator) -> None:
        self._facts = facts
        self._network = Description(FORMS[facts.form])
        for one in facts.inputs:
            self._network.input(one.name, one.shape, one.scale, one.zero_point)
        for one in facts.outputs:
            self._network.output(one.name, one.shape, one.scale, one.zero_point)
        self._network.compiled(content)
        self.input_names = tuple(one.name for one in facts.inputs)
        self.outputs = tuple((one.name, (1, *self._shape(one))) for one in facts.outputs)
        self._emulation = Emulation(tool, facts.chip, self._network)

    def __enter__(self) -> CompiledNetwork:
        self._emulation.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._emulation.__exit__(kind, error, trace)

    def __call__(self, feed: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Run a batch; returns the outputs, float32.

        Raises: `EmulatorEnded` when the emulator does not take the network, or ends on an image.
        """
        count = len(feed[self.input_names[0]])
        images = [self._run({name: feed[name][index] for name in self.input_names}) for index in range(count)]
        return [np.concatenate(parts) for parts in zip(*images)]

    def _run(self, feed: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        values = {
            one.name: quantise(feed[one.name], self._params(one), "half_to_even")
            for one in self._facts.inputs
        }
        found = self._network.read(self._emulation.run(self._network.stored(values)))
        results = []
        for one in self._facts.outputs:
            ordered = rows(found[one.name]) if len(one.shape) == _OF_MAPS else found[one.name]
            results.append(dequantise(ordered[None], self._params(one)))
        return results

    def _params(self, one: EndTensor) -> QuantParams:
        signed = self._network.form.name != "u8"
        return QuantParams(one.scale, one.zero_point, signed=signed, narrow=False)

    @staticmethod
    def _shape(one: EndTensor) -> tuple[int, ...]:
        if len(one.shape) != _OF_MAPS:
            return one.shape
        channels, height, width = one.shape
        return (height * width, channels)
