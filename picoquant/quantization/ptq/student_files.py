"""The files of a prepared student, and how other processes get them."""

from __future__ import annotations

from picoquant.paddle_program.model_folder import MODEL, PARAMS
from picoquant.quantization.context import QuantizationContext
from picoquant.quantization.ptq.equalisation.scales import FILE as SCALES

FILES = (MODEL, PARAMS, SCALES)


def share_student(context: QuantizationContext) -> None:
    """Send the files of rank 0's student to the other processes; those that it does not have are not sent."""
    if context.processes.world == 1:
        return
    for name in FILES:
        file = context.paths.student / name
        there = context.processes.is_rank_0 and file.is_file()
        content = context.processes.broadcast(file.read_bytes() if there else None)
        if content and not context.processes.is_rank_0:
            file.write_bytes(content)
