"""When QAT is at its end."""

from __future__ import annotations

import logging

from picoquant.quantization.qat.checkpoint import QatProgress
from picoquant.quantization.settings import QatTrainSettings

LOG = logging.getLogger("picoquant")

# AutoCompression ends when the INT8 mAP is this near the FP32 one, relative (only where origin_metric is set).
_NEAR_ENOUGH = 0.005


def is_over(progress: QatProgress, steps: int, patience: int | None, train: QatTrainSettings) -> bool:
    """Whether training ends here; the reason is logged where it is not the number of steps.

    Args:
        progress: how far training is.
        steps: the number of steps to train.
        patience: evaluations in a row without a better one that end training; None: any number.
        train: section `TrainConfig`.
    """
    return progress.step >= steps or _out_of_patience(progress, patience) or _is_good_enough(progress, train)


def _out_of_patience(progress: QatProgress, patience: int | None) -> bool:
    if patience is None or not progress.evaluations:
        return False
    if len([one for one in progress.evaluations if one.step > progress.best_step]) < patience:
        return False
    LOG.info(
        "quantize: %d evaluations without a better one than mAP %s of step %d (Quantize.patience); done",
        patience,
        progress.best,
        progress.best_step,
    )
    return True


def _is_good_enough(progress: QatProgress, train: QatTrainSettings) -> bool:
    """Whether training, not calibration alone, has reached the mAP that the settings ask for."""
    if not progress.evaluations or progress.best_step == 0:
        return False
    target, original, best = train.target_metric, progress.original_metric, progress.best.mAP
    if target is not None and best > target:
        LOG.info("quantize: mAP %.4f is above target_metric %.4f; done", best, target)
        return True
    if original and abs(best - original) / original <= _NEAR_ENOUGH:
        LOG.info("quantize: mAP %.4f is within 0.5 %% of FP32's %.4f; done", best, original)
        return True
    return False
