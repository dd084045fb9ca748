"""Paddle Lite's `opt`: makes the `.nb` a board runs. It aborts on models it dislikes, so it runs apart."""

from __future__ import annotations

import logging
import os
import platform
import re
import shutil
import tempfile
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

from picoquant.errors import ToolError
from picoquant.storage.files import disk_errors
from picoquant.utils.program_log import blame
from picoquant.utils.subprocesses import Outcome, run_program

LOG = logging.getLogger("picoquant")

_PASS = re.compile(r"== Running pass: (\w+)")
_VERSION = re.compile(r"\bv?\d+\.\d+[\w.\-]*")


@dataclass(frozen=True)
class OptTool:
    """A copy of `opt` that was found.

    Attributes:
        path: the program: the `paddle_lite_opt` of the paddlelite package, or Paddle Lite's own binary.
        origin: how it was found, for messages.
    """

    path: Path
    origin: str = ""

    @cached_property
    def version(self) -> str:
        """As `--version` says it, for example `v2.13-rc`.

        Raises: `ToolError` when the program does not run or is no opt.
        """
        outcome = run_program([*self.command, "--version"], timeout=60, environment=_environment())
        found = _VERSION.search(outcome.text)
        if outcome.code < 0 or not found:
            said = blame(outcome.text) or outcome.ended
            raise ToolError(f"{self.path} is no working Paddle Lite opt: --version gave: {said}")
        return found.group(0)

    @cached_property
    def python(self) -> Path | None:
        """The Python beside it whose paddlelite has the x86 runtime, too; None for an opt that came as a program."""
        python = self.path.parent / "python"
        if not python.exists():
            return None
        asked = run_program([str(python), "-c", "import paddlelite.lite"], timeout=60)
        return python if asked.code == 0 else None

    @property
    def command(self) -> list[str]:
        """How to start it.

        A Python script is started by the interpreter beside it: its first line fails where the path has
        spaces, is very long or was moved.
        """
        python = self.path.parent / "python"
        try:
            with open(self.path, "rb") as stream:
                first = stream.readline(1024)
        except OSError as error:
            raise ToolError(f"Paddle Lite's opt {self.path} cannot be read: {error.strerror}") from error
        if first.startswith(b"#!") and b"python" in first and python.exists():
            return [str(python), str(self.path)]
        return [str(self.path)]

    def run(
        self,
        model_file: Path,
        param_file: Path,
        out: Path,
        targets: str,
        out_type: str = "naive_buffer",
        partition: str = "",
        fp16: bool = False,
        sparse: float | None = None,
    ) -> str:
        """Optimise a model.

        Args:
            model_file, param_file: a Paddle inference model.
            out: where the result goes: a `.nb` file, or for `protobuf` a folder.
            targets: Paddle Lite's valid targets, comma-separated, for example `verisilicon_timvx,arm`.
            out_type: `naive_buffer` (`.nb`) or `protobuf`.
            partition: operators to keep on the CPU, a line each, see `npu.partition`.
            fp16: compute a float model in half precision where the CPU can.
            sparse: 1x1 convolutions on an ARM CPU whose weights have at least this part of zeros become sparse ones;
                None: none do.

        Returns: what opt said.

        Raises: `ToolError` naming what opt disliked; nothing is left at `out` then.
        """
        out = Path(out)
        with disk_errors(out), tempfile.TemporaryDirectory(prefix="picoquant-opt-") as scratch:
            shutil.copyfile(model_file, Path(scratch) / "model")
            shutil.copyfile(param_file, Path(scratch) / "params")
            command = [*_unshuffled(), *self.command, "--model_file=model", "--param_file=params"]
            command += [
                f"--valid_targets={targets}",
                f"--optimize_out_type={out_type}",
                "--optimize_out=made",
                *(["--enable_fp16=true"] if fp16 else []),
                *([] if sparse is None else ["--sparse_model=true", f"--sparse_threshold={sparse:g}"]),
            ]
            environment = _environment()
            if partition:
                (Path(scratch) / "partition.txt").write_text(partition, encoding="utf-8")
                environment["SUBGRAPH_PARTITION_CONFIG_FILE"] = "partition.txt"
            outcome = run_program(command, Path(scratch), title="opt", environment=environment)
            made = Path(scratch) / ("made.nb" if out_type == "naive_buffer" else "made")
            if outcome.code or not made.exists():
                raise ToolError(self._failure(outcome, model_file, targets))
            out.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(str(made), str(out))
        return outcome.text

    def supported_operators(self, target: str) -> str:
        """opt's table of operators and of who takes them, as it prints it.

        Args:
            target: one of its targets, for example `verisilicon_timvx`.

        Raises: `ToolError` when opt does not know the target.
        """
        arguments = ["--print_supported_ops=true", f"--valid_targets={target}"]
        outcome = run_program([*self.command, *arguments], timeout=120, environment=_environment())
        if outcome.code:
            said = blame(outcome.text) or outcome.ended
            raise ToolError(f"{self.path} printed no operators for {target}: {said}")
        return outcome.text

    def _failure(self, outcome: Outcome, model_file: Path, targets: str) -> str:
        said = blame(outcome.text)
        passes = _PASS.findall(outcome.text)
        if outcome.code < 0 and passes and not re.search(r"^\[[FE] ", outcome.text, re.M):
            said = f"it crashed in its {passes[-1]} without naming an operator"
        return (
            f"Paddle Lite's opt ({self.path}) did not take {Path(model_file).name} for {targets} "
            f"({outcome.ended}): {said or 'no message'}"
        )


def _environment() -> dict[str, str]:
    """The same few variables always; level 1 of the log says in which pass a silent crash happened.

    opt orders parts of a model by their addresses in memory, and writes a few bytes of memory that it
    never set: its result depends on everything that moves them, the size of the environment too.
    """
    kept = {key: os.environ[key] for key in ("HOME", "LD_LIBRARY_PATH") if key in os.environ}
    return {
        **kept,
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "LC_ALL": "C",
        "PYTHONHASHSEED": "0",
        "GLOG_v": "1",
    }


@lru_cache(maxsize=1)
def _unshuffled() -> tuple[str, ...]:
    """What starts a program at the same addresses each time (see `_environment`); empty where not allowed."""
    setarch = shutil.which("setarch")
    if setarch is None:
        return ()
    command = (setarch, platform.machine(), "-R")
    works = run_program([*command, "true"], timeout=30).code == 0
    if not works:
        LOG.info("setarch -R is not allowed here: .nb files made twice may differ in their order of parts")
    return command if works else ()
