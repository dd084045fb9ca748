"""Pass: batch-norm folded into the convolutions before it, as an NPU's compiler does."""

from __future__ import annotations

import logging
from dataclasses import replace

from picoquant.paddle_program.batch_norm_folding import fold_folder
from picoquant.paddle_program.editing.program_model import ProgramModel
from picoquant.quantization.ptq.state import PtqState

LOG = logging.getLogger("picoquant")


def fold_batch_norm(state: PtqState) -> PtqState:
    """Fold every batch-norm in test mode that alone uses a convolution's result; see `batch_norm_folding`.

    Must come first: the student's files are changed, and loaded again.
    """
    folder = state.context.paths.student
    report = fold_folder(folder)
    LOG.info("quantize: %d batch_norm folded into convolutions", len(report.folded))
    if report.kept:
        name, reason = next(iter(report.kept.items()))
        LOG.warning("quantize: %d batch_norm stay, %s first: %s", len(report.kept), name, reason)
    return replace(state, model=ProgramModel.load(folder), folded=len(report.folded))
