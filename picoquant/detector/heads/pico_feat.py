"""The convolutions of a PicoDet head, before its prediction layers."""

from __future__ import annotations

from dataclasses import replace

import paddle.nn.functional as F
from paddle import Tensor, nn
from paddle.nn.initializer import Normal

from picoquant.detector.layers import ACTIVATIONS, HEAD_STYLE, ConvNorm, ConvStyle


class PicoSE(nn.Layer):
    """Task decomposition of the ETA head: channels are weighted by a global average, then mixed."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        attribute = replace(HEAD_STYLE, initializer=lambda: Normal(0.0, 0.001)).conv_attribute()
        self.fc = nn.Conv2D(channels, channels, 1, weight_attr=attribute)
        self.conv = ConvNorm(channels, channels, 1, style=HEAD_STYLE)

    def forward(self, feature: Tensor) -> Tensor:
        """(N, channels, H, W) -> the same shape."""
        average = F.adaptive_avg_pool2d(feature, (1, 1))
        return self.conv(feature * F.sigmoid(self.fc(average)))


class PicoFeat(nn.Layer):
    """Depthwise separable convolutions with separate weights for each level.

    Args:
        feat_in, feat_out: channels in and out.
        num_fpn_stride: number of levels.
        num_convs: depthwise-pointwise pairs per level.
        norm_type: `bn`, or `gn` for group normalisation.
        share_cls_reg: classes and boxes are predicted from the same features.
        act: activation.
        use_se: weight the features' channels for the prediction layers (`PicoSE`).
        kernel_size: of the depthwise convolutions; 3 in August 2021.
    """

    def __init__(
        self,
        feat_in: int = 256,
        feat_out: int = 96,
        num_fpn_stride: int = 3,
        num_convs: int = 2,
        norm_type: str = "bn",
        share_cls_reg: bool = False,
        act: str = "hard_swish",
        use_se: bool = False,
        kernel_size: int = 5,
    ) -> None:
        super().__init__()
        self.share_cls_reg = share_cls_reg
        self._num_convs = num_convs
        self._activate = ACTIVATIONS[act]
        self._kernel_size = kernel_size
        style = replace(HEAD_STYLE, norm_type=norm_type)
        self.se = nn.LayerList() if use_se else None
        for level in range(num_fpn_stride):
            for i in range(num_convs):
                width = feat_in if i == 0 else feat_out
                self._add_pair("cls", level, i, width, feat_out, style)
                if not share_cls_reg:
                    self._add_pair("reg", level, i, width, feat_out, style)
            if self.se is not None:
                self.se.append(PicoSE(feat_out))

    def _add_pair(self, task: str, level: int, i: int, width: int, feat_out: int, style: ConvStyle) -> None:
        depthwise = ConvNorm(width, feat_out, self._kernel_size, groups=feat_out, style=style)
        self.add_sublayer(f"{task}_conv_dw{level}.{i}", depthwise)
        self.add_sublayer(f"{task}_conv_pw{level}.{i}", ConvNorm(width, feat_out, 1, style=style))

    def _convolve(self, task: str, kind: str, level: int, i: int, x: Tensor) -> Tensor:
        return self._activate(self._sub_layers[f"{task}_conv_{kind}{level}.{i}"](x))

    def forward(self, feature: Tensor, level: int) -> tuple[Tensor, Tensor]:
        """The features of one level: (N, feat_in, H, W) -> two maps (N, feat_out, H, W).

        The first is the result of the `cls` convolutions. The second is, with `use_se`, the first after
        `PicoSE`; with `share_cls_reg` alone, the first itself; otherwise, the first after the last pointwise
        `reg` convolution only: PaddleDetection computes it so, and its weights are trained for that.
        """
        for i in range(self._num_convs):
            for kind in ("dw", "pw"):
                feature = self._convolve("cls", kind, level, i, feature)
        if self.se is not None:
            return feature, self._activate(self.se[level](feature))
        if self.share_cls_reg:
            return feature, feature
        return feature, self._convolve("reg", "pw", level, self._num_convs - 1, feature)
