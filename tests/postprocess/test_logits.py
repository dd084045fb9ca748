"""The host's share of the scores: from the NPU's logits to what the network itself computes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from picoquant.errors import ConfigError
from picoquant.export import InferConfig
from picoquant.postprocess import Decoder, NmsSettings, decode_levels, promising, scores_of_logits

SIZE, STRIDES = (64, 96), (8, 16, 32, 64)


def test_scores_by_hand():
    # sigmoid(0) = 1/2, sigmoid(ln 3) = 3/4: the root of their product, and 3/4 alone.
    classes, alignment = np.float32([[0, np.log(3)]]), np.float32([[np.log(3)]])
    np.testing.assert_allclose(scores_of_logits(classes, alignment), [[0.375**0.5, 0.75]], rtol=1e-6)
    np.testing.assert_allclose(scores_of_logits(classes), [[0.5, 0.75]], rtol=1e-6)
    extremes = scores_of_logits(np.float32([[-1e4, 1e4]]))
    assert extremes.tolist() == [[pytest.approx(0, abs=1e-30), 1]]


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("threshold", [0, 1e-6, 0.025, 0.3, 1])
def test_no_point_above_the_threshold_is_passed_over(aligned, threshold):
    random = np.random.default_rng(1)
    classes = random.normal(-4, 4, (20000, 3)).astype(np.float32)
    alignment = random.normal(-1, 3, (20000, 1)).astype(np.float32) if aligned else None
    above = scores_of_logits(classes, alignment).max(axis=1) > threshold
    chosen = promising(classes, alignment, threshold)
    assert chosen[above].all()
    if not aligned and 0 < threshold < 1:
        assert chosen.sum() <= above.sum() * 1.01 + 1  # and hardly one too many


@pytest.fixture(scope="module", params=["picodet_s_416_coco_npu.yml", "picodet_s_320_coco.yml"])
def network(request):
    """A network with alignment map, and one without."""
    import paddle

    import picoquant

    paddle.seed(5)
    model = picoquant.build_detector(request.param, num_classes=3)
    state = model.state_dict()
    for name, value in state.items():
        if "head_cls" in name and name.endswith("bias"):  # scores of 0.01 everywhere would show little
            state[name] = value + 3 + paddle.randn(value.shape)
    model.set_state_dict(state)
    model.eval()
    return model


def test_equals_the_network(network):
    """Scores to 1e-4, boxes to 1e-4 of the input's size, and the same detections."""
    import paddle

    image = paddle.rand([2, 3, *SIZE])
    with paddle.no_grad():
        outputs = [level.numpy() for level in network.logits(image)]
        scores, boxes = (value.numpy() for value in network(image))
    levels = [outputs[start : start + 4] for start in range(0, len(outputs), 4)]
    assert len(levels) == (3 if hasattr(network.head, "cls_align") else 2)
    alignment = levels[1] if len(levels) == 3 else [None] * 4
    ours = decode_levels(
        [scores_of_logits(*pair) for pair in zip(levels[0], alignment)], levels[-1], SIZE, STRIDES
    )
    np.testing.assert_allclose(ours[0], scores, atol=1e-4)
    np.testing.assert_allclose(ours[1], boxes, atol=1e-4 * max(SIZE))

    config = InferConfig(SIZE, ("a", "b", "c"), nms=NmsSettings(0.1), raw_outputs="logits")
    decoder = Decoder.of([str(i) for i in range(len(outputs))], [o.shape for o in outputs], config)
    scale = np.float32([[1, 1], [0.5, 0.25]])
    expected = Decoder("boxes", config.nms).decode([boxes, scores], scale)
    assert sum(map(len, expected)) > 10
    for have, want in zip(decoder.decode(outputs, scale), expected):
        np.testing.assert_array_equal(have.classes, want.classes)
        np.testing.assert_allclose(have.scores, want.scores, atol=1e-4)
        np.testing.assert_allclose(have.boxes, want.boxes, atol=1e-4 * max(SIZE) * 4)


def test_three_outputs_a_level_are_logits_and_two_are_what_the_folder_says():
    shapes = {
        width: [(1, cells, width) for cells in (96, 24, 6, 2)]
        for width in (3, 1, 32)
    }  # fmt: skip
    config = InferConfig(SIZE, ("a", "b", "c"))

    def read_as(config, *widths):
        names = [str(index) for index in range(4 * len(widths))]
        return Decoder.of(names, sum((shapes[width] for width in widths), []), config).raw_outputs

    assert read_as(config, 3, 32) == "scores"  # PaddleDetection's exports, and older ones
    assert read_as(replace(config, raw_outputs="logits"), 3, 32) == "logits"
    assert read_as(config, 3, 1, 32) == "logits"
    with pytest.raises(ConfigError, match="raw_outputs is 'logit': logits or scores is expected"):
        replace(config, raw_outputs="logit")
