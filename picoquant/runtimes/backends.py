"""A model on a backend of this machine: the one place that brings the two together.

The backends are those of `backends/table.py`. An INT8 model in the integers of an NPU (`simulating`) is a simulation
and no runtime of this machine. The network itself (`dygraph`) needs a configuration to be built from, and is the
stages' matter.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from picoquant.backends.acuity import toolchain as acuity
from picoquant.backends.base import MACHINE, Backend, Exported, Found, Machine, load_backend
from picoquant.backends.paddle.smoke_test import require_tried
from picoquant.backends.source import Source
from picoquant.backends.table import BACKENDS, COMPILERS, DYGRAPH
from picoquant.backends.verisilicon import toolchain as verisilicon
from picoquant.errors import SchemeError, ToolError, UserError
from picoquant.paddle_program.model_folder import ModelFolder
from picoquant.paddle_program.network_input import require_input_size
from picoquant.paddle_program.program import program_facts
from picoquant.postprocess import Decoder, NmsSettings
from picoquant.runtimes.model import Model
from picoquant.targets.integer_rules import Rules
from picoquant.targets.profiles import Target

SIMULATION, EMULATOR, ACUITY = "simulation", "emulator", "acuity"


@dataclass(frozen=True)
class Running:
    """A model that is ready to be called.

    Attributes:
        backend, precision: which.
        predict: `predict(feed)` -> outputs; `predict.input_names`.
        decoder: fits the outputs.
        bytes: size of the files that run.
        note: what must be known of the numbers; empty for nothing.
        labels: names of the classes, in the order of the outputs.
        timed: whether its time says anything.
    """

    backend: str
    precision: str
    predict: Any
    decoder: Decoder
    bytes: int
    note: str = ""
    labels: tuple[str, ...] = ()
    timed: bool = True

    @property
    def name(self) -> str:
        """`onnx_int8`: the key in results."""
        return result_name(self.backend, self.precision)


def result_name(backend: str, precision: str) -> str:
    """`onnx_int8`: the key in results."""
    return f"{backend}_{precision}".replace("-", "_")


@contextmanager
def running(
    model: Model,
    backend: str,
    machine: Machine = MACHINE,
    nms: NmsSettings | None = None,
    known: Mapping[str, str] = BACKENDS,
) -> Iterator[Running]:
    """A model on a backend; what belongs to it ends with the block.

    Args:
        model: see `open_model`.
        backend: its name.
        machine: threads, device, opt.
        nms: in place of the model's own, where suppression is outside the network.
        known: the backends, see `table.BACKENDS`.

    Raises: `ToolError` or `WeightsError` saying why the backend does not take the model.
    """
    chosen = load_backend(backend, known)
    if chosen.family not in model.files:
        require_tried(_folder(model, backend), "onednn" not in chosen.on(machine).without)
    with opened(model, chosen, machine, nms) as ready:
        yield ready


@contextmanager
def opened(
    model: Model,
    backend: Backend,
    machine: Machine = MACHINE,
    nms: NmsSettings | None = None,
    tool: Found | None = None,
) -> Iterator[Running]:
    """As `running`, for a model whose Paddle form is known not to crash Paddle's native code.

    Args:
        model, backend, machine, nms: see `running`.
        tool: the backend's, where it was looked for before.
    """
    machine = backend.on(machine)
    if backend.runtime is None:
        raise ToolError(f"{backend.name} runs nothing on this machine")
    if model.precision not in backend.precisions:
        raise ToolError(
            f"{model.name} is an {model.precision.upper()} model, which {backend.name} does not run"
        )
    tool = tool or backend.toolchain.find(machine, to_run=True)
    with ExitStack() as stack:
        if model.folder is not None:
            require_input_size(
                program_facts(model.folder.model).inputs, model.config, str(model.folder.model)
            )
        made = _files(model, backend, tool, stack)
        predict = stack.enter_context(backend.runtime.open_files(made, tool, machine))
        require_input_size(getattr(predict, "inputs", ()), model.config, made.files[0].name)
        names, shapes = zip(*predict.outputs)
        decoder = Decoder.of(names, shapes, model.config, nms, f"{model.name} ({backend.name})")
        labels = model.config.labels
        yield Running(backend.name, model.precision, predict, decoder, made.bytes, made.note, labels)


def _files(model: Model, backend: Backend, tool: Found, stack: ExitStack) -> Exported:
    """The model's own files for a backend, or files made of its Paddle form, which go with the stack."""
    if backend.family in model.files:
        return Exported(backend.files_beside(model.files[backend.family]))
    folder = _folder(model, backend.name)
    source = Source(folder)
    if backend.export is None:
        return Exported((folder.model, folder.params), source=source)
    lacking = backend.scheme.lacks(source.network) if source.quantised else ""
    if lacking:
        raise SchemeError(f"{backend.name} cannot hold {model.name}: {lacking}")
    scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix=f"picoquant-{backend.name}-"))
    return backend.make(source, Path(scratch) / model.precision, tool)


