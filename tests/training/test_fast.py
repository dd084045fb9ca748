"""The static, oneDNN way gives what dygraph gives."""

from __future__ import annotations

import numpy as np
import paddle
import pytest
from paddle import nn

from picoquant.detector.layers import channel_shuffle
from picoquant.training.fast import FastLayers, fast_convolutions_available, traced, tuned_cpu
from tests.training import tiny
from tests.training.test_loop import detector, same_end

pytestmark = pytest.mark.skipif(not fast_convolutions_available(), reason="this paddle has no oneDNN")


def block(width_in: int, width: int, kernel: int, groups: int, stride: int = 1) -> nn.Layer:
    convolution = nn.Conv2D(
        width_in, width, kernel, stride, (kernel - 1) // 2, groups=groups, bias_attr=False
    )
    return nn.Sequential(convolution, nn.BatchNorm2D(width), nn.ReLU6())


class Neck(nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.wide, self.halve = block(24, 32, 1, 1), block(32, 32, 5, 32, stride=2)

    def forward(self, maps):
        wide = self.wide(maps[0])
        return [wide, self.halve(wide)]


class Head(nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.deep, self.out = block(32, 32, 5, 32), nn.Conv2D(32, 6, 1)

    def raw(self, maps):
        return [self.out(self.deep(m)).flatten(2) for m in maps], [m.flatten(2) for m in maps]


class Small(nn.Layer):
    """Every kind of convolution of the real network; few enough layers for close gradients."""

    def __init__(self) -> None:
        super().__init__()
        paddle.seed(0)
        self.backbone = nn.Sequential(block(3, 24, 3, 1, stride=2), block(24, 24, 3, 24), Listed())
        self.neck, self.head = Neck(), Head()

    def loss(self, image):
        classes, boxes = self.head.raw(self.neck(self.backbone(image)))
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
                        right.grad.numpy(), left.grad.numpy(), atol=1e-3 * scale, err_msg=name
                    )
            slow.clear_gradients()
            fast.clear_gradients()
    for name, value in slow.state_dict().items():
        np.testing.assert_allclose(fast.state_dict()[name].numpy(), value.numpy(), atol=1e-5, err_msg=name)


def test_outside_the_block_the_layers_are_as_they_were():
    model = detector()
    layers = FastLayers(model)
    before = [model.backbone.forward, model.neck.forward, model.head.raw]
    with layers.on():
        assert all(now != old for now, old in zip((model.backbone.forward, model.head.raw), before[::2]))
    assert [model.backbone.forward, model.neck.forward, model.head.raw] == before


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
