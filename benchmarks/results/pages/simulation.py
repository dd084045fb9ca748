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


# Whole networks whose outputs were compared with VeriSilicon's emulator.
_EMULATED = (
    ("emulated_s_npu_a311d", "PicoDet-S-NPU, bccd, A311D"),
    ("emulated_s_npu_s905d3", "PicoDet-S-NPU, bccd, S905D3"),
    ("emulated_s_npu_c308x", "PicoDet-S-NPU, bccd, C308X"),
    ("emulated_s_npu_imx8mp", "PicoDet-S-NPU, bccd, i.MX 8M Plus"),
    ("emulated_xs_a311d", "PicoDet-XS, coco, A311D"),
    ("emulated_xs_s905d3", "PicoDet-XS, coco, S905D3"),
    ("emulated_xs_c308x", "PicoDet-XS, coco, C308X"),
    ("emulated_xs_imx8mp", "PicoDet-XS, coco, i.MX 8M Plus"),
    ("emulated_s_a311d", "PicoDet-S (ESNet), coco, A311D"),
    ("emulated_s_s905d3", "PicoDet-S (ESNet), coco, S905D3"),
    ("emulated_s_c308x", "PicoDet-S (ESNet), coco, C308X"),
    ("emulated_s_imx8mp", "PicoDet-S (ESNet), coco, i.MX 8M Plus"),
    ("emulated_s_npu_zero_points_a311d", "PicoDet-S-NPU, bccd, A311D"),
    ("emulated_s_npu_channel_a311d", "PicoDet-S-NPU, bccd, A311D"),
    ("emulated_s_npu_channel_s905d3", "PicoDet-S-NPU, bccd, S905D3"),
    ("emulated_s_npu_channel_c308x", "PicoDet-S-NPU, bccd, C308X"),
    ("emulated_s_npu_channel_imx8mp", "PicoDet-S-NPU, bccd, i.MX 8M Plus"),
    ("emulated_xs_channel_a311d", "PicoDet-XS, coco, A311D"),
    ("emulated_s_channel_a311d", "PicoDet-S (ESNet), coco, A311D"),
)


def _emulated(results: Results) -> list[Sequence[str]]:
    made = []
    for name, title in _EMULATED:
        one = results[name]
        made.append(
            [
                title,
                one.scheme,
                f"{one.data['images']}, {one.data['name']}",
                one.notes["values"],
                one.notes["differ"],
            ]
        )
    return made


TABLES = {
    "emulated": Table(
        ("docs/simulation.md",), ("network, chip", "scheme", "images", "values", "differ"),
        _emulated, tuple(name for name, _ in _EMULATED),
    ),
    "simulation": Table(
        ("docs/simulation.md",), ("row", "PTQ, 64 images", "QAT, 60 steps"), _simulation, _SIMULATION
    ),
}  # fmt: skip
