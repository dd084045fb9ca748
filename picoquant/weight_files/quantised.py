"""Weights saved in the middle of a quantisation in dygraph: the float weights in them, without its scales.

Layers that are trained quantised stand in wrappers with quantisers beside them, whose names were read from networks
wrapped by PaddleSlim 2.6 (`paddleslim.dygraph.quant.QAT`: `conv._layer.weight`, `conv._layer._fake_quant_input._scale`,
`conv._ma_output_scale._accum`), which PaddleDetection's `slim: QAT` saves, and by `paddle.quantization.QAT` of
PaddlePaddle 2.6 (`conv.weight_quanter._scale`, `act._observer._scale`).
"""

from __future__ import annotations

from picoquant.weight_files.files import State

_QUANTISERS = {
    "_fake_quant_weight", "_fake_quant_input", "_fake_quant_output", "_ma_output_scale", "_act_preprocess",
    "_weight_preprocess", "_act_quant", "_weight_quant", "weight_quanter", "activation_quanter", "_observer",
}  # fmt: skip
_WRAPPERS = {"_layer", "_observed"}


def float_weights(state: State) -> tuple[State, int]:
    """The weights of the float network, under its names.

    Args:
        state: of a float network, which comes back as it is, or of one that was being quantised.

    Returns: the weights, and how many scales and other numbers of quantisers were left out.
    """
    parts = {name: name.split(".") for name in state}
    kept = {name for name in state if _QUANTISERS.isdisjoint(parts[name])}
    if len(kept) == len(state):
        return state, 0
    plain = {".".join(part for part in parts[name] if part not in _WRAPPERS): state[name] for name in kept}
    return plain, len(state) - len(kept)
