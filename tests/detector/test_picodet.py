"""The calls of a detector: shapes, small and odd inputs, images without objects, export."""

from __future__ import annotations

import numpy as np
import paddle
import pytest

from picoquant.config.detector import load_detector
from picoquant.errors import UserError
from picoquant.export.paddle_export import write_layer


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


@pytest.fixture(params=["small", "october_2021", "august_2021"])
def each_head(request):
    """The configuration of one network of each head, and the name of its class loss."""
    name = "loss_qfl" if request.param == "august_2021" else "loss_vfl"
    return request.getfixturevalue(request.param), name


@pytest.mark.parametrize("epoch", [0, 100])
@pytest.mark.parametrize(("boxes", "real"), [(3, 2), (3, 0), (0, 0)])
def test_trains_with_and_without_objects(each_head, boxes, real, epoch):
    """At 64 pixels a level has 1 cell, fewer than any top-k; loss and gradients stay finite."""
    config, class_loss = each_head
    model = load_detector(config)
    model.train()
    losses = model.loss(paddle.rand([2, 3, 64, 64]), **objects(boxes, real), epoch=epoch)
    assert set(losses) == {class_loss, "loss_bbox", "loss_dfl", "loss"}
    assert all(np.isfinite(value.item()) for value in losses.values())
    parts = sum(value.item() for name, value in losses.items() if name != "loss")
    assert losses["loss"].item() == pytest.approx(parts, rel=1e-5)
    assert (losses["loss_bbox"].item() > 0) == (real > 0)
    losses["loss"].backward()
    unused = {name for name, p in model.named_parameters() if p.trainable and p.grad is None}
    assert unused == {f"head.p{int(np.log2(stride))}_feat.scale_reg" for stride in model.strides}
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


def test_a_batch_is_its_images(each_head):
    """Two images at once give what each gives alone."""
    model = load_detector(each_head[0])
    model.eval()
    image = paddle.rand([2, 3, 64, 64])
    together = [value.numpy() for value in model(image)]
    for i in range(2):
        for both, alone in zip(together, model(image[i : i + 1])):
            np.testing.assert_allclose(both[i], alone.numpy()[0], rtol=1e-4, atol=1e-4)


def test_size_must_be_a_multiple_of_32(small):
    with pytest.raises(UserError, match="100x64.*multiples of 32"):
        load_detector(small)(paddle.rand([1, 3, 100, 64]))


def export_and_compare(layer, folder):
    """Export with any batch size at 64x96; run 3 images through it and through the layer."""
    layer.eval()
    image = paddle.rand([3, 3, 64, 96])
    expected = [value.numpy() for value in layer(image)]
    spec = [paddle.static.InputSpec([None, 3, 64, 96], "float32", "image")]
    write_layer(layer, spec, folder)
    found = paddle.jit.load(str(folder / "model"))(image)
    for value, wanted in zip(found, expected):
        np.testing.assert_allclose(value.numpy(), wanted, rtol=1e-5, atol=1e-5)


class _Raw(paddle.nn.Layer):
    def __init__(self, model) -> None:
        super().__init__()
        self.model = model

    def forward(self, image):
        scores, logits = self.model.raw(image)
        return scores + logits


@pytest.mark.parametrize("raw", [False, True])
def test_exports(each_head, tmp_path, raw):
    model = load_detector(each_head[0])
    export_and_compare(_Raw(model) if raw else model, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("ESNet", {"scale": 0.75}),
        ("MobileNetV3", {"scale": 0.35, "feature_maps": [7, 13, 16]}),
        ("ResNet", {"depth": 18, "variant": "d", "return_idx": [1, 2, 3]}),
        ("ResNet", {"depth": 50, "return_idx": [1, 2, 3]}),
    ],
)
def test_exports_with_each_backbone(small, tmp_path, name, values):
    small["PicoDet"].update(backbone=name, neck="CSPPAN")
    small["CSPPAN"] = small["LCPAN"]
    export_and_compare(load_detector({**small, name: values}), tmp_path)
