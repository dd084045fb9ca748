"""PicoDet's 2021 head: class logits and box distances, assigned image by image.

Source: https://arxiv.org/abs/2111.00902 (October 2021: SimOTA, varifocal loss) and PaddleDetection
2.6's PicoHead. Letters as in `outputs`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Callable

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn

from picoquant.detector.anchors import Grid
from picoquant.detector.assigners.simota import ImageAssignment
from picoquant.detector.boxes import distances_to_boxes
from picoquant.detector.heads.outputs import (
    BoxLoss,
    Integral,
    Positives,
    add_unused_scales,
    box_losses,
    decode,
    grid_of,
    normaliser,
    prediction_layer,
    prior_bias,
    rows,
)
from picoquant.detector.heads.pico_feat import PicoFeat
from picoquant.detector.losses.iou import aligned_iou

# (grid, scores (L, C), boxes (L, 4), gt_bbox (G, 4), gt_class (G,)) -> assignment of one image.
ImageAssigner = Callable[[Grid, np.ndarray, np.ndarray, np.ndarray, np.ndarray], ImageAssignment]


class PicoHead(nn.Layer):
    """The head.

    Args:
        conv_feat: the convolutions before the prediction layers.
        num_classes: C.
        strides: input pixels a cell, of each level.
        in_channels: of the prediction layers.
        reg_max: R.
        prior_prob: score of an untrained class layer.
        cell_offset: where in its cell an anchor point lies.
        assigner: assigns the points of one image.
        class_loss: of (logits, target), both (M, C), element by element.
        box_loss: of (prediction, target), both (P, 4), pair by pair.
        class_weight, box_weight, distribution_weight: of the parts of the loss.
        class_loss_name: under which the class loss is reported.
    """

    def __init__(
        self,
        conv_feat: PicoFeat,
        num_classes: int,
        strides: Sequence[int],
        in_channels: int,
        reg_max: int,
        prior_prob: float,
        cell_offset: float,
        assigner: ImageAssigner,
        class_loss: Callable[[Tensor, Tensor], Tensor],
        box_loss: BoxLoss,
        class_weight: float,
        box_weight: float,
        distribution_weight: float,
        class_loss_name: str = "loss_vfl",
    ) -> None:
        super().__init__()
        self.num_classes, self.reg_max, self.cell_offset = num_classes, reg_max, cell_offset
        self.strides = tuple(strides)
        self._assigner, self._class_loss, self._box_loss = assigner, class_loss, box_loss
        self._class_loss_name = class_loss_name
        self._weights = (class_weight, box_weight, distribution_weight)
        self.conv_feat = conv_feat
        add_unused_scales(self, self.strides)
        self.distribution_project = Integral(reg_max)
        distances = 4 * (reg_max + 1)
        for level in range(len(self.strides)):
            width = num_classes + (distances if conv_feat.share_cls_reg else 0)
            bias = prior_bias(prior_prob)
            self.add_sublayer(f"head_cls{level}", prediction_layer(in_channels, width, bias))
            if not conv_feat.share_cls_reg:
                self.add_sublayer(f"head_reg{level}", prediction_layer(in_channels, distances, 0.0))

    def class_rows(self) -> dict[str, int]:
        """Names of the parameters whose first dimension is the classes -> rows before other rows."""
        levels = range(len(self.strides))
        return {f"head_cls{i}.{kind}": self.num_classes for i in levels for kind in ("weight", "bias")}

    def levels(self, maps: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Class logits (N, C, H, W) and distance logits (N, 4 * (R + 1), H, W), a level each."""
        classes, distances = [], []
        for level, feature in enumerate(maps):
            feature, box_feature = self.conv_feat(feature, level)
            out = self._sub_layers[f"head_cls{level}"](feature)
            if self.conv_feat.share_cls_reg:
                out, box_out = paddle.split(out, [self.num_classes, 4 * (self.reg_max + 1)], axis=1)
            else:
                box_out = self._sub_layers[f"head_reg{level}"](box_feature)
            classes.append(out)
            distances.append(box_out)
        return classes, distances

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Scores (N, C, L) and boxes (N, L, 4) in input pixels."""
        classes, distances = self.levels(maps)
        scores = [F.sigmoid(logits) for logits in classes]
        return decode(scores, distances, self.distribution_project, self.strides, self.cell_offset)

    def raw(self, maps: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Scores (N, H * W, C), 0 to 1, and distance logits (N, H * W, 4 * (R + 1)), a level each."""
        classes, distances = self.levels(maps)
        return [rows(F.sigmoid(logits)) for logits in classes], [rows(x) for x in distances]

    def loss(
        self,
        maps: Sequence[Tensor],
        gt_bbox: Tensor,
        gt_class: Tensor,
        pad_gt_mask: Tensor,
        epoch: int,
    ) -> dict[str, Tensor]:
        """The weighted parts of the loss; arguments as in `PicoDet.loss`. `epoch` changes nothing."""
        grid = grid_of(maps, self.strides, self.cell_offset)
        classes, logits = (
            paddle.concat([rows(x) for x in parts], axis=1).astype("float32") for parts in self.levels(maps)
        )
        distances = self.distribution_project(logits).reshape([logits.shape[0], -1, 4])
        boxes = distances_to_boxes(paddle.to_tensor(grid.cell_points), distances)  # in strides
        truth = (gt_bbox.numpy(), gt_class.numpy(), pad_gt_mask.numpy())
        assigned = self._assign(grid, classes, boxes, truth)
        labels = np.stack([image.labels for image in assigned]).ravel()
        positive = np.flatnonzero(labels < self.num_classes)
        weights, target = paddle.zeros([1]), paddle.zeros([len(labels), self.num_classes])
        box_loss = distribution_loss = logits.sum() * 0  # keeps every parameter in the backward pass
        if len(positive):
            index = paddle.to_tensor(positive)
            weights = F.sigmoid(_gather(classes.detach(), index)).max(axis=-1)
            aims = np.stack([image.boxes / grid.strides for image in assigned]).reshape(-1, 4)
            points = np.tile(grid.cell_points, [len(assigned), 1])
            positives = Positives(
                logits=_gather(logits, index),
                boxes=_gather(boxes, index),
                points=paddle.to_tensor(points[positive]),
                targets=paddle.to_tensor(aims[positive]),
                weights=weights,
            )
            box_loss, distribution_loss = box_losses(positives, self._box_loss)
            overlap = aligned_iou(positives.boxes.detach(), positives.targets)
            where = paddle.to_tensor(np.stack([positive, labels[positive]], axis=1))
            target = paddle.scatter_nd_add(target, where, overlap)
        count = paddle.to_tensor(float(sum(image.positives for image in assigned)))
        class_loss = self._class_loss(classes.reshape([-1, self.num_classes]), target).sum()
        class_weight, box_weight, distribution_weight = self._weights
        total = normaliser(weights.sum())
        return {
            self._class_loss_name: class_loss * class_weight / normaliser(count),
            "loss_bbox": box_loss * box_weight / total,
            "loss_dfl": distribution_loss * distribution_weight / total,
        }

    def _assign(
        self, grid: Grid, classes: Tensor, boxes: Tensor, truth: tuple[np.ndarray, ...]
    ) -> list[ImageAssignment]:
        """The assignment of each image; padding is taken out of its objects first."""
        scores = F.sigmoid(classes.detach()).numpy()
        pixels = boxes.detach().numpy() * grid.strides
        assigned = []
        for score, box, gt_bbox, gt_class, mask in zip(scores, pixels, *truth):
            real = mask.ravel() > 0
            gt_class = gt_class.ravel()[real].astype(np.int64)
            assigned.append(self._assigner(grid, score, box, gt_bbox[real], gt_class))
        return assigned


def _gather(values: Tensor, index: Tensor) -> Tensor:
    """Rows of (N, L, K), all images after another."""
    return paddle.gather(values.reshape([-1, values.shape[-1]]), index)
