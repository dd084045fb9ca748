"""Pass: weights rounded so that the convolutions' results change least (`Quantize.rounding: reconstructed`)."""

from __future__ import annotations

import logging
from dataclasses import replace

from picoquant.quantization.ptq.adaptive_rounding import Hessian, round_adaptively
from picoquant.quantization.ptq.float_network import calibration_values
from picoquant.quantization.ptq.state import PtqState

LOG = logging.getLogger("picoquant")


def round_weights(state: PtqState) -> PtqState:
    """Move weights to where rounding to nearest gives the best quantised values; see `adaptive_rounding`.

    Raises: `DataError` for a tensor that is not finite; `WeightsError` naming an operator that cannot be run.
    """
    quant = state.quant
    hessian = Hessian(state.model.graph(), state.operators)
    for name, value in calibration_values(state, hessian.inputs, "quantize: rounding weights"):
        hessian.add(name, value, state.params(name))
    before = {name: state.model.values[name] for name in hessian.by_weight}
    after = round_adaptively(state.operators, before, hessian.by_weight, quant.weight_bits)
    for name, value in after.items():
        state.model.write(name, value)
    LOG.info("quantize: weights of %d operators rounded by the error of their results", len(after))
    return replace(state, float_params={**state.float_params, **before})
