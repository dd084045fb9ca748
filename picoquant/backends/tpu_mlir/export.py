"""The `.cvimodel` of an INT8 model."""

from __future__ import annotations

import logging
import os
import tempfile
from pathlib import Path

import numpy as np

from picoquant.backends.base import Exported
from picoquant.backends.onnx.files import write_onnx
from picoquant.backends.own_environment.package import OwnTool
from picoquant.backends.source import Source
from picoquant.backends.tpu_mlir.chips import chip_of
from picoquant.backends.tpu_mlir.compiler import Session
from picoquant.backends.tpu_mlir.form import make_form, table_of
from picoquant.storage.files import disk_errors
from picoquant.targets.profiles import Target

LOG = logging.getLogger("picoquant")

_SAME = 1e-5  # relative: the table has nine digits
_STEPS = 127
_CONVERTED = "_si8"  # the end of what TPU-MLIR calls the integers of an input


def export(source: Source, out: Path, tool: OwnTool, target: Target | None = None) -> Exported:
    """Build a `.cvimodel` for a target, see `base.Export`; for `chips.DEFAULT` without one.

    Raises: `ToolError` for a processor that it does not build for, or with its own word when it refuses the model.
    """
    chip = chip_of(target)
    model, thresholds = make_form(source.network)
    path = out.with_name(f"{out.name}.cvimodel")
    with disk_errors(out), tempfile.TemporaryDirectory(prefix=".tpu_mlir-", dir=out.parent) as scratch:
        files = [Path(scratch).absolute() / name for name in ("model.onnx", "table.txt", path.name)]
        write_onnx(model, files[0])
        files[1].write_text(table_of(thresholds), encoding="utf-8")
        with Session(tool, thresholds) as session:
            given = session.build(files[0], files[1], chip, files[2])
        os.replace(files[2], path)
    _say_others(given, thresholds)
    return Exported((path,), source.facts.inputs, source.facts.outputs, source)


def _say_others(given: dict[str, float], thresholds: dict[str, tuple[str, float]]) -> None:
    """Say which tensors have another scale than the network's."""
    others, count = [], 0
    for theirs, scale in given.items():
        name, value = thresholds.get(theirs) or _converted(theirs, thresholds)
        count += 1
        if not np.isclose(scale * _STEPS, value, rtol=_SAME, atol=0):
            others.append(name)
    LOG.info(
        "tpu-mlir: %d of %d tensors have the network's scale%s",
        count - len(others),
        count,
        f"; TPU-MLIR's own: {', '.join(others)}" if others else "",
    )


def _converted(theirs: str, thresholds: dict[str, tuple[str, float]]) -> tuple[str, float]:
    """The tensor whose integers another one holds: `imageconv_si8` those of `image`, which is float itself."""
    before = [name for name in thresholds if theirs.endswith(_CONVERTED) and theirs.startswith(name)]
    return thresholds[max(before, key=len)] if before else (theirs, 0.0)
