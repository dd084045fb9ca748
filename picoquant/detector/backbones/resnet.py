"""ResNet and its variants, https://arxiv.org/abs/1512.03385; variant d: https://arxiv.org/abs/1812.01187."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import paddle.nn.functional as F
from paddle import Tensor, nn

from picoquant.detector.layers import ConvNorm, ConvStyle

# Depth -> blocks of each stage.
STAGES = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}
_WIDTHS = (64, 128, 256, 512)
_BOTTLENECK_FROM = 50  # depth
_EXPANSION = 4  # of a bottleneck's output


class Block(nn.Layer):
    """Two 3x3 convolutions, or a bottleneck of three, and a shortcut.

    Args:
        in_channels: of the block.
        width: of the inner convolutions.
        out_channels: of the block.
        stride: of the first 3x3 convolution (in variant a of the pointwise one before it).
        bottleneck: three convolutions instead of two.
        projected: the shortcut is a convolution, not the input itself.
        variant: a, b, c or d.
        style: names and attributes.
    """

    def __init__(
        self,
        in_channels: int,
        width: int,
        out_channels: int,
        stride: int,
        bottleneck: bool,
        projected: bool,
        variant: str,
        style: ConvStyle,
    ) -> None:
        super().__init__()
        self.short = None
        if projected:
            self.short = _shortcut(in_channels, out_channels, stride, variant, style)
        if bottleneck:
            first, second = (stride, 1) if variant == "a" else (1, stride)
            self.branch2a = ConvNorm(in_channels, width, 1, first, act="relu", style=style)
            self.branch2b = ConvNorm(width, width, 3, second, act="relu", style=style)
            self.branch2c = ConvNorm(width, out_channels, 1, style=style)
        else:
            self.branch2a = ConvNorm(in_channels, width, 3, stride, act="relu", style=style)
            self.branch2b = ConvNorm(width, out_channels, 3, style=style)
            self.branch2c = None

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, out_channels, ceil(H / stride), ceil(W / stride))."""
        out = self.branch2b(self.branch2a(x))
        if self.branch2c is not None:
            out = self.branch2c(out)
        return F.relu(out + (x if self.short is None else self.short(x)))


def _shortcut(in_channels: int, out_channels: int, stride: int, variant: str, style: ConvStyle) -> nn.Layer:
    if variant == "d" and stride == 2:
        return nn.Sequential(
            ("pool", nn.AvgPool2D(kernel_size=2, stride=2, padding=0, ceil_mode=True)),
            ("conv", ConvNorm(in_channels, out_channels, 1, style=style)),
        )
    return ConvNorm(in_channels, out_channels, 1, stride, style=style)


def _block_name(stage: int, count: int, i: int) -> str:
    """PaddleDetection's names: res4a, res4b …, or res4a, res4b1, res4b2 … in long fourth stages."""
    if stage == 4 and count > 10:
        return f"res{stage}a" if i == 0 else f"res{stage}b{i}"
    return f"res{stage}{chr(ord('a') + i)}"


class ResNet(nn.Layer):
    """The backbone.

    Args:
        depth: a key of `STAGES`.
        ch_in: channels of the stem.
        variant: a, b, c or d; c and d have a stem of three convolutions.
        lr_mult_list: learning-rate factor of each stage.
        norm_decay: L2 decay of normalisation.
        freeze_norm: do not train normalisation, nor update its statistics.
        freeze_at: freeze the stem and the stages up to this one, counted from 0; -1: freeze none.
        return_idx: which stages' outputs to return; stage i has stride 4 * 2 ** i.
        num_stages: how many stages to build.
    """

    def __init__(
        self,
        depth: int = 50,
        ch_in: int = 64,
        variant: str = "b",
        lr_mult_list: Sequence[float] = (1.0, 1.0, 1.0, 1.0),
        norm_decay: float = 0.0,
        freeze_norm: bool = True,
        freeze_at: int = 0,
        return_idx: Sequence[int] = (0, 1, 2, 3),
        num_stages: int = 4,
    ) -> None:
        super().__init__()
        self._return_idx, self._num_stages = tuple(return_idx), num_stages
        bottleneck = depth >= _BOTTLENECK_FROM

        def style(rate: float) -> ConvStyle:
            return ConvStyle(norm="norm", norm_decay=norm_decay, learning_rate=rate, freeze_norm=freeze_norm)

        self.conv1 = _stem(ch_in, variant, style(1.0))
        self.out_channels: list[int] = []
        channels = ch_in
        for i, (width, count) in enumerate(zip(_WIDTHS[:num_stages], STAGES[depth])):
            wide = width * _EXPANSION if bottleneck else width
            blocks = OrderedDict()
            for j in range(count):
                blocks[_block_name(i + 2, count, j)] = Block(
                    channels,
                    width,
                    wide,
                    stride=2 if i > 0 and j == 0 else 1,
                    bottleneck=bottleneck,
                    projected=j == 0,
                    variant=variant,
                    style=style(lr_mult_list[i]),
                )
                channels = wide
            self.add_sublayer(f"res{i + 2}", nn.Sequential(*blocks.items()))
            if i in self._return_idx:
                self.out_channels.append(wide)
        if freeze_at >= 0:
            self._freeze(freeze_at)

    def _freeze(self, last: int) -> None:
        stages = [self._sub_layers[f"res{i + 2}"] for i in range(min(last + 1, self._num_stages))]
        for layer in (self.conv1, *stages):
            for parameter in layer.parameters():
                parameter.stop_gradient = True

    def forward(self, image: Tensor) -> list[Tensor]:
        """(N, 3, H, W) -> the maps of `return_idx`, finest first."""
        x = F.max_pool2d(self.conv1(image), kernel_size=3, stride=2, padding=1)
        maps = []
        for i in range(self._num_stages):
            x = self._sub_layers[f"res{i + 2}"](x)
            if i in self._return_idx:
                maps.append(x)
        return maps


def _stem(channels: int, variant: str, style: ConvStyle) -> nn.Sequential:
    if variant not in ("c", "d"):
        return nn.Sequential(("conv1", ConvNorm(3, channels, 7, 2, act="relu", style=style)))
    half = channels // 2
    widths = [(3, half, 2), (half, half, 1), (half, channels, 1)]
    return nn.Sequential(
        *[
            (f"conv1_{i}", ConvNorm(wide_in, wide_out, 3, stride, act="relu", style=style))
            for i, (wide_in, wide_out, stride) in enumerate(widths, start=1)
        ]
    )
