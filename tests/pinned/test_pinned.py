"""What picoquant makes is what it made when `pins.json` was recorded.

python -m pytest -m slow tests/pinned        every scenario, many minutes
python -m pytest tests/pinned                those that need no run, seconds

After a change of results that is meant, record what changed anew and say which and why in the commit:
python -m tests.pinned.record --update --out tests/pinned/pins.json --only NAME ...
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.pinned.machine import machine
from tests.pinned.record import PINS, QUICK, SCENARIOS, Workshop, record_one

# Of a mAP, 0 to 1. On three or four images one detection more or less is worth about this much.
TOLERANCE = 0.05
HERE = machine()


def differences(pinned: dict[str, Any], found: dict[str, Any], tolerance: float = 0.0) -> list[str]:
    """A line for each item that is not as pinned, missing or new; floats may differ by `tolerance`."""
    lines = []
    for item in sorted({*pinned, *found}):
        if item not in found:
            lines.append(f"{item}: not there any more")
        elif item not in pinned:
            lines.append(f"{item}: new")
        elif not _equal(pinned[item], found[item], tolerance):
            lines.append(f"{item}: {_change(pinned[item], found[item])}")
    return lines


def _equal(pinned: Any, found: Any, tolerance: float) -> bool:
    if isinstance(pinned, float) and isinstance(found, float):
        return abs(pinned - found) <= tolerance
    return pinned == found


def _change(pinned: Any, found: Any) -> str:
    if isinstance(pinned, list) and isinstance(found, list):
        gone = [one for one in pinned if one not in found]
        new = [one for one in found if one not in pinned]
        return f"without {gone}, with {new}"
    return f"{pinned} was pinned, {found} is found"


@pytest.fixture(scope="module")
def pins() -> dict[str, Any]:
    """What was recorded."""
    return json.loads(PINS.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def work() -> Iterator[Workshop]:
    """A temporary folder that scenarios share their runs in."""
    with tempfile.TemporaryDirectory(prefix="picoquant-pinned-") as folder:
        yield Workshop.at(Path(folder))


@pytest.fixture(scope="module")
def found(work: Workshop) -> dict[str, Any]:
    """Scenarios recorded by this session, by name."""
    return {}


def recorded(name: str, work: Workshop, found: dict[str, Any]) -> dict[str, Any]:
    """A scenario's record, made once for the tests of both kinds of items."""
    if name not in found:
        found[name] = record_one(name, work)
    return found[name]


def require_what_it_needs(name: str, request: pytest.FixtureRequest) -> None:
    """Skip a scenario with a run where real data or Paddle Lite's opt is missing."""
    if name not in QUICK:
        request.getfixturevalue("shared")
        request.getfixturevalue("opt")


def with_marks(names: tuple[str, ...] | list[str]) -> list[Any]:
    return [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in names]


@pytest.mark.parametrize("name", with_marks(list(SCENARIOS)))
def test_values_are_as_pinned(name, pins, work, found, request):
    require_what_it_needs(name, request)
    wrong = differences(pins["scenarios"][name]["values"], recorded(name, work, found)["values"], TOLERANCE)
    assert not wrong, "\n".join([f"scenario {name}:", *wrong])


@pytest.mark.parametrize("name", with_marks(list(SCENARIOS)))
def test_bytes_are_as_pinned(name, pins, work, found, request):
    if pins["machine"] != HERE:
        other = "; ".join(differences(pins["machine"], HERE))
        pytest.skip(f"float sums differ between CPUs and library versions; {other}")
    require_what_it_needs(name, request)
    wrong = differences(pins["scenarios"][name]["bytes"], recorded(name, work, found)["bytes"])
    assert not wrong, "\n".join([f"scenario {name}:", *wrong])


def test_every_scenario_is_pinned(pins):
    assert list(pins["scenarios"]) == list(SCENARIOS)


def test_a_difference_names_its_item():
    pinned = {"names": ["a", "b"], "mAP": 0.30, "gone": 1, "model": "12ab"}
    found = {"names": ["a", "c"], "mAP": 0.33, "new": 1, "model": "34cd"}
    assert differences(pinned, found, TOLERANCE) == [
        "gone: not there any more",
        "model: 12ab was pinned, 34cd is found",
        "names: without ['b'], with ['c']",
        "new: new",
    ]
    assert differences({"mAP": 0.3}, {"mAP": 0.4}, TOLERANCE) == ["mAP: 0.3 was pinned, 0.4 is found"]
