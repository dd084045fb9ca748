"""Rows of the tables of cycles, which VeriSilicon's emulator says (docs/npu.md)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from statistics import geometric_mean

from benchmarks.results.cells import points
from benchmarks.results.record import Result
from benchmarks.results.table import Results, Table

MILLION = 1e6
CHIPS = {"a311d": "A311D", "s905d3": "S905D3", "c308x": "C308X (PID unconfirmed)", "imx8mp": "i.MX 8M Plus"}

# Networks as picoquant hands them over, on each chip.
WHOLE = {
    "s_npu": ("PicoDet-S-NPU, bccd", tuple(CHIPS)),
    "xs": ("PicoDet-XS (hard-swish), coco", tuple(CHIPS)),
    "s": ("PicoDet-S (ESNet), coco", tuple(CHIPS)),
}
# What was changed, before and after: results of the same network on the same chip.
CHANGES = (
    ("cycles_s_npu_relu6_a311d", "A311D", "as first exported: ReLU6, rows"),
    ("cycles_s_npu_rows_a311d", "A311D", "a ReLU in place of ReLU6"),
    ("cycles_s_npu_a311d", "A311D", "and outputs as maps"),
    ("cycles_s_npu_rows_imx8mp", "i.MX 8M Plus", "a ReLU in place of ReLU6, rows"),
    ("cycles_s_npu_imx8mp", "i.MX 8M Plus", "and outputs as maps"),
    ("cycles_picodet_416_first_a311d", "A311D, 416 px", "as first exported: ReLU6, rows"),
    ("cycles_picodet_416_a311d", "A311D, 416 px", "a ReLU in place of ReLU6, outputs as maps"),
    ("cycles_picodet_416_first_imx8mp", "i.MX 8M Plus, 416 px", "as first exported: ReLU6, rows"),
    ("cycles_picodet_416_imx8mp", "i.MX 8M Plus, 416 px", "a ReLU in place of ReLU6, outputs as maps"),
)
# Networks of the published table: those whose published times are of one scale a tensor, which the frequency is fitted
# to, and those of a scale for each channel.
PUBLISHED = ("mobilenet_v1", "mobilenet_v2", "resnet50")
PUBLISHED_PER_CHANNEL = ("yolov5s", "picodet_416")
# Schemes of a network: what the results of its cycles are called, and the results with its mAP. Chips where each was
# measured are `_SCHEMES`'s, a tuple for each network.
SCHEMES = (
    (
        "PicoDet-S-NPU, bccd (87)",
        "s_npu",
        ("bccd_s_npu_ptq_tensor", "bccd_s_npu_ptq_zero_points", "bccd_s_npu_ptq_channel"),
    ),
    (
        "PicoDet-XS, coco465",
        "xs",
        ("coco465_xs_ptq_tensor", "coco465_xs_ptq_per_tensor_zero_points", "coco465_xs_ptq_channel"),
    ),
    (
        "PicoDet-S (ESNet), coco465",
        "s",
        ("coco465_s_ptq_per_tensor", "coco465_s_ptq_per_tensor_zero_points", "coco465_s_ptq"),
    ),
)
_ALL = tuple(CHIPS)
_SCHEMES = (
    ("int8, one scale a tensor", "", (_ALL, _ALL, _ALL)),
    ("uint8 with zero points, one scale a tensor", "_zero_points", (_ALL, _ALL, _ALL)),
    ("int8, a scale for each channel", "_channel", (_ALL, _ALL, _ALL)),
    ("int16, one scale a tensor", "_int16", (("a311d", "imx8mp"), (), ())),
)


def whole_names() -> tuple[str, ...]:
    """Of the results of whole networks."""
    return tuple(f"cycles_{name}_{chip}" for name, (_, chips) in WHOLE.items() for chip in chips)


def _cells(one: Result) -> list[str]:
    parts = [one.cycles[unit] / MILLION for unit in ("NN", "TP", "SH")]
    return [*(f"{part:.2f}" for part in parts), f"{sum(one.cycles.values()) / MILLION:.2f}"]


def whole(results: Results) -> list[Sequence[str]]:
    """A row for each network and chip."""
    made = []
    for name, (title, chips) in WHOLE.items():
        for chip in chips:
            one = results[f"cycles_{name}_{chip}"]
            made.append([title, CHIPS[chip], one.scheme, *_cells(one), one.notes.get("differ", "-")])
    return made


def changes(results: Results) -> list[Sequence[str]]:
    """A row for each state of a network."""
    made, first = [], {}
    for name, chip, title in CHANGES:
        cells = _cells(results[name])
        total = sum(results[name].cycles.values())
        first.setdefault(chip, total)
        less = f"{total / first[chip] - 1:+.0%}" if total != first[chip] else ""
        made.append([chip, title, *cells, less])
    return made


def published_names() -> tuple[str, ...]:
    """Of the results of networks whose latency is published."""
    return tuple(f"cycles_{name}_{chip}" for name in (*PUBLISHED, *PUBLISHED_PER_CHANNEL) for chip in CHIPS)


def published(results: Results) -> list[Sequence[str]]:
    """A row for each chip: cycles and published time of each network, the frequency they fit best, and the error."""
    made = []
    for chip, title in CHIPS.items():
        fitted = geometric_mean(
            cycles / milliseconds
            for cycles, milliseconds in (_measured(results, name, chip) for name in PUBLISHED)
            if milliseconds is not None
        )  # cycles a millisecond
        cells = []
        for name in (*PUBLISHED, *PUBLISHED_PER_CHANNEL):
            cycles, milliseconds = _measured(results, name, chip)
            cell = f"{cycles / MILLION:.2f} M"
            if milliseconds is not None:
                cell += f", {milliseconds} ms ({cycles / fitted / milliseconds - 1:+.0%})"
            cells.append(cell)
        made.append([title, *cells, f"{fitted / 1e3:.0f}"])
    return made


def _measured(results: Results, name: str, chip: str) -> tuple[int, float | None]:
    """Cycles, and the published milliseconds where there are some."""
    one = results[f"cycles_{name}_{chip}"]
    return sum(one.cycles.values()), one.latency.get("published, ms") if isinstance(
        one.latency, Mapping
    ) else None


def _schemes() -> Iterator[tuple[str, str, str, dict[str, str]]]:
    """Network, scheme, the result with its mAP (empty: not measured), and the results of its cycles by chip."""
    for number, (network, name, accuracy) in enumerate(SCHEMES):
        for (scheme, suffix, chips), mean in zip_longest(_SCHEMES, accuracy, fillvalue=""):
            if chips[number]:
                yield network, scheme, mean, {chip: f"cycles_{name}{suffix}_{chip}" for chip in chips[number]}


def _total(cycles: Mapping[str, int]) -> str:
    """Of all units; `>` where most are of shaders, whose arithmetic is not counted."""
    total = sum(cycles.values())
    return f"{'> ' if 2 * cycles['SH'] > total else ''}{total / MILLION:.2f}"


def scheme_names() -> tuple[str, ...]:
    """Of the results of networks in each scheme."""
    return tuple(name for _, _, mean, cycles in _schemes() for name in (mean, *cycles.values()) if name)


def schemes(results: Results) -> list[Sequence[str]]:
    """A row for each network and scheme: its mAP, and million cycles on each chip; `-`: not measured."""
    made = []
    for network, scheme, mean, cycles in _schemes():
        found = {chip: results[name].cycles for chip, name in cycles.items()}
        cells = (_total(found[chip]) if chip in found else "-" for chip in CHIPS)
        made.append([network, scheme, points(results[mean].int8) if mean else "-", *cells])
    return made


TABLES = {
    "cycles": Table(
        ("docs/npu.md",),
        ("network", "chip", "scheme", "NN cores", "TP", "shaders", "all", "differ"),
        whole, whole_names(),
    ),
    "cycles_changes": Table(
        ("docs/npu.md",), ("chip", "network", "NN cores", "TP", "shaders", "all", "less"),
        changes, tuple(name for name, _, _ in CHANGES),
    ),
    "cycles_published": Table(
        ("docs/npu.md",),
        ("chip", "MobileNetV1", "MobileNetV2", "ResNet50", "YOLOv5s 640", "PicoDet 416", "fitted MHz"),
        published, published_names(),
    ),
    "cycles_schemes": Table(
        ("docs/npu.md",), ("network, images", "scheme", "mAP", *CHIPS.values()), schemes, scheme_names()
    ),
}  # fmt: skip
