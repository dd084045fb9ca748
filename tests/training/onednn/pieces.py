"""Small layers, one for each kind of node, and what the engine and dygraph compute of them."""

from __future__ import annotations

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import ParamAttr, nn
from paddle.nn.initializer import Constant

from picoquant.detector.layers import channel_shuffle
from picoquant.training.fast import tuned_cpu
from picoquant.training.graphs.tracing import any_size, program_of
from picoquant.training.onednn.engine import engine_of
from picoquant.training.onednn.library import Kind


def norm(width: int) -> nn.Layer:
    """With these numbers few values come near relu6's corners, where a last bit decides about a gradient."""
    scale, shift = (ParamAttr(initializer=Constant(value)) for value in (0.5, 3.0))
    return nn.BatchNorm2D(width, weight_attr=scale, bias_attr=shift)


class Piece(nn.Layer):
    """A convolution `width -> wide`, a batch-norm and relu6 before `last`, so that gradients go through it."""

    def __init__(self, wide: int = 24) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2D(16, wide, 1, bias_attr=False), norm(wide)
        self.build(wide)

    def build(self, wide: int) -> None:
        pass

    def forward(self, image):
        return self.last(F.relu6(self.norm(self.first(image))))


class Depthwise(Piece):
    kernel, stride = 5, 1

    def build(self, wide):
        self.deep = nn.Conv2D(
            wide, wide, self.kernel, self.stride, self.kernel // 2, groups=wide, bias_attr=False
        )
        self.after = norm(wide)

    def last(self, x):
        return F.relu6(self.after(self.deep(x)))


class DepthwiseWithBias(Depthwise):
    def build(self, wide):
        super().build(wide)
        self.deep = nn.Conv2D(wide, wide, self.kernel, self.stride, self.kernel // 2, groups=wide)

    def last(self, x):
        return self.deep(x)


class DepthwiseOfThree(Depthwise):
    kernel = 3


class DepthwiseThatHalves(Depthwise):
    stride = 2


class DepthwiseOfThreeThatHalves(Depthwise):
    kernel, stride = 3, 2


class Dense(Piece):
    def build(self, wide):
        self.dense = nn.Conv2D(wide, 40, 3, 2, 1)

    def last(self, x):
        return self.dense(x)


class Groups(Piece):
    def build(self, wide):
        self.groups = nn.Conv2D(wide, 2 * wide, 3, 1, 1, groups=2)

    def last(self, x):
        return self.groups(x)


class ToOneChannel(Piece):
    def build(self, wide):
        self.one, self.after = nn.Conv2D(wide, 1, 5, 1, 2, bias_attr=False), norm(1)

    def last(self, x):
        return F.sigmoid(self.after(self.one(x)))


class HardSwish(Piece):
    def forward(self, image):
        return F.hardswish(self.norm(self.first(image)))


class Functions(Piece):
    def build(self, wide):
        self.out = nn.Conv2D(wide, 8, 1)

    def last(self, x):
        out = self.out(x)
        return [F.relu(out), F.leaky_relu(out, 0.1), F.hardsigmoid(out), (F.sigmoid(out) * 1.0 + 1e-9).sqrt()]


class Squeeze(Piece):
    """Squeeze and excitation: a mean, two convolutions, a product."""

    def build(self, wide):
        self.down, self.up = nn.Conv2D(wide, 6, 1), nn.Conv2D(6, wide, 1)

    def last(self, x):
        gate = F.hardsigmoid(self.up(F.relu(self.down(F.adaptive_avg_pool2d(x, 1)))))
        return x * gate


class Gated(Piece):
    """A map times one of its shape, as of a hard-swish that is written out."""

    def build(self, wide):
        self.deep = nn.Conv2D(wide, wide, 1, groups=wide)

    def last(self, x):
        return x * F.hardsigmoid(self.deep(x))


class Weighted(Piece):
    """The scores of a head with an alignment map."""

    def build(self, wide):
        self.classes, self.align = nn.Conv2D(wide, 20, 1), nn.Conv2D(wide, 1, 1)

    def last(self, x):
        return (F.sigmoid(self.classes(x)) * F.sigmoid(self.align(x)) + 1e-9).sqrt()


class Joined(Piece):
    """Concatenation, a sum, and a map that is read three times."""

    def build(self, wide):
        self.small = nn.Conv2D(wide, wide, 1, 2, bias_attr=False)

    def last(self, x):
        large = F.interpolate(F.relu(self.small(x)), scale_factor=2.0, mode="nearest")
        return paddle.concat([large, x], axis=1), large + x


class Parts(Piece):
    def last(self, x):
        one, other = paddle.split(x, [9, x.shape[1] - 9], axis=1)
        return other, one


class LargestOf(Piece):
    def last(self, x):
        return F.max_pool2d(x, 3, 2, 1)


class Shuffled(Piece):
    """As behind the blocks of ShuffleNet."""

    def last(self, x):
        return channel_shuffle(x, 4)


class ShuffledInHalves(Piece):
    def last(self, x):
        return channel_shuffle(x, 2)


class Rows(Piece):
    def build(self, wide):
        self.out = nn.Conv2D(wide, 12, 1)

    def last(self, x):
        return self.out(x).reshape([0, 12, -1]).transpose([0, 2, 1])


PIECES = (Depthwise, DepthwiseWithBias, DepthwiseOfThree, DepthwiseThatHalves, DepthwiseOfThreeThatHalves, Dense,
          Groups, ToOneChannel, HardSwish, Functions, Squeeze, Gated, Weighted, Joined, Parts,
          LargestOf, Shuffled, ShuffledInHalves, Rows)  # fmt: skip


def made(piece: type[Piece], wide: int = 24) -> Piece:
    """A layer of seeded weights."""
    paddle.seed(0)
    layer = piece(wide)
    layer.train()
    return layer


def on_engine(
    layer: nn.Layer, precision: Kind = Kind.F32, gradient: bool = True, channels: int = 16, group=None
):
    """The layer's forward on the engine."""
    image = paddle.zeros([2, channels, 8, 8])
    image.stop_gradient = not gradient
    kept = {name: value.clone() for name, value in layer.state_dict().items()}
    program, written = program_of(layer.forward, (image,), [any_size(image)])
    layer.set_state_dict(kept)
    run = engine_of(program, layer, precision, group)
    return lambda maps, kept=written: run(maps)


def flat(outputs) -> list:
    return list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]


def results(run, layer: nn.Layer, image: np.ndarray, gradient: bool = True):
    """Outputs, gradients of the image and parameters, and the statistics after it, as arrays by name."""
    tensor = paddle.to_tensor(image)
    tensor.stop_gradient = not gradient
    with tuned_cpu():
        outputs = flat(run(tensor))
        random = np.random.RandomState(1)
        weights = [paddle.to_tensor(random.randn(*one.shape).astype("float32")) for one in outputs]
        paddle.add_n([(one * weight).sum() for one, weight in zip(outputs, weights)]).backward()
    found = {f"output {place}": one.numpy() for place, one in enumerate(outputs)}
    if gradient:
        found["gradient of the image"] = tensor.grad.numpy()
    for name, value in layer.named_parameters():
        if value.grad is not None:
            found[f"gradient of {name}"] = value.grad.numpy()
    for name, value in layer.state_dict().items():
        if "_mean" in name or "_variance" in name:
            found[name] = value.numpy()
    layer.clear_gradients()
    return found
