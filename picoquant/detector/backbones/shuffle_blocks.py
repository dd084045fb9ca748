"""Channel-splitting blocks that ShuffleNetV2 and ESNet share.

Sources: https://arxiv.org/abs/1807.11164 (ShuffleNetV2), https://arxiv.org/abs/2111.00902 (ESNet).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Callable

import paddle.nn.functional as F
from paddle import Tensor, concat, nn, split
from paddle.nn.initializer import KaimingNormal

from picoquant.detector.layers import ConvNorm, ConvStyle, SqueezeExcite, channel_shuffle

_STYLE = ConvStyle("_conv", "_batch_norm", initializer=KaimingNormal, norm_decay=0.0)


def conv(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    stride: int = 1,
    groups: int = 1,
    act: str | None = None,
) -> ConvNorm:
    """A convolution in the style of these two networks."""
    return ConvNorm(in_channels, out_channels, kernel_size, stride, groups, act, _STYLE)


class Unit(nn.Layer):
    """Half of the channels goes through three convolutions; then both halves are joined and shuffled.

    Args:
        channels: of input and output.
        mid_channels: twice the width between the convolutions.
        act: activation.
        enhanced: ESNet's unit: the pointwise output joins the depthwise one before squeeze-and-excite.
    """

    def __init__(self, channels: int, mid_channels: int, act: str, enhanced: bool) -> None:
        super().__init__()
        half = mid_channels // 2
        self._conv_pw = conv(channels // 2, half, 1, act=act)
        self._conv_dw = conv(half, half, 3, groups=half)
        self._se = SqueezeExcite(mid_channels) if enhanced else None
        self._conv_linear = conv(mid_channels if enhanced else half, channels // 2, 1, act=act)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) -> the same shape."""
        kept, x = split(x, 2, axis=1)
        x = self._conv_pw(x)
        spatial = self._conv_dw(x)
        if self._se is not None:
            spatial = self._se(concat([x, spatial], axis=1))
        return channel_shuffle(concat([kept, self._conv_linear(spatial)], axis=1), 2)


class HalvingUnit(nn.Layer):
    """Two branches of stride 2, joined; then shuffled, or where `enhanced` mixed by two convolutions."""

    def __init__(
        self, in_channels: int, mid_channels: int, out_channels: int, act: str, enhanced: bool
    ) -> None:
        super().__init__()
        half, wide = mid_channels // 2, out_channels // 2
        self._conv_dw_1 = conv(in_channels, in_channels, 3, 2, in_channels)
        self._conv_linear_1 = conv(in_channels, wide, 1, act=act)
        self._conv_pw_2 = conv(in_channels, half, 1, act=act)
        self._conv_dw_2 = conv(half, half, 3, 2, half)
        self._se = SqueezeExcite(half) if enhanced else None
        self._conv_linear_2 = conv(half, wide, 1, act=act)
        if enhanced:
            self._conv_dw_mv1 = conv(out_channels, out_channels, 3, groups=out_channels, act="hard_swish")
            self._conv_pw_mv1 = conv(out_channels, out_channels, 1, act="hard_swish")

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, out_channels, ceil(H / 2), ceil(W / 2))."""
        first = self._conv_linear_1(self._conv_dw_1(x))
        second = self._conv_dw_2(self._conv_pw_2(x))
        if self._se is None:
            return channel_shuffle(concat([first, self._conv_linear_2(second)], axis=1), 2)
        second = self._conv_linear_2(self._se(second))
        return self._conv_pw_mv1(self._conv_dw_mv1(concat([first, second], axis=1)))


class ShuffleStages(nn.Layer):
    """Stem, max pooling and three stages of units; the first unit of a stage halves the size.

    Args:
        channels: of the stem and of the three stages.
        mid_channels: (stage 0..2, index among all units) -> twice the width inside that unit.
        repeats: units of each stage.
        feature_maps: which units' outputs to return, counted from 2; the stages of `repeats`
            (4, 8, 4) end at 5, 13, 17.
        act: activation.
        enhanced: ESNet's units.
    """

    def __init__(
        self,
        channels: Sequence[int],
        mid_channels: Callable[[int, int], int],
        repeats: Sequence[int],
        feature_maps: Sequence[int],
        act: str,
        enhanced: bool,
    ) -> None:
        super().__init__()
        self._feature_maps = tuple(feature_maps)
        self.out_channels: list[int] = []
        self._conv1 = conv(3, channels[0], 3, 2, act=act)
        self._names: list[str] = []
        for stage, i in _units(repeats):
            mid, wide = mid_channels(stage, len(self._names)), channels[stage + 1]
            unit = (
                HalvingUnit(channels[stage], mid, wide, act, enhanced)
                if i == 0
                else Unit(wide, mid, act, enhanced)
            )
            self._names.append(f"{stage + 2}_{i + 1}")
            self.add_sublayer(self._names[-1], unit)
            if len(self._names) + 1 in self._feature_maps:
                self.out_channels.append(wide)

    def forward(self, image: Tensor) -> list[Tensor]:
        """(N, 3, H, W) -> the maps of `feature_maps`, finest first."""
        x = F.max_pool2d(self._conv1(image), kernel_size=3, stride=2, padding=1)
        maps = []
        for i, name in enumerate(self._names):  # paddle.jit has no enumerate(…, start=2)
            x = self._sub_layers[name](x)
            if i + 2 in self._feature_maps:
                maps.append(x)
        return maps


def _units(repeats: Sequence[int]) -> Iterator[tuple[int, int]]:
    """(stage, index within the stage) of every unit."""
    return ((stage, i) for stage, count in enumerate(repeats) for i in range(count))
