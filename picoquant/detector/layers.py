"""Building blocks that the backbones, necks and heads share.

Sub-layer names, initialisers and per-parameter attributes are those of PaddleDetection 2.6, so that its
weights load and its optimiser settings have the same effect. Feature maps are (N, C, H, W) float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable

import paddle.nn.functional as F
from paddle import ParamAttr, Tensor, concat, nn, shape
from paddle.nn.initializer import Initializer, KaimingNormal, KaimingUniform, Normal
from paddle.regularizer import L2Decay

ACTIVATIONS: dict[str | None, Callable[[Tensor], Tensor]] = {
    None: lambda x: x,
    "relu": F.relu,
    "relu6": F.relu6,
    "hard_swish": F.hardswish,
    "leaky_relu": F.leaky_relu,
    "leaky_relu_0.1": lambda x: F.leaky_relu(x, 0.1),
}


def make_divisible(channels: float, divisor: int = 8) -> int:
    """The multiple of `divisor` nearest to `channels`, never more than 10 % below it.

    Source: MobileNetV2, https://arxiv.org/abs/1801.04381.
    """
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded


def channel_shuffle(x: Tensor, groups: int) -> Tensor:
    """Interleave the channels of `groups` groups; (N, C, H, W) in and out.

    Source: ShuffleNet, https://arxiv.org/abs/1707.01083.
    """
    channels = x.shape[1]
    # In a graph for images of any size these are numbers that are only known when it runs.
    height, width = (size if size > 0 else shape(x)[axis] for axis, size in enumerate(x.shape[2:], 2))
    x = x.reshape([-1, groups, channels // groups, height, width])
    return x.transpose([0, 2, 1, 3, 4]).reshape([-1, channels, height, width])


@dataclass(frozen=True)
class ConvStyle:
    """How a family of networks names, initialises and regularises convolution and normalisation.

    Attributes:
        conv, norm: sub-layer names, hence the parameters' names in a weights file.
        initializer: of the convolution; None: paddle's default.
        conv_decay, norm_decay: L2 decay of the parameters; None: the optimiser's.
        norm_type: `bn` or `gn` (32 groups); `sync_bn` is `bn` until the trainer converts it.
        learning_rate: factor on the optimiser's learning rate.
        freeze_norm: do not train the normalisation's parameters, nor update its statistics.
    """

    conv: str = "conv"
    norm: str = "bn"
    initializer: Callable[[], Initializer] | None = None
    conv_decay: float | None = None
    norm_decay: float | None = None
    norm_type: str = "bn"
    learning_rate: float = 1.0
    freeze_norm: bool = False

    def conv_attribute(self) -> ParamAttr:
        """Attributes of a convolution's weight (or bias)."""
        return ParamAttr(
            initializer=self.initializer() if self.initializer else None,
            learning_rate=self.learning_rate,
            regularizer=None if self.conv_decay is None else L2Decay(self.conv_decay),
        )

    def normalisation(self, channels: int) -> nn.Layer:
        """The normalisation layer for `channels` channels."""

        def attribute() -> ParamAttr:
            return ParamAttr(
                learning_rate=0.0 if self.freeze_norm else self.learning_rate,
                regularizer=None if self.norm_decay is None else L2Decay(self.norm_decay),
                trainable=not self.freeze_norm,
            )

        if self.norm_type == "gn":
            return nn.GroupNorm(32, channels, weight_attr=attribute(), bias_attr=attribute())
        return nn.BatchNorm2D(
            channels,
            weight_attr=attribute(),
            bias_attr=attribute(),
            use_global_stats=True if self.freeze_norm else None,
        )


LCNET_STYLE = ConvStyle(initializer=KaimingNormal, norm_decay=0.0)
PAN_STYLE = ConvStyle(initializer=KaimingUniform)
HEAD_STYLE = ConvStyle(norm="norm", initializer=lambda: Normal(0.0, 0.01), norm_decay=0.0)


class ConvNorm(nn.Layer):
    """Convolution without bias, "same" padding; normalisation; activation.

    Args:
        in_channels, out_channels, kernel_size, stride, groups: of the convolution.
        act: a key of `ACTIVATIONS`; None: no activation.
        style: names, initialiser and attributes.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        groups: int = 1,
        act: str | None = None,
        style: ConvStyle = PAN_STYLE,
    ) -> None:
        super().__init__()
        convolution = nn.Conv2D(
            in_channels,
            out_channels,
            kernel_size,
            stride=stride,
            padding=(kernel_size - 1) // 2,
            groups=groups,
            weight_attr=style.conv_attribute(),
            bias_attr=False,
        )
        self._convolution = (style.conv, style.norm)
        self.add_sublayer(style.conv, convolution)
        self.add_sublayer(style.norm, style.normalisation(out_channels))
        self._activate = ACTIVATIONS[act]

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, out_channels, ceil(H / stride), ceil(W / stride))."""
        convolution, norm = (self._sub_layers[name] for name in self._convolution)
        return self._activate(norm(convolution(x)))


