"""The network as an SVG picture, coloured by where each operator runs, from top to bottom in execution order.

A chain of operators in the same place shares a box. The layout is Sugiyama's in its simplest form: one row
for each depth; within a row, boxes are ordered by the mean position of the boxes that they read from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from xml.sax.saxutils import escape

from picoquant.backends.placement import BORDER, CONVERSION, CPU, NPU, PartitionedGraph, PlacedOperator
from picoquant.paddle_program.graph import BOOKKEEPING

_COLOURS = {NPU: "#7fc97f", CPU: "#f4765b", CONVERSION: "#f9c74f", BORDER: "#d9d9d9"}
_PALETTE = ("#7fc97f", "#7fb3d5", "#b39ddb", "#80cbc4", "#c5e1a5", "#9fa8da")  # for subgraphs, in turn
_UNITS = {
    "NN": "#7fc97f",
    "TP": "#7fb3d5",
    "SH": "#e78ac3",
}  # of a VeriSilicon NPU: cores, tensor unit, shaders
_LEAST = 0.01  # share of all cycles that is written into a box
_CALLED = {NPU: "NPU", CPU: "CPU", CONVERSION: "conversion", BORDER: "network input or output"}
_SHORT = {
    "depthwise_conv2d": "dw conv", "conv2d": "conv", "batch_norm": "bn", "elementwise_add": "add",
    "elementwise_mul": "mul", "nearest_interp_v2": "resize", "hard_sigmoid": "h-sigmoid",
    "hard_swish": "h-swish", "reshape2": "reshape", "transpose2": "transpose", "pool2d": "pool",
    "leaky_relu": "l-relu",
}  # fmt: skip
_LETTER, _HEIGHT, _ROW, _GAP, _TOP = 6.2, 18, 30, 14, 64


@dataclass
class _Box:
    """Operators that are drawn as one box.

    Attributes:
        above: indices of the boxes that it reads from.
        row: depth in the network, from 0.
        x: centre, pixels.
        cycles: by unit of the NPU, where they are known.
        share: of all cycles, for its label.
    """

    operators: list[PlacedOperator]
    above: list[int] = field(default_factory=list)
    row: int = 0
    x: float = 0.0
    cycles: dict[str, int] = field(default_factory=dict)
    share: str = ""

    @property
    def label(self) -> str:
        op_types = [_SHORT.get(op.op_type, op.op_type) for op in self.operators]
        first = self.operators[0]
        if first.place == CONVERSION:
            return first.kernel.replace("_", " ") if first.op_type == "calib" else first.op_type
        return " · ".join(op_types) + self.share

    @property
    def width(self) -> float:
        return _LETTER * len(self.label) + 12


Cycles = Mapping[str, Mapping[str, int]]


def draw(graph: PartitionedGraph, title: str, cycles: Cycles | None = None) -> str:
    """The picture of a partitioned network as SVG text, with `title` and a legend above it.

    Args:
        cycles: by tensor, then by unit of the NPU: boxes have the colour of the unit that takes most of theirs, and
            their share of all cycles where it is 1 % or more. None: boxes are coloured by NPU piece.
    """
    boxes = _boxes(graph)
    total = sum(sum(units.values()) for units in (cycles or {}).values())
    for box in boxes:
        box.cycles = _cycles(box, cycles or {})
        share = sum(box.cycles.values()) / total if total else 0.0
        box.share = f" {share:.0%}" if share >= _LEAST else ""
    width = _place(boxes)
    rows = max((box.row for box in boxes), default=0) + 1
    legend = _legend(graph, title, bool(cycles))
    width, height = max(width, 560), _TOP + rows * _ROW + 10
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height}" '
        f'viewBox="0 0 {width:.0f} {height}" font-family="sans-serif" font-size="11">',
        f'<rect width="{width:.0f}" height="{height}" fill="white"/>',
        *legend,
    ]
    for box in boxes:
        for above in (boxes[index] for index in box.above):
            x0, y0 = above.x, _y(above) + _HEIGHT
            middle = (y0 + _y(box)) / 2
            lines.append(
                f'<path d="M{x0:.0f} {y0} C{x0:.0f} {middle:.0f} {box.x:.0f} {middle:.0f} '
                f'{box.x:.0f} {_y(box)}" fill="none" stroke="#888" stroke-width="0.8"/>'
            )
    lines += [_drawn(box) for box in boxes]
    return "\n".join([*lines, "</svg>"]) + "\n"


def _y(box: _Box) -> int:
    return _TOP + box.row * _ROW


def _drawn(box: _Box) -> str:
    names = "&#10;".join(escape(f"{op.op_type}: {op.name}") for op in box.operators)
    names += "".join(f"&#10;{count:,} cycles {unit}" for unit, count in box.cycles.items())
    left = box.x - box.width / 2
    return (
        f'<g><title>{names}</title><rect x="{left:.0f}" y="{_y(box)}" width="{box.width:.0f}" '
        f'height="{_HEIGHT}" rx="3" fill="{_colour(box)}" stroke="#555" stroke-width="0.6"/>'
        f'<text x="{box.x:.0f}" y="{_y(box) + 13}" text-anchor="middle">{escape(box.label)}</text></g>'
    )


def _cycles(box: _Box, cycles: Cycles) -> dict[str, int]:
    """The cycles of a box's operators, by unit."""
    units: dict[str, int] = {}
    for op in box.operators:
        for unit, count in cycles.get(op.name, {}).items():
            units[unit] = units.get(unit, 0) + count
    return units


