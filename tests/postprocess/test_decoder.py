"""The decoder of each kind of export, on golden outputs."""

from __future__ import annotations

import numpy as np
import pytest

from picoquant.errors import WeightsError
from picoquant.export import InferConfig
from picoquant.postprocess import Decoder, NmsSettings
from tests.postprocess.test_nms import rows

CONFIG = InferConfig(input_size=(192, 192), labels=tuple(map(str, range(80))))
RAW = [f"raw_cls{level}" for level in range(4)] + [f"raw_reg{level}" for level in range(4)]


def shapes(arrays):
    return [array.shape for array in arrays]


def decoded(names, arrays, scale_factor):
    decoder = Decoder.of(names, shapes(arrays), CONFIG)
    return decoder.kind, decoder.decode(arrays, scale_factor)


def test_the_three_kinds_give_the_same_detections(shared):
    golden = np.load(shared / "alignment" / "npu_s.npz")
    scale, count = golden["scale_factor"][:1], golden["nms_bbox_num"][0]
    expected = golden["nms_bbox"][:count]

    kind, (inside,) = decoded(["bbox", "num"], [expected, golden["nms_bbox_num"][:1]], scale)
    assert kind == "detections"
    np.testing.assert_array_equal(rows(inside).astype(np.float32), expected)

    for order in (["boxes", "scores"], ["scores", "boxes"]):
        kind, (outside,) = decoded(order, [golden[name][:1] for name in order], scale)
        assert kind == "boxes"
        np.testing.assert_array_equal(rows(outside).astype(np.float32), expected)

    kind, (raw,) = decoded(RAW, [golden[name] for name in RAW], scale)
    assert kind == "raw"
    np.testing.assert_allclose(rows(raw), expected, atol=5e-4)  # of some 800 pixels


def test_rows_go_to_their_images():
    bbox = np.arange(18, dtype=np.float32).reshape(3, 6)
    decoder = Decoder("detections", NmsSettings())
    first, second, third = decoder.decode([bbox, np.array([1, 0, 2])], np.ones((3, 2)))
    assert (len(first), len(second), len(third)) == (1, 0, 2)
    assert first.classes.tolist() == [0] and third.boxes[1].tolist() == [14, 15, 16, 17]


def test_raw_without_any_score_above_the_threshold():
    outputs = [np.zeros((2, cells, 3), np.float32) for cells in (16, 4)]
    outputs += [np.zeros((2, cells, 32), np.float32) for cells in (16, 4)]
    decoder = Decoder("raw", NmsSettings(), (32, 32), (8, 16))
    assert [len(image) for image in decoder.decode(outputs, np.ones((2, 2)))] == [0, 0]


def test_varying_sizes_fit():
    assert Decoder.of(["a", "b"], [(-1, 6), (-1,)], CONFIG).kind == "detections"
    assert Decoder.of(["a", "b"], [(-1, 765, 4), (-1, 80, 765)], CONFIG).kind == "boxes"


@pytest.mark.parametrize("found", [[], [(1, 1000)], [(1, 700, 4), (1, 80, 700)], [(1, 576, 80)] * 8])
def test_other_outputs_are_refused_with_what_was_expected(found):
    names = [f"out{index}" for index in range(len(found))]
    with pytest.raises(WeightsError) as caught:
        Decoder.of(names, found, CONFIG, model="some/model.pdmodel")
    message = str(caught.value)
    assert message.startswith("some/model.pdmodel at input size [192, 192]")
    assert f"{len(found)} outputs" in message and "[N, 765, 4] and [N, C, 765]" in message
    for name, shape in zip(names, found):
        assert f"{name} {list(shape)}" in message
