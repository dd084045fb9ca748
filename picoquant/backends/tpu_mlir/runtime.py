"""A `.cvimodel` in TPU-MLIR's C model of the processor."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from picoquant.backends.base import Exported, Machine
from picoquant.backends.own_environment.package import OwnTool
from picoquant.backends.own_environment.predictor import SessionPredictor
from picoquant.backends.tpu_mlir.compiler import Session
from picoquant.errors import ToolError

_MADE_BY = re.compile(r"_[A-Z][A-Za-z]*(?:_f32)?$")  # what TPU-MLIR adds to the name of a tensor
_AXES = 3  # of a network's outputs; the file writes every shape with four


@contextmanager
def open_files(made: Exported, tool: OwnTool, machine: Machine) -> Iterator[SessionPredictor]:
    """A `.cvimodel` in the C model, see `base.Runtime`.

    Raises: `ToolError` with TPU-MLIR's word when it does not load it.
    """
    (file,) = made.files
    try:
        file.open("rb").close()
    except OSError as error:
        raise ToolError(f"cannot read {file}: {error.strerror or error}") from error
    with Session(tool) as session:
        inputs, outputs = session.load(file)
        named = tuple((_MADE_BY.sub("", name), shape[:_AXES]) for name, shape in outputs)
        yield SessionPredictor(
            session,
            inputs,
            named,
            file.suffix,
            lambda values: [value.reshape(value.shape[:_AXES]) for value in values],
        )
