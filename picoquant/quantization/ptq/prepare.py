"""The student made ready: batch-norm folded, channels equalised, ranges found, weights rounded, biases corrected.

What post-training quantisation ends with is what quantisation-aware training starts from.
"""

from __future__ import annotations

import json
import logging
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import paddle

from picoquant.int8.activations import target_tensors
from picoquant.int8.fake_quant_run import Simulation
from picoquant.int8.ignored_layers import leaving_marked, mark_kept
from picoquant.int8.operators import QuantizedOperator, quantizable_operators
from picoquant.int8.scheme import QuantAwareSettings
from picoquant.paddle_program.batch_norm_folding import fold_batch_norm
from picoquant.paddle_program.model_folder import MODEL, PARAMS
from picoquant.paddle_program.static import (
    InferenceModel,
    load_model,
    read_variable,
    save_program,
    write_variable,
)
from picoquant.quantization.ptq.activation_functions import felt_from, function_behind
from picoquant.quantization.ptq.adaptive_rounding import Moments, reconstruct
from picoquant.quantization.ptq.bias_correction import correct_biases
from picoquant.quantization.ptq.calibration_images import CalibrationImages, maker_of, watch
from picoquant.quantization.ptq.equalisation import equalise, weight_scales
from picoquant.quantization.ptq.equalisation_scales import FILE as SCALES
from picoquant.quantization.ptq.equalisation_scales import write_scales
from picoquant.quantization.ptq.histograms import Histogram
from picoquant.quantization.ptq.range_search import choose_ranges, without_zeros
from picoquant.quantization.settings import OwnSettings
from picoquant.storage.files import whole_file, write_json

LOG = logging.getLogger("picoquant")

FILES = (MODEL, PARAMS, SCALES)  # a student's
_FACTS = "student.json"
_AS_FLOAT = "as_float.npz"

Shown = Callable[[str, int], Callable[[int], None]]


@dataclass(frozen=True)
class Student:
    """What is known of a student that was made ready.

    Attributes:
        folded: how many batch-norms were folded.
        equalised: the tensors whose channels were made even.
        images: how many images the ranges come from; 0: there are none.
        ranges: largest absolute value of every tensor. Those an NPU holds: as chosen, equal within a group.
            Those inside a fused convolution (see `tensors.py`): all they reach.
        as_float: the weights and biases that were changed for INT8, by name, as they were before: what a layer
            in float takes.
    """

    folded: int
    equalised: tuple[str, ...]
    images: int
    ranges: dict[str, float]
    as_float: dict[str, np.ndarray] = field(default_factory=dict)


def make_ready(
    folder: Path,
    kept: Path,
    fingerprint: str,
    images: Callable[[], CalibrationImages | None],
    settings: OwnSettings,
    quant: QuantAwareSettings,
    shown: Shown,
) -> Student:
    """Make the FP32 model in a folder ready to be quantised; its files are replaced.

    Args:
        folder: the student's; gets `FILES`.
        kept: a folder between runs: what was made ready with the same fingerprint is taken from there.
        fingerprint: of models, settings and seed.
        images: called once at most; None: nothing that needs images is done.
        settings: which techniques.
        quant: what becomes INT8.
        shown: given a title and how many, gives what to call with the number of batches done.

    Raises: `WeightsError` for a model that cannot be quantised; `DataError` for a tensor that is not finite.
    """
    found = _found(kept, fingerprint)
    if found is not None:
        for name in FILES:
            shutil.copyfile(kept / name, folder / name)
        return found
    executor = paddle.static.Executor(paddle.CPUPlace())
    scope = paddle.static.Scope()
    with paddle.static.scope_guard(scope):
        model = load_model(folder, executor)
        quantizable_operators(model.program, quant)
        student, scales = _prepare(model, executor, scope, images, settings, quant, shown)
        save_program(model.program, executor, folder)
    write_scales(folder, scales)
    shutil.rmtree(kept, ignore_errors=True)
    kept.mkdir(parents=True)
    for name in FILES:
        shutil.copyfile(folder / name, kept / name)
    with whole_file(kept / _AS_FLOAT, "wb") as stream:
        np.savez(stream, **student.as_float)
    facts = asdict(student)
    del facts["as_float"]
    write_json(kept / _FACTS, {"fingerprint": fingerprint, **facts})
    return student


