"""Settings of the necks, by their PaddleDetection names and keys."""

from __future__ import annotations

from dataclasses import dataclass

from picoquant.detector.settings.checks import ACTIVATIONS, choice, flags, whole


@dataclass(frozen=True)
class LCPAN:
    """Path aggregation with PP-LCNet blocks; `num_features` 4 adds a level at twice the stride."""

    out_channels: int | None = None
    kernel_size: int = 5
    num_features: int = 3
    use_depthwise: bool = True
    act: str = "hard_swish"
    spatial_scales: tuple[float, ...] = (0.125, 0.0625, 0.03125)

    def __post_init__(self) -> None:
        whole(self, ["out_channels", "kernel_size"])
        choice(self, "num_features", (3, 4))
        choice(self, "act", ACTIVATIONS)
        flags(self)
        object.__setattr__(self, "spatial_scales", tuple(self.spatial_scales))


@dataclass(frozen=True)
class CSPPAN(LCPAN):
    """Path aggregation with `num_csp_blocks` bottlenecks in each cross-stage partial layer."""

    num_csp_blocks: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        whole(self, ["num_csp_blocks"], 0)


@dataclass(frozen=True)
class PAN:
    """The neck of August 2021; see `necks.pan`."""

    out_channel: int | None = None
    spatial_scales: tuple[float, ...] = (0.125, 0.0625, 0.03125)

    def __post_init__(self) -> None:
        whole(self, ["out_channel"])
        object.__setattr__(self, "spatial_scales", tuple(self.spatial_scales))

    @property
    def out_channels(self) -> int | None:
        """`out_channel`, under the name that the other necks use."""
        return self.out_channel
