"""PicoDet's 2022 head: ETA head, ATSS then task-aligned assignment, varifocal loss.

Source: PP-PicoDet, https://arxiv.org/abs/2111.00902, and PaddleDetection 2.6's PicoHeadV2. Letters
of dimensions as in `outputs`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Callable

import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn

from picoquant.detector.anchors import make_grid
from picoquant.detector.assigners.matching import Assignment
from picoquant.detector.heads.outputs import (
    BoxLoss,
    HeadLoss,
    Integral,
    Logits,
    add_unused_scales,
    box_losses,
    decode,
    normaliser,
    of_all_levels,
    positives_of,
    prediction_layer,
    predictions_of,
    prior_bias,
    rows,
)
from picoquant.detector.heads.pico_feat import PicoFeat
from picoquant.detector.layers import DepthwisePointwise

_EPS = 1e-9  # added before the square root of the aligned score, whose gradient at 0 is infinite


class PicoHeadV2(nn.Layer):
    """The head.

    Args:
        conv_feat: the convolutions before the prediction layers.
        num_classes: C.
        strides: input pixels per cell of each level.
        in_channels: of the prediction layers.
        reg_max: R.
        prior_prob: score that an untrained class layer predicts.
        cell_offset: position of an anchor point within its cell, 0 to 1.
        use_align_head: multiply the class scores by an alignment map.
        act: activation of the alignment layers.
        grid_cell_scale: width of the static assigner's anchors, in strides.
        static_assigner: `assign_atss` with its parameters; used before epoch
            `static_assigner_epoch`.
        assigner: `assign_task_aligned` with its parameters; used from then on.
        class_loss: of (prediction (M, C), labels (M,), target scores of these (M,)), summed.
        box_loss: of (prediction, target), both (P, 4), pair by pair.
        mean_box_weights: weight every point's box loss by the mean weight of all points, not by its own.
        class_weight, box_weight, distribution_weight: weights of the terms of the loss.
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
        use_align_head: bool,
        act: str,
        grid_cell_scale: float,
        static_assigner_epoch: int,
        static_assigner: Callable[..., Assignment],
        assigner: Callable[..., Assignment],
        class_loss: Callable[[Tensor, Tensor, Tensor], Tensor],
        box_loss: BoxLoss,
        mean_box_weights: bool,
        class_weight: float,
        box_weight: float,
        distribution_weight: float,
    ) -> None:
        super().__init__()
        self.num_classes, self.reg_max, self.cell_offset = num_classes, reg_max, cell_offset
        self.strides = tuple(strides)
        self._grid_cell_scale = grid_cell_scale
        self._static_assigner_epoch = static_assigner_epoch
        self._static_assigner, self._assigner = static_assigner, assigner
        self._class_loss, self._box_loss = class_loss, box_loss
        self._mean_box_weights = mean_box_weights
        self._weights = (class_weight, box_weight, distribution_weight)
        self.conv_feat = conv_feat
        add_unused_scales(self, self.strides)
        self.distribution_project = Integral(reg_max)
        self.head_cls_list, self.head_reg_list = nn.LayerList(), nn.LayerList()
        self.cls_align = nn.LayerList()
        for level in range(len(self.strides)):
            # PaddleDetection's weights files contain these layers under two names.
            head_cls = prediction_layer(in_channels, num_classes, prior_bias(prior_prob))
            head_reg = prediction_layer(in_channels, 4 * (reg_max + 1), 0.0)
            self.head_cls_list.append(self.add_sublayer(f"head_cls{level}", head_cls))
            self.head_reg_list.append(self.add_sublayer(f"head_reg{level}", head_reg))
            if use_align_head:
                align = DepthwisePointwise(in_channels, 1, 5, act=act, act_at_end=False)
                self.cls_align.append(align)

    def class_rows(self) -> dict[str, int]:
        """Names of the class layers' parameters -> how many of their first rows belong to classes."""
        return {
            f"{layer}.{kind}": self.num_classes
            for level in range(len(self.strides))
            for layer in (f"head_cls_list.{level}", f"head_cls{level}")
            for kind in ("weight", "bias")
        }

    def logits(self, maps: Sequence[Tensor]) -> Logits:
        """The results of the prediction layers."""
        result = Logits([], [], [])
        for level, feature in enumerate(maps):
            feature, task_feature = self.conv_feat(feature, level)
            result.classes.append(self.head_cls_list[level](task_feature))
            if len(self.cls_align):
                result.alignment.append(self.cls_align[level](feature))
            result.distances.append(self.head_reg_list[level](task_feature))
        return result

    def levels(self, maps: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Scores (N, C, H, W), 0 to 1, and distance logits (N, 4 * (R + 1), H, W), one tensor per level."""
        logits = self.logits(maps)
        scores = [F.sigmoid(level) for level in logits.classes]
        for level, alignment in enumerate(logits.alignment):
            scores[level] = (scores[level] * F.sigmoid(alignment) + _EPS).sqrt()
        return scores, logits.distances

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Scores (N, C, L) and boxes (N, L, 4) in input pixels."""
        scores, logits = self.levels(maps)
        return decode(scores, logits, self.distribution_project, self.strides, self.cell_offset)

    def raw(self, maps: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Scores (N, H * W, C), 0 to 1, and distance logits (N, H * W, 4 * (R + 1)), one tensor per level."""
        scores, logits = self.levels(maps)
        return [rows(score) for score in scores], [rows(logit) for logit in logits]

    def predicted(self, maps: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """What the loss reads: `raw`."""
        return self.raw(maps)

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
            gt_bbox, gt_class, pad_gt_mask, epoch: as in `PicoDet.loss`.
        """
        grid = make_grid(sizes, self.strides, self.cell_offset)
        score_levels, logit_levels = predicted
        scores = of_all_levels(score_levels)
        predictions = predictions_of(logit_levels, grid, self.distribution_project)
        truth = (gt_bbox, gt_class, pad_gt_mask)
        if epoch < self._static_assigner_epoch:
            anchors = paddle.to_tensor(grid.boxes(self._grid_cell_scale))
            assigned = self._static_assigner(
                anchors, grid.counts, predictions.boxes_at, *truth, self.num_classes
            )
        else:
            points = paddle.to_tensor(grid.points)
            assigned = self._assigner(points, scores.detach(), predictions.boxes_at, *truth)
        positives = positives_of(
            predictions, assigned.labels, assigned.boxes, assigned.quality, self.num_classes
        )
        box_weights = None
        if positives is not None and self._mean_box_weights:
            box_weights = positives.weights.mean().expand(positives.weights.shape)
        box_loss, distribution_loss = box_losses(predictions, positives, self._box_loss, box_weights)
        class_loss = self._class_loss(
            scores.reshape([-1, self.num_classes]), assigned.labels.flatten(), assigned.quality.flatten()
        )
        total = normaliser(assigned.quality.sum())
        class_weight, box_weight, distribution_weight = self._weights
        terms = {
            "loss_vfl": class_loss * class_weight / total,
            "loss_bbox": box_loss * box_weight / total,
            "loss_dfl": distribution_loss * distribution_weight / total,
        }
        return HeadLoss(terms, scores, False, positives, total, total)
