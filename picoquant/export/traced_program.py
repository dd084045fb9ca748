"""A layer as a program and its values: what it computes on one input, written down operator by operator."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from paddle import nn
from paddle.base import framework
from paddle.static import InputSpec

from picoquant.export.output_copies import copy_outputs
from picoquant.paddle_program.params import stored_variables
from picoquant.paddle_program.program import complete, read_program
from picoquant.utils.paddle_version.tracing import newer_programs


def traced_program(layer: nn.Layer, specs: Sequence[InputSpec]) -> tuple[Any, dict[str, np.ndarray]]:
    """Trace a layer; the same program comes of it on either Paddle.

    Paddle 3 traces it as a program of its own form, which is translated: functions lose the older form with every
    release.

    Args:
        layer: in evaluation mode.
        specs: of its inputs.

    Returns: a complete `ProgramDesc` message, and the values of its stored variables by name.
    """
    written = _AsWritten(layer)
    with newer_programs() as newer:
        static = paddle.jit.to_static(written, input_spec=list(specs), full_graph=True)
        traced = static.forward.concrete_program_specify_input_spec(with_hook=False)
        program = _saved(_for_inference(traced, newer))
    if newer:
        copy_outputs(program)
        tensors = {stored.name: tensor for tensor, stored in zip(*traced.parameters)}
    else:
        tensors = {tensor.name: tensor for tensor in traced.parameters}
    complete(program)
    return program, {name: tensors[name].numpy() for name in stored_variables(program)}


class _AsWritten(nn.Layer):
    """A layer whose Python runs as it is when it is traced.

    Paddle rewrites the source of every function that it traces, for branches that depend on a tensor's values. No layer
    here has one, a network's hundred functions take two thirds of the time, and the program is the same.
    """

    def __init__(self, layer: nn.Layer) -> None:
        super().__init__()
        self.layer, self.training = layer, layer.training

    def forward(self, first: Any, second: Any = None) -> Any:
        """What the layer makes of its one or two inputs."""
        return self.run(first, second)

    @paddle.jit.not_to_static
    def run(self, first: Any, second: Any) -> Any:
        """As `forward`."""
        return self.layer(first) if second is None else self.layer(first, second)


def _for_inference(traced: Any, newer: bool) -> Any:
    """What the outputs of a traced layer depend on, with its inputs fed and its outputs fetched."""
    kind = paddle.pir.Value if newer else paddle.static.Variable
    inputs, outputs = (
        [end for end in paddle.utils.flatten(ends) if isinstance(end, kind)]
        for ends in (traced.inputs, traced.outputs)
    )
    with framework._dygraph_guard(None), paddle.utils.unique_name.guard():
        program = paddle.static.normalize_program(traced.main_program, inputs, outputs)
        return program if newer else program._remove_training_info(clip_extra=True)


def _saved(program: Any) -> Any:
    """A program as a message; Paddle 3 gives its own form as a file only."""
    with tempfile.TemporaryDirectory(prefix="picoquant-traced-") as scratch, framework._dygraph_guard(None):
        path = Path(scratch) / "program"
        paddle.save(program, str(path))
        return read_program(path)
