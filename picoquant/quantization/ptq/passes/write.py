"""Pass: the INT8 model written into the output folder."""

from __future__ import annotations

from picoquant.quantization.ptq.state import PtqState
from picoquant.quantization.save import write_model


def write(state: PtqState) -> PtqState:
    """Write every form of the INT8 model, and `quantization.json`; see `save.write_model`."""
    context = state.context
    write_model(state.int8_source(), context.paths.out, context.config)
    return state
