"""Exported models whose weights or outputs are no finite numbers."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from picoquant.backends.onnx.export import write_onnx_form
from picoquant.backends.onnx.runtime import OnnxPredictor
from picoquant.backends.paddle.runtime import open_predictor
from picoquant.backends.source import Source
from picoquant.errors import WeightsError
from picoquant.paddle_program.params import read_params, write_params
from picoquant.paddle_program.program import read_program
from picoquant.postprocess import Decoder, NmsSettings
from tests.networks.small_int8 import write_small


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_export_s_parameter_is_named(tmp_path, value):
    folder = write_small(tmp_path, quantised=False)
    program = read_program(folder.model)
    params = {name: array.copy() for name, array in read_params(program, folder.params).items()}
    params["middle.w"].ravel()[2] = value
    write_params(program, params, folder.params)
    with pytest.raises(WeightsError, match=r"model\.pdiparams: middle\.w holds values that are no finite"):
        open_predictor(folder, threads=1)


@pytest.mark.parametrize("initializer", [False, True])
def test_an_onnx_model_s_weight_is_named(tmp_path, initializer):
    path = tmp_path / "model.onnx"
    write_onnx_form(Source(write_small(tmp_path, quantised=False)), path)
    model = onnx.load(path)
    nodes = {node.output[0]: node for node in model.graph.node if node.op_type == "Constant"}
    tensors = {one.name: one for one in model.graph.initializer}
    stored = {
        name: node.attribute[0].t for name, node in nodes.items()
    } | tensors  # paddle2onnx's, or our own
    name = next(name for name, one in stored.items() if len(one.dims) == 4)
    array = numpy_helper.to_array(stored[name]).copy()
    array.ravel()[1] = np.nan
    model.graph.node.extend([] if initializer else [helper.make_node("Constant", [], [name])])
    if name in nodes:
        model.graph.node.remove(nodes[name])
    else:
        model.graph.initializer.remove(tensors[name])
    if initializer:
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    else:
        constant = model.graph.node.pop()
        constant.attribute.append(helper.make_attribute("value", numpy_helper.from_array(array, name)))
        model.graph.node.insert(0, constant)
    onnx.save(model, path)
    with pytest.raises(WeightsError, match=f"model.onnx: {name} holds values that are no finite"):
        OnnxPredictor(path)


def test_an_output_that_is_not_finite_is_named_rather_than_no_detections():
    boxes, scores = np.zeros((2, 5, 4), np.float32), np.zeros((2, 3, 5), np.float32)
    decoder = Decoder("boxes", NmsSettings(), names=("boxes", "scores"), model="a.pdmodel")
    assert [len(found) for found in decoder.decode([boxes, scores], np.ones((2, 2)))] == [0, 0]
    scores[1, 2, 3] = np.nan
    with pytest.raises(
        WeightsError, match="a.pdmodel: output scores holds values that are no finite numbers"
    ):
        decoder.decode([boxes, scores], np.ones((2, 2)))
