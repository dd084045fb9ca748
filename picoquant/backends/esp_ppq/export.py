"""The `.espdl` of an INT8 model, and beside it the ONNX that it is built from, which the executor runs."""

from __future__ import annotations

import json
import logging
import os
import tempfile
from pathlib import Path

import onnx

from picoquant.backends.base import Exported
from picoquant.backends.esp_ppq.chips import chip_of
from picoquant.backends.esp_ppq.form import EXPONENTS, SHA256, make_form
from picoquant.backends.esp_ppq.quantizer import Session
from picoquant.backends.onnx.files import write_onnx
from picoquant.backends.own_environment.package import OwnTool
from picoquant.backends.source import Source
from picoquant.storage.files import disk_errors, sha256
from picoquant.targets.profiles import Target

LOG = logging.getLogger("picoquant")


def export(source: Source, out: Path, tool: OwnTool, target: Target | None = None) -> Exported:
    """Build an `.espdl` for a target, see `base.Export`; for `chips.DEFAULT` without one.

    Raises: `ToolError` for a chip that no `.espdl` is made for, or with esp-ppq's word when it refuses the model.
    """
    chip = chip_of(target)
    model = make_form(source.network, chip)
    facts = {item.key: item.value for item in model.metadata_props}
    exponents = json.loads(facts[EXPONENTS])
    paths = (out.with_name(f"{out.name}.espdl"), out.with_name(f"{out.name}.onnx"))
    with disk_errors(out), tempfile.TemporaryDirectory(prefix=".esp_ppq-", dir=out.parent) as scratch:
        made = [Path(scratch).absolute() / path.name for path in paths]
        write_onnx(model, made[1])
        with Session(tool, exponents) as session:
            given = session.build(made[1], exponents, chip, made[0])
        onnx.helper.set_model_props(model, {**facts, SHA256: sha256(made[0])})
        write_onnx(model, made[1])
        for written, path in zip(made, paths):
            os.replace(written, path)
    held = [name for name in source.network.held if name in exponents and name in given]
    others = [name for name in held if given[name] != exponents[name]]
    LOG.info(
        "esp-ppq: %d of %d tensors have the power of two of the network's range%s",
        len(held) - len(others),
        len(held),
        f"; esp-ppq's own: {', '.join(others)}" if others else "",
    )
    return Exported(paths, source.facts.inputs, source.facts.outputs, source)
