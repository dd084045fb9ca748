"""A detector that learns from a teacher while it is trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Callable, NamedTuple

import paddle
from paddle import Tensor, nn

from picoquant.detector.heads.outputs import HeadLoss
from picoquant.detector.losses.focal_global import FocalGlobal
from picoquant.detector.losses.localization_distillation import localization_distillation
from picoquant.detector.losses.quality_focal import quality_focal_loss
from picoquant.detector.picodet import PicoDet
from picoquant.training.distillation.settings import FgdSettings, TeachingSettings


class Taught(NamedTuple):
    """What a teacher computes of images.

    Attributes:
        maps: of the neck, (N, T, H, W), one a level; empty where they are not wanted.
        scores: (N, L, C), 0 to 1; None where outputs are not wanted.
        distances: (N, L, 4 * (R + 1)), logits; None as well.
    """

    maps: tuple[Tensor, ...] = ()
    scores: Tensor | None = None
    distances: Tensor | None = None


Teacher = Callable[[Tensor], Taught]


class Student(PicoDet):
    """A detector with the losses of a teacher.

    It shares its parts, and so its weights, with the network that is exported; the layers of the losses are beside
    them, under `adaptation`.

    Args:
        network: what is trained.
        teacher: images (N, 3, H, W) -> `Taught`, without gradients.
        teacher_channels: of its neck's maps.
        settings: what is learned.

    Attributes:
        student: `network`, without anything of the distillation.
    """

    def __init__(
        self, network: PicoDet, teacher: Teacher, teacher_channels: int, settings: TeachingSettings
    ) -> None:
        super().__init__(network.backbone, network.neck, network.head)
        self._network, self._teacher = (network,), (teacher,)  # no sublayers: nothing of them is saved twice
        self._settings = settings
        levels = range(len(self.strides)) if settings.levels is None else settings.levels
        fgd, channels = settings.fgd, network.neck.out_channels
        self._levels = tuple(levels) if fgd else ()
        self.adaptation = nn.LayerList(
            [_focal_global(fgd, channels[level], teacher_channels) for level in self._levels] if fgd else []
        )

    @property
    def student(self) -> PicoDet:
        """The network that is exported."""
        return self._network[0]

    def loss(
        self, image: Tensor, gt_bbox: Tensor, gt_class: Tensor, pad_gt_mask: Tensor, epoch: int
    ) -> dict[str, Tensor]:
        """The terms of the loss, those of the teacher (`loss_fgd`, `loss_ld`, `loss_kd`) among them, and their sum."""
        what = self._settings
        maps: Sequence[Tensor] = self.features(image) if what.fgd else ()
        predicted = self.head.predicted(maps) if what.fgd else self.predicted(image)
        own = self.head.loss(predicted, self.level_sizes(image), gt_bbox, gt_class, pad_gt_mask, epoch)
        taught = self._teacher[0](image)
        terms = dict(own.terms)
        if what.fgd:
            height, width = image.shape[2:]
            parts = gt_bbox
            if gt_bbox.shape[1]:
                parts = gt_bbox / paddle.to_tensor([width, height, width, height], "float32")
            levels = [
                layer(maps[level].astype("float32"), taught.maps[level], parts, pad_gt_mask.squeeze(-1))
                for layer, level in zip(self.adaptation, self._levels)
            ]
            terms["loss_fgd"] = paddle.add_n(levels) * what.fgd.loss_weight
        if what.ld and taught.distances is not None:
            terms["loss_ld"] = self._localization(own, taught.distances, what.ld.T) * what.ld.loss_weight
        if what.kd and taught.scores is not None:
            terms["loss_kd"] = self._scores(own, taught.scores, what.kd.beta) * what.kd.loss_weight
        return {**terms, "loss": paddle.add_n(list(terms.values()))}

    def _localization(self, own: HeadLoss, distances: Tensor, temperature: float) -> Tensor:
        """The mean over the sides of the student's positive boxes, weighted as its own distribution loss is."""
        positives = own.positives
        if positives is None:
            return own.classes.sum() * 0
        bins = self.reg_max + 1
        wanted = paddle.gather(distances.reshape([-1, 4 * bins]), positives.index)
        sides = localization_distillation(
            positives.logits.reshape([-1, bins]), wanted.reshape([-1, bins]), temperature
        )
        return (sides.reshape([-1, 4]).mean(axis=1) * positives.weights).sum() / own.box_total

    def _scores(self, own: HeadLoss, scores: Tensor, beta: float) -> Tensor:
        """The sum over all points and classes, in proportion to what the student's own class loss is divided by."""
        wanted = scores.reshape([-1, self.num_classes])
        mine = own.classes.reshape([-1, self.num_classes])
        return quality_focal_loss(mine, wanted, beta, own.logits).sum() / own.class_total


def _focal_global(settings: FgdSettings, student: int, teacher: int) -> FocalGlobal:
    return FocalGlobal(
        student,
        teacher,
        settings.temp,
        settings.alpha_fgd,
        settings.beta_fgd,
        settings.gamma_fgd,
        settings.lambda_fgd,
        settings.normalize,
    )
