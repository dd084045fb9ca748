"""Paddle program -> ONNX by paddle2onnx, which aborts on models it dislikes and so runs apart."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

from picoquant.errors import ToolError
from picoquant.utils.program_log import blame
from picoquant.utils.subprocesses import run_program

OPSET = 13  # the first with a scale for each channel

_CODE = """
import sys
import paddle, paddle2onnx
paddle.disable_signal_handler()  # a crash within malloc would hang in it
model, params, out, opset, upgrade = sys.argv[1:]
paddle2onnx.export(
    model, params, out, opset_version=int(opset), auto_upgrade_opset=upgrade == "upgrade", verbose=True,
    enable_optimize=False
)
"""
_PREFIX = re.compile(r"\x1b\[[0-9;]*m|^(\[\w+\]\s*)+(Oops, )?")
_DISLIKES = re.compile(r"not supported|unsupported|Require|Failed|\[ERROR\]")


def paddle_to_onnx(model: Path, params: Path, opset: int | None = None) -> Any:
    """Convert a float program.

    Args:
        model, params: a Paddle inference model.
        opset: exactly this one; None: 13, or the first later one that has all operators.

    Returns: an `onnx.ModelProto`, not simplified: paddle2onnx's optimiser loses Paddle's names.

    Raises: `ToolError` with paddle2onnx's own word on the operator it disliked.
    """
    import onnx

    with tempfile.TemporaryDirectory(prefix="picoquant-onnx-") as scratch:
        out = Path(scratch) / "model.onnx"
        files = [str(Path(file).resolve()) for file in (model, params)]
        wanted = [str(opset or OPSET), "exact" if opset else "upgrade"]
        outcome = run_program(
            [sys.executable, "-c", _CODE, *files, str(out), *wanted],
            cwd=Path(scratch),
            title="paddle2onnx",
            environment=dict(os.environ),
        )
        if outcome.code or not out.is_file() or not out.stat().st_size:
            said = _PREFIX.sub("", _complaint(outcome.text)).strip(" ,") or "no message"
            # The program is often a temporary one made of the user's; the weights are always the user's.
            raise ToolError(f"paddle2onnx did not convert the network of {params} ({outcome.ended}): {said}")
        return onnx.load(out)


def _complaint(text: str) -> str:
    """The first line that names what was disliked, else what any program's last word is."""
    for line in text.splitlines():
        if _DISLIKES.search(line):
            return line
    return blame(text)
