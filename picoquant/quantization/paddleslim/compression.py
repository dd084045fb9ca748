"""Quantise by PaddleSlim's AutoCompression: its training, its INT8 model, with picoquant's images and evaluation."""

from __future__ import annotations

import logging
import pickle
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from picoquant.errors import UserError
from picoquant.int8.network import Int8Network
from picoquant.int8.paddle.reader import read_network
from picoquant.paddle_program.model_folder import MODEL, PARAMS
from picoquant.paddle_program.params import read_params
from picoquant.paddle_program.program import complete_program, read_program
from picoquant.quantization.context import QuantizationContext
from picoquant.quantization.paddleslim.require import require_paddleslim, require_settings, say_unused
from picoquant.quantization.paths import QAT_LOG
from picoquant.quantization.save import DESCRIPTION
from picoquant.storage.csv_log import CsvLog
from picoquant.storage.files import write_json
from picoquant.utils.subprocesses import own_environment

LOG = logging.getLogger("picoquant")

_FIELDS = ("step", "loss", "mAP")
_PATIENCE = 60.0
_SAID = "paddleslim.log"  # in the work folder


def run_autocompression(
    context: QuantizationContext, batches: Callable[[int], Any], began: float
) -> dict[str, Any]:
    """Compress the copy of the model in the context's paths; what was interrupted starts again.

    Args:
        context: of the quantisation.
        batches: called with the number of steps done, returns an endless iterator of feeds.
        began: `time.monotonic()` at the start of the quantisation.

    Returns: the metrics.

    Raises: `ToolError` where PaddleSlim is not installed or Paddle is not 2.6, `ConfigError` for settings that
        AutoCompression does not have, `UserError` with its own last words where it fails.
    """
    require_paddleslim()
    settings = context.settings
    require_settings(settings.quantization, settings.quant)
    say_unused(settings.quantization)
    if context.processes.world > 1:
        raise UserError(
            "Quantize.engine: paddleslim runs in one process here: set Quantize.engine to picoquant, or take one device"
        )
    course = _Course(context, batches, began)
    made = context.paths.work / "paddleslim"
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir(parents=True)
    LOG.info(
        "quantize: PaddleSlim's AutoCompression for %d steps; its own messages are in %s",
        course.steps,
        context.paths.work / _SAID,
    )
    course.run(made)
    context.paths.out.mkdir(parents=True, exist_ok=True)
    for name in (MODEL, PARAMS):
        shutil.copyfile(made / name, context.paths.out / name)
    shutil.rmtree(made)
    complete_program(context.paths.out / MODEL)
    return {**course.metrics(), "quantized_operators": _describe(context)}


