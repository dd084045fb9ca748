"""ONNX -> `.mnn` by MNN's converter, in a process of its own.

Only the converter's native part is loaded, without Python's site packages: the package's wrapper runs `pip install` of
a client for its makers' log service when that is absent, unasked (`MNN/tools/utils/log.py` of 3.6).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from picoquant.errors import ToolError
from picoquant.utils.program_log import blame
from picoquant.utils.subprocesses import run_program

_CODE = """
import sys
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
spec = PathFinder.find_spec("_tools", [sys.argv[1]])
native = module_from_spec(spec)
spec.loader.exec_module(native)
native.mnnconvert(["mnnconvert", *sys.argv[2:]])
"""


def convert(package: Path, model: Path, out: Path, options: Sequence[str] = ()) -> None:
    """Write a `.mnn`.

    Args:
        package: folder of MNN's package.
        model: an `.onnx`.
        out: to write.
        options: more of the converter's.

    Raises: `ToolError` with the converter's word when it writes none.
    """
    files = ["-f", "ONNX", "--modelFile", str(model.resolve()), "--MNNModel", str(out.resolve())]
    command = [sys.executable, "-I", "-S", "-c", _CODE, str(package.parent), *files, *options]
    outcome = run_program(command, cwd=out.parent, title="MNN's converter")
    if outcome.code or not out.is_file():
        said = blame(outcome.text) or "no message"
        raise ToolError(f"MNN's converter made no file of {model.name} ({outcome.ended}): {said}")
