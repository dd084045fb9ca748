"""Paddle Lite's form of an INT8 program: which operators quantise, and a program without them.

Paddle's operators have no zero point. A tensor with one is rounded on the symmetric grid of twice as many steps (9
bits), behind a `clip` to the 256 integers that there are: the same values. Its quantiser says `ZERO_POINT` and `RANGE`,
its producer `…_zero_point`. opt must not be given such a program.

An input is rounded by `fake_quantize_moving_average_abs_max`, a result scaled back by
`fake_channel_wise_dequantize_max_abs` or `fake_dequantize_max_abs`; any other tensor in INT8 is rounded by
`ROUNDING`, which opt drops. Every operator carries the range of its result as `out_threshold`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from picoquant.paddle_program.params import read_params, write_params

QUANTISE = ("fake_quantize_moving_average_abs_max", "fake_quantize_range_abs_max")
ROUNDING = "fake_quantize_dequantize_moving_average_abs_max"
DEQUANTISE = ("fake_channel_wise_dequantize_max_abs", "fake_dequantize_max_abs")
OUT_THRESHOLD = "out_threshold"
ZERO_POINT, RANGE = "zero_point", "range"  # of a quantiser whose tensor is not symmetric
LIMITED = ".limited"  # how the name of what `clip` makes for it ends
_RESULTS = ("Out", "Output", "Y")  # slots of what an operator is there for


def without_rounding(program: Any) -> Any:
    """A copy of a program in which no tensor is rounded that no operator reads as integers.

    Their ranges are known from what the operators carry (`OUT_THRESHOLD`). The variables stay.
    """
    network = type(program)()
    network.CopyFrom(program)
    block = network.blocks[0]
    limited = limits(block)
    sources = {name_at(op.outputs, "Out"): name_at(op.inputs, "X") for op in block.ops if op.type == ROUNDING}
    kept = [copied(op) for op in block.ops if op.type != ROUNDING]
    rename(kept, {name: limited.get(source, source) for name, source in sources.items()}, {})
    read = {name for op in kept for slot in op.inputs for name in slot.arguments}
    kept = [op for op in kept if not is_limit(op) or name_at(op.outputs, "Out") in read]
    del block.ops[:]
    block.ops.extend(kept)
    return network


def files_without_rounding(program: Any, params: Path, place: Path) -> tuple[Any, Path]:
    """A program and its values for opt, which leaves marks on operators behind such rounding.

    Args:
        program: float or INT8.
        params: its `.pdiparams`.
        place: where values are written if need be.

    Returns: the program without rounding, and where its values are; both unchanged if it has none.
    """
    scales = {name_at(op.inputs, "InScale") for op in program.blocks[0].ops if op.type == ROUNDING}
    if not scales:
        return program, params
    values, network = read_params(program, params), without_rounding(program)
    block = network.blocks[0]
    used = {name for op in block.ops for slot in op.inputs for name in slot.arguments}
    kept = [copied(variable) for variable in block.vars if variable.name not in scales - used]
    del block.vars[:]
    block.vars.extend(kept)
    write_params(network, values, place)
    return network, place


def is_limit(op: Any) -> bool:
    """Whether an operator limits a tensor to the integers that it has, for a quantiser."""
    return op.type == "clip" and name_at(op.outputs, "Out").endswith(LIMITED)


def limits(block: Any) -> dict[str, str]:
    """The tensors that are limited for quantisers, by the limited ones' names."""
    return {name_at(op.outputs, "Out"): name_at(op.inputs, "X") for op in block.ops if is_limit(op)}


def zero_points(block: Any) -> dict[str, int]:
    """The zero points that operators carry of their results, by tensor; of those that are not symmetric."""
    found = {}
    for op in block.ops:
        numbers = {attribute.name: attribute.i for attribute in op.attrs}
        for slot in op.outputs:
            for position, name in enumerate(slot.arguments):
                key = f"{slot.parameter}{position}_{ZERO_POINT}"
                if key in numbers:
                    found[name] = numbers[key]
    return found


def out_thresholds(block: Any) -> dict[str, float]:
    """The ranges that operators carry of their results (largest absolute values), as they are, by tensor."""
    found = {}
    for op in block.ops:
        numbers = {attribute.name: attribute.f for attribute in op.attrs if "threshold" in attribute.name}
        single = sum(len(slot.arguments) for slot in op.outputs) == 1
        for slot in op.outputs:
            for position, name in enumerate(slot.arguments):
                absmax = numbers.get(f"{slot.parameter}{position}_threshold")
                if absmax is None and (single or slot.parameter in _RESULTS):
                    absmax = numbers.get(OUT_THRESHOLD)
                if absmax is not None:
                    found[name] = absmax
    return found


def names_at(slots: Any, slot: str) -> list[str]:
    """The tensors at a slot of an operator's inputs or outputs."""
    return [name for entry in slots if entry.parameter == slot for name in entry.arguments]


def name_at(slots: Any, slot: str) -> str:
    """The first tensor at a slot."""
    return names_at(slots, slot)[0]


def copied(message: Any) -> Any:
    """A message that outlives the list it was in."""
    copy = type(message)()
    copy.CopyFrom(message)
    return copy


def rename(ops: list, inputs: Mapping[str, str], outputs: Mapping[str, str]) -> None:
    """Give the tensors that operators read and compute other names."""
    for op in ops:
        for slots, names in ((op.inputs, inputs), (op.outputs, outputs)):
            for slot in slots:
                for position, name in enumerate(slot.arguments):
                    slot.arguments[position] = names.get(name, name)
