"""One measured result, as results/*.yaml hold them: read and checked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any

from benchmarks.results.speed import PREFIX, Growth, Kernels, Speed, load_speeds
from picoquant.backends.verisilicon.report import UNITS
from picoquant.errors import ConfigError
from picoquant.yaml_files.load import load_mapping

FOLDER = Path(__file__).resolve().parents[2] / "results"
UNKNOWN = "unknown"
_ROUNDING = 1.6e-4  # of a difference of two figures, each rounded to 0.0001


@dataclass(frozen=True)
class Interval:
    """A figure and its 95 % interval; both ends None: not measured."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Result:
    """What was measured of one model, by one scheme, on one target. mAP and its like are parts of 1.

    Attributes:
        name: of the file.
        model, weights: the network, and what its weights were trained on and by.
        scheme: how it was quantised; `FP32`: not at all.
        runtime: what computed `int8` (or `fp32`, without `int8`); several where they gave the same figures.
        target: the NPU whose integers were simulated, or None.
        data: `name`, `images`, `input` (pixels), and `calibration` in words.
        fp32, int8: COCO's numbers by name; `mAP` always. Empty: not measured.
        every_tensor: mAP with every tensor in INT8, as an NPU computes; None: not measured.
        difference: INT8 less FP32 in mAP.
        fidelity: of INT8 to what FP32 detects.
        course: of a training, from start to end: mAP and fidelity of each state.
        size: bytes of files, or a text, by what they hold.
        cycles: of one image on a chip by unit (`NN`, `TP`, `SH`), as VeriSilicon's emulator says them.
        latency: values by what was measured, in words; with the conditions under `machine`.
        machine, versions, command, date, commit: where, with what, how and when; `unknown` where nobody wrote it down.
            The commit is the one that brought the figures into the documentation, the date is its.
        labels: texts of the README's tables by language.
        notes: what else a table says of it, in words, by its column.
    """

    name: str
    model: str
    weights: str
    scheme: str
    runtime: tuple[str, ...]
    target: str | None
    data: Mapping[str, Any]
    fp32: Mapping[str, float]
    int8: Mapping[str, float]
    difference: Interval | None
    fidelity: Interval | None
    size: Mapping[str, Any] | str
    latency: Mapping[str, Any] | str
    machine: str
    versions: str
    command: str
    date: str
    commit: str
    every_tensor: float | None = None
    cycles: Mapping[str, int] = field(default_factory=dict)
    course: tuple[Mapping[str, float], ...] = ()
    labels: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)


def load_results(folder: Path = FOLDER) -> dict[str, Result | Speed | Growth | Kernels]:
    """Every result by the name of its file; those of speed have records of their own.

    Raises: `ConfigError` naming file and key of the first that is wrong.
    """
    files = [path for path in sorted(folder.glob("*.yaml")) if not path.stem.startswith(PREFIX)]
    speeds = {f"{PREFIX}{name}": one for name, one in load_speeds(folder).items()}
    return {path.stem: load_result(path) for path in files} | speeds


def load_result(path: Path) -> Result:
    """One result.

    Raises: `ConfigError` naming file and key.
    """
    values = load_mapping(path)
    known = {entry.name: entry for entry in fields(Result) if entry.name != "name"}
    for key in values:
        if key not in known:
            raise ConfigError(f"{path}: unknown key {key}; known: {', '.join(known)}")
    for key, entry in known.items():
        if key not in values and entry.default is MISSING and entry.default_factory is MISSING:
            raise ConfigError(f"{path}: {key} is missing; where nobody wrote it down it is `{UNKNOWN}`")
    try:
        result = _result(path.stem, values)
        _check_together(result)
    except _WrongError as error:
        raise ConfigError(f"{path}: {error}") from error
    return result


class _WrongError(Exception):
    """Key, and what is wrong with its value."""


