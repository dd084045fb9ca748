"""Rows of the tables of cycles, which VeriSilicon's emulator says (docs/npu.md)."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import geometric_mean

from benchmarks.results.record import Result
from benchmarks.results.table import Results, Table

MILLION = 1e6
CHIPS = {"a311d": "A311D", "s905d3": "S905D3", "c308x": "C308X (PID unconfirmed)", "imx8mp": "i.MX 8M Plus"}

# Networks as picoquant hands them over, on each chip.
WHOLE = {
    "s_npu": ("PicoDet-S-NPU, bccd", tuple(CHIPS)),
    "xs": ("PicoDet-XS (hard-swish), coco", ("a311d", "imx8mp")),
    "s": ("PicoDet-S (ESNet), coco", ("a311d", "imx8mp")),
}
# What was changed, before and after: results of the same network on the same chip.
CHANGES = (
    ("cycles_s_npu_relu6_a311d", "A311D", "as first exported: ReLU6, rows"),
    ("cycles_s_npu_rows_a311d", "A311D", "a ReLU in place of ReLU6"),
    ("cycles_s_npu_a311d", "A311D", "and outputs as maps"),
    ("cycles_s_npu_rows_imx8mp", "i.MX 8M Plus", "a ReLU in place of ReLU6, rows"),
    ("cycles_s_npu_imx8mp", "i.MX 8M Plus", "and outputs as maps"),
)
PUBLISHED = ("mobilenet_v1", "mobilenet_v2")


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
            made.append([title, CHIPS[chip], one.scheme, *_cells(one), one.notes["differ"]])
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
    return tuple(f"cycles_{name}_{chip}" for name in PUBLISHED for chip in CHIPS)


def published(results: Results) -> list[Sequence[str]]:
    """A row for each chip: cycles and published time of each network, the frequency they fit best, and the error."""
    made = []
    for chip, title in CHIPS.items():
        found = [results[f"cycles_{name}_{chip}"] for name in PUBLISHED]
        pairs = [(sum(one.cycles.values()), float(one.latency["published, ms"])) for one in found]
        frequencies = [cycles / milliseconds for cycles, milliseconds in pairs]
        fitted = geometric_mean(frequencies)  # cycles a millisecond
        errors = [cycles / fitted / milliseconds - 1 for cycles, milliseconds in pairs]
        cells = [
            f"{cycles / MILLION:.2f} M, {milliseconds} ms ({error:+.0%})"
            for (cycles, milliseconds), error in zip(pairs, errors)
        ]
        made.append([title, *cells, f"{fitted / 1e3:.0f}"])
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
        ("docs/npu.md",), ("chip", "MobileNetV1", "MobileNetV2", "fitted MHz"),
        published, published_names(),
    ),
}  # fmt: skip
