"""Pass: which operators run in INT8, and which activations are held in INT8 and share a scale."""

from __future__ import annotations

from dataclasses import replace

from picoquant.int8.operators import quantizable_operators
from picoquant.int8.passes.activations import target_tensors
from picoquant.int8.passes.tie_avoidance import products_of
from picoquant.quantization.ptq.state import PtqState


def place_quantisers(state: PtqState) -> PtqState:
    """Find operators, activations, their groups and the products between them in the network as it is now.

    Raises: `WeightsError` when the network has nothing to quantise or is quantised already.
    """
    graph = state.model.graph()
    return replace(
        state,
        operators=quantizable_operators(state.model, state.quant),
        tensors=target_tensors(graph),
        products=products_of(graph),
    )
