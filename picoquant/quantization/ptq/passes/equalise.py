"""Pass: channels equalised across layers, so that one scale a tensor fits all of them."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np

from picoquant.int8.fake_quant_run import Simulation
from picoquant.quantization.calibration_images import maker_of, watch
from picoquant.quantization.ptq.equalisation import equalise as equalise_network
from picoquant.quantization.ptq.equalisation import weight_scales
from picoquant.quantization.ptq.state import PtqState

LOG = logging.getLogger("picoquant")


def equalise(state: PtqState) -> PtqState:
    """Equalise a folded network by the absmax of each channel on the calibration images; see `equalisation`.

    Raises: `DataError` for a tensor that is not finite.
    """
    done = equalise_network(state.model, state.scope, lambda names: _channel_absmax(state, names))
    LOG.info(
        "quantize: channels of %d tensors made even; %d hard_swish written out for it",
        len(done),
        sum(item.activation == "hard_swish" for item in done),
    )
    names = tuple(item.name for item in done)
    return replace(state, equalised=names, weight_scales=weight_scales(done))


def _channel_absmax(state: PtqState, names: list[str]) -> dict[str, np.ndarray]:
    """The largest absolute value of each channel of tensors `[N, C, H, W]`: `[C]` by name."""
    run = Simulation(state.model, state.executor, {}, outputs=names)
    shown = state.context.progress("quantize: ranges of channels")
    found: dict[str, np.ndarray] = {}
    for name, value in watch(state.context.images, run, names, maker_of(state.model.program), shown):
        absmax = np.abs(value).max(axis=(0, 2, 3))
        found[name] = np.maximum(found.get(name, 0), absmax)
    return found
