"""The result of `picoquant data check` as tables that a person reads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from picoquant.commands.data.check import CheckResult
from picoquant.commands.data.sources import SHORT
from picoquant.config.recipe import DEFAULT_DETECTOR
from picoquant.utils.tables import columns


def text_of(result: CheckResult, named_by_config: bool) -> str:
    """Tables of counts, train and val side by side, and what was said, warned of and found wrong.

    Args:
        result: what was found.
        named_by_config: whether a configuration was named, which then says the network's input.
    """
    network = result.network
    source = (
        "" if named_by_config else f", that of {DEFAULT_DETECTOR}; --config or --input-size names another"
    )
    parts = [
        "\n".join(_files(result)),
        f"network input {network.height}x{network.width} (height x width{source}), smallest stride {network.stride}",
    ]
    if result.datasets:
        parts.append(columns(_lines(result)))
    if said := said_of(result):
        parts.append(said)
    if not result.errors:
        parts.append("nothing found that stops a training")
    return "\n\n".join(parts)


def said_of(result: CheckResult) -> str:
    """What was said, warned of and found wrong; empty where there is nothing."""
    said = [line for lines in result.notes.values() for line in lines]
    return "\n\n".join(
        "\n".join([f"{title}:", *(f"  {line}" for line in lines)])
        for title, lines in (
            ("said while reading", said),
            ("warnings", result.warnings),
            ("stops a training", result.errors),
        )
        if lines
    )


def _files(result: CheckResult) -> Iterator[str]:
    for section, settings in result.settings.items():
        read = "" if section in result.datasets else ", cannot be read"
        file, folder = settings.annotation_file, settings.image_folder
        yield f"{SHORT[section]:<6}{file} ({settings.format}{read}), images in {folder}"


def _lines(result: CheckResult) -> list[list[str]]:
    sections = list(result.datasets)
    counts = [result.counted[section] for section in sections]
    repairs = [result.datasets[section].repairs for section in sections]
    found = [result.to_json()["data_sets"][SHORT[section]] for section in sections]

    lines = [["", *(SHORT[section] for section in sections)]]
    lines.append(_row("images", [each.images for each in counts]))
    lines.append(_row("  without boxes", [each.without_boxes for each in counts]))
    lines.append(_row("  files missing", [len(each.missing) for each in repairs]))
    lines.append(_row("  files that cannot be read", [each["unreadable_images"]["count"] for each in found]))
    lines.append(_row("boxes", [each.boxes for each in counts]))
    lines.append(_row("  written twice", [each.repeated for each in counts]))
    lines.append(_row("  too small to be learnt", [each.too_small for each in counts]))
    lines.append(_row("crowds, which are not learnt", [each.crowds for each in counts]))
    lines += [[""], ["boxes (images) of each class", *[""] * len(counts)]]
    for name in dict.fromkeys(name for each in counts for name, _, _ in each.classes):
        lines.append(_row(f"  {name}", [_of_class(each.classes, name) for each in counts]))
    lines += [[""], ["boxes by their longer side, input pixels", *[""] * len(counts)]]
    before = None
    for place, (limit, _) in enumerate(counts[0].sizes):
        title = f"below {limit}" if before is None else f"{before} to {limit}" if limit else f"from {before}"
        lines.append(_row(f"  {title}", [each.sizes[place][1] for each in counts]))
        before = limit
    for title in ("smallest", "median", "largest"):
        lines.append(_row(f"  {title}", [getattr(each, title) for each in counts]))
    lines += [[""], ["repaired while reading", *[""] * len(counts)]]
    lines.append(_row("  boxes outside their image, clipped", [each.clipped_boxes for each in repairs]))
    lines.append(_row("  boxes without area, dropped", [each.dropped_boxes for each in repairs]))
    lines.append(_row("  images without objects, left out", [each.empty_images for each in repairs]))
    width = len(lines[0])
    return [[*line, *[""] * (width - len(line))] for line in lines]


def _row(name: str, values: Iterable[Any]) -> list[str]:
    return [name, *("-" if value is None else str(value) for value in values)]


def _of_class(classes: Sequence[tuple[str, int, int]], name: str) -> str | None:
    """Boxes and images of a class; None where a data set does not list it, the sum where it lists it twice."""
    found = [(boxes, images) for known, boxes, images in classes if known == name]
    return f"{sum(b for b, _ in found)} ({sum(i for _, i in found)})" if found else None
