"""Tables of docs/simulation.md."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.results.cells import points
from benchmarks.results.table import Results, Table

_SIMULATION = ("bccd_s_npu_ptq_paddle", "bccd_s_npu_ptq_rv1126", "bccd_s_npu_qat_rv1126")


def _simulation(results: Results) -> list[Sequence[str]]:
    ptq, board, qat = (results[name] for name in _SIMULATION)
    return [
        ["`paddle_fp32`", points(ptq.fp32), points(qat.fp32)],
        ["`paddle_int8`", points(ptq.int8), points(qat.int8)],
        [
            "every tensor rounded, in float (`every_tensor_mAP` of `quantize`)",
            f"{ptq.every_tensor:.4f}",
            f"{qat.every_tensor:.4f}",
        ],
        ["`onnx_int8`", points(ptq.int8), points(qat.int8)],
        ["`simulation_rv1126_int8`", points(board.int8), points(qat.int8)],
    ]


TABLES = {
    "simulation": Table(
        ("docs/simulation.md",), ("row", "PTQ, 64 images", "QAT, 60 steps"), _simulation, _SIMULATION
    ),
}  # fmt: skip
