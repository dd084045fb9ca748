"""The student prepared by the passes of `pipeline.preparation`, and kept for a run that continues.

What post-training quantisation writes is what quantisation-aware training starts from.
"""

from __future__ import annotations

import json
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from picoquant.int8.ignored_layers import exclude_ignored_layers
from picoquant.int8.operators import quantizable_operators
from picoquant.int8.scheme import QuantAwareSettings
from picoquant.paddle_program.editing.program_model import ProgramModel
from picoquant.quantization.context import QuantizationContext
from picoquant.quantization.ptq.equalisation.scales import write_scales
from picoquant.quantization.ptq.passes.observe import OBSERVE, observe_share
from picoquant.quantization.ptq.passes.place_quantisers import place_quantisers
from picoquant.quantization.ptq.pipeline import preparation, run_passes
from picoquant.quantization.ptq.state import PtqState
from picoquant.quantization.ptq.student_files import FILES, share_student
from picoquant.storage.files import whole_file, write_json

_FACTS = "student.json"
_FLOAT_PARAMS = "as_float.npz"
_KEPT = ("folded", "settled", "equalised", "images", "ranges", "zero_points")  # fields of the state


def prepare(context: QuantizationContext) -> PtqState:
    """Prepare the FP32 model in the student's folder, whose files are replaced.

    A student that was prepared before with the same fingerprint is taken from `paths.prepared`.

    Returns: the state of the prepared network, see `open_student`, with its ranges.

    Raises: `WeightsError` for a model that cannot be quantised; `ConfigError` for ignored layers that it does not
        have; `DataError` without a calibration image or for a tensor that is not finite.
    """
    folder, kept = context.paths.student, context.paths.prepared
    facts = _read_kept(kept, context.fingerprint)
    if facts is None:
        state = _run_passes(context)
        facts = {name: getattr(state, name) for name in (*_KEPT, "float_params")}
        _keep(facts, folder, kept, context.fingerprint)
    else:
        for name in FILES:
            shutil.copyfile(kept / name, folder / name)
    if context.processes.world > 1:
        context.processes.broadcast(b"")  # ends `help_prepare`
    return replace(open_student(context), **facts)


def open_student(context: QuantizationContext) -> PtqState:
    """The prepared network in the student's folder, and what of it runs in INT8; without ranges."""
    quant = context.settings.quant
    if context.settings.quantization.keep_float:
        quant = exclude_ignored_layers(quant)
    return place_quantisers(_load(context, quant))


def help_prepare(context: QuantizationContext) -> None:
    """What other processes than rank 0 do in `prepare`: observe their part of the images where it asks for that."""
    while context.processes.broadcast(None) == OBSERVE:
        share_student(context)
        observe_share(open_student(context))


def _run_passes(context: QuantizationContext) -> PtqState:
    """Change the student's files as the settings ask; its final state is returned."""
    state = _load(context, context.settings.quant)
    quantizable_operators(state.model, state.quant)  # refuses what cannot be quantised before any work
    passes = preparation(context.settings.quantization, calibrated=bool(context.settings.calibration_batches))
    state = run_passes(passes, state)
    state.model.save(context.paths.student)
    write_scales(context.paths.student, state.weight_scales)
    return state


def _load(context: QuantizationContext, quant: QuantAwareSettings) -> PtqState:
    """The network in the student's folder."""
    return PtqState(context, ProgramModel.load(context.paths.student), quant)


def _keep(facts: dict[str, Any], folder: Path, kept: Path, fingerprint: str) -> None:
    shutil.rmtree(kept, ignore_errors=True)
    kept.mkdir(parents=True)
    for name in FILES:
        shutil.copyfile(folder / name, kept / name)
    with whole_file(kept / _FLOAT_PARAMS, "wb") as stream:
        np.savez(stream, **facts["float_params"])
    # Last: its fingerprint says that the other files are complete.
    write_json(kept / _FACTS, {"fingerprint": fingerprint, **{name: facts[name] for name in _KEPT}})


def _read_kept(kept: Path, fingerprint: str) -> dict[str, Any] | None:
    """Fields of the state that an earlier run has kept; None where they are missing, damaged or of another run."""
    try:
        facts = json.loads((kept / _FACTS).read_text(encoding="utf-8"))
        complete = all((kept / name).is_file() for name in FILES)
        if facts.pop("fingerprint", None) != fingerprint or not complete:
            return None
        with np.load(kept / _FLOAT_PARAMS) as arrays:
            facts["float_params"] = dict(arrays)
    except (OSError, ValueError, zipfile.BadZipFile):
        return None
    facts["equalised"] = tuple(facts["equalised"])
    return facts
