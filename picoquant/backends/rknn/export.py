"""The `.rknn` of an INT8 model, and beside it the ONNX that it is built from, which the simulator runs."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import onnx

from picoquant.backends.base import Exported
from picoquant.backends.onnx.files import write_onnx
from picoquant.backends.own_environment.package import OwnTool
from picoquant.backends.rknn.form import SHA256, make_form
from picoquant.backends.rknn.platforms import platform_of
from picoquant.backends.rknn.toolkit import Session
from picoquant.backends.source import Source
from picoquant.storage.files import disk_errors, sha256
from picoquant.targets.profiles import Target


def export(source: Source, out: Path, tool: OwnTool, target: Target | None = None) -> Exported:
    """Build an `.rknn` for a target, see `base.Export`; for `platforms.DEFAULT` without one.

    The toolkit gives no two files the same bytes.

    Raises: `ToolError` for a chip that it does not build for, or with its own word when it refuses the model.
    """
    platform = platform_of(target)
    model = make_form(source.network, platform)
    paths = (out.with_name(f"{out.name}.rknn"), out.with_name(f"{out.name}.onnx"))
    with disk_errors(out), tempfile.TemporaryDirectory(prefix=".rknn-", dir=out.parent) as scratch:
        made = [Path(scratch).absolute() / path.name for path in paths]
        write_onnx(model, made[1])
        with Session(tool, source.network.tensors) as session:
            session.build(made[1], platform, made[0])
        onnx.helper.set_model_props(
            model, {**{item.key: item.value for item in model.metadata_props}, SHA256: sha256(made[0])}
        )
        write_onnx(model, made[1])
        for written, path in zip(made, paths):
            os.replace(written, path)
    return Exported(paths, source.facts.inputs, source.facts.outputs, source)
