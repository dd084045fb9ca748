"""The static, oneDNN way gives what dygraph gives."""

from __future__ import annotations

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest
from paddle import ParamAttr, nn
from paddle.nn.initializer import Constant

from picoquant import build_detector
from picoquant.detector.layers import channel_shuffle
from picoquant.training.fast import (
    FastLayers,
    fast_convolutions_available,
    traced,
    tuned_cpu,
)
from picoquant.training.graphs.rewrite import ChannelsLast
from picoquant.utils.paddle_version.differences import onednn_attribute
from tests.training import tiny
from tests.training.test_loop import detector, same_end

pytestmark = pytest.mark.skipif(not fast_convolutions_available(), reason="this paddle has no oneDNN")


def block(width_in: int, width: int, kernel: int, groups: int, stride: int = 1) -> nn.Layer:
    convolution = nn.Conv2D(
        width_in, width, kernel, stride, (kernel - 1) // 2, groups=groups, bias_attr=False
    )
    norm = nn.BatchNorm2D(
        width,
        weight_attr=ParamAttr(
            initializer=Constant(0.5)
        ),  # with these no value comes near relu6's corners, where a
        bias_attr=ParamAttr(initializer=Constant(3.0)),  # last bit decides whether a gradient passes
    )
    return nn.Sequential(convolution, norm, nn.ReLU6())


