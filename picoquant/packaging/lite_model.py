"""Paddle program -> `.nb`, what Paddle Lite runs on a board."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import Any

from picoquant.packaging.program_edit import smaller_for_opt, write_program
from picoquant.packaging.targets import Target
from picoquant.toolchain.opt_tool import OptTool

LOG = logging.getLogger("picoquant")


def other_version(target: Target, opt: OptTool) -> str | None:
    """What to say when opt is not of the version that the target's profile was checked with."""
    expected = target.paddle_lite.opt_version
    if opt.version == expected:
        return None
    return (
        f"opt is {opt.version}, the profile of {target.name} was checked with {expected}: the runtime on the "
        f"board must be {opt.version}, too"
    )


def make_nb(
    program: Any,
    params: Path,
    out: Path,
    target: Target,
    opt: OptTool,
    fp16: bool = False,
    partition: str = "",
) -> None:
    """Optimise a program for a target.

    Args:
        program: `ProgramDesc` for one image, see `program_edit.batch_of_one`.
        params: its `.pdiparams`.
        out: the `.nb` to write.
        target: says which Paddle Lite targets are valid.
        opt: Paddle Lite's opt.
        fp16: a CPU that has half precision computes a float model in it.
        partition: operators to keep on the CPU, see `npu.partition`.

    Raises: `ToolError` with opt's own word when it refuses the program.
    """
    said = other_version(target, opt)
    if said:
        LOG.warning("%s", said)
    with tempfile.TemporaryDirectory(prefix="picoquant-nb-") as scratch:
        model = Path(scratch) / "model.pdmodel"
        write_program(smaller_for_opt(program) if target.on_npu else program, model)
        opt.run(model, params, out, target.paddle_lite.valid_targets, partition=partition, fp16=fp16)
