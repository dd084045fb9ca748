"""Paddle program -> ONNX by paddle2onnx, which aborts on models it dislikes and so runs apart.

Where it is not installed (Python 3.13 has no wheel of it) `translation/` converts the network.
"""

from __future__ import annotations

import re
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from picoquant.errors import ToolError
from picoquant.utils.program_log import blame
from picoquant.utils.subprocesses import run_program

OPSET = 13  # the first with a scale for each channel

# Only the package's native part: it alone starts in 0.03 s, the package imports paddle and takes 2 s. What it is given
# is what `paddle2onnx.export` of 1.3 gives it, with `enable_optimize=False`.
_CODE = """
import sys
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
package, model, params, out, opset, upgrade = sys.argv[1:]
spec = PathFinder.find_spec("paddle2onnx_cpp2py_export", [package])
native = module_from_spec(spec)
spec.loader.exec_module(native)
made = native.export(
    model, params, int(opset), upgrade == "upgrade", True, True, True, False, {}, "onnxruntime", "", "", False
)
with open(out, "wb") as stream:
    stream.write(made)
"""
_PREFIX = re.compile(r"\x1b\[[0-9;]*m|^(\[\w+\]\s*)+(Oops, )?")
_DISLIKES = re.compile(r"not supported|unsupported|Require|Failed|\[ERROR\]")


def paddle_to_onnx(model: Path, params: Path, opset: int | None = None) -> Any:
    """Convert a float program.

    Args:
        model, params: a Paddle inference model.
        opset: exactly this one; None: 13, or the first later one that has all operators.

    Returns: an `onnx.ModelProto`, not simplified: paddle2onnx's optimiser loses Paddle's names.

    Raises: `ToolError` with paddle2onnx's own word on the operator it disliked, or naming one that is not converted
        without it.
    """
    import onnx

    from picoquant.backends.onnx.translation.model import translate

    package = _package()
    if not package:
        return translate(model, params, opset or OPSET)
    with tempfile.TemporaryDirectory(prefix="picoquant-onnx-") as scratch:
        out = Path(scratch) / "model.onnx"
        files = [str(Path(file).resolve()) for file in (model, params)]
        wanted = [str(opset or OPSET), "exact" if opset else "upgrade"]
        outcome = run_program(
            [sys.executable, "-I", "-S", "-c", _CODE, package, *files, str(out), *wanted],
            cwd=Path(scratch),
            title="paddle2onnx",
        )
        if outcome.code or not out.is_file() or not out.stat().st_size:
            said = _PREFIX.sub("", _complaint(outcome.text)).strip(" ,") or "no message"
            # The program is often a temporary one made of the user's; the weights are always the user's.
            raise ToolError(f"paddle2onnx did not convert the network of {params} ({outcome.ended}): {said}")
        return onnx.load(out)


def _package() -> str:
    """The folder of paddle2onnx, which is not imported; empty where there is none."""
    found = find_spec("paddle2onnx")
    return next(iter(found.submodule_search_locations or ()), "") if found else ""


def _complaint(text: str) -> str:
    """The first line that names what was disliked, else what any program's last word is."""
    for line in text.splitlines():
        if _DISLIKES.search(line):
            return line
    return blame(text)
