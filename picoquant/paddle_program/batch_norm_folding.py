"""Folds batch-norms into the convolutions before them, in float programs and in INT8 ones.

An NPU has no batch-norm: its compiler multiplies the factor into the weights and adds the shift to the INT32 sums. Here
`conv2d -> batch_norm` becomes `conv2d -> elementwise_add` with a stored bias `[C]` at axis 1, the form that Paddle
Lite and paddle2onnx read as a convolution with bias. Biases of other forms (`[1, C, 1, 1]`, or `[C]` behind a reshape)
are converted to it as well.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from picoquant.paddle_program.batch_norm import PARTS, factor_and_shift
from picoquant.paddle_program.edit import write_program
from picoquant.paddle_program.graph import read_attributes
from picoquant.paddle_program.layers import BATCH_NORM, CONVOLUTIONS, adds_bias
from picoquant.paddle_program.message import add_operator, add_variable
from picoquant.paddle_program.model_folder import MODEL, PARAMS
from picoquant.paddle_program.params import read_params, write_params
from picoquant.paddle_program.program import complete_program, read_program
from picoquant.storage.files import whole_file

LOG = logging.getLogger("picoquant")

# Called with the result of a convolution, its weight and what that is multiplied by, `[out channels]` float64.
Scale = Callable[[str, str, np.ndarray], None]


@dataclass(frozen=True)
class FoldingReport:
    """The result of folding.

    Attributes:
        folded: names of the results of the folded batch-norms.
        kept: for each batch-norm that was not folded, the name of its result -> the reason.
    """

    folded: tuple[str, ...]
    kept: dict[str, str]


def fold_folder(folder: Path) -> FoldingReport:
    """Fold the batch-norms of the FP32 model in a folder; its files are replaced.

    Args:
        folder: holds `model.pdmodel` and `model.pdiparams`.

    Raises: `WeightsError` if the files cannot be read.
    """
    program = read_program(folder / MODEL)
    values = read_params(program, folder / PARAMS)
    report = fold_float(program, values)
    with whole_file(folder / PARAMS, "wb") as stream:
        write_params(program, values, stream)
    write_program(program, folder / MODEL)
    complete_program(folder / MODEL)
    return report


def fold_float(program: Any, values: dict[str, np.ndarray]) -> FoldingReport:
    """Fold every batch-norm in test mode that is the only user of a convolution's result.

    The result of a batch-norm keeps its name. The convolution's own result changes its value and so gets a
    new name: no code that refers to the old name can read the wrong value.

    Args:
        program: a `ProgramDesc` message; changed in place.
        values: its stored tensors; changed in place.
    """

    def scale(output: str, weight: str, factor: np.ndarray) -> None:
        shape = [-1] + [1] * (values[weight].ndim - 1)
        values[weight] = (values[weight].astype(np.float64) * factor.reshape(shape)).astype(np.float32)

    folding = Folding(program, values)
    folding.flatten_biases()
    report = folding.fold_batch_norms(scale, rename=True)
    folding.drop_unused()
    return report


class Folding:
    """Changes the first block of a program.

    Args:
        program: a `ProgramDesc` message; changed in place.
        values: its stored tensors; changed in place.
    """

    def __init__(self, program: Any, values: dict[str, np.ndarray]) -> None:
        self._program, self._block, self.values = program, program.blocks[0], values
        self._read()

    def _read(self) -> None:
        self._producers = {name: op for op in self._block.ops for name in _arguments(op.outputs)}
        self._users = Counter(name for op in self._block.ops for name in set(_arguments(op.inputs)))
        self._gone: set[str] = set()  # results of operators that are no longer needed

    def flatten_biases(self) -> None:
        """Convert each stored bias of a convolution to the form `[C]` at axis 1."""
        for add in [op for op in self._block.ops if op.type == "elementwise_add"]:
            conv = self._producers.get(_argument(add.inputs, "X"))
            if (
                conv is None
                or conv.type not in CONVOLUTIONS
                or read_attributes(conv).get("data_format") == "NHWC"
            ):
                continue
            weight = self.values.get(_argument(conv.inputs, "Filter"))
            if weight is not None:
                self._flatten(add, weight.shape[0])
        self._sweep()

    def _flatten(self, add: Any, channels: int) -> None:
        source = _argument(add.inputs, "Y")
        reshape = self._producers.get(source)
        name, shape = source, None
        if reshape is not None and reshape.type in ("reshape2", "reshape"):
            name = _argument(reshape.inputs, "X")
            shape = tuple(read_attributes(reshape).get("shape", ()))
        value = self.values.get(name)
        if value is None or value.size != channels:
            return
        shape = value.shape if shape is None else shape
        along = len(shape) == 4 and shape[1] in (channels, -1) and {shape[0], *shape[2:]} == {1}
        axis = read_attributes(add).get("axis", -1)
        if not along and not (shape == (channels,) and axis == 1):
            return
        if name == source and value.shape == (channels,) and axis == 1:
            return
        if value.shape != (channels,):
            name = f"{_argument(add.outputs, 'Out')}.bias"
            self.store(name, value.reshape(-1))
        self._become_bias(add, _argument(add.inputs, "X"), name, _argument(add.outputs, "Out"))
        if reshape is not None and not self._users[source]:
            self._gone.add(source)

    def fold_batch_norms(
        self, scale: Scale, rename: bool, only: Collection[str] | None = None
    ) -> FoldingReport:
        """`conv -> (bias ->) batch_norm` becomes `conv -> bias`.

        Args:
            scale: multiplies a weight.
            rename: whether the convolution's result gets a new name.
            only: results of the convolutions to fold into; None: all.
        """
        folded, kept = [], {}
        for norm in [op for op in self._block.ops if op.type == BATCH_NORM]:
            name = _argument(norm.outputs, "Y")
            reason = self._fold(norm, scale, rename, only)
            if reason is None:
                folded.append(name)
            else:
                kept[name] = reason
                LOG.debug("batch_norm %s is not folded: %s", name, reason)
        self._sweep()
        return FoldingReport(tuple(folded), kept)

    def _fold(self, norm: Any, scale: Scale, rename: bool, only: Collection[str] | None) -> str | None:
        """Fold one batch-norm; returns None, or the reason why it cannot be folded."""
        attributes = read_attributes(norm)
        if not (attributes.get("is_test", True) or attributes.get("use_global_stats")):
            return "it normalises by its batch"
        if attributes.get("data_layout", "NCHW") != "NCHW":
            return "its channels are last"
        source, result = _argument(norm.inputs, "X"), _argument(norm.outputs, "Y")
        add, conv = None, self._producers.get(source)
        if conv is not None and self._adds_stored_bias(conv):
            add, conv = conv, self._producers.get(_argument(conv.inputs, "X"))
        if conv is None or conv.type not in CONVOLUTIONS:
            return "no convolution comes before it"
        raw, weight = _argument(conv.outputs, "Output"), _argument(conv.inputs, "Filter")
        if any(self._users[name] != 1 for name in {source, raw}):
            return "something else uses the convolution's result"
        if weight not in self.values:
            return "the convolution's weight is computed"
        if only is not None and raw not in only:
            return "the convolution stays in float"
        parts = {slot: self.values[_argument(norm.inputs, slot)] for slot in PARTS}
        bias = self.values[_argument(add.inputs, "Y")] if add is not None else 0.0
        factor, shift = factor_and_shift(parts, attributes.get("epsilon", 1e-5), bias)
        if self._users[weight] > 1:
            own = f"{weight}.{raw}"
            self.store(own, self.values[weight])
            _rename(conv.inputs, weight, own)
            self._users.update({weight: -1, own: 1})
            weight = own
        scale(raw, weight, factor)
        self.store(f"{result}.bias", shift)
        sums = raw
        if rename:
            sums = f"{result}.unbiased"
            like = next(var for var in self._block.vars if var.name == result)
            self._block.vars.add().CopyFrom(like)
            self._block.vars[-1].name = sums
            _rename(conv.outputs, raw, sums)
        if add is not None:
            self._gone.add(source)
        self._become_bias(norm, sums, f"{result}.bias", result)
        return None

    def _become_bias(self, op: Any, source: str, bias: str, result: str) -> None:
        """Turn an operator into the addition of a bias `[C]`; what is known of its result's range stays."""
        known = [type(attribute).FromString(attribute.SerializeToString()) for attribute in op.attrs]
        inputs, outputs = {"X": [source], "Y": [bias]}, {"Out": [result]}
        self._users.subtract(set(_arguments(op.inputs)))
        op.CopyFrom(add_operator(self._program, "elementwise_add", inputs, outputs, {"axis": 1}))
        op.attrs.extend(attribute for attribute in known if "threshold" in attribute.name)
        self._users.update((source, bias))

    def _sweep(self) -> None:
        """Remove the operators that are no longer needed."""
        kept = [
            type(op).FromString(op.SerializeToString())
            for op in self._block.ops
            if not self._gone.intersection(_arguments(op.outputs))
        ]
        del self._block.ops[:]
        self._block.ops.extend(kept)
        self._read()

    def drop_unused(self) -> None:
        """Remove stored tensors that no operator uses; they would otherwise be written into the model."""
        used = {
            name for op in self._block.ops for slot in (*op.inputs, *op.outputs) for name in slot.arguments
        }
        for variable in [var for var in self._block.vars if var.persistable and var.name not in used]:
            self._block.vars.remove(variable)
            self.values.pop(variable.name, None)

    def store(self, name: str, value: np.ndarray) -> None:
        """Add a stored tensor, float32."""
        self.values[name] = value
        self._block.vars.append(add_variable(self._program, name, value.shape, stored=True))

    def _adds_stored_bias(self, op: Any) -> bool:
        value = self.values.get(_argument(op.inputs, "Y"))
        axis = read_attributes(op).get("axis", -1)
        return adds_bias(op.type, axis, value is not None, 0 if value is None else value.ndim)


def _argument(slots: Any, slot: str) -> str:
    return next((entry.arguments[0] for entry in slots if entry.parameter == slot and entry.arguments), "")


def _arguments(slots: Any) -> list[str]:
    return [name for slot in slots for name in slot.arguments]


def _rename(slots: Any, name: str, new: str) -> None:
    for slot in slots:
        slot.arguments[:] = [new if one == name else one for one in slot.arguments]
