"""A network with any chosen tensors and weights rounded to INT8, the rest in FP32, as a float program.

What integer runtimes compute, for the graph of a QAT and for the mAP that an NPU would reach, which holds every tensor
in INT8. `quantization/engine/simulation.py` computes the same without a program.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np

from picoquant.errors import PicoquantError
from picoquant.int8.build import Int8Source
from picoquant.int8.network import Int8Network
from picoquant.int8.quant_params import QuantParams
from picoquant.paddle_program.editing.program_model import Inserter, ProgramModel
from picoquant.paddle_program.infer_config import InferConfig
from picoquant.paddle_program.model_folder import ModelFolder


def round_tensors(model: ProgramModel, ranges: Mapping[str, QuantParams], bits: int = 8) -> dict[str, str]:
    """Insert rounding behind each tensor that has a range.

    Args:
        model: changed in place; its outputs stay the unrounded tensors.
        ranges: tensor -> how it is quantised. Inputs of the network may be among them.
        bits: of symmetric numbers.

    Returns: the rounded tensors' names.

    Raises: `PicoquantError` for a tensor that is not there.
    """
    renamed: dict[str, str] = {}
    index, fresh = 0, list(model.inputs)
    while True:
        inserter = Inserter(model, index)
        for name in fresh:
            if name in ranges and name not in renamed:
                renamed[name] = _round(inserter, model, name, ranges[name], bits)
        index = inserter.index
        if index >= len(model.operators):
            break
        op = model.operators[index]
        for name in set(op.inputs) & set(renamed):
            op.rename_input(name, renamed[name])
        fresh = list(op.results)
        index += 1
    require_tensors(ranges, renamed)
    return renamed


def require_tensors(ranges: Collection[str], there: Collection[str]) -> None:
    """Require tensors to be in a network.

    Raises: `PicoquantError` naming the first that is not.
    """
    missing = sorted(set(ranges) - set(there))
    if missing:
        raise PicoquantError(f"the model has no tensor {missing[0]}")


def _round(inserter: Inserter, model: ProgramModel, name: str, params: QuantParams, bits: int) -> str:
    source, top = name, params.absmax
    if not params.is_symmetric:  # limited to its integers, on the symmetric grid of twice as many
        source = model.add_tensor(f"{name}@limited", name)
        ends = {"min": float(params.lowest), "max": float(params.highest)}
        inserter.operator("clip", {"X": name}, {"Out": source}, ends)
        top, bits = params.scale * (2**params.bits - 1), params.bits + 1
    scale = model.store(f"{name}@simulated.scale", np.array([top]))
    result = model.add_tensor(f"{name}@rounded", name)
    inserter.operator(
        "fake_quantize_dequantize_moving_average_abs_max",
        {"X": source, "InScale": scale},
        {"Out": result, "OutScale": scale},
        {"bit_length": bits, "moving_rate": 0.9, "is_test": True},
    )
    return result


def load_source(source: Int8Source) -> ProgramModel:
    """Load the float network with the trained weights."""
    model = ProgramModel.load(source.folder)
    for name, value in source.weights.items():
        if model.is_stored(name):
            model.write(name, value)
    return model


def save_full_integer_simulation(
    network: Int8Network,
    model: ProgramModel,
    folder: Path,
    config: InferConfig,
    on_npu: Collection[str] | None = None,
) -> ModelFolder:
    """Write the network with every tensor in INT8, as an NPU computes that runs nothing else, as a model folder.

    The INT8 model leaves what follows the last operators with weights in float. `picoquant/npu/simulation` computes
    in a target's own integers; this rounds values, and is faster. Of layers in float the weights are not rounded;
    their inputs and results are.

    Args:
        network: has a range for every tensor that an NPU holds.
        model: its float program.
        folder: is made.
        config: of the model folder.
        on_npu: the tensors that the NPU holds; others stay in float. None: all.
    """
    held = network.held if on_npu is None else [name for name in network.held if name in on_npu]
    params = {name: network.tensors[name].params for name in held}
    if on_npu is not None:  # a tensor that is always 0 has no range
        params = {name: one for name, one in params.items() if one is not None}
    rounded = model.copy()
    for operator in network.operators:
        for name in (operator.weight, operator.bias):
            if name is not None:
                rounded.write(name, network.values[name])
    renamed = round_tensors(rounded, params)
    rounded.with_outputs([renamed.get(name, name) for name in rounded.outputs]).save(folder)
    return ModelFolder.open(folder, config=config)
