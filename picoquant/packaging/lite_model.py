"""INT8 Paddle program -> `.nb`, what Paddle Lite runs on a board."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import Any

from picoquant.packaging.program_edit import write_program
from picoquant.packaging.targets import Target
from picoquant.toolchain.opt_tool import OptTool

LOG = logging.getLogger("picoquant")


def make_nb(program: Any, params: Path, out: Path, target: Target, opt: OptTool) -> None:
    """Optimise a program for a target.

    Args:
        program: INT8 `ProgramDesc` for one image, see `program_edit.batch_of_one`.
        params: its `.pdiparams`.
        out: the `.nb` to write.
        target: says which Paddle Lite targets are valid.
        opt: Paddle Lite's opt.

    Raises: `ToolError` with opt's own word when it refuses the program.
    """
    expected = target.paddle_lite.opt_version
    if opt.version != expected:
        LOG.warning(
            "opt is %s, the profile of %s was checked with %s: the runtime on the board must be %s, too",
            opt.version,
            target.name,
            expected,
            opt.version,
        )
    with tempfile.TemporaryDirectory(prefix="picoquant-nb-") as scratch:
        model = Path(scratch) / "model.pdmodel"
        write_program(program, model)
        opt.run(model, params, out, target.paddle_lite.valid_targets)
