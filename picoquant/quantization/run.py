"""The course of a quantisation: the student is prepared, trained where the method says so, and written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from picoquant.paddle_program.graph import read_graph
from picoquant.paddle_program.model_folder import MODEL
from picoquant.paddle_program.program import read_program
from picoquant.quantization.accuracy_control.control import keep_float_model
from picoquant.quantization.context import QuantizationContext
from picoquant.quantization.paddleslim.compression import run_autocompression
from picoquant.quantization.ptq.pipeline import run_ptq
from picoquant.quantization.ptq.prepare import help_prepare, open_student, prepare
from picoquant.quantization.ptq.student_files import share_student
from picoquant.quantization.qat.distillation import distilled_pairs
from picoquant.quantization.qat.pipeline import run_qat


def run(context: QuantizationContext, batches: Callable[[int], Any], began: float) -> dict[str, Any]:
    """Quantise the copies of the models in the context's paths.

    Args:
        context: of the quantisation.
        batches: called with the number of steps done, returns an endless iterator of feeds.
        began: `time.monotonic()` at the start of the quantisation.

    Returns: the metrics; empty in processes other than rank 0.
    """
    is_rank_0 = context.processes.is_rank_0
    _require_nodes(context)
    if context.settings.quantization.engine == "paddleslim":
        return run_autocompression(context, batches, began)
    keep_float_model(context)
    network = prepare(context) if is_rank_0 else help_prepare(context)
    if context.settings.quantization.method == "ptq":
        return run_ptq(network, began) if is_rank_0 else {}
    share_student(context)
    return run_qat(network if is_rank_0 else open_student(context), batches, began)


def _require_nodes(context: QuantizationContext) -> None:
    """Find a node of `Distillation.node` that the model does not have before anything is measured.

    Raises: `ConfigError` naming it, and those that are there.
    """
    settings = context.settings
    configured = settings.quantization.method == "qat" and not settings.quantization.by_levels
    if configured and settings.distillation.node:
        distilled_pairs(read_graph(read_program(context.paths.student / MODEL)), settings.distillation)
