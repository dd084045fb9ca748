"""Figures of speed, as results/speed_*.yaml hold them: one workload a file; and how they grow, speed_growth.yaml."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any

from picoquant.errors import ConfigError
from picoquant.yaml_files.load import load_mapping

PREFIX = "speed_"
LEAST_TURNS = 5
MOST_BUSY = 0.1  # of all processors, taken by others while it was measured
UNITS = {
    "s": 1.0,
    "ms": 1e3,
    "MB": 1.0,
    "%": 100.0,
}  # what a figure is shown in -> times the number in the file


@dataclass(frozen=True)
class Speed:
    """One workload: medians of several turns in which each side had its own.

    Attributes:
        name: of the file, without `speed_`.
        title: what was done, in words.
        unit: a key of `UNITS`; numbers are seconds or megabytes: less is better.
        now, now_cpu: picoquant's, by the clock and of the CPU; the second may be None.
        peer, theirs, theirs_cpu: who else does this, and its figures; all None without one.
        before, before_commit: picoquant's at an earlier commit, measured in the same turns; both None without.
        bound: the least it can be on this machine (benchmarks/limit.py); None: not known.
        turns: of each side, at least `LEAST_TURNS`.
        busy: the largest share of all processors that others took between the turns, 0 to 1.
        command: what measures it again.
        machine, versions, date, commit: where, with what, when, of which commit.
        parts: what it is made of, in its order: name -> `seconds`, and `idle`, the share of the processors' time in
            them that nothing of it was computed in, 0 to 1.
    """

    name: str
    title: str
    unit: str
    now: float
    now_cpu: float | None
    peer: str | None
    theirs: float | None
    theirs_cpu: float | None
    before: float | None
    before_commit: str | None
    bound: float | None
    turns: int
    busy: float
    command: str
    machine: str
    versions: str
    date: str
    commit: str
    parts: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @property
    def ratio(self) -> float | None:
        """The peer's figure over ours; None without one."""
        return None if self.theirs is None else self.theirs / self.now

    @property
    def reached(self) -> float | None:
        """The part of what the machine can do at most; None where that is not known."""
        return None if self.bound is None else self.bound / self.now


@dataclass(frozen=True)
class Growth:
    """How time and memory grow; see benchmarks/scaling.py.

    Attributes:
        name: of the file, without `speed_`.
        kinds: what grows -> its points, each `value`, `seconds`, `megabytes` and `work`.
        busy, machine, versions, date, commit, command: as of `Speed`.
    """

    name: str
    kinds: Mapping[str, Sequence[Mapping[str, float]]]
    busy: float
    command: str
    machine: str
    versions: str
    date: str
    commit: str


@dataclass(frozen=True)
class Kernels:
    """Where an image's time goes in ONNX Runtime; see benchmarks/int8_kernels.py.

    Attributes:
        name: of the file, without `speed_`.
        networks: by network `fp32` and `int8`, seconds by kind of kernel, and `least`, of dense ones in INT8.
        busy, machine, versions, date, commit, command: as of `Speed`.
    """

    name: str
    networks: Mapping[str, Mapping[str, Any]]
    busy: float
    command: str
    machine: str
    versions: str
    date: str
    commit: str


def exponent(one: Mapping[str, float], other: Mapping[str, float], key: str) -> float:
    """Of the power by which a figure grows with the work between two points."""
    return math.log(other[key] / one[key]) / math.log(other["work"] / one["work"])


def load_speeds(folder: Path) -> dict[str, Speed | Growth | Kernels]:
    """Every figure of speed by its name, in the order of the files.

    Raises: `ConfigError` naming file and key of the first that is wrong.
    """
    found: dict[str, Speed | Growth | Kernels] = {}
    for path in sorted(folder.glob(f"{PREFIX}*.yaml")):
        name = path.stem.removeprefix(PREFIX)
        kind: type[Any] = {"growth": Growth, "kernels": Kernels}.get(name, Speed)
        values = load_mapping(path)
        known = {entry.name: entry for entry in fields(kind) if entry.name != "name"}
        for key in values:
            if key not in known:
                raise ConfigError(f"{path}: unknown key {key}; known: {', '.join(known)}")
        for key, entry in known.items():
            if key not in values and entry.default is MISSING and entry.default_factory is MISSING:
                raise ConfigError(f"{path}: {key} is missing")
        found[name] = kind(name, **values)
        wrong = _wrong(found[name])
        if wrong:
            raise ConfigError(f"{path}: {wrong}")
    return found


