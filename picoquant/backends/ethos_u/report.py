"""What Vela says of a model on an Ethos-U: operators on NPU and CPU, cycles, memory, time."""

from __future__ import annotations

from picoquant.backends.base import Found
from picoquant.backends.ethos_u.vela import compile_model
from picoquant.backends.placement import BoardReport
from picoquant.backends.source import Source
from picoquant.backends.tflite.writer import make_tflite
from picoquant.targets.profiles import Target


def report(source: Source, tool: Found, target: Target) -> BoardReport:
    """Vela's report, see `base.Report`; its cycles and time are estimates of its own.

    Raises: `ToolError` with Vela's word, or naming what TFLite cannot hold.
    """
    made = compile_model(make_tflite(source.network), target)
    return BoardReport(
        cycles=made.cycles,
        memory=made.memory,
        milliseconds=made.milliseconds,
        clock=made.clock,
        operators=made.operators,
        on_cpu=made.on_cpu,
    )
