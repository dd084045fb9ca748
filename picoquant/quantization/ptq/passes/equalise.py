"""Pass: channels equalised across layers, so that one scale a tensor fits all of them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from picoquant.int8.passes.activations import target_tensors
from picoquant.quantization.ptq.equalisation.copies import OTHERS as COPIED
from picoquant.quantization.ptq.equalisation.copies import copy_channels
from picoquant.quantization.ptq.equalisation.equalise import equalise as equalise_network
from picoquant.quantization.ptq.equalisation.equalise import needed_ranges, weight_scales
from picoquant.quantization.ptq.equalisation.sites import sites_of
from picoquant.quantization.ptq.float_network import Part, calibration_parts, differentiable
from picoquant.quantization.ptq.sensitivity import measure_sensitivity
from picoquant.quantization.ptq.state import PtqState

LOG = logging.getLogger("picoquant")

_HARD_SWISH_ZERO = -3.0  # what is below gives 0


def equalise(state: PtqState) -> PtqState:
    """Equalise a folded network by what rounding costs its detections; see `equalisation`.

    Raises: `DataError` for a tensor that is not finite; `WeightsError` naming an operator that cannot be run.
    """
    groups = target_tensors(state.model.graph()).groups
    sites = sites_of(state.model, COPIED)
    names = {
        *(name for group in groups for name in group),
        *(part for one in sites for part in (one.name, one.result)),
    }
    with differentiable(state, "quantize: what errors cost", at_once=1) as (network, error, feeds):
        sensitivity = measure_sensitivity(network, error, feeds, names, state.model)
    ranges = _channel_absmax(state, needed_ranges(state.model, groups, COPIED))
    settings = state.context.settings
    most = settings.quantization.channel_copies
    if most > 1:
        copied, ranges, sensitivity = copy_channels(
            state.model, groups, ranges, sensitivity, most, settings.distillation.names
        )
        for one in copied:
            LOG.info("quantize: %s: %s", one.name, _said(one.copies))
        groups = target_tensors(state.model.graph()).groups
    per_channel = state.quant.weight_quantize_type == "channel_wise_abs_max"
    symmetric = state.quant.symmetric_activations
    done = equalise_network(state.model, groups, ranges, sensitivity, per_channel, symmetric)
    LOG.info(
        "quantize: channels of %d tensors made even; %d hard_swish written out for it",
        len(done),
        sum(item.activation == "hard_swish" for item in done),
    )
    names = tuple(item.name for item in done)
    return replace(state, equalised=names, weight_scales=weight_scales(done))


def _said(copies: Mapping[int, int]) -> str:
    return ", ".join(f"channel {channel} is computed {count} times" for channel, count in copies.items())


def _channel_absmax(state: PtqState, names: Sequence[str]) -> dict[str, np.ndarray]:
    """The largest absolute value that has an effect, of each channel of tensors `[N, C, H, W]`: `[C]` by name."""
    graph = state.model.graph()
    behind = {name: graph.users(name) for name in names}
    ends = {
        name for name, users in behind.items() if users and all(op.op_type == "hard_swish" for op in users)
    }
    found: dict[str, np.ndarray] = {}

    def measure(name: str, value: np.ndarray, part: Part) -> np.ndarray:
        low, high = value.min(axis=(0, 2, 3)), value.max(axis=(0, 2, 3))
        if name in ends:
            low, high = np.maximum(low, _HARD_SWISH_ZERO), np.maximum(high, _HARD_SWISH_ZERO)
        return np.maximum(high, -low)

    for seen in calibration_parts(state, names, measure, "quantize: ranges of channels"):
        for name, reach in seen.items():
            found[name] = np.maximum(found.get(name, 0), reach)
    return found