def _wrong(found: Speed | Growth | Kernels) -> str:
    """What is wrong with it; empty for nothing."""
    for key in ("command", "machine", "versions"):
        if not isinstance(getattr(found, key), str) or not getattr(found, key).strip():
            return f"{key}: expected a text, found {getattr(found, key)!r}"
    if not isinstance(found.date, str) or not re.fullmatch(r"20\d\d-[01]\d-[0-3]\d", found.date):
        return f"date: expected 'YYYY-MM-DD' in quotes, found {found.date!r}"
    if not isinstance(found.commit, str) or not re.fullmatch(r"[0-9a-f]{7,40}", found.commit):
        return f"commit: expected its hexadecimal name in quotes, found {found.commit!r}"
    if not _number(found.busy, 0) or found.busy > MOST_BUSY:
        return f"busy: others took {found.busy!r} of the processors, at most {MOST_BUSY} is idle: measure it again"
    if isinstance(found, Kernels):
        return _wrong_kernels(found)
    return _wrong_growth(found) if isinstance(found, Growth) else _wrong_speed(found)


def _wrong_speed(found: Speed) -> str:
    if not isinstance(found.title, str) or found.unit not in UNITS:
        return f"title and unit: expected a text and one of {', '.join(UNITS)}, found {found.title!r}, {found.unit!r}"
    if type(found.turns) is not int or found.turns < LEAST_TURNS:
        return f"turns: expected at least {LEAST_TURNS}, found {found.turns!r}"
    if not _number(found.now):
        return f"now: expected a number above 0, found {found.now!r}"
    for key in ("now_cpu", "theirs", "theirs_cpu", "before", "bound"):
        value = getattr(found, key)
        if value is not None and not _number(value):
            return f"{key}: expected a number above 0, or null, found {value!r}"
    if (found.peer is None) != (found.theirs is None):
        return "peer and theirs: one is there without the other"
    if (found.before is None) != (found.before_commit is None):
        return "before and before_commit: one is there without the other"
    for name, part in found.parts.items():
        if set(part) != {"seconds", "idle"} or not all(_number(value, 0) for value in part.values()):
            return f"parts.{name}: expected seconds and idle, numbers from 0, found {part!r}"
    return ""


def _wrong_growth(found: Growth) -> str:
    keys = {"value", "seconds", "megabytes", "work"}
    if not isinstance(found.kinds, dict) or not found.kinds:
        return "kinds: expected points by what grows"
    for kind, points in found.kinds.items():
        if not isinstance(points, list) or len(points) < 2:
            return f"kinds.{kind}: expected at least two points"
        if not all(
            isinstance(one, dict) and set(one) == keys and all(map(_number, one.values())) for one in points
        ):
            return f"kinds.{kind}: expected numbers above 0 for each of {', '.join(sorted(keys))}"
    return ""


def _wrong_kernels(found: Kernels) -> str:
    if not isinstance(found.networks, dict) or not found.networks:
        return "networks: expected seconds by network"
    for name, one in found.networks.items():
        whole = isinstance(one, dict) and set(one) == {"fp32", "int8", "least"} and _number(one["least"])
        if not whole or not all(
            isinstance(one[key], dict)
            and set(one[key]) == {"dense", "depthwise", "single", "other"}
            and all(_number(seconds, 0) for seconds in one[key].values())
            for key in ("fp32", "int8")
        ):
            return f"networks.{name}: expected least, and fp32 and int8 with seconds of the four kinds"
    return ""


def _number(value: Any, least: float = 1e-12) -> bool:
    return (
        not isinstance(value, bool)
        and isinstance(value, (int, float))
        and math.isfinite(value)
        and value >= least
    )
