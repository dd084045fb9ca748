"""Post-processing in ONNX against `postprocess`, and the variants of a package against each other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from picoquant.backends.onnx.files import write_onnx
from picoquant.backends.onnx.parity import run_onnx
from picoquant.backends.onnx.postprocessing import with_outputs
from picoquant.backends.onnx.qdq import make_onnx
from picoquant.paddle_program.network_input import feed_of_image, sample_image, select_inputs
from picoquant.postprocess import Decoder, NmsSettings
from tests.networks.small_int8 import CONFIG

# 32 pixels, strides 8 and 16: 16 and 4 points.
ALIGNED = replace(CONFIG, raw_outputs="logits")
SHAPES = [[1, 16, 3], [1, 4, 3], [1, 16, 1], [1, 4, 1], [1, 16, 32], [1, 4, 32]]


def raw_model(shapes):
    """A model that hands its inputs out."""
    inputs = [helper.make_tensor_value_info(f"in{i}", TensorProto.FLOAT, s) for i, s in enumerate(shapes)]
    outputs = [helper.make_tensor_value_info(f"out{i}", TensorProto.FLOAT, s) for i, s in enumerate(shapes)]
    nodes = [helper.make_node("Identity", [f"in{i}"], [f"out{i}"]) for i in range(len(shapes))]
    graph = helper.make_graph(nodes, "raw", inputs, outputs)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def logits(shapes, seed=3, shift=0.0):
    random = np.random.default_rng(seed)
    return [(random.normal(0, 2, shape) + shift).astype(np.float32) for shape in shapes]


def run(model, values, path, **more):
    write_onnx(model, path)
    return run_onnx(path, {**{f"in{i}": value for i, value in enumerate(values)}, **more})


def decoded(values, config, scale):
    names = [f"out{i}" for i in range(len(values))]
    return Decoder.of(names, [value.shape for value in values], config).decode(values, scale)[0]


@pytest.mark.parametrize(
    "nms",
    [
        NmsSettings(),
        NmsSettings(score_threshold=0.3, nms_threshold=0.2),
        NmsSettings(nms_top_k=5),
        NmsSettings(keep_top_k=4),
        NmsSettings(nms_top_k=-1, keep_top_k=-1),
        NmsSettings(score_threshold=0.999),  # nothing is left
    ],
)
@pytest.mark.parametrize("form", ["aligned", "logits", "scores"])
def test_detections_are_those_of_the_decoder(nms, form, tmp_path):
    shapes = SHAPES if form == "aligned" else [*SHAPES[:2], *SHAPES[4:]]
    config = replace(ALIGNED, nms=nms, raw_outputs="scores" if form == "scores" else "logits")
    values = logits(shapes)
    if form == "scores":
        values[:2] = [1 / (1 + np.exp(-value)) for value in values[:2]]
    scale = np.array([[0.5, 0.25]], np.float32)  # an image of 64 rows and 128 columns
    expected = decoded(values, config, scale)
    model = with_outputs(raw_model(shapes), "detections", config)
    rows, count = run(model, values, tmp_path / "model.onnx", scale_factor=scale)
    assert count.tolist() == [len(expected.scores)] and rows.shape == (len(expected.scores), 6)
    np.testing.assert_array_equal(rows[:, 0], expected.classes)
    np.testing.assert_allclose(rows[:, 1], expected.scores, rtol=1e-5)
    np.testing.assert_allclose(rows[:, 2:], expected.boxes, rtol=1e-4, atol=1e-3)
    assert (len(rows) == 0) == (nms.score_threshold == 0.999)


def test_a_box_by_hand(tmp_path):
    values = [np.full(shape, -20, np.float32) for shape in SHAPES]
    values[0][0, 5, 1] = values[2][0, 5, 0] = 0.0  # point 5 of stride 8: row 1, column 1, centre (12, 12)
    for side, bins in enumerate([1, 0, 2, 3]):  # left 1, top 0, right 2, bottom 3 strides
        values[4][0, 5, side * 8 + bins] = 60
    boxes, scores = run(with_outputs(raw_model(SHAPES), "boxes", ALIGNED), values, tmp_path / "m.onnx")
    assert boxes.shape == (1, 20, 4) and scores.shape == (1, 3, 20)
    np.testing.assert_allclose(boxes[0, 5], [4, 12, 28, 36], atol=1e-4)
    np.testing.assert_allclose(scores[0, 1, 5], 0.5, atol=1e-6)  # sqrt(0.5 * 0.5)
    assert scores[0, [0, 2]].max() < 1e-3


def test_variants_of_one_model_agree(taken_apart, small, tmp_path):
    model = make_onnx(taken_apart[2])
    feed = select_inputs(feed_of_image(sample_image(32, 32), CONFIG), ["image", "scale_factor"])
    made = {}
    for kind in ("raw", "boxes", "detections"):
        variant = with_outputs(model, kind, CONFIG)
        onnx.checker.check_model(variant, full_check=True)
        write_onnx(variant, tmp_path / f"{kind}.onnx")
        made[kind] = run_onnx(tmp_path / f"{kind}.onnx", feed)
    decoders = {
        kind: Decoder.of(["out"] * len(outputs), [output.shape for output in outputs], CONFIG)
        for kind, outputs in made.items()
    }
    assert {kind: decoder.kind for kind, decoder in decoders.items()} == {kind: kind for kind in made}
    found = [decoder.decode(made[kind], feed["scale_factor"])[0] for kind, decoder in decoders.items()]
    assert len(found[0].scores) > 3
    for other in found[1:]:
        np.testing.assert_array_equal(other.classes, found[0].classes)
        np.testing.assert_allclose(other.scores, found[0].scores, rtol=1e-5)
        np.testing.assert_allclose(other.boxes, found[0].boxes, rtol=1e-4, atol=1e-3)


def test_unknown_kind():
    with pytest.raises(ValueError, match="'nms' is none of"):
        with_outputs(raw_model(SHAPES), "nms", ALIGNED)
