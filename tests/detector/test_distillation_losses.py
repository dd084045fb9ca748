"""The losses of a teacher against values worked out by hand.

Beside these, on seeded values: PaddleDetection 2.6's FGDFeatureLoss, KnowledgeDistillationKLDivLoss and
quality_focal_loss gave the same to 2e-7, FGD's gradients to 4e-7 (13 x 10 cells, maps of 12 and 16 channels).
"""

from __future__ import annotations

import math

import numpy as np
import paddle
import pytest

from picoquant.detector.losses.focal_global import FocalGlobal, attention_of, normalised, object_masks
from picoquant.detector.losses.localization_distillation import localization_distillation
from picoquant.detector.losses.quality_focal import quality_focal_loss


def tensor(values) -> paddle.Tensor:
    return paddle.to_tensor(values, dtype="float32")


def test_localization_distillation():
    # Student even over two bins, teacher 3 to 1 at temperature 2: KL = 3/4 ln(3/2) + 1/4 ln(1/2), mean of 2, times 4.
    found = localization_distillation(tensor([[1, 1]]), tensor([[2 * math.log(3), 0]]), 2.0)
    expected = (0.75 * math.log(1.5) + 0.25 * math.log(0.5)) / 2 * 4
    assert found.numpy().tolist() == pytest.approx([expected], rel=1e-5)
    same = tensor([[0.3, -2.0, 5.0]])
    assert abs(localization_distillation(same, same, 10.0).item()) < 1e-6


def test_scores_as_targets():
    # Scores, not logits: entropy of 0.5 is ln 2 whatever the target; distance 0.3.
    found = quality_focal_loss(tensor([[0.5]]), tensor([[0.8]]), use_sigmoid=False)
    assert found.item() == pytest.approx(0.09 * math.log(2), rel=1e-5)


def test_attention_of_places_and_channels():
    # Two channels, one row of two cells: |x| means over channels 1 and 2; over places 2 and 1.
    feature = tensor([[[[-1, 3]], [[1, -1]]]])
    found = attention_of(feature, 0.5)
    near = 1 / (1 + math.exp(2))  # softmax of 1/0.5 and 2/0.5
    assert found.places.numpy()[0, 0].tolist() == pytest.approx([2 * near, 2 * (1 - near)], rel=1e-5)
    assert found.channels.numpy()[0].tolist() == pytest.approx([2 * (1 - near), 2 * near], rel=1e-5)


def test_masks_of_overlapping_objects():
    # Columns 0 to 2, rows 0 and 1; and columns 1 and 2, rows 2 to 4 of a map with 3 rows.
    boxes = tensor([[[0.2, 0.0, 1.5, 0.5], [1.0, 2.0, 2.0, 3.5], [0, 0, 0, 0]]])
    covered, free = object_masks(boxes, tensor([[1, 1, 0]]), (3, 4))
    large = small = 1 / 6  # 3 x 2 cells; 2 x 3 cells, though two of its rows are outside
    expected = [[large, large, large, 0], [large, large, large, 0], [0, small, small, 0]]
    assert np.allclose(covered.numpy()[0], expected)
    assert np.allclose(free.numpy()[0], (np.array(expected) == 0) / 4)


def test_a_cell_counts_for_the_smallest_object_and_padding_for_none():
    boxes = tensor([[[0, 0, 3, 3], [1, 1, 1, 1], [2, 2, 2, 2]]])
    covered, free = object_masks(boxes, tensor([[1, 1, 0]]), (4, 4))
    assert covered.numpy()[0, 1, 1] == 1 and covered.numpy()[0, 2, 2] == np.float32(1 / 16)
    assert free.numpy().sum() == 0  # all of it is covered: no division by 0


def fgd(**weights) -> FocalGlobal:
    nothing = {"objects": 0.0, "background": 0.0, "attention": 0.0, "relations": 0.0}
    return FocalGlobal(1, 1, **{**nothing, **weights})


def even(value: float) -> paddle.Tensor:
    """One channel, 2 x 2 cells of one value: its attentions are 1 everywhere."""
    return paddle.full([1, 1, 2, 2], value)


LEFT = (
    tensor([[[0.0, 0.0, 0.4, 0.9]]]),
    tensor([[1.0]]),
)  # cells: x 0 to ceil(0.8), y 0 to ceil(1.8): all 2 x 3


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ({"objects": 1.0}, 4 * 4 / 6),  # each of the 4 cells is 2 away; the object has 2 x 3 cells
        ({"background": 1.0}, 0.0),
        ({"attention": 1.0}, 0.0),
        ({"relations": 1.0}, 16.0),  # contexts add nothing at first
    ],
)
def test_the_four_terms(weights, expected):
    found = fgd(**weights)(even(3.0), even(1.0), *LEFT)
    assert found.item() == pytest.approx(expected, rel=1e-5)


def test_images_without_objects_are_left_out():
    layer, boxes = fgd(objects=1.0, relations=1.0), paddle.concat([LEFT[0], LEFT[0]])
    pair = paddle.concat([even(3.0), even(9.0)]), paddle.concat([even(1.0), even(1.0)])
    assert layer(*pair, boxes, tensor([[1], [0]])).item() == pytest.approx(4 * 4 / 6 + 16, rel=1e-5)
    none = layer(*pair, boxes, tensor([[0], [0]]))
    assert none.item() == 0 and layer(*pair, boxes[:, :0], paddle.zeros([2, 0])).item() == 0


def test_no_gradient_is_asked_of_the_teacher_and_the_layers_get_theirs():
    layer = FocalGlobal(3, 5)
    student, teacher = paddle.rand([1, 3, 4, 4]), paddle.rand([1, 5, 4, 4])
    student.stop_gradient = False
    layer(student, teacher, *LEFT).backward()
    assert float(student.grad.abs().sum()) > 0 and teacher.grad is None
    assert float(layer.align.weight.grad.abs().sum()) > 0


def test_normalised_maps():
    found = normalised(tensor([[[[1, 3]]], [[[5, 7]]]]))
    deviation = math.sqrt((9 + 1 + 1 + 9) / 3)
    assert found.numpy().ravel().tolist() == pytest.approx([v / deviation for v in (-3, -1, 1, 3)], rel=1e-4)
