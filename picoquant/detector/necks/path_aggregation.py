"""Path aggregation network: a top-down, then a bottom-up pass; features are fused at every level.

Source: PANet, https://arxiv.org/abs/1803.01534; PP-PicoDet, https://arxiv.org/abs/2111.00902.
`CSPPAN` and `LCPAN` are this network with different fusing layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Callable

import paddle.nn.functional as F
from paddle import Tensor, concat, nn

from picoquant.detector.layers import ConvNorm, CspLayer, DepthwisePointwise, DepthwiseSeparable


class _ToWidth(nn.Layer):
    """A 1x1 convolution per level, so that all levels have the same number of channels."""

    def __init__(self, in_channels: Sequence[int], out_channels: int, act: str) -> None:
        super().__init__()
        self.convs = nn.LayerList([ConvNorm(c, out_channels, 1, act=act) for c in in_channels])

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        return [conv(x) for conv, x in zip(self.convs, maps)]


class PathAggregation(nn.Layer):
    """The top-down and bottom-up passes around the fusing layers.

    Args:
        in_channels: of each input map, finest first.
        out_channels: of every output map.
        kernel_size: of the strided convolutions.
        num_features: 4 adds one coarser level to the inputs' levels; any other number adds none.
        use_depthwise: strided convolutions are depthwise separable.
        act: activation.
        fuse: creates a fusing layer, (N, 2 * out_channels, H, W) -> (N, out_channels, H, W).
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int,
        kernel_size: int,
        num_features: int,
        use_depthwise: bool,
        act: str,
        fuse: Callable[[], nn.Layer],
    ) -> None:
        super().__init__()
        levels = len(in_channels)
        strided = DepthwisePointwise if use_depthwise else ConvNorm

        def halving() -> nn.Layer:
            return strided(out_channels, out_channels, kernel_size, stride=2, act=act)

        self.conv_t = _ToWidth(in_channels, out_channels, act)
        self._adds_level = num_features == 4
        if self._adds_level:
            self.first_top_conv = halving()
            self.second_top_conv = halving()
        self.top_down_blocks = nn.LayerList([fuse() for _ in range(levels - 1)])
        self.downsamples, self.bottom_up_blocks = nn.LayerList(), nn.LayerList()
        for _ in range(levels - 1):
            self.downsamples.append(halving())
            self.bottom_up_blocks.append(fuse())
        self.out_channels = [out_channels] * (levels + self._adds_level)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Maps of the backbone, finest first, each half the size of the one before -> as many maps
        of the same sizes (and one coarser, where `num_features` is 4), (N, out_channels, H, W)."""
        maps = self.conv_t(maps)
        down = [maps[-1]]
        for fuse, finer in zip(self.top_down_blocks, reversed(maps[:-1])):
            coarser = F.interpolate(down[0], scale_factor=2, mode="nearest")
            down.insert(0, fuse(concat([coarser, finer], axis=1)))
        up = [down[0]]
        for halve, fuse, coarser in zip(self.downsamples, self.bottom_up_blocks, down[1:]):
            up.append(fuse(concat([halve(up[-1]), coarser], axis=1)))
        if self._adds_level:
            up.append(self.first_top_conv(maps[-1]) + self.second_top_conv(up[-1]))
        return up


def csp_pan(
    in_channels: Sequence[int],
    out_channels: int,
    kernel_size: int = 5,
    num_features: int = 3,
    num_csp_blocks: int = 1,
    use_depthwise: bool = True,
    act: str = "hard_swish",
) -> PathAggregation:
    """CSPPAN: cross-stage partial layers fuse the features; arguments as in `PathAggregation`."""
    return PathAggregation(
        in_channels,
        out_channels,
        kernel_size,
        num_features,
        use_depthwise,
        act,
        fuse=lambda: CspLayer(
            2 * out_channels, out_channels, kernel_size, num_csp_blocks, use_depthwise, act
        ),
    )


def lc_pan(
    in_channels: Sequence[int],
    out_channels: int,
    kernel_size: int = 5,
    num_features: int = 3,
    use_depthwise: bool = True,
    act: str = "hard_swish",
) -> PathAggregation:
    """LCPAN: two PP-LCNet blocks fuse the features; arguments as in `PathAggregation`.

    These blocks always use hard-swish, whatever `act` is, as in PaddleDetection.
    """
    width = 2 * out_channels
    return PathAggregation(
        in_channels,
        out_channels,
        kernel_size,
        num_features,
        use_depthwise,
        act,
        fuse=lambda: nn.Sequential(
            DepthwiseSeparable(width, width, kernel_size),
            DepthwiseSeparable(width, out_channels, kernel_size),
        ),
    )
