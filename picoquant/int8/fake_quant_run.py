"""A network with any chosen tensors and weights rounded to INT8, the rest in FP32.

The building block of the search for ranges, of the sensitivity analysis (one tensor or weight at a time) and
of the mAP that an NPU would reach, which holds every tensor in INT8.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import paddle

from picoquant.errors import PicoquantError
from picoquant.int8.activations import target_tensors
from picoquant.int8.operators import QuantizedOperator
from picoquant.int8.paddle_writer import Int8Source, float_values, load_source
from picoquant.int8.weights import quantise_weight
from picoquant.paddle_program.infer_config import InferConfig
from picoquant.paddle_program.model_folder import ModelFolder
from picoquant.paddle_program.onednn import use_onednn
from picoquant.paddle_program.static import (
    InferenceModel,
    Inserter,
    output_names,
    save_program,
    strip_feed_fetch,
    with_outputs,
    write_variable,
)

_LEVELS = 127


@dataclass(frozen=True)
class Range:
    """What an INT8 tensor can hold.

    Attributes:
        low, high: the smallest and largest value. Symmetric (`low == -high`): 127 levels to each side.
            Otherwise 255 steps from `low` to `high`, moved so that 0 is a level.
    """

    low: float
    high: float

    @classmethod
    def symmetric(cls, largest: float) -> Range:
        """The range of an NPU with symmetric INT8."""
        return cls(-float(largest), float(largest))

    @property
    def is_symmetric(self) -> bool:
        """Whether 0 is in the middle."""
        return self.low == -self.high

    def rounded(self, value: np.ndarray) -> np.ndarray:
        """`value` as INT8 holds it, in NumPy; the same numbers as in a simulated program but for halves."""
        step, zero = self.step_and_zero()
        bounds = (-_LEVELS, _LEVELS) if self.is_symmetric else (0, 2 * _LEVELS + 1)
        return (np.clip(np.rint(value / step) + zero, *bounds) - zero) * step

    def step_and_zero(self) -> tuple[float, int]:
        """The value of a step, and the level that stands for 0 (0 to 255; 0 where symmetric)."""
        if self.is_symmetric:
            return self.high / _LEVELS, 0
        low, high = min(self.low, 0.0), max(self.high, 0.0)
        step = (high - low) / (2 * _LEVELS + 1)
        return step, int(np.rint(-low / step))


def rounded_weight(value: np.ndarray, operator: QuantizedOperator, bits: int = 8) -> np.ndarray:
    """An operator's weight as INT8 holds it, float32."""
    levels, scales = quantise_weight(value, operator.axis, bits)
    shape = [-1 if axis == operator.axis else 1 for axis in range(value.ndim)]
    step = (scales / (2 ** (bits - 1) - 1)).reshape(shape if operator.axis >= 0 else ())
    return (levels * step).astype(np.float32)


class Simulation:
    """A copy of a network in which chosen tensors and weights are rounded; called with a feed.

    Args:
        model: stays as it is; its variables are in the current scope, where the changed weights are put
            beside them.
        executor: of that scope.
        ranges: tensor -> range it is rounded to. Inputs of the network may be among them.
        weights: stored variable -> the value to use instead, see `rounded_weight`.
        outputs: names of the tensors to give, by default the model's outputs; those that are rounded are
            given rounded.
        onednn: run convolutions through oneDNN: many times faster.
    """

    def __init__(
        self,
        model: InferenceModel,
        executor: Any,
        ranges: Mapping[str, Range],
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
    block: Any, scope: Any, ranges: Mapping[str, Range], feeds: Sequence[str], bits: int = 8
) -> dict[str, str]:
    """Insert rounding behind each tensor that has a range.

    Args:
        block: changed in place.
        scope: gets the ranges.
        ranges: tensor -> what it is rounded to.
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


def _round(inserter: Inserter, block: Any, scope: Any, name: str, limits: Range, bits: int) -> str:
    source = block.var(name)
    if limits.is_symmetric:
        scale = inserter.variable(f"{name}@simulated.scale", source, persistable=True, shape=[1])
        scale.persistable = True
        write_variable(scope, scale.name, np.array([limits.high], np.float32))
        result = inserter.variable(f"{name}@rounded", source)
        inserter.operator(
            "fake_quantize_dequantize_moving_average_abs_max",
            {"X": source, "InScale": scale},
            {"Out": result, "OutScale": scale},
            {"bit_length": bits, "moving_rate": 0.9, "is_test": True},
        )
        return result.name
    step, zero = limits.step_and_zero()
    top = float(2 * _LEVELS + 1 - zero)

    def apply(kind: str, source: Any, part: str, **attrs: Any) -> Any:
        result = inserter.variable(f"{name}@{part}", block.var(name))
        inserter.operator(kind, {"X": source}, {"Out": result}, attrs)
        return result

    levels = apply("scale", source, "steps", scale=1.0 / step, bias=0.0, bias_after_scale=True)
    levels = apply("clip", apply("round", levels, "whole"), "levels", min=float(-zero), max=top)
    return apply("scale", levels, "rounded", scale=step, bias=0.0, bias_after_scale=True).name


def write_every_tensor_model(
    source: Int8Source, executor: Any, folder: Path, config: InferConfig
) -> ModelFolder:
    """Write the simulation as a model folder.

    Of layers in float the weights are as they are in the source; what goes in and comes out is still rounded.

    Args:
        source: what the INT8 model is made from; it has a range for every tensor of `target_tensors`.
        executor: of Paddle.
        folder: is made.
        config: of the model folder.
    """
    with paddle.static.scope_guard(paddle.static.Scope()):
        model = load_source(source, executor)
        rounded = float_values(source, model)
        names = target_tensors(model.program, model.feeds).names
        limits = {name: Range.symmetric(source.ranges[name]) for name in names}
        return Simulation(model, executor, limits, rounded).save(folder, config)
