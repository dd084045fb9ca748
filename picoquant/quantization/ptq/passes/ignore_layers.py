"""Pass: the layers of `Quantize.keep_float` marked in the program and left out of quantisation."""

from __future__ import annotations

from dataclasses import replace

from picoquant.int8.ignored_layers import exclude_ignored_layers, mark_ignored_layers
from picoquant.quantization.ptq.state import PtqState


def ignore_layers(state: PtqState) -> PtqState:
    """Mark the layers that the user keeps in float; must come after folding, which renames results.

    Raises: `ConfigError` for a name or pattern that matches no layer, or when no layer is left for INT8.
    """
    mark_ignored_layers(state.model, state.context.settings.quantization.keep_float, state.quant)
    return replace(state, quant=exclude_ignored_layers(state.quant))
