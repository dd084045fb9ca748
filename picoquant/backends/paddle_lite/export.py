"""Paddle model -> `.nb`, what Paddle Lite runs: on a board, or on this machine's x86."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import Any

from picoquant.backends.base import Exported
from picoquant.backends.paddle_lite.integer_form import integer_form
from picoquant.backends.paddle_lite.opt_tool import OptTool
from picoquant.backends.paddle_lite.symmetric import require_symmetric
from picoquant.backends.paddle_lite.x86_form import write_float_form
from picoquant.backends.source import Source
from picoquant.int8.network import Int8Network
from picoquant.int8.paddle.form import files_without_rounding, name_at
from picoquant.paddle_program.edit import smaller_for_opt, write_program
from picoquant.paddle_program.params import read_params, write_params
from picoquant.targets.profiles import Target

LOG = logging.getLogger("picoquant")

_X86 = "x86"
SPARSE = 0.6  # part of zeros from which a convolution is a sparse one: opt's own default


def export(
    source: Source,
    out: Path,
    tool: OptTool,
    target: Target | None = None,
    fp16: bool = False,
    partition: str = "",
) -> Exported:
    """Write a `.nb`, see `base.Export`; for this machine with the weights of an INT8 model in float.

    Args:
        source, out, tool, target: see `base.Export`.
        fp16, partition: for a target, see `make_nb`.

    Raises: `ToolError` with opt's own word when it refuses the program, `SchemeError` for one with zero points.
    """
    require_symmetric(source)
    path = out.with_name(f"{out.name}.nb")
    note = ""
    if target is not None:
        network, params = source.network if source.quantised else None, source.folder.params
        make_nb(source.program, params, path, target, tool, network, fp16, partition)
    else:
        with tempfile.TemporaryDirectory(prefix="picoquant-float-") as scratch:
            model, params = Path(scratch) / "model", Path(scratch) / "params"
            write_float_form(source, model, params)
            tool.run(model, params, path, _X86)
        note = "weights of the INT8 model, computed in float" if source.quantised else ""
    return Exported((path,), source.facts.inputs, source.facts.outputs, source, note)


def other_version(target: Target, opt: OptTool) -> str | None:
    """What to say when opt is not of the version that the target's profile was checked with."""
    expected = target.paddle_lite.opt_version
    if opt.version == expected:
        return None
    return (
        f"opt is {opt.version}, the profile of {target.name} was checked with {expected}: the runtime on the "
        f"board must be {opt.version}, too"
    )


def make_nb(
    program: Any,
    params: Path,
    out: Path,
    target: Target,
    opt: OptTool,
    network: Int8Network | None,
    fp16: bool = False,
    partition: str = "",
) -> None:
    """Optimise a program for a target.

    For an NPU opt gets it in its integer form; with a partition file as it is, for the file names its
    operators.

    Args:
        program: `ProgramDesc` for one image, see `paddle_program.edit.batch_of_one`.
        params: its `.pdiparams`.
        out: the `.nb` to write.
        target: says which Paddle Lite targets are valid.
        opt: Paddle Lite's opt.
        network: what an INT8 program is a form of; None for a float one.
        fp16: a CPU that has half precision computes a float model in it.
        partition: operators to keep on the CPU, see `npu.partition`.

    Raises: `ToolError` with opt's own word when it refuses the program.
    """
    said = other_version(target, opt)
    if said:
        LOG.warning("%s", said)
    with tempfile.TemporaryDirectory(prefix="picoquant-nb-") as scratch:
        model, values = Path(scratch) / "model.pdmodel", Path(scratch) / "model.pdiparams"
        if target.on_npu and not partition and network is not None:
            program, params = _integers(program, params, network, values)
        program, params = files_without_rounding(program, params, values)
        if target.on_npu:
            program = smaller_for_opt(program)
        write_program(program, model)
        sparse = None if target.on_npu or fp16 else _sparse_part(program, params)
        targets = target.paddle_lite.valid_targets
        opt.run(model, params, out, targets, partition=partition, fp16=fp16, sparse=sparse)


def _sparse_part(program: Any, params: Path) -> float | None:
    """The threshold for opt where a 1x1 convolution has so many zeros; None where none has.

    Paddle Lite computes such convolutions sparse on ARM CPUs, in FP32 and INT8; FP16 is dense (PaddleDetection,
    configs/picodet/legacy_model/pruner).
    """
    values = read_params(program, params)
    weights = {name_at(op.inputs, "Filter") for op in program.blocks[0].ops if op.type == "conv2d"}
    parts = [
        float((values[name] == 0).mean())
        for name in sorted(weights & values.keys())
        if values[name].ndim == 4 and values[name].shape[2:] == (1, 1)
    ]
    many = sum(part >= SPARSE for part in parts)
    if not many:
        return None
    LOG.info(
        "opt: %d of %d 1x1 convolutions become sparse ones: %g or more of their weights are 0",
        many,
        len(parts),
        SPARSE,
    )
    return SPARSE


def _integers(program: Any, params: Path, network: Int8Network, place: Path) -> tuple[Any, Path]:
    """The integer form and where its stored values are; both unchanged where there is none."""
    made = integer_form(program, read_params(program, params), network)
    if made is None:
        return program, params
    write_params(*made, place)
    return made[0], place
