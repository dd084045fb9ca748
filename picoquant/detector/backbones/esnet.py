"""ESNet, the enhanced ShuffleNet of PP-PicoDet, https://arxiv.org/abs/2111.00902."""

from __future__ import annotations

from collections.abc import Sequence

from picoquant.detector.backbones.shuffle_blocks import ShuffleStages
from picoquant.detector.layers import make_divisible

REPEATS = (3, 7, 3)


class ESNet(ShuffleStages):
    """The backbone.

    Args:
        scale: factor on the channels of the stages.
        act: activation.
        feature_maps: which units' outputs to return; 4, 11 and 14 have strides 8, 16 and 32.
        channel_ratio: ratio of inner to outer channels of each of the 13 units.
    """

    def __init__(
        self,
        scale: float = 1.0,
        act: str = "hard_swish",
        feature_maps: Sequence[int] = (4, 11, 14),
        channel_ratio: Sequence[float] = (1.0,) * sum(REPEATS),
    ) -> None:
        channels = [24, *(make_divisible(wide * scale, 16) for wide in (128, 256, 512))]
        super().__init__(
            channels,
            mid_channels=lambda stage, unit: make_divisible(
                int(channels[stage + 1] * channel_ratio[unit]), 8
            ),
            repeats=REPEATS,
            feature_maps=feature_maps,
            act=act,
            enhanced=True,
        )
