"""The network of an `.espdl` in esp-ppq's executor, which takes no `.espdl`: it quantises its ONNX again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from picoquant.backends.base import Exported, Machine, Tensors
from picoquant.backends.esp_ppq.form import properties
from picoquant.backends.esp_ppq.quantizer import Session
from picoquant.backends.onnx.files import read_onnx
from picoquant.backends.own_environment.built_from import require_built_from
from picoquant.backends.own_environment.package import OwnTool
from picoquant.backends.own_environment.predictor import SessionPredictor


@contextmanager
def open_files(made: Exported, tool: OwnTool, machine: Machine) -> Iterator[SessionPredictor]:
    """An `.espdl` and its ONNX in the executor, see `base.Runtime`.

    Raises: `WeightsError` when the two do not belong together, `ToolError` with esp-ppq's word.
    """
    file, form = made.files
    model = read_onnx(form)
    exponents, chip, digest = properties(model, str(form))
    require_built_from(file, form, digest)
    inputs, outputs = (_described(side) for side in (model.graph.input, model.graph.output))
    with Session(tool, exponents) as session:
        session.load(form.absolute(), exponents, chip)
        yield SessionPredictor(session, inputs, outputs, file.suffix)


def _described(values: object) -> Tensors:
    return tuple(
        (item.name, tuple(side.dim_value for side in item.type.tensor_type.shape.dim)) for item in values
    )
