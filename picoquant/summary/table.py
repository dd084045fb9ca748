"""A summary as text."""

from __future__ import annotations

from picoquant.summary.summarise import Row, Summary


def _count(value: int | None) -> str:
    if value is None:
        return ""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.2f} {unit}"
    return str(value)


def _mebibytes(value: int) -> str:
    return f"{value / 2**20:.2f} MiB"


def _line(part: str, row: Row) -> tuple[str, ...]:
    shape = " x ".join(str(side) for side in row.shape)
    return part, row.name, shape, _count(row.parameters), _count(row.macs)


def text_table(summary: Summary, title: str) -> str:
    """The summary for a terminal, 80 columns; `title` names the network."""
    height, width = summary.input_size
    rows: list[tuple[str, ...]] = [("part", "output", "shape", "parameters", "MACs")]
    for part in summary.parts:
        rows += [_line(part.name if i == 0 else "", row) for i, row in enumerate(part.rows)]
        rows.append((part.name, "together", "", _count(part.parameters), _count(part.macs)))
    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    lines = [f"{title}, input {height} x {width}", ""]
    for i, row in enumerate(rows):
        cells = [text.ljust(w) for text, w in zip(row[:3], widths)]
        cells += [text.rjust(w) for text, w in zip(row[3:], widths[3:])]
        lines.append("  ".join(cells).rstrip())
        if i == 0 or row[1] == "together":
            lines.append("-" * (sum(widths) + 8))
    lines += [
        f"parameters  {summary.parameters:,} (without the batch-norms' running means and variances)",
        f"MACs        {summary.macs:,} (multiply-accumulates of convolutions and fully connected layers,",
        "            one image; box decoding and NMS not counted)",
        "",
        f"{'memory':12}{'weights':>12}{'activations':>14}{'largest layer':>16}",
    ]
    for name, memory in summary.memory.items():
        values = (memory.weights, memory.activations, memory.largest_layer)
        sizes = [_mebibytes(value) for value in values]
        lines.append(f"{name.upper():12}{sizes[0]:>12}{sizes[1]:>14}{sizes[2]:>16}")
    lines.append(
        "(batch-norms folded; activations: all layers' outputs; largest layer: its input and output)"
    )
    return "\n".join(lines)
