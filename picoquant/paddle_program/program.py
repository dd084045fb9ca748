"""Reads and completes a saved program without running it: `.pdmodel`, a protobuf `ProgramDesc`, or Paddle 3's JSON."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from picoquant.errors import WeightsError
from picoquant.paddle_program.message import write_numbers_plainly
from picoquant.paddle_program.pir.document import is_pir
from picoquant.paddle_program.pir.translate import program_of
from picoquant.paddle_program.validate import require_sound
from picoquant.storage.files import whole_file
from picoquant.utils.paddle_version.differences import holds_tensor, tensor_of

# In the names of paddle 2.6's operators that quantise or dequantise, both the old and the `onnx_format` ones.
_QUANTISING = ("quantize", "dequantize")

# Attributes that paddle 2.6 does not write if they have their default value, and without which Paddle Lite's
# opt aborts. Source of the values: the defaults in Paddle's `phi/api/yaml/ops.yaml`.
_EXPECTED_ATTRIBUTES = {
    "relu6": {"threshold": 6.0},
    "hard_swish": {"threshold": 6.0, "scale": 6.0, "offset": 3.0},
    "swish": {"beta": 1.0},
}
# Attribute with the source lines that built an operator: unused later, and it holds folder names.
_SOURCE_LINES = "op_callstack"

# The name scope of operators that the settings keep in float in an INT8 model.
KEPT_FLOAT = "picoquant_keep_float"


@dataclass(frozen=True)
class ProgramFacts:
    """Inputs, outputs and operator types of a saved program.

    Attributes:
        inputs: names and shapes of the inputs, in order; -1 for a variable length.
        outputs: names and shapes of the outputs, in order.
        operators: types of the operators, in execution order.
    """

    inputs: tuple[tuple[str, tuple[int, ...]], ...]
    outputs: tuple[tuple[str, tuple[int, ...]], ...]
    operators: tuple[str, ...]

    @property
    def quantised(self) -> bool:
        """Whether the program has operators that quantise or dequantise."""
        return any(part in name for name in self.operators for part in _QUANTISING)


def read_program(path: Path) -> Any:
    """Read the `ProgramDesc` message of a saved program; one of Paddle 3 (JSON) is translated, see `pir`.

    Raises: `WeightsError` if the file is no program; Paddle itself would crash on it.
    """
    from google.protobuf.message import DecodeError
    from paddle.base.proto import framework_pb2

    data = Path(path).read_bytes()
    if is_pir(data):
        return program_of(data, path)
    program = framework_pb2.ProgramDesc()
    try:
        program.ParseFromString(data)
    except DecodeError as error:
        raise WeightsError(f"{path} is no Paddle program or is damaged: export the model again") from error
    if not program.blocks or not program.blocks[0].ops:
        raise WeightsError(f"{path} is an empty Paddle program: export the model again")
    write_numbers_plainly(program)
    return program


def copy_program(path: Path, to: Path) -> None:
    """Copy a program, as a `.pdmodel` whatever it is: what Paddle 2.6, Paddle Lite and paddle2onnx read.

    Raises: `WeightsError` if it is one of Paddle 3 that cannot be read.
    """
    data = Path(path).read_bytes()
    if is_pir(data):
        data = program_of(data, path).SerializeToString(deterministic=True)
    with whole_file(to, "wb") as stream:
        stream.write(data)


@contextmanager
def pdmodel_of(path: Path) -> Iterator[Path]:
    """A `.pdmodel` of a program for as long as the block lasts: itself, or what one of Paddle 3 is translated into.

    Raises: `WeightsError` if it is one of Paddle 3 that cannot be read.
    """
    with open(path, "rb") as stream:
        own = not is_pir(stream.read(64))
    if own:
        yield Path(path)
        return
    with tempfile.TemporaryDirectory(prefix="picoquant-program-") as scratch:
        made = Path(scratch) / "model.pdmodel"
        copy_program(path, made)
        yield made


def program_facts(path: Path) -> ProgramFacts:
    """Read inputs, outputs and operator types of a saved program.

    Raises: `WeightsError` if the file is no program, or one on which Paddle's native code would crash.
    """
    program = read_program(path)
    require_sound(program, path)
    block = program.blocks[0]
    shapes = {var.name: tuple(tensor_of(var.type).dims) for var in block.vars if holds_tensor(var.type)}
    feeds = sorted((op for op in block.ops if op.type == "feed"), key=_column)
    fetches = sorted((op for op in block.ops if op.type == "fetch"), key=_column)
    inputs = [name for op in feeds for name in _names(op.outputs)]
    outputs = [name for op in fetches for name in _names(op.inputs)]
    if not inputs or not outputs:
        raise WeightsError(f"{path} has no input or no output: export the model again")
    return ProgramFacts(
        inputs=tuple((name, shapes.get(name, ())) for name in inputs),
        outputs=tuple((name, shapes.get(name, ())) for name in outputs),
        operators=tuple(op.type for op in block.ops),
    )


def _column(op: Any) -> int:
    return next((attribute.i for attribute in op.attrs if attribute.name == "col"), 0)  # its default


def _names(slots: Any) -> list[str]:
    return [name for slot in slots for name in slot.arguments]


def complete_program(path: Path) -> None:
    """Apply `complete` to a file, so that Paddle Lite can read it and its bytes do not depend on the machine.

    Raises: `WeightsError` if the file is no program.
    """
    program = read_program(path)
    complete(program)
    with whole_file(path, "wb") as stream:
        stream.write(program.SerializeToString(deterministic=True))


def complete(program: Any) -> None:
    """Add the attributes that Paddle left out because they have their default value; remove source lines.

    Args:
        program: a `ProgramDesc` message; changed in place.
    """
    from paddle.base.proto import framework_pb2

    for op in (op for block in program.blocks for op in block.ops):
        present = {attribute.name for attribute in op.attrs}
        for name, value in _EXPECTED_ATTRIBUTES.get(op.type, {}).items():
            if name not in present:
                op.attrs.add(name=name, type=framework_pb2.FLOAT, f=value)
        kept = [attribute for attribute in op.attrs if attribute.name != _SOURCE_LINES]
        if len(kept) < len(op.attrs):
            del op.attrs[:]
            op.attrs.extend(kept)