def _prepare(
    model: InferenceModel,
    executor: Any,
    scope: Any,
    images: Callable[[], CalibrationImages | None],
    settings: OwnSettings,
    quant: QuantAwareSettings,
    shown: Shown,
) -> tuple[Student, dict[str, np.ndarray]]:
    """The student, and what equalisation multiplied its stored variables by."""
    folded, equalised, ranges = 0, [], {}
    if settings.fold_batch_norm:
        report = fold_batch_norm(model.program, scope)
        folded = len(report.folded)
        LOG.info("quantize: %d batch_norm folded into convolutions", folded)
        if report.kept:
            name, reason = next(iter(report.kept.items()))
            LOG.warning("quantize: %d batch_norm stay, %s first: %s", len(report.kept), name, reason)
    if settings.keep_float:
        mark_kept(model.program, settings.keep_float, quant)
        quant = leaving_marked(quant)
    seen = images()
    if seen is None:
        return Student(folded, (), 0, {}), {}
    if settings.cross_layer_equalisation and settings.fold_batch_norm:

        def channels(names: list[str]) -> dict[str, np.ndarray]:
            return _channel_ranges(model, executor, seen, names, shown)

        equalised = equalise(model, scope, channels)
        written_out = sum(item.activation == "hard_swish" for item in equalised)
        LOG.info(
            "quantize: channels of %d tensors made even; %d hard_swish written out for it",
            len(equalised),
            written_out,
        )
    tensors = target_tensors(model.graph())
    operators = quantizable_operators(model.program, quant)
    inputs = {operator.activation for operator in operators}
    names = list(tensors.names)
    histograms, means, inner = _statistics(model, executor, seen, names, list(tensors.fused), inputs, shown)
    functions = {name: function_behind(model.program, name) for name in tensors.names}
    ranges = choose_ranges(tensors.groups, histograms, functions, settings.ranges, settings.percentile)
    ranges = without_zeros({**ranges, **inner})
    as_float: dict[str, np.ndarray] = {}
    if settings.rounding == "reconstructed":
        as_float = _round_weights(model, executor, scope, seen, operators, ranges, quant, shown)
    if settings.bias_correction:
        as_float.update(
            correct_biases(model.program, scope, operators, means, quant.weight_bits, exact=as_float)
        )
    names = tuple(item.name for item in equalised)
    return Student(folded, names, seen.images, ranges, as_float), weight_scales(equalised)


def _round_weights(
    model: InferenceModel,
    executor: Any,
    scope: Any,
    images: CalibrationImages,
    operators: tuple[QuantizedOperator, ...],
    ranges: dict[str, float],
    quant: QuantAwareSettings,
    shown: Shown,
) -> dict[str, np.ndarray]:
    """Choose the weights' levels by the error of the results; gives those changed as they were before."""
    moments = Moments(model.program, operators, quant.activation_bits)
    run = Simulation(model, executor, {}, outputs=moments.inputs)
    line = shown("quantize: rounding weights", len(images))
    for name, value in watch(images, run, moments.inputs, maker_of(model.program), line):
        moments.add(name, value, ranges[name])
    before = {name: read_variable(scope, name) for name in moments.sums}
    after = reconstruct(operators, before, moments.sums, quant.weight_bits)
    for name, value in after.items():
        write_variable(scope, name, value)
    LOG.info("quantize: weights of %d operators rounded by the error of their results", len(after))
    return before


def _channel_ranges(
    model: InferenceModel, executor: Any, images: CalibrationImages, names: list[str], shown: Shown
) -> dict[str, np.ndarray]:
    """The largest absolute value of each channel of tensors `[N, C, H, W]`."""
    run = Simulation(model, executor, {}, outputs=names)
    line = shown("quantize: ranges of channels", len(images))
    found: dict[str, np.ndarray] = {}
    for name, value in watch(images, run, names, maker_of(model.program), line):
        largest = np.abs(value).max(axis=(0, 2, 3))
        found[name] = np.maximum(found.get(name, 0), largest)
    return found


def _statistics(
    model: InferenceModel,
    executor: Any,
    images: CalibrationImages,
    names: list[str],
    fused: list[str],
    inputs: set[str],
    shown: Shown,
) -> tuple[dict[str, Histogram], dict[str, np.ndarray], dict[str, float]]:
    """A histogram of each tensor, the mean of each channel of those in `inputs`, the reach of `fused`."""
    run = Simulation(model, executor, {}, outputs=[*names, *fused])
    line = shown("quantize: calibrating", len(images))
    histograms = {name: Histogram() for name in names}
    sums: dict[str, np.ndarray] = {}
    counts: dict[str, int] = {}
    inner = dict.fromkeys(fused, 0.0)
    scope = paddle.static.global_scope()
    floors = {name: felt_from(model.program, scope, name) for name in names}
    for name, value in watch(images, run, [*names, *fused], maker_of(model.program), line):
        if name in inner:
            inner[name] = max(inner[name], float(np.abs(value).max()))
            continue
        floor = floors[name]
        histograms[name].add(value if floor is None else np.maximum(value, floor[:, None, None]))
        if name in inputs and value.ndim == 4:
            sums[name] = sums.get(name, 0) + value.sum(axis=(0, 2, 3), dtype=np.float64)
            counts[name] = counts.get(name, 0) + value.size // value.shape[1]
    return histograms, {name: total / counts[name] for name, total in sums.items()}, inner


def _found(kept: Path, fingerprint: str) -> Student | None:
    try:
        facts = json.loads((kept / _FACTS).read_text(encoding="utf-8"))
        whole = all((kept / name).is_file() for name in FILES)
        if facts.pop("fingerprint", None) != fingerprint or not whole:
            return None
        with np.load(kept / _AS_FLOAT) as arrays:
            facts["as_float"] = dict(arrays)
    except (OSError, ValueError, zipfile.BadZipFile):
        return None
    facts["equalised"] = tuple(facts["equalised"])
    return Student(**facts)
