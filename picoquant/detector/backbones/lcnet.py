"""PP-LCNet: depthwise separable blocks, https://arxiv.org/abs/2109.15099."""

from __future__ import annotations

from collections.abc import Sequence

from paddle import Tensor, nn

from picoquant.detector.layers import LCNET_STYLE, ConvNorm, DepthwiseSeparable, make_divisible

# Stage -> blocks of (kernel size, in channels, out channels, stride, squeeze-and-excite) at scale 1.
_STAGES = {
    2: [(3, 16, 32, 1, False)],
    3: [(3, 32, 64, 2, False), (3, 64, 64, 1, False)],
    4: [(3, 64, 128, 2, False), (3, 128, 128, 1, False)],
    5: [(3, 128, 256, 2, False)] + [(5, 256, 256, 1, False)] * 5,
    6: [(5, 256, 512, 2, True), (5, 512, 512, 1, True)],
}


class LCNet(nn.Layer):
    """The backbone.

    Args:
        scale: factor on all channel counts.
        feature_maps: which maps to return, of 2 (stride 4) to 5 (stride 32).
        act: activation, `hard_swish` or `relu6`.
    """

    def __init__(
        self,
        scale: float = 1.0,
        feature_maps: Sequence[int] = (3, 4, 5),
        act: str = "hard_swish",
    ) -> None:
        super().__init__()
        self._feature_maps = tuple(feature_maps)
        self.out_channels: list[int] = []
        self.conv1 = ConvNorm(3, make_divisible(16 * scale), 3, 2, act=act, style=LCNET_STYLE)
        for stage, blocks in _STAGES.items():
            layers = [
                DepthwiseSeparable(
                    make_divisible(wide_in * scale),
                    make_divisible(wide_out * scale),
                    kernel_size,
                    stride,
                    use_se,
                    act,
                )
                for kernel_size, wide_in, wide_out, stride, use_se in blocks
            ]
            self.add_sublayer(f"blocks{stage}", nn.Sequential(*layers))
            if stage - 1 in self._feature_maps:
                self.out_channels.append(make_divisible(blocks[-1][2] * scale))

    def forward(self, image: Tensor) -> list[Tensor]:
        """(N, 3, H, W) -> the maps of `feature_maps`, finest first; map m has stride 2 ** m."""
        maps, x = [], self.conv1(image)
        for stage in _STAGES:
            x = self._sub_layers[f"blocks{stage}"](x)
            if stage - 1 in self._feature_maps:
                maps.append(x)
        return maps
