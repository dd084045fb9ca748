"""PicoDet: backbone, neck and head as one network, https://arxiv.org/abs/2111.00902."""

from __future__ import annotations

from collections.abc import Sequence

import paddle
from paddle import Tensor, nn

from picoquant.detector.heads.outputs import rows
from picoquant.errors import UserError

_MULTIPLE = 32  # for other sizes, the feature maps of neighbouring levels would not differ by a factor of 2


class PicoDet(nn.Layer):
    """The detector.

    `N` images, `C` classes, `L` anchor points over all levels, `G` objects of an image. Images are
    (N, 3, H, W) float32, H and W multiples of 32.

    Args:
        backbone: image -> feature maps; has `out_channels`.
        neck: the backbone's feature maps -> one feature map per stride.
        head: a `PicoHeadV2` or `PicoHead`.

    Attributes:
        num_classes: C.
        strides: input pixels per cell of each level.
        reg_max: largest distance of a box's side from its anchor point, in strides.
        cell_offset: position of an anchor point within its cell (0.5: centre).
    """

    def __init__(self, backbone: nn.Layer, neck: nn.Layer, head: nn.Layer) -> None:
        super().__init__()
        self.backbone, self.neck, self.head = backbone, neck, head
        self.num_classes: int = head.num_classes
        self.strides: tuple[int, ...] = tuple(head.strides)
        self.reg_max: int = head.reg_max
        self.cell_offset: float = head.cell_offset

    def features(self, image: Tensor) -> Sequence[Tensor]:
        """The neck's feature maps, one per stride, (N, channels, H / stride, W / stride).

        Raises: `UserError` when height or width is not a multiple of 32, or the levels have other strides.
        """
        height, width = image.shape[2:]
        if height % _MULTIPLE or width % _MULTIPLE:
            raise UserError(f"input size {height}x{width}: height and width must be multiples of {_MULTIPLE}")
        maps = self.pyramid(image)
        for level, stride in zip(maps, self.strides):
            if level.shape[2] != -(-height // stride):
                raise UserError(
                    f"fpn_stride of the head has {stride}, but that level is {level.shape[2]} cells high for an input "
                    f"of {height}; set it to the strides that backbone and neck give"
                )
        return maps

    def pyramid(self, image: Tensor) -> Sequence[Tensor]:
        """The neck's feature maps as `features`, of images whose size is not looked at."""
        return self.neck(self.backbone(image))

    def predicted(self, image: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """What the head's loss reads, see its `predicted`, of images whose size is not looked at."""
        return self.head.predicted(self.pyramid(image))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Scores (N, C, L), 0 to 1, and boxes (N, L, 4), x1 y1 x2 y2 in input pixels, before NMS."""
        return self.head(self.features(image))

    def raw(self, image: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Scores (N, H * W, C), 0 to 1, and distance logits (N, H * W, 4 * (reg_max + 1)).

        One tensor per level each; H and W are the level's height and width.
        """
        return self.head.raw(self.features(image))

    def logits(self, image: Tensor) -> list[Tensor]:
        """The outputs that an NPU computes, one tensor per level of each of these, in this order.

        Class logits (N, H * W, C); alignment logits (N, H * W, 1), only where the head has an alignment
        map; distance logits (N, H * W, 4 * (reg_max + 1)).
        """
        return [rows(level) for part in self.head.logits(self.features(image)) for level in part]

    def level_sizes(self, image: Tensor) -> list[tuple[int, int]]:
        """Height and width of each level's feature map, in cells."""
        height, width = image.shape[2:]
        return [(-(-height // stride), -(-width // stride)) for stride in self.strides]

    def loss(
        self,
        image: Tensor,
        gt_bbox: Tensor,
        gt_class: Tensor,
        pad_gt_mask: Tensor,
        epoch: int,
    ) -> dict[str, Tensor]:
        """The terms of the training loss, each a scalar, and their sum under the key `loss`.

        Args:
            image: (N, 3, H, W) float32.
            gt_bbox: (N, G, 4) float32, input pixels; padding rows are 0. G may be 0.
            gt_class: (N, G, 1) integer.
            pad_gt_mask: (N, G, 1) float32, 1 for an object and 0 for padding.
            epoch: counted from 0; a head may select its assigner by it.
        """
        predicted, sizes = self.predicted(image), self.level_sizes(image)
        if [level.shape[1] for level in predicted[0]] != [height * width for height, width in sizes]:
            self.features(image)  # says what does not fit
        parts = self.head.loss(predicted, sizes, gt_bbox, gt_class, pad_gt_mask, epoch).terms
        return {**parts, "loss": paddle.add_n(list(parts.values()))}
