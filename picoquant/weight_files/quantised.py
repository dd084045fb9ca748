"""Weights saved in the middle of a quantisation in dygraph: the float weights in them, and the ranges of inputs.

Layers that are trained quantised stand in wrappers with quantisers beside them, whose names were read from networks
wrapped by PaddleSlim 2.6 (`paddleslim.dygraph.quant.QAT`: `conv._layer.weight`, `conv._layer._fake_quant_input._scale`,
`conv._ma_output_scale._accum`), which PaddleDetection's `slim: QAT` saves, and by `paddle.quantization.QAT` of
PaddlePaddle 2.6 (`conv.weight_quanter._scale`, `act._observer._scale`).
"""

from __future__ import annotations

import json
from pathlib import Path

from picoquant.errors import UserError
from picoquant.weight_files.files import State

RANGES_FILE = (
    "input_ranges.json"  # beside an exported model: variable of weights -> absmax of what they are used on
)

_QUANTISERS = {
    "_fake_quant_weight", "_fake_quant_input", "_fake_quant_output", "_ma_output_scale", "_act_preprocess",
    "_weight_preprocess", "_act_quant", "_weight_quant", "weight_quanter", "activation_quanter", "_observer",
}  # fmt: skip
_WRAPPERS = {"_layer", "_observed"}


# What holds the range of a layer's input, in the names of both tools.
_INPUT_SCALES = (("_fake_quant_input", "_scale"), ("activation_quanter", "_scale"))


def input_ranges(state: State) -> dict[str, float]:
    """The ranges that quantisers of layers' inputs hold: largest absolute values, by the layer's name.

    Args:
        state: of a network that was being quantised. Ranges that are 0, not finite or many a tensor are left out.
    """
    found = {}
    for name, value in state.items():
        parts = name.split(".")
        if tuple(parts[-2:]) in _INPUT_SCALES and value.size == 1:
            absmax = float(value.ravel()[0])
            if 0 < absmax < float("inf"):
                found[".".join(part for part in parts[:-2] if part not in _WRAPPERS)] = absmax
    return found


def read_ranges(folder: Path) -> dict[str, float]:
    """The ranges beside an exported model, by the name of the weights that are used on the tensor.

    Raises: `UserError` when it has none, or the file is damaged.
    """
    path = folder / RANGES_FILE
    try:
        found = {str(name): float(value) for name, value in json.loads(path.read_text("utf-8")).items()}
    except FileNotFoundError:
        found = {}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UserError(
            f"{RANGES_FILE} of the exported model is damaged: export the weights again"
        ) from error
    if not found:
        raise UserError(
            "Quantize.ranges: weights takes the ranges that quantisation-aware training saved with the weights, and "
            f"the exported model has none ({RANGES_FILE}); set Quantize.ranges to detections"
        )
    return found


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
