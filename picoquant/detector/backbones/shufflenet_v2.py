"""ShuffleNetV2, https://arxiv.org/abs/1807.11164."""

from __future__ import annotations

from collections.abc import Sequence

from picoquant.detector.backbones.shuffle_blocks import ShuffleStages

# Scale -> channels of the stem and of the three stages, from the paper (0.25 and 0.33: PaddleClas).
CHANNELS = {
    0.25: (24, 24, 48, 96),
    0.33: (24, 32, 64, 128),
    0.5: (24, 48, 96, 192),
    1.0: (24, 116, 232, 464),
    1.5: (24, 176, 352, 704),
    2.0: (24, 244, 488, 976),
}


class ShuffleNetV2(ShuffleStages):
    """The backbone.

    Args:
        scale: a key of `CHANNELS`.
        act: activation.
        feature_maps: which units' outputs to return; 5, 13 and 17 have strides 8, 16 and 32.
    """

    def __init__(
        self, scale: float = 1.0, act: str = "relu", feature_maps: Sequence[int] = (5, 13, 17)
    ) -> None:
        channels = CHANNELS[scale]
        super().__init__(
            channels,
            mid_channels=lambda stage, _: channels[stage + 1],
            repeats=(4, 8, 4),
            feature_maps=feature_maps,
            act=act,
            enhanced=False,
        )
