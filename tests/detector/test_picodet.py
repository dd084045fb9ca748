"""The calls of a detector: shapes, small and odd inputs, images without objects, export."""

from __future__ import annotations

import numpy as np
import paddle
import pytest

from picoquant.config.detector import load_detector
from picoquant.errors import UserError


def objects(boxes: int, real: int):
    """Ground truth of 2 images: `boxes` rows, the first `real` of the first image are objects."""
    gt_bbox = np.zeros((2, boxes, 4), np.float32)
    mask = np.zeros((2, boxes, 1), np.float32)
    gt_bbox[0, :real], mask[0, :real] = [8, 8, 40, 48], 1
    gt_class = np.zeros((2, boxes, 1), np.int32)
    return {
        "gt_bbox": paddle.to_tensor(gt_bbox),
        "gt_class": paddle.to_tensor(gt_class),
        "pad_gt_mask": paddle.to_tensor(mask),
    }


def test_shapes_and_attributes(small):
    model = load_detector(small)
    model.eval()
    assert (model.num_classes, model.strides, model.reg_max, model.cell_offset) == (
        2,
        (8, 16, 32, 64),
        7,
        0.5,
    )
    # 96x64: 12x8 + 6x4 + 3x2 + 2x1 cells.
    scores, boxes = model(paddle.rand([3, 3, 96, 64]))
    assert scores.shape == [3, 2, 128]
    assert boxes.shape == [3, 128, 4]
    raw_scores, logits = model.raw(paddle.rand([3, 3, 96, 64]))
    assert [s.shape for s in raw_scores] == [[3, n, 2] for n in (96, 24, 6, 2)]
    assert [x.shape for x in logits] == [[3, n, 32] for n in (96, 24, 6, 2)]


def test_boxes_are_the_decoded_distances(small):
    """Decoding the raw outputs by hand gives the boxes."""
    model = load_detector(small)
    model.eval()
    image = paddle.rand([1, 3, 64, 64])
    scores, boxes = (value.numpy() for value in model(image))
    raw_scores, logits = model.raw(image)
    found = np.concatenate([s.numpy() for s in raw_scores], axis=1).transpose(0, 2, 1)
    np.testing.assert_allclose(found, scores, rtol=1e-5)
    # The last point is the only cell of stride 64, its centre at 32, 32.
    power = np.exp(logits[3].numpy().reshape(4, 8))
    left, top, right, bottom = (power / power.sum(1, keepdims=True)) @ np.arange(8) * 64
    expected = [32 - left, 32 - top, 32 + right, 32 + bottom]
    np.testing.assert_allclose(boxes[0, -1], expected, rtol=1e-4)


@pytest.mark.parametrize("epoch", [0, 100])
@pytest.mark.parametrize(("boxes", "real"), [(3, 2), (3, 0), (0, 0)])
def test_trains_with_and_without_objects(small, boxes, real, epoch):
    """At 64 pixels a level has 1 cell, fewer than any top-k; loss and gradients stay finite."""
    model = load_detector(small)
    model.train()
    losses = model.loss(paddle.rand([2, 3, 64, 64]), **objects(boxes, real), epoch=epoch)
    assert set(losses) == {"loss_vfl", "loss_bbox", "loss_dfl", "loss"}
    assert all(np.isfinite(float(value)) for value in losses.values())
    parts = sum(float(value) for name, value in losses.items() if name != "loss")
    assert float(losses["loss"]) == pytest.approx(parts, rel=1e-5)
    assert (float(losses["loss_bbox"]) > 0) == (real > 0)
    losses["loss"].backward()
    unused = {name for name, p in model.named_parameters() if p.trainable and p.grad is None}
    assert unused == {f"head.p{i}_feat.scale_reg" for i in (3, 4, 5, 6)}
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert all(bool(paddle.isfinite(gradient).all()) for gradient in gradients)


def test_training_lowers_the_loss(small):
    paddle.seed(0)
    model = load_detector(small)
    model.train()
    optimizer = paddle.optimizer.Momentum(0.01, parameters=model.parameters())
    image, truth = paddle.rand([2, 3, 64, 64]), objects(3, 1)
    values = []
    for _ in range(12):
        loss = model.loss(image, **truth, epoch=0)["loss"]
        loss.backward()
        optimizer.step()
        optimizer.clear_grad()
        values.append(float(loss))
    assert values[-1] < values[0]


def test_size_must_be_a_multiple_of_32(small):
    with pytest.raises(UserError, match="100x64.*multiples of 32"):
        load_detector(small)(paddle.rand([1, 3, 100, 64]))


class _Raw(paddle.nn.Layer):
    def __init__(self, model) -> None:
        super().__init__()
        self.model = model

    def forward(self, image):
        scores, logits = self.model.raw(image)
        return scores + logits


@pytest.mark.parametrize("kind", ["forward", "raw"])
def test_exports_with_any_batch_size(small, tmp_path, kind):
    model = load_detector(small)
    model.eval()
    image = paddle.rand([3, 3, 64, 96])
    layer = model if kind == "forward" else _Raw(model)
    expected = [value.numpy() for value in layer(image)]
    spec = [paddle.static.InputSpec([None, 3, 64, 96], "float32", "image")]
    static = paddle.jit.to_static(layer, input_spec=spec, full_graph=True)
    paddle.jit.save(static, str(tmp_path / "model"))
    found = paddle.jit.load(str(tmp_path / "model"))(image)
    for value, wanted in zip(found, expected):
        np.testing.assert_allclose(value.numpy(), wanted, rtol=1e-5, atol=1e-5)