def _result(name: str, values: Mapping[str, Any]) -> Result:
    taken = dict(values)
    for key in ("model", "weights", "scheme", "machine", "versions", "command", "date", "commit"):
        taken[key] = _text(key, values[key])
    runtime = values["runtime"]
    taken["runtime"] = tuple(runtime) if isinstance(runtime, list) else (_text("runtime", runtime),)
    taken["target"] = None if values["target"] is None else _text("target", values["target"])
    taken["data"] = _data(values["data"])
    for key in ("fp32", "int8"):
        taken[key] = _metrics(key, values[key])
    for key in ("difference", "fidelity"):
        taken[key] = _interval(key, values[key])
    for key in ("size", "latency"):
        if values[key] != UNKNOWN and not (isinstance(values[key], dict) and values[key]):
            raise _WrongError(
                f"{key}: expected values by what they are of, or `{UNKNOWN}`, found {values[key]!r}"
            )
    if values.get("every_tensor") is not None:
        _part("every_tensor", values["every_tensor"])
    cycles = values.get("cycles")
    if cycles is not None and not _are_cycles(cycles):
        raise _WrongError(f"cycles: expected whole numbers by {', '.join(UNITS)}, found {cycles!r}")
    notes = values.get("notes", {})
    if not isinstance(notes, dict) or not all(isinstance(text, str) for text in notes.values()):
        raise _WrongError(f"notes: expected texts by name, found {notes!r}")
    taken["course"] = tuple(
        _metrics(f"course.{n}", state) for n, state in enumerate(values.get("course", ()))
    )
    return Result(name, **taken)


def _are_cycles(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and set(value) == set(UNITS)
        and all(type(count) is int and count >= 0 for count in value.values())
    )


def _text(key: str, value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise _WrongError(f"{key}: expected a text, found {value!r}")
    return value


def _part(key: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise _WrongError(f"{key}: expected a number from 0 to 1, found {value!r}")
    return value


def _data(value: Any) -> Mapping[str, Any]:
    known = ("name", "images", "input", "calibration")
    if not isinstance(value, dict) or set(value) != set(known):
        raise _WrongError(f"data: expected {', '.join(known)}, found {value!r}")
    for key in ("images", "input"):
        if isinstance(value[key], bool) or not isinstance(value[key], int) or value[key] < 1:
            raise _WrongError(f"data.{key}: expected a whole number from 1, found {value[key]!r}")
    return value


def _metrics(key: str, value: Any) -> Mapping[str, float]:
    if value == UNKNOWN:
        return {}
    if not isinstance(value, dict) or "mAP" not in value:
        raise _WrongError(f"{key}: expected numbers by name, mAP among them, or `{UNKNOWN}`, found {value!r}")
    return {name: _part(f"{key}.{name}", one) for name, one in value.items()}


def _interval(key: str, value: Any) -> Interval | None:
    if value == UNKNOWN:
        return None
    if not isinstance(value, dict) or "value" not in value or not set(value) <= {"value", "low", "high"}:
        raise _WrongError(f"{key}: expected value, low and high, or `{UNKNOWN}`, found {value!r}")
    if any(
        isinstance(one, bool) or not isinstance(one, (int, float)) or abs(one) > 1 for one in value.values()
    ):
        raise _WrongError(f"{key}: expected numbers from -1 to 1, found {value!r}")
    found = Interval(**value)
    if ("low" in value) != ("high" in value) or (
        found.low is not None and not found.low <= found.value <= found.high
    ):
        raise _WrongError(f"{key}: low and high must be around the value, found {value!r}")
    return found


def _check_together(result: Result) -> None:
    """Figures that say the same must agree; date and commit look like ones."""
    if result.date != UNKNOWN and not re.fullmatch(r"20\d\d-[01]\d-[0-3]\d", result.date):
        raise _WrongError(f"date: expected 'YYYY-MM-DD' in quotes or `{UNKNOWN}`, found {result.date!r}")
    if result.commit != UNKNOWN and not re.fullmatch(r"[0-9a-f]{7,40}", result.commit):
        raise _WrongError(
            f"commit: expected its hexadecimal name in quotes or `{UNKNOWN}`, found {result.commit!r}"
        )
    if result.difference and result.fp32 and result.int8:
        left = result.int8["mAP"] - result.fp32["mAP"]
        if abs(left - result.difference.value) > _ROUNDING:
            raise _WrongError(
                f"difference.value is {result.difference.value:+.4f}, int8.mAP - fp32.mAP is {left:+.4f}"
            )
