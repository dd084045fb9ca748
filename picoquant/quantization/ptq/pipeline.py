"""Post-training quantisation as lists of passes.

- `preparation` changes the float network and finds ranges; its result is kept between runs (`prepare.py`). QAT
  starts from it.
- `SCALES` turns ranges, chosen or trained, into those that are written; QAT ends with it, too.
- Then the model is written and evaluated, and layers stay in float where the settings ask for it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from picoquant.errors import UserError
from picoquant.quantization.accuracy_control.control import control_accuracy
from picoquant.quantization.ptq.passes.avoid_ties import avoid_ties
from picoquant.quantization.ptq.passes.choose_ranges import choose_ranges
from picoquant.quantization.ptq.passes.correct_biases import correct_biases
from picoquant.quantization.ptq.passes.equalise import equalise
from picoquant.quantization.ptq.passes.fold_batch_norm import fold_batch_norm
from picoquant.quantization.ptq.passes.ignore_layers import ignore_layers
from picoquant.quantization.ptq.passes.observe import observe
from picoquant.quantization.ptq.passes.place_quantisers import place_quantisers
from picoquant.quantization.ptq.passes.round_weights import round_weights
from picoquant.quantization.ptq.passes.settle_dead_channels import settle_dead_channels
from picoquant.quantization.ptq.passes.settle_gates import settle_gates
from picoquant.quantization.ptq.passes.unify_scales import unify_scales
from picoquant.quantization.ptq.passes.weigh_errors import weigh_errors
from picoquant.quantization.ptq.passes.write import write
from picoquant.quantization.ptq.state import PtqState
from picoquant.quantization.settings import QuantizationSettings

LOG = logging.getLogger("picoquant")

Pass = Callable[[PtqState], PtqState]

SCALES: tuple[Pass, ...] = (unify_scales, settle_gates, avoid_ties)


def preparation(settings: QuantizationSettings, calibrated: bool) -> tuple[Pass, ...]:
    """The passes that change the float network and find its ranges.

    Args:
        settings: section `Quantize`: which techniques.
        calibrated: whether there are calibration images; without them only what needs none is done.
    """
    passes: list[Pass] = []
    if settings.fold_batch_norm:
        passes.append(fold_batch_norm)
    if settings.keep_float:
        passes.append(ignore_layers)
    if not calibrated:
        return tuple(passes)
    if settings.fold_batch_norm:
        passes.append(settle_dead_channels)
    if settings.cross_layer_equalisation and settings.fold_batch_norm:
        passes.append(equalise)
    passes += [place_quantisers, observe]
    if settings.ranges == "detections":
        passes.append(weigh_errors)
    passes += [choose_ranges, settle_gates]
    if settings.rounding == "reconstructed":
        passes.append(round_weights)
    if settings.bias_correction:
        passes.append(correct_biases)
    return tuple(passes)


def run_passes(passes: Sequence[Pass], state: PtqState) -> PtqState:
    """Apply passes, one after the other."""
    for one in passes:
        state = one(state)
    return state


def run_ptq(state: PtqState, began: float) -> dict[str, Any]:
    """Write and evaluate the INT8 model of a prepared network.

    Args:
        state: the prepared network, see `prepare.prepare`.
        began: `time.monotonic()` at the start of the quantisation.

    Returns: the metrics.

    Raises: `UserError` when the network has no ranges.
    """
    context = state.context
    if not state.ranges:
        raise UserError("Quantize.method: ptq needs calibration images, and none are used")
    state = run_passes((*SCALES, write), state)
    source = state.int8_source()
    metrics: dict[str, Any] = {
        "method": "ptq",
        "quantized_operators": len(state.operators),
        "calibration_images": state.images,
        "equalised_tensors": len(state.equalised),
        "settled_channels": state.settled,
    }
    if context.metric:
        metrics["mAP"] = context.metric.of_int8(source, context.paths.candidate).mAP
        LOG.info("quantize: INT8 mAP %.4f", metrics["mAP"])
    changed, source = control_accuracy(context, source, metrics.get("mAP"), state.float_params)
    metrics.update(changed)
    if context.metric:
        metrics["every_tensor_mAP"] = context.metric.of_every_tensor(
            source, context.paths.full_integer, metrics["mAP"]
        )
    metrics["seconds"] = round(time.monotonic() - began, 1)
    return metrics