class Neck(nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.wide, self.halve = block(24, 32, 1, 1), block(32, 32, 5, 32, stride=2)
        self.first, self.second, self.mix = block(64, 32, 1, 1), block(64, 32, 1, 1), nn.Conv2D(32, 32, 1)

    def forward(self, maps):
        wide = self.wide(maps[0])
        half = self.halve(wide)
        both = paddle.concat([wide, F.interpolate(half, scale_factor=2.0, mode="nearest")], axis=1)
        both = self.first(both) + self.second(both)
        return [both * F.sigmoid(self.mix(F.adaptive_avg_pool2d(both, 1))), half]


class Head(nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.deep, self.out = block(32, 32, 5, 32), nn.Conv2D(32, 6, 1)

    def predicted(self, maps):
        return [self.out(self.deep(m)).flatten(2) for m in maps], [m.flatten(2) for m in maps]


class Small(nn.Layer):
    """Every kind of operator of the real network; few enough layers for close gradients."""

    def __init__(self) -> None:
        super().__init__()
        paddle.seed(0)
        self.backbone = nn.Sequential(block(3, 24, 3, 1, stride=2), block(24, 24, 3, 24), Listed())
        self.neck, self.head = Neck(), Head()

    def pyramid(self, image):
        return self.neck(self.backbone(image))

    def predicted(self, image):
        return self.head.predicted(self.pyramid(image))

    def loss(self, image):
        classes, boxes = self.predicted(image)
        random = np.random.RandomState(1)
        parts = [
            (value * paddle.to_tensor(random.randn(*value.shape).astype("float32"))).mean()
            for value in classes + boxes
        ]
        return paddle.add_n(parts)


class Listed(nn.Layer):
    def forward(self, image):
        return [image]


def test_losses_gradients_and_statistics_equal_dygraph():
    slow, fast = Small(), Small()
    layers = FastLayers(fast)
    random = np.random.RandomState(0)
    with tuned_cpu():
        # Two sizes and numbers of images through one trace.
        for shape in ([4, 3, 64, 64], [2, 3, 96, 64]):
            image = paddle.to_tensor(random.rand(*shape).astype("float32"))
            expected = slow.loss(image)
            expected.backward()
            with layers.on():
                found = fast.loss(image)
            found.backward()
            assert found.item() == pytest.approx(expected.item(), abs=1e-5)
            for (name, left), right in zip(slow.named_parameters(), fast.parameters()):
                if left.grad is not None:
                    scale = np.abs(left.grad.numpy()).max()
                    np.testing.assert_allclose(
                        right.grad.numpy(), left.grad.numpy(), atol=1e-3 * scale + 1e-7, err_msg=name
                    )
            slow.clear_gradients()
            fast.clear_gradients()
    for name, value in slow.state_dict().items():
        np.testing.assert_allclose(fast.state_dict()[name].numpy(), value.numpy(), atol=1e-5, err_msg=name)


def test_what_a_graph_returns_and_the_gradient_of_its_input_are_in_paddles_layout():
    """Read value by value: in oneDNN's layout these would be other values, without a word."""

    class Layer(nn.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.deep, self.out = block(24, 32, 1, 1), nn.Conv2D(32, 16, 1, bias_attr=False)

        def forward(self, x):
            deep = self.deep(x)
            return [deep, self.out(deep)]

    layer = Layer()
    random = np.random.RandomState(0)
    image, other = (
        paddle.to_tensor(random.randn(2, 24, 6, 5).astype("float32"), stop_gradient=False) for _ in "ab"
    )
    other.set_value(image)
    run = traced(layer.forward, (other,), [[None, 24, None, None]], ChannelsLast())
    expected, found = layer(image), run(other)
    weights = [paddle.to_tensor(random.randn(*value.shape).astype("float32")) for value in expected]
    for results in (expected, found):
        paddle.add_n([(value * weight).sum() for value, weight in zip(results, weights)]).backward()
    for left, right in zip((*found, other.grad), (*expected, image.grad)):
        np.testing.assert_allclose(left.numpy(), right.numpy(), atol=1e-5)


def test_the_gradient_of_relu6_passes_between_its_corners_only():
    class Layer(nn.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.same, self.norm = nn.Conv2D(16, 16, 1, bias_attr=False), nn.BatchNorm2D(16)
            self.same.weight.set_value(paddle.eye(16).reshape([16, 16, 1, 1]))
            self.norm.weight.set_value(paddle.full([16], 8.0))

        def forward(self, x):
            return F.relu6(self.norm(self.same(x)))

    layer = Layer()
    random = np.random.RandomState(0)
    image = paddle.to_tensor(random.randn(2, 16, 8, 8).astype("float32"))
    run = traced(layer.forward, (image,), [[None, 16, None, None]], ChannelsLast())
    out, weight = run(image), random.randn(2, 16, 8, 8).astype("float32")
    passes = (out.numpy() > 0) & (out.numpy() < 6)
    assert (out.numpy() == 6).sum() > 300 and (out.numpy() == 0).sum() > 300
    (out * paddle.to_tensor(weight)).sum().backward()
    np.testing.assert_allclose(layer.norm.bias.grad.numpy(), (weight * passes).sum(axis=(0, 2, 3)), atol=1e-4)


@pytest.mark.parametrize("how", ["global", "evaluation"])
def test_a_frozen_batch_norm_has_the_gradient_of_fixed_statistics(how):
    layer = block(24, 32, 1, 1)
    norm = layer[1]
    norm._mean.set_value(paddle.full([32], 0.5))
    norm._variance.set_value(paddle.full([32], 4.0))
    if how == "global":
        norm._use_global_stats = True
    else:
        norm.eval()
    random = np.random.RandomState(0)
    image = paddle.to_tensor(random.randn(2, 24, 6, 5).astype("float32"))
    weight = paddle.to_tensor(random.randn(2, 32, 6, 5).astype("float32"))
    (layer(image) * weight).sum().backward()
    expected = layer[0].weight.grad.numpy()
    layer.clear_gradients()
    run = traced(layer.forward, (image,), [[None, 24, None, None]], ChannelsLast())
    (run(image) * weight).sum().backward()
    np.testing.assert_allclose(layer[0].weight.grad.numpy(), expected, atol=1e-4)
    assert norm._mean.numpy().tolist() == [0.5] * 32


def test_every_gradient_that_batch_norm_reads_is_in_the_layout_of_its_image():
    """Otherwise oneDNN has but a reference kernel: the step is slow, and nothing says so."""
    program = traced_program(Neck(), 24)
    made = {name: operator for operator in program.ops for name in operator.output_arg_names}
    read = [
        op
        for op in program.ops
        if op.type in ("batch_norm_grad", "relu6_grad") and op.attr(onednn_attribute())
    ]
    assert len(read) == 8
    for operator in read:
        maker = made[operator.input("Y@GRAD" if operator.type == "batch_norm_grad" else "Out@GRAD")[0]]
        assert maker.type in ("conv2d", "depthwise_conv2d", "relu6_grad", "sum") and maker.attr(
            onednn_attribute()
        )


def traced_program(layer: nn.Layer, channels: int):
    """The block of a layer's forward and gradient operators."""
    kept = []

    class Kept(ChannelsLast):
        def after_append_backward(self, program, start):
            kept.append(program.global_block())
            return super().after_append_backward(program, start)

    image = [paddle.zeros([1, channels, 8, 8])]
    sizes = [[[None, channels, None, None]]]
    traced(layer.forward, (image,), sizes, Kept())([paddle.zeros([1, channels, 8, 8])])
    return kept[0]


def test_outside_the_block_the_layers_are_as_they_were():
    model = detector()
    layers = FastLayers(model)

    def methods() -> list:
        return [model.predicted, model.pyramid, model.head.predicted]

    before = methods()
    with layers.on():
        assert all(now != old for now, old in zip(methods(), before))
        with layers.off():
            assert methods() == before
    assert methods() == before


def test_training_is_reproducible_and_near_dygraph(tmp_path):
    folders = [tmp_path / name for name in ("first", "second", "dygraph")]
    for folder in folders:
        tiny.run(folder, epochs=1, fast_convolutions=folder.name != "dygraph")
    assert same_end(*folders[:2])
    losses = [
        [float(line.split(",")[6]) for line in (folder / "work/metrics.csv").read_text().splitlines()[1:]]
        for folder in folders
    ]
    assert losses[0] == pytest.approx(losses[2], rel=0.02)


@pytest.mark.parametrize("size", [(4, 6), (3, 5)])
def test_a_shuffle_of_channels_in_a_graph_for_any_size(size):
    """ESNet's and ShuffleNet's: the sides of an image are not known when the graph is traced."""

    class Shuffled(nn.Layer):
        def forward(self, x):
            return channel_shuffle(x * 2, 2)

    layer = Shuffled()
    values = np.random.RandomState(0).randn(2, 6, *size).astype("float32")
    first = paddle.to_tensor(values, stop_gradient=False)
    run = traced(layer.forward, (first,), [[None, 6, None, None]])
    found = run(first)
    np.testing.assert_array_equal(found.numpy(), 2 * values[:, [0, 3, 1, 4, 2, 5]])
    (found * paddle.arange(6, dtype="float32").reshape([1, 6, 1, 1])).sum().backward()
    np.testing.assert_array_equal(first.grad.numpy()[0, :, 0, 0], [0, 4, 8, 2, 6, 10])


@pytest.mark.parametrize("config, ways", [
    ("picodet_s_416_coco_npu.yml", "as it is trained"),
    ("legacy_model/picodet_s_320_coco.yml", "as it is trained"),
    ("legacy_model/picodet_s_320_coco.yml", "graphs"),
    ("legacy_2021_08/picodet_m_mbv3_320_coco.yml", "as it is trained"),
    ("legacy_2021_08/picodet_m_shufflenetv2_320_coco.yml", "as it is trained"),
])  # fmt: skip
def test_a_step_of_every_backbone_is_near_dygraph(root, config, ways):
    """ESNet's ended the process once: gradients of concatenations were said to be in a layout of oneDNN's."""
    models = []
    for _ in range(2):
        paddle.seed(0)
        models.append(build_detector(root / "configs" / config, 3))
    slow, fast = models
    fast.train(), slow.train()
    layers = FastLayers(fast, ChannelsLast if ways == "graphs" else None)
    inputs = (paddle.rand([3, 3, 96, 96]), paddle.to_tensor([[[8.0, 8.0, 70.0, 60.0]]] * 3))
    inputs += (paddle.zeros([3, 1, 1], "int32"), paddle.ones([3, 1, 1]), 0)
    with tuned_cpu():
        expected = slow.loss(*inputs)["loss"]
        expected.backward()
        with layers.on():
            found = fast.loss(*inputs)["loss"]
        found.backward()
    assert found.item() == pytest.approx(expected.item(), rel=1e-3)
    norms = []
    for left, right in zip(slow.parameters(), fast.parameters()):
        assert (left.grad is None) == (right.grad is None)
        if left.grad is not None:
            difference = np.linalg.norm(left.grad.numpy() - right.grad.numpy())
            norms.append(difference / (np.linalg.norm(left.grad.numpy()) + 1e-9))
    assert np.median(norms) < 0.15, max(norms)  # rounding decides whether relu6 passes a gradient
