"""ONNX -> `.mnn` by MNN's converter, in a process of its own.

Only the converter's native part is loaded, without Python's site packages: the package's wrapper runs `pip install` of
a client for its makers' log service when that is absent, unasked (`MNN/tools/utils/log.py` of 3.6).
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

from picoquant.errors import ToolError
from picoquant.utils.program_log import blame
from picoquant.utils.subprocesses import run_program

_IDENTIFIER = re.compile(
    rb"(?<=\x24\0\0\0)[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}(?=\0)"
)  # 0x24: its length

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
    out.write_bytes(identified(out.read_bytes()))


def identified(model: bytes) -> bytes:
    """A `.mnn` with an identifier made of its content in place of MNN's random one: the same file each time."""
    found = list(_IDENTIFIER.finditer(model))
    if len(found) != 1:
        return model
    start, end = found[0].span()
    content = hashlib.sha256(model[:start] + model[end:]).digest()
    return model[:start] + str(UUID(bytes=content[:16], version=4)).encode() + model[end:]
