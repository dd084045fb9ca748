"""Build a detector from its settings."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import Callable

from paddle import Tensor, nn

from picoquant.detector import settings as s
from picoquant.detector.assigners.atss import assign_atss, assign_atss_hard
from picoquant.detector.assigners.simota import assign_simota
from picoquant.detector.assigners.task_aligned import assign_task_aligned
from picoquant.detector.backbones.esnet import ESNet
from picoquant.detector.backbones.lcnet import LCNet
from picoquant.detector.backbones.mobilenet_v3 import MobileNetV3
from picoquant.detector.backbones.resnet import ResNet
from picoquant.detector.backbones.shufflenet_v2 import ShuffleNetV2
from picoquant.detector.heads.outputs import BoxLoss
from picoquant.detector.heads.pico_feat import PicoFeat
from picoquant.detector.heads.pico_head import PicoHead
from picoquant.detector.heads.pico_head_v2 import PicoHeadV2
from picoquant.detector.losses import iou
from picoquant.detector.losses.quality_focal import quality_focal_loss
from picoquant.detector.losses.varifocal import varifocal_loss, varifocal_total
from picoquant.detector.necks.pan import LateralPan
from picoquant.detector.necks.path_aggregation import csp_pan, lc_pan
from picoquant.detector.picodet import PicoDet
from picoquant.detector.settings import backbones
from picoquant.errors import ConfigError

_BACKBONES = {
    backbones.LCNet: LCNet,
    backbones.ESNet: ESNet,
    backbones.ShuffleNetV2: ShuffleNetV2,
    backbones.MobileNetV3: MobileNetV3,
    backbones.ResNet: ResNet,
}
_NECKS = {s.CSPPAN: csp_pan, s.LCPAN: lc_pan, s.PAN: LateralPan}


def build_picodet(settings: s.DetectorSettings) -> PicoDet:
    """The network of `settings`, initialised at random.

    Raises: `ConfigError` when the number of levels of backbone, neck and head does not agree.
    """
    backbone = _BACKBONES[type(settings.backbone)](**vars(settings.backbone))
    neck = _build_neck(settings.neck, backbone)
    head = settings.head
    if len(neck.out_channels) != len(head.fpn_stride):
        raise ConfigError(
            f"{type(head).__name__}.fpn_stride names {len(head.fpn_stride)} levels, "
            f"{type(settings.neck).__name__} gives {len(neck.out_channels)}"
        )
    return PicoDet(backbone, neck, _build_head(head, settings.num_classes))


def _build_neck(settings: s.Neck, backbone: nn.Layer) -> nn.Layer:
    arguments = asdict(settings)
    scales = arguments.pop("spatial_scales")
    arguments["out_channels"] = arguments.pop("out_channel", settings.out_channels)
    if len(scales) != len(backbone.out_channels):
        raise ConfigError(
            f"{type(settings).__name__}.spatial_scales names {len(scales)} maps, the backbone gives "
            f"{len(backbone.out_channels)}"
        )
    return _NECKS[type(settings)](backbone.out_channels, **arguments)


def _build_head(settings: s.Head, num_classes: int) -> nn.Layer:
    shared = {
        "conv_feat": PicoFeat(**vars(settings.conv_feat)),
        "num_classes": num_classes,
        "strides": settings.fpn_stride,
        "in_channels": settings.feat_in_chan,
        "reg_max": settings.reg_max,
        "prior_prob": settings.prior_prob,
        "cell_offset": settings.cell_offset,
        "box_loss": _box_loss(settings.loss_bbox),
        "mean_box_weights": isinstance(settings.loss_bbox, s.DIouLoss),
        "class_weight": settings.loss_class.loss_weight,
        "box_weight": settings.loss_bbox.loss_weight,
        "distribution_weight": settings.loss_dfl.loss_weight,
    }
    if isinstance(settings, s.PicoHead):
        quality = isinstance(settings.loss_class, s.QualityFocalLoss)
        options = dict(vars(settings.assigner))
        if isinstance(settings.assigner, s.ATSSAssigner):
            del options["sm_use"]  # `assign_atss_hard` always sets it
            options["grid_cell_scale"] = settings.grid_cell_scale
            assigner = partial(assign_atss_hard, **options)
        else:
            assigner = partial(assign_simota, **options)
        return PicoHead(
            **shared,
            assigner=assigner,
            class_loss=_class_loss(settings.loss_class),
            class_loss_name="loss_qfl" if quality else "loss_vfl",
        )
    return PicoHeadV2(
        **shared,
        class_loss=partial(
            varifocal_total,
            alpha=settings.loss_class.alpha,
            gamma=settings.loss_class.gamma,
            iou_weighted=settings.loss_class.iou_weighted,
        ),
        use_align_head=settings.use_align_head,
        act=settings.act,
        grid_cell_scale=settings.grid_cell_scale,
        static_assigner_epoch=settings.static_assigner_epoch,
        static_assigner=partial(assign_atss, **vars(settings.static_assigner)),
        assigner=partial(assign_task_aligned, **vars(settings.assigner)),
    )


def _class_loss(settings: s.VarifocalLoss | s.QualityFocalLoss) -> Callable[[Tensor, Tensor], Tensor]:
    if isinstance(settings, s.QualityFocalLoss):
        return partial(quality_focal_loss, beta=settings.beta)
    return partial(
        varifocal_loss,
        alpha=settings.alpha,
        gamma=settings.gamma,
        iou_weighted=settings.iou_weighted,
        use_sigmoid=settings.use_sigmoid,
    )


def _box_loss(settings: s.BoxLoss) -> BoxLoss:
    if isinstance(settings, s.SIoULoss):
        return partial(iou.siou_loss, theta=settings.theta, eps=settings.eps)
    if isinstance(settings, s.GIoULoss):
        return partial(iou.giou_loss, eps=settings.eps)
    if isinstance(settings, s.DIouLoss):
        complete = settings.use_complete_iou_loss
        return partial(iou.ciou_loss if complete else iou.diou_loss, eps=settings.eps)
    return partial(
        iou.iou_loss,
        kind=next((kind for kind in ("giou", "diou", "ciou") if getattr(settings, kind)), "iou"),
        square=settings.loss_square,
    )
