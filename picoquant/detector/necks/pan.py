"""The 2021.08 neck: 1x1 lateral convolutions, then top-down and bottom-up sums with bilinear resizing.

Source: PaddleDetection's PAN of August 2021, after NanoDet's.
"""

from __future__ import annotations

from collections.abc import Sequence

import paddle.nn.functional as F
from paddle import ParamAttr, Tensor, nn
from paddle.nn.initializer import XavierUniform


class LateralPan(nn.Layer):
    """The neck.

    Args:
        in_channels: of each input map, finest first.
        out_channels: of every output map.
    """

    def __init__(self, in_channels: Sequence[int], out_channels: int) -> None:
        super().__init__()
        self.out_channels = [out_channels] * len(in_channels)
        for i, channels in enumerate(in_channels):
            attribute = ParamAttr(initializer=XavierUniform(fan_out=channels))
            lateral = nn.Conv2D(channels, out_channels, 1, weight_attr=attribute)
            self.add_sublayer(f"pan_lateral{i}", lateral)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Maps of the backbone, finest first, each half the size of the one before -> as many maps of
        the same sizes, (N, out_channels, H, W)."""
        outs = [self._sub_layers[f"pan_lateral{i}"](x) for i, x in enumerate(maps)]
        for i in range(len(outs) - 1, 0, -1):
            outs[i - 1] = outs[i - 1] + F.interpolate(outs[i], scale_factor=2.0, mode="bilinear")
        for i in range(len(outs) - 1):
            outs[i + 1] = outs[i + 1] + F.interpolate(outs[i], scale_factor=0.5, mode="bilinear")
        return outs