class _Course:
    """A compression while it runs: answers what the child asks.

    Args:
        context, batches, began: see `run_autocompression`.
    """

    def __init__(self, context: QuantizationContext, batches: Callable[[int], Any], began: float) -> None:
        self._context, self._batches, self._began = context, batches(0), began
        settings = context.settings
        self.steps = settings.train.steps(settings.steps_per_epoch)
        self._step, self._setup = 0, 0.0
        self._evaluations: list[list[float]] = []
        self._log = CsvLog(context.paths.work / QAT_LOG, _FIELDS)
        self._line = context.show("quantize: PaddleSlim", self.steps, unit="step")

    def run(self, out: Path) -> None:
        """Start the child and answer it until it is done.

        Args:
            out: receives what AutoCompression writes.

        Raises: `UserError` when it fails.
        """
        paths = self._context.paths
        said = paths.work / _SAID
        command = [sys.executable, "-m", "picoquant.quantization.paddleslim.child"]
        with open(said, "wb") as stderr:
            child = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, cwd=out, env=own_environment()
            )  # fmt: skip
            assert child.stdin and child.stdout  # both are pipes
            try:
                done = self._serve(child.stdin, child.stdout, out)
            finally:
                for pipe in (child.stdin, child.stdout):
                    pipe.close()
                code = _ended(child)
        if not done:
            lines = said.read_text(encoding="utf-8", errors="replace").strip().splitlines() or ["nothing"]
            raise UserError(
                f"Quantize.engine: paddleslim: AutoCompression ended with code {code} after step {self._step}, saying "
                f"{lines[-1].strip()[:300]!r}; all of it is in {said}"
            )

    def _serve(self, answers: Any, questions: Any, out: Path) -> bool:
        """Answer until the end; False where the child ended before."""
        try:
            while True:
                what, *argument = pickle.load(questions)  # trusted: written by our own child
                if what == "done":
                    return True
                pickle.dump(self._answer(what, argument, out), answers, pickle.HIGHEST_PROTOCOL)
                answers.flush()
        except (EOFError, BrokenPipeError, pickle.UnpicklingError):
            return False

    def _answer(self, what: str, argument: list[Any], out: Path) -> Any:
        if what == "task":
            return self._task(out)
        if what == "batch":
            self._setup = self._setup or time.monotonic() - self._began
            return next(self._batches)
        if what == "step":
            self._step += 1
            self._log.write(step=self._step, loss=argument[0])
            self._line.update(self._step, loss=argument[0])
            return None
        assert self._context.metric is not None  # the child was told
        value = self._context.metric.of_folder(Path(argument[0])).mAP
        LOG.info("quantize: step %d: INT8 mAP %.4f", self._step, value)
        self._evaluations.append([self._step, value])
        return value

    def _task(self, out: Path) -> tuple[Any, ...]:
        import paddle

        paths, settings = self._context.paths, self._context.settings
        distillation = settings.distillation.to_paddleslim()
        if distillation["teacher_model_dir"] is not None:  # the copy, under the usual names
            distillation.update(
                teacher_model_dir=str(paths.teacher),
                teacher_model_filename=MODEL,
                teacher_params_filename=PARAMS,
            )
        train = {**settings.train.to_paddleslim(), "train_iter": self.steps, "epochs": None}
        sections = {
            "Distillation": distillation,
            "QuantAware": settings.quant.to_paddleslim(),
            "TrainConfig": train,
        }
        evaluates = self._context.metric is not None
        return str(paths.student), str(out), sections, self.steps, paddle.get_device(), evaluates

    def metrics(self) -> dict[str, Any]:
        """What `QuantizeResult.metrics` says; the mAP is that of the model which AutoCompression has kept."""
        found: dict[str, Any] = {"steps": self._step, "setup_seconds": round(self._setup, 1)}
        if self._evaluations:
            best = max(self._evaluations, key=lambda one: one[1])
            found.update(mAP=best[1], best_step=best[0], evaluations=self._evaluations)
        return found


def _ended(child: subprocess.Popen[bytes]) -> int:
    """Wait for a process that nobody answers any more, killing it after `_PATIENCE` seconds; returns its exit code."""
    try:
        return child.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        child.kill()
        return child.wait()


def _range(network: Int8Network, name: str) -> float | None:
    """The value of 127 steps."""
    params = network.tensors[name].params
    return None if params is None else float(params.scale) * 127


def _describe(context: QuantizationContext) -> int:
    """Write `quantization.json` of the model that was made; returns how many operators are in INT8."""
    out, quant = context.paths.out, context.settings.quant
    program = read_program(out / MODEL)
    network = read_network(program, read_params(program, out / PARAMS), out / MODEL)
    operators = [op for op in network.operators if op.weight]
    described = {
        "engine": "paddleslim",
        "weight_bits": quant.weight_bits,
        "activation_bits": quant.activation_bits,
        "operators": [
            {
                "type": op.op_type,
                "output": op.output,
                "activation": op.activation,
                "activation_range": _range(network, op.activation),
                "weight": op.weight,
                "weight_axis": op.params.axis,
            }
            for op in operators
        ],
    }
    write_json(out / DESCRIPTION, described)
    return len(operators)