def _colour(box: _Box) -> str:
    op = box.operators[0]
    if box.cycles:
        return _UNITS[max(box.cycles, key=lambda unit: box.cycles[unit])]
    return _PALETTE[op.subgraph % len(_PALETTE)] if op.place == NPU else _COLOURS[op.place]


def _legend(graph: PartitionedGraph, title: str, units: bool) -> list[str]:
    lines, x = [f'<text x="10" y="20" font-size="14" font-weight="bold">{escape(title)}</text>'], 10.0
    entries = (
        [(f"mostly {unit}", colour) for unit, colour in _UNITS.items()]
        if units
        else [
            (
                f"NPU piece {number + 1}" if len(graph.subgraphs) > 1 else "NPU",
                _PALETTE[number % len(_PALETTE)],
            )
            for number in range(len(graph.subgraphs))
        ]
    )
    entries += [
        (f"{_CALLED[place]} ({len(graph.at(place))})", _COLOURS[place])
        for place in (CPU, CONVERSION, BORDER)
        if graph.at(place)
    ]
    for text, colour in entries:
        lines.append(f'<rect x="{x:.0f}" y="32" width="14" height="14" fill="{colour}" stroke="#555"/>')
        lines.append(f'<text x="{x + 19:.0f}" y="43">{escape(text)}</text>')
        x += 34 + _LETTER * len(text)
    return lines


def _reads(graph: PartitionedGraph, op: PlacedOperator) -> list[str]:
    return [name for _, name in op.inputs if not graph.tensor(name).stored]


def _boxes(graph: PartitionedGraph) -> list[_Box]:
    """All boxes in execution order."""
    readers: dict[str, int] = {}
    for op in graph.operators:
        for name in set(_reads(graph, op)):
            readers[name] = readers.get(name, 0) + 1
    boxes: list[_Box] = []
    box_of: dict[str, int] = {}  # by tensor
    for op in graph.operators:
        if op.op_type != "feed" and not _reads(graph, op):
            continue  # computed from stored values alone
        sources = sorted({box_of[name] for name in _reads(graph, op) if name in box_of})
        if len(sources) == 1 and _shares_box(boxes[sources[0]], op, readers):
            boxes[sources[0]].operators.append(op)
            index = sources[0]
        else:
            boxes.append(_Box([op], sources))
            index = len(boxes) - 1
        for slot, name in op.outputs:
            if not slot.startswith(BOOKKEEPING):
                box_of[name] = index
    for box in boxes:
        box.row = max((boxes[index].row + 1 for index in box.above), default=0)
    return boxes


def _shares_box(box: _Box, op: PlacedOperator, readers: dict[str, int]) -> bool:
    last = box.operators[-1]
    results = [name for slot, name in last.outputs if not slot.startswith(BOOKKEEPING)]
    alike = (last.place, last.subgraph) == (op.place, op.subgraph) and op.place in (NPU, CPU)
    starts_anew = op.op_type in ("conv2d", "depthwise_conv2d") and len(box.operators) > 1
    return alike and not starts_anew and len(results) == 1 and readers.get(results[0], 0) == 1


def _place(boxes: Sequence[_Box]) -> float:
    """Set `x` of each box; returns the width of the picture in pixels."""
    rows: dict[int, list[_Box]] = {}
    for box in boxes:
        rows.setdefault(box.row, []).append(box)
    widest = max((sum(box.width + _GAP for box in row) for row in rows.values()), default=0) + _GAP
    for number in sorted(rows):
        row = rows[number]
        desired = {
            id(box): sum(boxes[i].x for i in box.above) / len(box.above) if box.above else widest / 2
            for box in row
        }
        row.sort(key=lambda box: desired[id(box)])
        _spread(row, [desired[id(box)] for box in row], widest)
    return widest


def _spread(row: list[_Box], desired: list[float], width: float) -> None:
    """Set `x` of the boxes of a row close to `desired`, without overlaps and inside the picture."""
    right = _GAP / 2
    for box, x in zip(row, desired):
        box.x = max(x, right + box.width / 2)
        right = box.x + box.width / 2 + _GAP
    left = width - _GAP / 2
    for box in reversed(row):
        box.x = min(box.x, left - box.width / 2)
        left = box.x - box.width / 2 - _GAP
