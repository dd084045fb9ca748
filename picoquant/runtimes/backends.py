"""A model on a runtime: the one place that brings the two together.

| backend | what runs it |
|---|---|
| `paddle` | Paddle's inference runtime with oneDNN |
| `paddle-no-onednn` | the same without oneDNN |
| `onnx` | ONNX Runtime: the model's own ONNX form, or one made of its Paddle form |
| `lite` | Paddle Lite's x86 runtime; the weights of an INT8 model, in float |

An INT8 model in the integers of an NPU (`simulating`) is a simulation and no runtime of this machine.
The network itself (`dygraph`) needs a configuration to be built from, and is the stages' matter.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from picoquant.backends.onnx.export import write_onnx_form
from picoquant.backends.onnx.runtime import OnnxPredictor
from picoquant.backends.paddle.runtime import open_predictor
from picoquant.backends.paddle.smoke_test import require_tried
from picoquant.backends.paddle_lite.find_opt import find_opt
from picoquant.backends.paddle_lite.runtime import X86Predictor, runtime_of
from picoquant.backends.paddle_lite.x86_form import write_float_form
from picoquant.errors import ToolError, UserError
from picoquant.paddle_program.program import program_facts
from picoquant.postprocess import Decoder, NmsSettings
from picoquant.runtimes.model import Model
from picoquant.targets.profiles import Target

BACKENDS = ("dygraph", "paddle", "paddle-no-onednn", "onnx", "lite")


@dataclass(frozen=True)
class Machine:
    """What of this machine a runtime may use.

    Attributes:
        threads: CPU threads; 0 for all this process may use. Paddle Lite chooses its own.
        device: `cpu`, `gpu` or `gpu:N`; a GPU is for `paddle` and `dygraph` alone.
        opt: path of Paddle Lite's opt, or None to look for it.
    """

    threads: int = 0
    device: str = "cpu"
    opt: str | None = None


MACHINE = Machine()


@dataclass(frozen=True)
class Running:
    """A model that is ready to be called.

    Attributes:
        backend, precision: which.
        predict: `predict(feed)` -> outputs; `predict.input_names`.
        decoder: fits the outputs.
        bytes: size of the files that run.
        note: what must be known of the numbers; empty for nothing.
    """

    backend: str
    precision: str
    predict: Any
    decoder: Decoder
    bytes: int
    note: str = ""

    @property
    def name(self) -> str:
        """`onnx_int8`: the key in results."""
        return f"{self.backend}_{self.precision}".replace("-", "_")


@contextmanager
def running(
    model: Model, backend: str, machine: Machine = MACHINE, nms: NmsSettings | None = None
) -> Iterator[Running]:
    """A model on one of `BACKENDS` but `dygraph`; what belongs to it ends with the block.

    Args:
        model: see `open_model`.
        backend: which.
        machine: threads, device, opt.
        nms: in place of the model's own, where suppression is outside the network.

    Raises: `ToolError` or `WeightsError` saying why the runtime does not take the model.
    """
    makers = {"paddle": _paddle, "paddle-no-onednn": _paddle, "onnx": _onnx, "lite": _lite}
    with ExitStack() as stack:
        predict, size, note = makers[backend](model, backend, machine, stack)
        names, shapes = zip(*(predict.outputs if hasattr(predict, "outputs") else _facts(model).outputs))
        decoder = Decoder.of(names, shapes, model.config, nms, f"{model.name} ({backend})")
        yield Running(backend, model.precision, predict, decoder, size, note)


SIMULATION = "simulation"


@contextmanager
def simulating(model: Model, target: Target, nms: NmsSettings | None = None) -> Iterator[Running]:
    """An INT8 model in a target's integers, called like a runtime.

    Args:
        model: with a Paddle form, exported as raw.
        target: see `load_target`.
        nms: in place of the model's own.

    Raises: `ToolError` or `WeightsError` saying why it cannot be simulated.
    """
    from picoquant.npu.simulation.simulation import NpuSimulation

    rules = target.integer_rules
    if rules is None:
        raise ToolError(f"{target.name} has no integer rules to simulate (arithmetic: null in its profile)")
    folder = _folder(model, SIMULATION)
    predict = NpuSimulation(folder, rules)
    decoder = Decoder.of(*zip(*predict.outputs), model.config, nms, f"{model.name} ({SIMULATION})")
    note = f"SIMULATION of {target.name}'s integer arithmetic on this CPU, no board; its latency is not the board's"
    if target.quantization.weights == "per_tensor" and predict.per_channel:
        note += f"; the model's weights have a scale a channel, {target.name} takes one a tensor"
    size = _size([folder.model, folder.params])
    yield Running(f"{SIMULATION}-{target.name}", model.precision, predict, decoder, size, note)


def _folder(model: Model, backend: str) -> Any:
    """The Paddle form, on which Paddle's native code does not crash."""
    if model.folder is None:
        raise ToolError(f"{model.name} is an ONNX file, which {backend} does not take: use --backend onnx")
    require_tried(model.folder, onednn=backend != "paddle-no-onednn")
    return model.folder


def _facts(model: Model) -> Any:
    return program_facts(model.folder.model)


def _paddle(model: Model, backend: str, machine: Machine, stack: ExitStack) -> tuple[Any, int, str]:
    folder = _folder(model, backend)
    if backend == "paddle-no-onednn" and machine.device != "cpu":
        raise ToolError("paddle-no-onednn is about the CPU: leave --device out")
    predict = open_predictor(folder, machine.device, machine.threads, onednn=backend == "paddle")
    return predict, _size([folder.model, folder.params]), ""


def _onnx(model: Model, backend: str, machine: Machine, stack: ExitStack) -> tuple[Any, int, str]:
    path = model.onnx
    if path is None:
        scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="picoquant-onnx-"))
        path = Path(scratch) / f"{model.precision}.onnx"
        write_onnx_form(_folder(model, backend), path)
    return OnnxPredictor(path, machine.threads), _size([path]), ""


def _lite(model: Model, backend: str, machine: Machine, stack: ExitStack) -> tuple[Any, int, str]:
    folder = _folder(model, backend)
    opt = find_opt(machine.opt)
    python = runtime_of(opt)
    if python is None:
        raise ToolError(f"{opt.path} has no Python runtime beside it: picoquant toolchain install")
    scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="picoquant-float-")))
    write_float_form(folder, scratch / "model", scratch / "params")
    facts = _facts(model)
    whole = (1,) if len(facts.outputs[0][1]) == 2 else ()  # the number of detections of each image
    names = tuple(name for name, _ in facts.inputs)
    predict = stack.enter_context(
        X86Predictor(python, opt, scratch / "model", scratch / "params", names, len(facts.outputs), whole)
    )
    note = "weights of the INT8 model, computed in float" if model.precision == "int8" else ""
    return predict, predict.bytes, note


def _size(files: Sequence[Path]) -> int:
    return sum(Path(file).stat().st_size for file in files)


def check_backends(names: Sequence[str]) -> list[str]:
    """Names of backends, `all` written out, each once.

    Raises: `UserError` for an unknown one.
    """
    chosen = []
    for name in names:
        if name != "all" and name not in BACKENDS:
            raise UserError(f"unknown backend {name!r}; known: {', '.join(BACKENDS)}, all")
        chosen += BACKENDS if name == "all" else (name,)
    return list(dict.fromkeys(chosen))