class SqueezeExcite(nn.Layer):
    """Channel weights from the global average, as in https://arxiv.org/abs/1709.01507.

    Args:
        channels: of input and output.
        reduction: factor by which the hidden layer has fewer channels.
        slope: of the hard sigmoid; MobileNetV3 in PaddleDetection uses 0.2, the others 1/6.
        style: attributes of both convolutions' weights and biases.
    """

    def __init__(
        self,
        channels: int,
        reduction: int = 4,
        slope: float = 1 / 6,
        style: ConvStyle = ConvStyle(),  # noqa: B008  frozen
    ) -> None:
        super().__init__()
        hidden = channels // reduction
        attributes = [style.conv_attribute() for _ in range(4)]
        self.conv1 = nn.Conv2D(channels, hidden, 1, weight_attr=attributes[0], bias_attr=attributes[1])
        self.conv2 = nn.Conv2D(hidden, channels, 1, weight_attr=attributes[2], bias_attr=attributes[3])
        self._slope = slope

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the same shape."""
        weight = self.conv2(F.relu(self.conv1(F.adaptive_avg_pool2d(x, 1))))
        return x * F.hardsigmoid(weight, slope=self._slope, offset=0.5)


class DepthwiseSeparable(nn.Layer):
    """PP-LCNet's block: depthwise convolution, optional squeeze-and-excite, pointwise convolution."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        use_se: bool = False,
        act: str = "hard_swish",
    ) -> None:
        super().__init__()
        self.dw_conv = ConvNorm(in_channels, in_channels, kernel_size, stride, in_channels, act, LCNET_STYLE)
        self.se = SqueezeExcite(in_channels) if use_se else None
        self.pw_conv = ConvNorm(in_channels, out_channels, 1, act=act, style=LCNET_STYLE)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, out_channels, ceil(H / stride), ceil(W / stride))."""
        x = self.dw_conv(x)
        if self.se is not None:
            x = self.se(x)
        return self.pw_conv(x)


class DepthwisePointwise(nn.Layer):
    """The necks' block: grouped convolution into `out_channels` groups, pointwise convolution.

    Args:
        act_at_end: activate the output too, not only between the two convolutions.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        act: str | None = "leaky_relu",
        act_at_end: bool = True,
    ) -> None:
        super().__init__()
        self.dwconv = nn.Conv2D(
            in_channels,
            out_channels,
            kernel_size,
            stride=stride,
            padding=(kernel_size - 1) // 2,
            groups=out_channels,
            weight_attr=PAN_STYLE.conv_attribute(),
            bias_attr=False,
        )
        self.bn1 = PAN_STYLE.normalisation(out_channels)
        self.pwconv = nn.Conv2D(
            out_channels, out_channels, 1, weight_attr=PAN_STYLE.conv_attribute(), bias_attr=False
        )
        self.bn2 = PAN_STYLE.normalisation(out_channels)
        self._activate = ACTIVATIONS[act]
        self._finish = ACTIVATIONS[act if act_at_end else None]

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, out_channels, ceil(H / stride), ceil(W / stride))."""
        x = self._activate(self.bn1(self.dwconv(x)))
        return self._finish(self.bn2(self.pwconv(x)))


class CspBottleneck(nn.Layer):
    """1x1 convolution, then a k x k one (plain or depthwise separable); no shortcut."""

    def __init__(self, channels: int, kernel_size: int, use_depthwise: bool, act: str) -> None:
        super().__init__()
        self.conv1 = ConvNorm(channels, channels, 1, act=act)
        spatial = DepthwisePointwise if use_depthwise else ConvNorm
        self.conv2 = spatial(channels, channels, kernel_size, act=act)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) -> the same shape."""
        return self.conv2(self.conv1(x))


class CspLayer(nn.Layer):
    """Cross-stage partial layer: only half of the channels goes through the bottlenecks.

    Source: CSPNet, https://arxiv.org/abs/1911.11929.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        num_blocks: int,
        use_depthwise: bool,
        act: str,
    ) -> None:
        super().__init__()
        half = out_channels // 2
        self.main_conv = ConvNorm(in_channels, half, 1, act=act)
        self.short_conv = ConvNorm(in_channels, half, 1, act=act)
        self.final_conv = ConvNorm(2 * half, out_channels, 1, act=act)
        blocks = [CspBottleneck(half, kernel_size, use_depthwise, act) for _ in range(num_blocks)]
        self.blocks = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, out_channels, H, W)."""
        return self.final_conv(concat([self.blocks(self.main_conv(x)), self.short_conv(x)], axis=1))
