"""Every table of the documentation that results/*.yaml fill, by the name in its marker: a file for each page."""

from __future__ import annotations

from benchmarks.results.pages import (
    accuracy,
    backends,
    cycles,
    evaluation,
    npu,
    onnx,
    quantization,
    readme,
    simulation,
    speed,
    training,
)

PAGES = (readme, accuracy, evaluation, backends, simulation, npu, cycles, training, quantization, onnx, speed)
TABLES = {name: table for page in PAGES for name, table in page.TABLES.items()}
