"""A network with any chosen tensors and weights rounded to INT8, the rest in FP32.

The building block of the search for ranges, of the sensitivity analysis (one tensor or weight at a time) and
of the mAP that an NPU would reach, which holds every tensor in INT8.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import paddle

from picoquant.errors import PicoquantError
from picoquant.int8.build import Int8Source
from picoquant.int8.network import Int8Network
from picoquant.int8.quant_params import QuantParams
from picoquant.paddle_program.infer_config import InferConfig
from picoquant.paddle_program.model_folder import ModelFolder
from picoquant.paddle_program.static.onednn import use_onednn
from picoquant.paddle_program.static.programs import (
    InferenceModel,
    Inserter,
    load_model,
    output_names,
    save_program,
    strip_feed_fetch,
    with_outputs,
    write_variable,
)


class Simulation:
    """A copy of a network in which chosen tensors and weights are rounded; called with a feed.

    Args:
        model: stays as it is; its variables are in the current scope, where the changed weights are put
            beside them.
        executor: of that scope.
        ranges: tensor -> how it is quantised. Inputs of the network may be among them.
        weights: stored variable -> the value to use instead, see `rounded_weight`.
        outputs: names of the tensors to give, by default the model's outputs; those that are rounded are
            given rounded.
        onednn: run convolutions through oneDNN: many times faster.
    """

    def __init__(
        self,
        model: InferenceModel,
        executor: Any,
        ranges: Mapping[str, QuantParams],
        weights: Mapping[str, np.ndarray] | None = None,
        outputs: Iterable[str] | None = None,
        onednn: bool = True,
    ) -> None:
        self._executor, self._scope = executor, paddle.static.global_scope()
        program = strip_feed_fetch(model.program.clone(for_test=True))
        block = program.global_block()
        self._weights = _replace_weights(block, self._scope, weights or {})
        renamed = round_tensors(block, self._scope, ranges, model.feeds)
        if onednn:
            use_onednn(program)
        program._sync_with_cpp()
        wanted = [variable.name for variable in model.fetches] if outputs is None else list(outputs)
        self._fetches = [renamed.get(name, name) for name in wanted]
        self.program = with_outputs(program, model.feeds, self._fetches)
        used = {name for op in self.program.global_block().ops for name in op.input_arg_names}
        self.input_names = tuple(name for name in model.feeds if name in used)

    def __call__(self, feed: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """The outputs for a batch."""
        feed = {name: feed[name] for name in self.input_names}
        return self._executor.run(self.program, feed=feed, fetch_list=self._fetches)

    def save(self, folder: Path, config: InferConfig) -> ModelFolder:
        """Write the simulation as a model folder, for `backends.paddle.runtime.open_predictor`."""
        folder.mkdir(parents=True, exist_ok=True)
        save_program(self.program, self._executor, folder)
        return ModelFolder.open(folder, config=config)

    def close(self) -> None:
        """Free the changed weights; the simulation cannot be used after that."""
        self._scope.erase(self._weights)
        self._weights = []


def _replace_weights(block: Any, scope: Any, weights: Mapping[str, np.ndarray]) -> list[str]:
    """Put other values in the place of stored variables; returns the names they are stored under."""
    names = []
    for name, value in weights.items():
        other = paddle.utils.unique_name.generate(f"{name}@simulated")
        Inserter(block, 0).variable(other, block.var(name), persistable=True)
        write_variable(scope, other, value.astype(np.float32))
        for op in block.ops:
            op._rename_input(name, other)
        names.append(other)
    return names


def round_tensors(
    block: Any, scope: Any, ranges: Mapping[str, QuantParams], feeds: Sequence[str], bits: int = 8
) -> dict[str, str]:
    """Insert rounding behind each tensor that has a range.

    Args:
        block: changed in place.
        scope: gets the ranges.
        ranges: tensor -> how it is quantised.
        feeds: inputs of the network.
        bits: of symmetric numbers.

    Returns: the rounded tensors' names.
    """
    renamed: dict[str, str] = {}
    index, fresh = 0, list(feeds)
    while True:
        inserter = Inserter(block, index)
        for name in fresh:
            if name in ranges and name not in renamed:
                renamed[name] = _round(inserter, block, scope, name, ranges[name], bits)
        index = inserter.index
        if index >= len(block.ops):
            break
        op = block.ops[index]
        for name in set(op.input_arg_names) & set(renamed):
            op._rename_input(name, renamed[name])
        fresh = output_names(op) if op.type not in ("feed", "fetch") else []
        index += 1
    missing = sorted(set(ranges) - set(renamed))
    if missing:
        raise PicoquantError(f"the model has no tensor {missing[0]}")
    return renamed


def _round(inserter: Inserter, block: Any, scope: Any, name: str, params: QuantParams, bits: int) -> str:
    source, top = block.var(name), params.absmax
    if not params.is_symmetric:  # limited to its integers, on the symmetric grid of twice as many
        limited = inserter.variable(f"{name}@limited", source)
        ends = {"min": float(params.lowest), "max": float(params.highest)}
        inserter.operator("clip", {"X": source}, {"Out": limited}, ends)
        source, top, bits = limited, params.scale * (2**params.bits - 1), params.bits + 1
    scale = inserter.variable(f"{name}@simulated.scale", block.var(name), persistable=True, shape=[1])
    scale.persistable = True
    write_variable(scope, scale.name, np.array([top], np.float32))
    result = inserter.variable(f"{name}@rounded", block.var(name))
    inserter.operator(
        "fake_quantize_dequantize_moving_average_abs_max",
        {"X": source, "InScale": scale},
        {"Out": result, "OutScale": scale},
        {"bit_length": bits, "moving_rate": 0.9, "is_test": True},
    )
    return result.name


def load_source(source: Int8Source, executor: Any) -> InferenceModel:
    """Load the float network with the trained weights into the current scope."""
    loaded = load_model(source.folder, executor)
    block = loaded.program.global_block()
    for name, value in source.weights.items():
        if block.has_var(name) and block.var(name).persistable:
            write_variable(paddle.static.global_scope(), name, value)
    return loaded


def save_full_integer_simulation(
    network: Int8Network,
    model: InferenceModel,
    executor: Any,
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
        model: its float program, loaded into the current scope.
        executor: of that scope.
        folder: is made.
        config: of the model folder.
        on_npu: the tensors that the NPU holds; others stay in float. None: all.
    """
    held = network.held if on_npu is None else [name for name in network.held if name in on_npu]
    params = {name: network.tensors[name].params for name in held}
    if on_npu is not None:  # a tensor that is always 0 has no range
        params = {name: one for name, one in params.items() if one is not None}
    rounded = {
        name: network.values[name]
        for operator in network.operators
        for name in (operator.weight, operator.bias)
        if name is not None
    }
    return Simulation(model, executor, params, rounded).save(folder, config)
