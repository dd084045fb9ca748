"""The network as an SVG picture, coloured by where each operator runs; top to bottom as it runs.

Operators that only follow one another in the same place share a box. The layout is Sugiyama's in its simplest
form: a row for each depth, in a row the order of the means of the boxes above.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from xml.sax.saxutils import escape

from picoquant.npu.partitioned import BORDER, CONVERSION, CPU, NPU, PartitionedGraph, PlacedOperator
from picoquant.paddle_program.graph import BOOKKEEPING

_COLOURS = {NPU: "#7fc97f", CPU: "#f4765b", CONVERSION: "#f9c74f", BORDER: "#d9d9d9"}
_PIECES = ("#7fc97f", "#7fb3d5", "#b39ddb", "#80cbc4", "#c5e1a5", "#9fa8da")  # in turn
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
    """Operators drawn as one."""

    operators: list[PlacedOperator]
    above: list[int] = field(default_factory=list)
    row: int = 0
    x: float = 0.0

    @property
    def label(self) -> str:
        kinds = [_SHORT.get(op.op_type, op.op_type) for op in self.operators]
        first = self.operators[0]
        if first.place == CONVERSION:
            return first.kernel.replace("_", " ") if first.op_type == "calib" else first.op_type
        return " · ".join(kinds)

    @property
    def width(self) -> float:
        return _LETTER * len(self.label) + 12


def draw(split: PartitionedGraph, title: str) -> str:
    """The picture as SVG text."""
    boxes = _boxes(split)
    width = _place(boxes)
    rows = max((box.row for box in boxes), default=0) + 1
    legend = _legend(split, title)
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
    left = box.x - box.width / 2
    return (
        f'<g><title>{names}</title><rect x="{left:.0f}" y="{_y(box)}" width="{box.width:.0f}" '
        f'height="{_HEIGHT}" rx="3" fill="{_colour(box.operators[0])}" stroke="#555" stroke-width="0.6"/>'
        f'<text x="{box.x:.0f}" y="{_y(box) + 13}" text-anchor="middle">{escape(box.label)}</text></g>'
    )


def _colour(op: PlacedOperator) -> str:
    return _PIECES[op.subgraph % len(_PIECES)] if op.place == NPU else _COLOURS[op.place]


def _legend(split: PartitionedGraph, title: str) -> list[str]:
    lines, x = [f'<text x="10" y="20" font-size="14" font-weight="bold">{escape(title)}</text>'], 10.0
    entries = [
        (f"NPU piece {number + 1}" if len(split.subgraphs) > 1 else "NPU", _PIECES[number % len(_PIECES)])
        for number in range(len(split.subgraphs))
    ]
    entries += [
        (f"{_CALLED[place]} ({len(split.at(place))})", _COLOURS[place])
        for place in (CPU, CONVERSION, BORDER)
        if split.at(place)
    ]
    for text, colour in entries:
        lines.append(f'<rect x="{x:.0f}" y="32" width="14" height="14" fill="{colour}" stroke="#555"/>')
        lines.append(f'<text x="{x + 19:.0f}" y="43">{escape(text)}</text>')
        x += 34 + _LETTER * len(text)
    return lines


def _reads(split: PartitionedGraph, op: PlacedOperator) -> list[str]:
    return [name for _, name in op.inputs if not split.tensor(name).stored]


def _boxes(split: PartitionedGraph) -> list[_Box]:
    """Boxes in the order of running, with the boxes each one reads from."""
    readers: dict[str, int] = {}
    for op in split.operators:
        for name in set(_reads(split, op)):
            readers[name] = readers.get(name, 0) + 1
    boxes: list[_Box] = []
    made: dict[str, int] = {}
    for op in split.operators:
        if op.op_type != "feed" and not _reads(split, op):
            continue  # made of stored values alone
        sources = sorted({made[name] for name in _reads(split, op) if name in made})
        if len(sources) == 1 and _joins(boxes[sources[0]], op, readers):
            boxes[sources[0]].operators.append(op)
            index = sources[0]
        else:
            boxes.append(_Box([op], sources))
            index = len(boxes) - 1
        for slot, name in op.outputs:
            if not slot.startswith(BOOKKEEPING):
                made[name] = index
    for box in boxes:
        box.row = max((boxes[index].row + 1 for index in box.above), default=0)
    return boxes


def _joins(box: _Box, op: PlacedOperator, readers: dict[str, int]) -> bool:
    last = box.operators[-1]
    results = [name for slot, name in last.outputs if not slot.startswith(BOOKKEEPING)]
    alike = (last.place, last.piece) == (op.place, op.subgraph) and op.place in (NPU, CPU)
    starts_anew = op.op_type in ("conv2d", "depthwise_conv2d") and len(box.operators) > 1
    return alike and not starts_anew and len(results) == 1 and readers.get(results[0], 0) == 1


def _place(boxes: Sequence[_Box]) -> float:
    """Give each box its x; returns the width of the picture."""
    rows: dict[int, list[_Box]] = {}
    for box in boxes:
        rows.setdefault(box.row, []).append(box)
    widest = max((sum(box.width + _GAP for box in row) for row in rows.values()), default=0) + _GAP
    for number in sorted(rows):
        row = rows[number]
        wish = {
            id(box): sum(boxes[i].x for i in box.above) / len(box.above) if box.above else widest / 2
            for box in row
        }
        row.sort(key=lambda box: wish[id(box)])
        _spread(row, [wish[id(box)] for box in row], widest)
    return widest


def _spread(row: list[_Box], wishes: list[float], width: float) -> None:
    """Boxes of a row near their wishes, none over another, all inside the picture."""
    right = _GAP / 2
    for box, wish in zip(row, wishes):
        box.x = max(wish, right + box.width / 2)
        right = box.x + box.width / 2 + _GAP
    left = width - _GAP / 2
    for box in reversed(row):
        box.x = min(box.x, left - box.width / 2)
        left = box.x - box.width / 2 - _GAP
