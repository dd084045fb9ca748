"""PicoDet's 2021 heads: class logits and box distances.

Source: https://arxiv.org/abs/2111.00902 (October 2021: SimOTA, varifocal loss), PaddleDetection 2.6's
PicoHead and its PicoHead of August 2021 (ATSS, quality focal loss). Letters of
dimensions as in `outputs`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Callable

import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn

from picoquant.detector.anchors import Grid, make_grid
from picoquant.detector.assigners.matching import HardAssignment
from picoquant.detector.heads.outputs import (
    BoxLoss,
    HeadLoss,
    Integral,
    Logits,
    add_unused_scales,
    box_losses,
    decode,
    level_means,
    normaliser,
    of_all_levels,
    positives_of,
    prediction_layer,
    predictions_of,
    prior_bias,
    rows,
)
from picoquant.detector.heads.pico_feat import PicoFeat
from picoquant.detector.losses.iou import aligned_iou

# Arguments: (grid, scores (N, L, C), boxes (N, L, 4) input pixels, gt_bbox, gt_class, pad_gt_mask).
Assigner = Callable[[Grid, Tensor, Tensor, Tensor, Tensor, Tensor], HardAssignment]


class PicoHead(nn.Layer):
    """The head.

    Args:
        conv_feat: the convolutions before the prediction layers.
        num_classes: C.
        strides: input pixels per cell of each level.
        in_channels: of the prediction layers.
        reg_max: R.
        prior_prob: score that an untrained class layer predicts.
        cell_offset: position of an anchor point within its cell, 0 to 1.
        assigner: `assign_simota` or `assign_atss_hard` with its parameters.
        class_loss: of (logits, target), both (M, C), element by element.
        box_loss: of (prediction, target), both (P, 4), pair by pair.
        mean_box_weights: weight each point's box loss by the mean weight of its level, not by its own.
        class_weight, box_weight, distribution_weight: weights of the terms of the loss.
        class_loss_name: key of the class loss in the result of `loss`.
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
        assigner: Assigner,
        class_loss: Callable[[Tensor, Tensor], Tensor],
        box_loss: BoxLoss,
        mean_box_weights: bool,
        class_weight: float,
        box_weight: float,
        distribution_weight: float,
        class_loss_name: str = "loss_vfl",
    ) -> None:
        super().__init__()
        self.num_classes, self.reg_max, self.cell_offset = num_classes, reg_max, cell_offset
        self.strides = tuple(strides)
        self._assigner, self._class_loss, self._box_loss = assigner, class_loss, box_loss
        self._mean_box_weights = mean_box_weights
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
        """Names of the class layers' parameters -> how many of their first rows belong to classes."""
        levels = range(len(self.strides))
        return {f"head_cls{i}.{kind}": self.num_classes for i in levels for kind in ("weight", "bias")}

    def logits(self, maps: Sequence[Tensor]) -> Logits:
        """The results of the prediction layers; this head has no alignment map."""
        classes, distances = self.levels(maps)
        return Logits(classes, [], distances)

    def levels(self, maps: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Class logits (N, C, H, W) and distance logits (N, 4 * (R + 1), H, W), one tensor per level."""
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
        """Scores (N, H * W, C), 0 to 1, and distance logits (N, H * W, 4 * (R + 1)), one tensor per level."""
        classes, distances = self.levels(maps)
        return [rows(F.sigmoid(logits)) for logits in classes], [rows(x) for x in distances]

    def predicted(self, maps: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """What the loss reads: as `raw`, with the class logits in place of the scores."""
        classes, distances = ([rows(level) for level in part] for part in self.levels(maps))
        return classes, distances

    def loss(
        self,
        predicted: tuple[Sequence[Tensor], Sequence[Tensor]],
        sizes: Sequence[tuple[int, int]],
        gt_bbox: Tensor,
        gt_class: Tensor,
        pad_gt_mask: Tensor,
        epoch: int,
    ) -> HeadLoss:
        """The loss with the points that it was counted at.

        Args:
            predicted: the result of `predicted`.
            sizes: height and width of each level, in cells.
            gt_bbox, gt_class, pad_gt_mask: as in `PicoDet.loss`.
            epoch: not used.
        """
        grid = make_grid(sizes, self.strides, self.cell_offset)
        class_levels, logit_levels = predicted
        classes = of_all_levels(class_levels)
        predictions = predictions_of(logit_levels, grid, self.distribution_project)
        scores = F.sigmoid(classes.detach())
        assigned = self._assigner(grid, scores, predictions.pixel_boxes, gt_bbox, gt_class, pad_gt_mask)
        positives = positives_of(
            predictions, assigned.labels, assigned.boxes, scores.max(axis=-1), self.num_classes
        )
        box_weights = None
        if positives is not None and self._mean_box_weights:
            box_weights = level_means(positives.weights, positives.strides)
        box_loss, distribution_loss = box_losses(predictions, positives, self._box_loss, box_weights)
        target = paddle.zeros([assigned.labels.size, self.num_classes])
        total = paddle.zeros([1])
        if positives is not None:
            overlap = aligned_iou(positives.boxes.detach(), positives.targets)
            label = paddle.gather(assigned.labels.flatten(), positives.index)
            where = paddle.stack([positives.index, label], axis=1)
            target = paddle.scatter_nd_add(target, where, overlap)
            total = positives.weights.sum()
        class_loss = self._class_loss(classes.reshape([-1, self.num_classes]), target).sum()
        count, total = normaliser(paddle.to_tensor(assigned.positives)), normaliser(total)
        class_weight, box_weight, distribution_weight = self._weights
        terms = {
            self._class_loss_name: class_loss * class_weight / count,
            "loss_bbox": box_loss * box_weight / total,
            "loss_dfl": distribution_loss * distribution_weight / total,
        }
        return HeadLoss(terms, classes, True, positives, count, total)
