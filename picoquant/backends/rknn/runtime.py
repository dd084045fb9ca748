"""The network of an `.rknn` in rknn-toolkit2's simulator, which takes no `.rknn`: it builds its ONNX again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from picoquant.backends.base import Exported, Machine
from picoquant.backends.onnx.files import read_onnx
from picoquant.backends.own_environment.built_from import require_built_from
from picoquant.backends.own_environment.package import OwnTool
from picoquant.backends.own_environment.predictor import SessionPredictor
from picoquant.backends.rknn.form import as_paddle_has_them, properties
from picoquant.backends.rknn.toolkit import Session


@contextmanager
def open_files(made: Exported, tool: OwnTool, machine: Machine) -> Iterator[SessionPredictor]:
    """An `.rknn` and its ONNX in the simulator, see `base.Runtime`.

    Raises: `WeightsError` when the two do not belong together, `ToolError` with the toolkit's word.
    """
    file, form = made.files
    model = read_onnx(form)
    outputs, platform, digest = properties(model, str(form))
    require_built_from(file, form, digest)
    inputs = tuple(
        (item.name, tuple(dim.dim_value for dim in item.type.tensor_type.shape.dim))
        for item in model.graph.input
    )
    with Session(tool) as session:
        session.simulate(form.absolute(), platform)
        yield SessionPredictor(
            session, inputs, outputs, file.suffix, lambda values: as_paddle_has_them(values, outputs)
        )