def _folder(model: Model, backend: str) -> ModelFolder:
    if model.folder is None:
        form = next(iter(model.files))
        raise ToolError(
            f"{model.name} is an {form.upper()} file, which {backend} does not take: use --backend {form}"
        )
    return model.folder


def absence(backend: Backend, machine: Machine) -> str:
    """Why a backend cannot run anything here, and what to do; empty where it can."""
    try:
        backend.toolchain.find(machine, to_run=True)
    except ToolError as error:
        return str(error)
    return ""


def check_backends(names: Sequence[str], known: Mapping[str, str] = BACKENDS) -> list[str]:
    """Names of backends and `dygraph`, `all` written out, each once.

    Raises: `UserError` for an unknown one.
    """
    possible = (DYGRAPH, *(name for name in known if name not in COMPILERS))
    chosen: list[str] = []
    for name in names:
        if name != "all" and name not in possible:
            raise UserError(f"unknown backend {name!r}; known: {', '.join(possible)}, all")
        chosen += possible if name == "all" else (name,)
    return list(dict.fromkeys(chosen))


@contextmanager
def simulating(model: Model, target: Target, nms: NmsSettings | None = None) -> Iterator[Running]:
    """An INT8 model in a target's integers, called like a runtime.

    Args:
        model: with a Paddle form, exported as raw.
        target: see `load_target`.
        nms: in place of the model's own.

    Raises: `ToolError` or `WeightsError` saying why it cannot be simulated.
    """
    folder, predict = _simulation(model, target)
    note = f"SIMULATION of {target.name}'s integer arithmetic on this CPU, no board; its latency is not the board's"
    if target.quantization.weights == "per_tensor" and predict.per_channel:
        note += f"; the model's weights have a scale a channel, {target.name} takes one a tensor"
    yield _integers(f"{SIMULATION}-{target.name}", model, folder, predict, nms, note)


@contextmanager
def emulating(
    model: Model,
    target: Target,
    nms: NmsSettings | None = None,
    cache: Path | None = None,
    every_tensor: bool = False,
) -> Iterator[Running]:
    """An INT8 model on VeriSilicon's emulator of a target's NPU; its `predict` is an `EmulatedNetwork`.

    Args:
        model, target, nms: see `simulating`.
        cache: where results are kept, by hash; None keeps none.
        every_tensor: compare every tensor with the simulation, not the outputs alone.

    Raises: `ToolError` or `WeightsError` saying why it cannot run there, or what to install.
    """
    from picoquant.npu.emulated.network import EmulatedNetwork

    tool = verisilicon.find(MACHINE)
    chip = verisilicon.chip_of(target, tool)
    folder, simulation = _simulation(model, target, kept=every_tensor)
    note = f"VeriSilicon's emulator {tool.version} of {chip}, no board"
    with EmulatedNetwork(simulation, tool, chip, cache, every_tensor) as predict:
        yield _integers(f"{EMULATOR}-{target.name}", model, folder, predict, nms, note, timed=False)


@contextmanager
def in_acuity(model: Model, nms: NmsSettings | None = None) -> Iterator[Running]:
    """An INT8 model in acuity's own simulation; its `predict` is an `AcuityNetwork`.

    Args:
        model, nms: see `simulating`.

    Raises: `ToolError` or `WeightsError` saying why it cannot run there, or what to install.
    """
    from picoquant.npu.emulated.acuity import RULES, AcuityNetwork

    tool = acuity.find(MACHINE)
    folder, simulation = _simulated(model, RULES)
    note = (
        f"acuity {tool.version}'s own simulation, no board; the A311D, S905D3 and C308X multiply with 16 bits"
    )
    with AcuityNetwork(simulation, tool) as predict:
        yield _integers(ACUITY, model, folder, predict, nms, note, timed=False)


def _simulation(model: Model, target: Target, kept: bool = False) -> tuple[ModelFolder, Any]:
    """The folder of a model's Paddle form, and its simulation.

    Args:
        model, target: see `simulating`.
        kept: whether every tensor is an output, see `Rules.kept`.
    """
    rules = target.integer_rules
    if rules is None:
        raise ToolError(f"{target.name} has no integer rules to simulate (arithmetic: null in its profile)")
    return _simulated(model, rules.kept if kept else rules)


def _simulated(model: Model, rules: Rules) -> tuple[ModelFolder, Any]:
    from picoquant.npu.simulation.simulation import NpuSimulation

    folder = _folder(model, SIMULATION)
    require_tried(folder)
    return folder, NpuSimulation(folder, rules)


def _integers(
    backend: str,
    model: Model,
    folder: ModelFolder,
    predict: Any,
    nms: NmsSettings | None,
    note: str,
    timed: bool = True,
) -> Running:
    """An INT8 model that is computed in a target's integers, ready to be called."""
    names, shapes = zip(*predict.outputs)
    decoder = Decoder.of(names, shapes, model.config, nms, f"{model.name} ({backend.partition('-')[0]})")
    size = Exported((folder.model, folder.params)).bytes
    return Running(backend, model.precision, predict, decoder, size, note, model.config.labels, timed)
