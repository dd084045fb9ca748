"""Tables of docs/speed.md."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.results.speed import UNITS, Growth, Kernels, Speed, exponent
from benchmarks.results.table import Results, Table

# The order of the rows; what is not named here comes after, by name.
_ORDER = ("training", "qat_step", "qat_setup", "qat_memory", "ptq", "evaluation", "evaluation_fp32", "evaluation_int8",
          "run", "packaging", "start", "processes")  # fmt: skip
_NONE = "none recorded yet"
_TITLES = {
    "images": "images of the data set: start of a training",
    "evaluated": "images evaluated, 100 detections each: COCO's numbers",
    "classes": "classes: decoding, NMS and COCO's numbers of 50 images",
    "classes_images": "classes: COCO's numbers of 2,000 images, 100 detections each",
    "input": "input, pixels a side: a call of one image",
    "batch": "images of a call, 320 pixels",
    "step": "input, pixels a side: a training step of two images",
}


def _figure(value: float | None, unit: str, cpu: float | None = None) -> str:
    """Three digits and the unit, CPU seconds in brackets."""
    if value is None:
        return ""
    said = f"{_digits(value * UNITS[unit])} {unit}"
    return said if cpu is None else f"{said} ({_digits(cpu * UNITS[unit])} {unit} of CPU)"


def _digits(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _speeds(results: Results) -> list[Sequence[str]]:
    found = [one for one in results.values() if isinstance(one, Speed)]
    found.sort(key=lambda one: (_ORDER.index(one.name) if one.name in _ORDER else len(_ORDER), one.name))
    rows = []
    for one in found:
        before = _figure(one.before, one.unit)
        rows.append(
            [
                one.title,
                one.peer or "",
                _figure(one.theirs, one.unit, one.theirs_cpu),
                f"{before} ({one.before_commit[:7]})" if before else "",
                _figure(one.now, one.unit, one.now_cpu),
                "" if one.ratio is None else f"{one.ratio:.2f}",
                _figure(one.bound, one.unit),
                "" if one.reached is None else f"{one.reached:.0%}",
                f"`{one.command}`",
            ]
        )
    return rows or [[_NONE, *[""] * 8]]


def _stages(results: Results) -> list[Sequence[str]]:
    one = results.get("speed_run")
    if not isinstance(one, Speed) or not one.parts:
        return [[_NONE, *[""] * 2]]
    rows = [
        [name, f"{_digits(part['seconds'])} s", f"{part['idle']:.0%}"] for name, part in one.parts.items()
    ]
    rest = one.now - sum(part["seconds"] for part in one.parts.values())
    return [*rows, ["before, between and after them", f"{_digits(max(rest, 0.0))} s", ""]]


def _conditions(results: Results) -> list[Sequence[str]]:
    """Where and when, each once."""
    found: dict[tuple[str, ...], list[str]] = {}
    for one in results.values():
        if isinstance(one, (Speed, Growth, Kernels)):
            found.setdefault((one.machine, one.versions, one.date, one.commit[:7]), []).append(one.name)
    busy = max(
        (one.busy for one in results.values() if isinstance(one, (Speed, Growth, Kernels))), default=0.0
    )
    rows = [[", ".join(names), *where, f"at most {busy:.0%}"] for where, names in found.items()]
    return rows or [[_NONE, *[""] * 5]]


def _growth(results: Results) -> list[Sequence[str]]:
    one = results.get("speed_growth")
    if not isinstance(one, Growth):
        return [[_NONE, *[""] * 6]]
    rows = []
    for kind, points in one.kinds.items():
        first, last = points[0], points[-1]
        more = last["work"] - first["work"]
        rows.append(
            [
                _TITLES.get(kind, kind),
                f"{first['value']:,.0f} to {last['value']:,.0f}",
                f"{_digits(first['seconds'])} to {_digits(last['seconds'])} s",
                f"{exponent(first, last, 'seconds'):.2f}" if more else "the same work",
                f"{exponent(points[-2], last, 'seconds'):.2f}" if more else "",
                f"{_digits(first['megabytes'])} to {_digits(last['megabytes'])} MB",
                f"{(last['megabytes'] - first['megabytes']) * 2**20 / more:,.0f} bytes" if more else "",
            ]
        )
    return rows


def _growth_picture(results: Results) -> str:
    return (
        "![Seconds and megabytes over what grows, on logarithmic axes](images/growth.svg)"
        if "speed_growth" in results
        else ""
    )


_PAGE = ("docs/speed.md",)
TABLES = {
    "speed": Table(
        _PAGE,
        ("work", "peer", "peer's", "before", "now", "peer / now", "bound", "reached", "measured by"),
        _speeds,
        (),
    ),
    "speed_stages": Table(_PAGE, ("stage", "time", "processors not computing"), _stages, ()),
    "speed_growth": Table(
        _PAGE,
        ("what grows", "from, to", "time", "grows as work to the", "from the last point but one", "largest memory",
         "a unit of work"),
        _growth, (), _growth_picture,
    ),
    "speed_conditions": Table(
        _PAGE, ("rows", "machine", "versions", "date", "commit", "others took of the processors"), _conditions, (),
    ),
}  # fmt: skip
