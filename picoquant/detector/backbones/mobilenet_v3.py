"""MobileNetV3, https://arxiv.org/abs/1905.02244."""

from __future__ import annotations

from collections.abc import Sequence

from paddle import Tensor, nn

from picoquant.detector.layers import ConvNorm, ConvStyle, SqueezeExcite, make_divisible

# Blocks of (kernel size, inner channels, channels, squeeze-and-excite, activation, stride).
BLOCKS = {
    "large": [
        (3, 16, 16, False, "relu", 1),
        (3, 64, 24, False, "relu", 2),
        (3, 72, 24, False, "relu", 1),
        (5, 72, 40, True, "relu", 2),
        (5, 120, 40, True, "relu", 1),
        (5, 120, 40, True, "relu", 1),
        (3, 240, 80, False, "hard_swish", 2),
        (3, 200, 80, False, "hard_swish", 1),
        (3, 184, 80, False, "hard_swish", 1),
        (3, 184, 80, False, "hard_swish", 1),
        (3, 480, 112, True, "hard_swish", 1),
        (3, 672, 112, True, "hard_swish", 1),
        (5, 672, 160, True, "hard_swish", 2),
        (5, 960, 160, True, "hard_swish", 1),
        (5, 960, 160, True, "hard_swish", 1),
    ],
    "small": [
        (3, 16, 16, True, "relu", 2),
        (3, 72, 24, False, "relu", 2),
        (3, 88, 24, False, "relu", 1),
        (5, 96, 40, True, "hard_swish", 2),
        (5, 240, 40, True, "hard_swish", 1),
        (5, 240, 40, True, "hard_swish", 1),
        (5, 120, 48, True, "hard_swish", 1),
        (5, 144, 48, True, "hard_swish", 1),
        (5, 288, 96, True, "hard_swish", 2),
        (5, 576, 96, True, "hard_swish", 1),
        (5, 576, 96, True, "hard_swish", 1),
    ],
}


class InvertedResidual(nn.Layer):
    """Expansion, depthwise convolution, optional squeeze-and-excite, projection.

    The input is added to the result where stride and number of channels allow it.
    """

    def __init__(
        self,
        in_channels: int,
        mid_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int,
        use_se: bool,
        act: str,
        style: ConvStyle,
    ) -> None:
        super().__init__()
        self._shortcut = stride == 1 and in_channels == out_channels
        self.expand_conv = ConvNorm(in_channels, mid_channels, 1, act=act, style=style)
        self.bottleneck_conv = ConvNorm(
            mid_channels, mid_channels, kernel_size, stride, mid_channels, act, style
        )
        self.mid_se = SqueezeExcite(mid_channels, slope=0.2, style=style) if use_se else None
        self.linear_conv = ConvNorm(mid_channels, out_channels, 1, style=style)

    def forward(self, inputs: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, out_channels, ceil(H / stride), ceil(W / stride))."""
        x = self.bottleneck_conv(self.expand_conv(inputs))
        if self.mid_se is not None:
            x = self.mid_se(x)
        x = self.linear_conv(x)
        return inputs + x if self._shortcut else x


class MobileNetV3(nn.Layer):
    """The backbone.

    Args:
        scale: factor on all channel counts.
        model_name: `large` or `small`.
        feature_maps: which blocks' outputs to return, counted from 2; in `large` 7, 13 and 16 have
            strides 8, 16 and 32.
        lr_mult_list: learning-rate factors of the stem and of every three blocks after it.
        conv_decay, norm_decay: L2 decay of convolutions and of normalisation.
        multiplier: factor on the channels of the last three blocks.
        freeze_norm: do not train normalisation, nor update its statistics.
    """

    def __init__(
        self,
        scale: float = 1.0,
        model_name: str = "large",
        feature_maps: Sequence[int] = (6, 12, 15),
        lr_mult_list: Sequence[float] = (1.0, 1.0, 1.0, 1.0, 1.0),
        conv_decay: float = 0.0,
        multiplier: float = 1.0,
        norm_decay: float = 0.0,
        freeze_norm: bool = False,
    ) -> None:
        super().__init__()

        def style(group: int) -> ConvStyle:
            return ConvStyle(
                conv_decay=conv_decay,
                norm_decay=norm_decay,
                learning_rate=lr_mult_list[min(group, len(lr_mult_list) - 1)],
                freeze_norm=freeze_norm,
            )

        self._feature_maps = tuple(feature_maps)
        self.out_channels: list[int] = []
        channels = make_divisible(16 * scale)
        self.conv1 = ConvNorm(3, channels, 3, 2, act="hard_swish", style=style(0))
        blocks = _widened(BLOCKS[model_name], multiplier)
        self._numbers = range(2, 2 + len(blocks))
        for number, (kernel_size, mid, wide, use_se, act, stride) in zip(self._numbers, blocks):
            out_channels = make_divisible(wide * scale)
            block = InvertedResidual(
                channels,
                make_divisible(mid * scale),
                out_channels,
                kernel_size,
                stride,
                use_se,
                act,
                style((number - 2) // 3),
            )
            self.add_sublayer(f"conv{number}", block)
            channels = out_channels
            if number in self._feature_maps:
                self.out_channels.append(channels)

    def forward(self, image: Tensor) -> list[Tensor]:
        """(N, 3, H, W) -> the maps of `feature_maps`, finest first."""
        x, maps = self.conv1(image), []
        for number in self._numbers:
            x = self._sub_layers[f"conv{number}"](x)
            if number in self._feature_maps:
                maps.append(x)
        return maps


def _widened(blocks: Sequence[tuple], multiplier: float) -> list[tuple]:
    """The blocks, the output channels of the last three and the inner ones of the last two scaled."""
    result = list(blocks)
    for index in (-3, -2, -1):
        kernel_size, mid, wide, *rest = result[index]
        mid = mid if index == -3 else int(mid * multiplier)
        result[index] = (kernel_size, mid, int(wide * multiplier), *rest)
    return result
