"""The linear rule: the learning rate is proportional to the number of images per update.

Source: Goyal et al., Accurate, Large Minibatch SGD, https://arxiv.org/abs/1706.02677. PaddleDetection
publishes the rates of PicoDet for 4 GPUs with `TrainReader.batch_size` images each.
"""

from __future__ import annotations

import logging
from dataclasses import replace

from picoquant.training.settings import TrainSettings

LOG = logging.getLogger("picoquant")

PUBLISHED_GPUS = 4


def by_linear_rule(settings: TrainSettings, batch_size: int, devices: int) -> TrainSettings:
    """The settings with their learning rates scaled for these devices; the rate is logged.

    Args:
        settings: `reference_batch` is the number of images per update that its rates are meant for; with
            None the rates are not changed.
        batch_size: images per step on one device.
        devices: number of devices.
    """
    images = batch_size * devices * settings.accumulate_steps
    base, reference = settings.learning_rate.base_lr, settings.reference_batch
    what = f"{images} images an update ({devices} x {batch_size}" + (
        f", {settings.accumulate_steps} steps)" if settings.accumulate_steps > 1 else ")"
    )
    if reference is None:
        LOG.info("train: base_lr %g as it is, %s", base, what)
        return settings
    used = base * images / reference
    LOG.info("train: base_lr %g = %g x %d / %d, %s", used, base, images, reference, what)
    decay = settings.learning_rate.decay
    values = getattr(decay, "values", None)
    scaled = settings.learning_rate.schedulers
    if values is not None:
        other = replace(decay, values=tuple(value * images / reference for value in values))
        scaled = tuple(other if scheduler is decay else scheduler for scheduler in scaled)
    return replace(settings, learning_rate=replace(settings.learning_rate, base_lr=used, schedulers=scaled))


def hint_at_reference(images: int, base_lr: float, published: tuple[float, int] | None) -> None:
    """Log a warning when a published rate is used with at most half of the images it is meant for.

    Args:
        images: number of images per update.
        base_lr: the configuration's learning rate.
        published: rate and `TrainReader.batch_size` of the published configuration; None if there is none.
    """
    if published is None or base_lr != published[0]:
        return
    reference = PUBLISHED_GPUS * published[1]
    if 2 * images <= reference:
        LOG.warning(
            "train: base_lr %g is published for %d GPUs x %d = %d images, an update here has %d; "
            "--set Train.reference_batch=%d scales it to %g",
            base_lr,
            PUBLISHED_GPUS,
            published[1],
            reference,
            images,
            reference,
            base_lr * images / reference,
        )
